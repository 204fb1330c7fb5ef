"""What the jobs of a study found, kept as JSON with what it was computed from."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self, TypeVar

from napari_batchfx.errors import BatchfxError, StudyError
from napari_batchfx.study import files
from napari_batchfx.study.adapted import AdaptOutcome
from napari_batchfx.study.findings import AfterOutcome, ComponentsOutcome, Finding, RobustnessOutcome
from napari_batchfx.study.inside import check_inside, read_json
from napari_batchfx.study.probed import ProbeOutcome
from napari_batchfx.study.problems import Problem
from napari_batchfx.study.questions import question, question_key

__all__ = ["ProbeOutcome", "Results"]

Outcome = ProbeOutcome | AdaptOutcome | Finding
T = TypeVar("T", ProbeOutcome, AdaptOutcome, Finding)
F = TypeVar("F", bound=Finding)

_VERSION = 1
_FINDINGS: Final[tuple[type[Finding], ...]] = (ComponentsOutcome, RobustnessOutcome, AfterOutcome)
_KINDS: Final[Mapping[str, type[ProbeOutcome] | type[AdaptOutcome] | type[Finding]]] = {
    "probe": ProbeOutcome,
    "adapt": AdaptOutcome,
    **{one.kind: one for one in _FINDINGS},
}


@dataclass
class Results:
    """What the jobs found, one result a question, side by side; :meth:`keep` adds to it.

    Attributes
    ----------
    probes : list of ProbeOutcome
        One for each encoding (encoder, tiles, stain variant) and batch; the one run last at the end.
    adaptations : list of AdaptOutcome
        One for each encoding, batch, choice of slides to learn from and method; the one run last at the end.
    findings : list of Finding
        What was found by looking into probes (components, metrics, before and after), one a question; the one
        found last at the end.

    Examples
    --------
    >>> results = Results()
    >>> results.adapt is None, results.adaptations
    (True, [])
    """

    probes: list[ProbeOutcome] = field(default_factory=list)
    adaptations: list[AdaptOutcome] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    _written: dict[Path, Outcome] = field(default_factory=dict, init=False, repr=False, compare=False)
    _writing: threading.Lock = field(
        default_factory=threading.Lock, init=False, repr=False, compare=False
    )  # a job writes, and so does what saves now and then

    @property
    def probe(self) -> ProbeOutcome | None:
        """The site probe run last."""
        return self.probes[-1] if self.probes else None

    @property
    def adapt(self) -> AdaptOutcome | None:
        """The adaptation run last."""
        return self.adaptations[-1] if self.adaptations else None

    def about(self, probe: ProbeOutcome, kind: type[F], **asked: object) -> F | None:
        """What was found last about this run of a probe: components, metrics, or before and after.

        Parameters
        ----------
        probe : ProbeOutcome
        kind : type
            Of :mod:`napari_batchfx.study.findings`.
        **asked
            What must have been asked, such as ``after="macenko"``.
        """
        found = [one for one in self.findings if isinstance(one, kind) and one.is_about(probe)]
        found = [one for one in found if asked.items() <= one.asked.items()]
        return found[-1] if found else None

    def keep(self, outcome: Outcome) -> None:
        """Keep a result as the one run last; an earlier answer to the same question goes.

        With a probe goes what was found about its earlier run, where that was on other tiles or settings.
        """
        # New lists: a reader in another thread goes on with the one it has.
        if isinstance(outcome, ProbeOutcome):
            self.probes = [*_others(self.probes, outcome), outcome]
            asked = question(outcome.computed_from)
            self.findings = [
                one for one in self.findings if one.is_about(outcome) or question(one.probe_from) != asked
            ]
        elif isinstance(outcome, Finding):
            same = [one for one in self.findings if one.kind == outcome.kind]
            others = [one for one in self.findings if one.kind != outcome.kind]
            self.findings = [*others, *_others(same, outcome), outcome]
        else:
            self.adaptations = [*_others(self.adaptations, outcome), outcome]

    def write(self, folder: Path) -> None:
        """Write every result to ``folder/*.json``, each whole or not at all; remove those that are gone.

        The one run last is ``probe.json`` or ``adapt.json``; the others have the digest of their question in
        their name. What is on the disk already isn't written again.
        """
        with self._writing:
            self._write(folder)

    def _write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        wanted: dict[Path, tuple[str, Outcome]] = {}
        every: list[tuple[str, Sequence[Outcome]]] = [("probe", self.probes), ("adapt", self.adaptations)]
        every += [(one.kind, [f for f in self.findings if f.kind == one.kind]) for one in _FINDINGS]
        for kind, outcomes in every:
            for outcome in outcomes[:-1]:
                wanted[folder / f"{kind}-{question_key(outcome.computed_from)}.json"] = (kind, outcome)
            for outcome in outcomes[-1:]:
                wanted[folder / f"{kind}.json"] = (kind, outcome)
        for path, (kind, outcome) in wanted.items():
            if self._written.get(path) is not outcome or not path.is_file():
                data = {"kind": kind, "version": _VERSION, **outcome.to_dict()}
                if isinstance(outcome, ProbeOutcome) and path.name == "probe.json":
                    data["fitted"] = outcome.write_fitted(folder)
                files.write_text(
                    path, json.dumps(data, ensure_ascii=False, sort_keys=True, allow_nan=False) + "\n"
                )
        # Last, so that a run that is killed here leaves one result twice rather than not at all.
        for kind in _KINDS:
            for path in _paths(folder, kind):
                if path not in wanted:
                    path.unlink(missing_ok=True)
        self._written = {path: outcome for path, (_, outcome) in wanted.items()}

    @classmethod
    def read(cls, folder: Path) -> tuple[Self, list[Problem]]:
        """The results kept in a folder, and what could not be read of them."""
        results, problems = cls(), []
        for name, kind in _KINDS.items():
            for path in _paths(folder, name):
                try:
                    check_inside(path, folder)
                    data = read_json(path)
                    if data["kind"] != name or data["version"] > _VERSION:
                        raise StudyError("it was written by a newer napari-batchfx")
                    outcome = kind.from_dict(data)
                    if isinstance(outcome, ProbeOutcome) and path.name == "probe.json":
                        outcome = outcome.with_fitted(folder, str(data.get("fitted", "")))
                    results.keep(outcome)
                    results._written[path] = outcome
                except (OSError, ValueError, KeyError, TypeError, AttributeError, BatchfxError) as error:
                    kept = files.set_aside(path)
                    problems.append(
                        Problem(
                            path.name,
                            f"{path.name}: the result can't be read and is kept as {kept.name} ({error}); "
                            "compute it again.",
                        )
                    )
        return results, problems


def _others(outcomes: list[T], new: T) -> list[T]:
    """Those that answer another question than the new one, in the order of their questions."""
    asked = question(new.computed_from)
    others = [one for one in outcomes if question(one.computed_from) != asked]
    return sorted(others, key=lambda one: question(one.computed_from))


def _paths(folder: Path, kind: str) -> list[Path]:
    """Files of one kind of result, the one run last at the end."""
    digest = "[0-9a-f]" * 12
    last = folder / f"{kind}.json"
    return sorted(folder.glob(f"{kind}-{digest}.json")) + ([last] if last.is_file() else [])
