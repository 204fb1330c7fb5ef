"""A step: one piece of work that was done on a study, as a person reads it and as it is done again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from napari_batchfx.errors import StudyError
from napari_batchfx.study.selection import Selection
from napari_batchfx.study.settings import Settings

if TYPE_CHECKING:
    from napari_batchfx.jobs import Job
    from napari_batchfx.study.bench import Bench

__all__ = ["LeftOut", "Step", "StepKind", "register_step", "step_kind", "step_kinds"]

#: Where and how fast it was computed is not what was asked.
_HOW = {"encode": ("device", "batch_size")}
#: Of the stain settings encoding depends on the drawn regions alone; the rest is the preview's.
_PREVIEW = ("method", "target", "cohort", "strength")


class LeftOut(StudyError):
    """A step that a run of the whole study leaves out, with the reason."""


@dataclass(frozen=True)
class StepKind:
    """A kind of step, registered with :func:`register_step` by whoever offers that work.

    Parameters
    ----------
    name : str
        Such as ``"probe"``; part of the command.
    title : str
        For a person: "Site probe".
    sections : tuple of str
        Parts of the study's settings that it depends on: ``("tissue", "encode", "probe")``.
    method : str
        Name of the study's method that returns the job; called with the step's options.
    needs_tiles : bool
        Whether it works on encoded tiles: when it is repeated, what is missing of them is encoded first.
    said : callable
        ``said(outcome)``: one sentence on what came out.
    job : callable, optional
        ``job(study, **options)`` instead of a method, for work that is a function.
    call : str
        With ``job``: how Python text calls it, such as ``mypackage.my_job(study, {options})`` with the
        import in ``imports``.
    imports : str
        A line of imports that ``call`` needs.
    counts_stain : bool
        Whether the stain settings are part of what is asked; only their regions are otherwise.
    comes_last : bool
        Whether it is about all that the study holds, and so is done after everything else.
    """

    name: str
    title: str
    sections: tuple[str, ...]
    method: str = ""
    needs_tiles: bool = True
    said: Callable[[Any], str] = lambda outcome: ""
    job: Callable[..., Job[Any]] | None = None
    call: str = ""
    imports: str = ""
    counts_stain: bool = False
    comes_last: bool = False

    def start(self, study: Bench, options: dict[str, Any]) -> Job[Any]:
        """The job, with the study's present settings."""
        if self.job is not None:
            return self.job(study, **options)
        started: Job[Any] = getattr(study, self.method)(**options)
        return started


_kinds: dict[str, StepKind] = {}


def register_step(kind: StepKind) -> StepKind:
    """Make a kind of step known: it can be recorded, repeated, and copied as Python and as a command.

    Examples
    --------
    >>> register_step(StepKind("count", "Count", ("encode",), "encode_job")).name
    'count'
    >>> step_kind("count").title
    'Count'
    >>> del _kinds["count"]
    """
    unknown = [name for name in kind.sections if name not in Settings.model_fields]
    if unknown:
        raise ValueError(f"a study has no settings called {unknown[0]}")
    _kinds[kind.name] = kind
    return kind


def step_kind(name: str) -> StepKind | None:
    """The kind of that name; None where this program doesn't know it."""
    return _kinds.get(name)


def step_kinds() -> tuple[StepKind, ...]:
    """All kinds that are registered."""
    return tuple(_kinds.values())


class Step(BaseModel):
    """One piece of work, with everything it needs to be done again.

    Attributes
    ----------
    kind : str
        "encode", "probe", "adapt", ... A kind that this program doesn't know is kept and not repeated.
    settings : dict of str to dict
        The parts of the study's settings it was done with.
    options : dict
        What else it was asked with, as plain values.
    selection : Selection
        Slides and tiles; everything by default.
    when : str
        Date and time, ISO 8601 with the zone.
    version : str
        Of napari-batchfx.
    found : str
        One sentence on what came out.

    Examples
    --------
    >>> step = Step(kind="probe", settings={"probe": {"batch": "site"}})
    >>> print(step.as_command())
    napari-batchfx run NAME.batchfx --do probe --set probe.batch=site
    """

    model_config = ConfigDict(extra="forbid")

    kind: str = Field(min_length=1, max_length=100)
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)
    selection: Selection = Field(default_factory=Selection)
    when: str = ""
    version: str = ""
    found: str = ""

    _folder: Path | None = PrivateAttr(default=None)
    _number: int | None = PrivateAttr(default=None)

    def bind(self, folder: Path, number: int) -> None:
        """Say where the step is kept, so that its texts name the study."""
        self._folder, self._number = folder, number

    def rename_slide(self, old: str, new: str) -> None:
        """Follow a slide to its new name."""
        self.selection = self.selection.renamed(old, new)
        for section in ("encode", "stain"):
            if self.settings.get(section, {}).get("target") == old:
                self.settings[section]["target"] = new
        regions = self.settings.get("stain", {}).get("regions")
        if regions:
            self.settings["stain"]["regions"] = {
                new if name == old else name: drawn for name, drawn in regions.items()
            }
        learned = self.settings.get("adapt", {}).get("train_on")
        if learned:
            self.settings["adapt"]["train_on"] = [new if name == old else name for name in learned]

    @property
    def title(self) -> str:
        """The kind in words."""
        kind = step_kind(self.kind)
        return self.kind if kind is None else kind.title

    def question(self) -> str:
        """What was asked, as text that is equal for equal questions: not when, where or how fast.

        Tiles count for encoding alone: a probe of more tiles answers the same question anew.
        """
        kind = step_kind(self.kind)
        chosen = self.chosen_settings().model_dump(mode="json")
        sections = tuple(self.settings) if kind is None else kind.sections
        asked = {name: chosen[name] for name in sections if name in chosen}
        left_out = _HOW if kind is not None and kind.counts_stain else {**_HOW, "stain": _PREVIEW}
        for section, names in left_out.items():
            asked[section] = {k: v for k, v in asked.get(section, {}).items() if k not in names}
        is_partial = bool(self.selection.tiles) and (kind is None or not kind.needs_tiles)
        return json.dumps([self.kind, asked, self.options, self.selection.slides, is_partial], sort_keys=True)

    def chosen_settings(self) -> Settings:
        """Settings with this step's values, and defaults for what it doesn't say."""
        known = {name: values for name, values in self.settings.items() if name in Settings.model_fields}
        return Settings.model_validate(known)

    def sentence(self) -> str:
        """The step in a line: ``Site probe (30 Nov 2026, 12:31): a simple classifier ...``."""
        day = self.when[:16].replace("T", ", ")
        return f"{self.title}{f' ({day})' if day else ''}" + (f": {self.found}" if self.found else "")

    def as_python(self, study: Path | str | None = None) -> str:
        """Lines of Python that do this step on the study and save it.

        Parameters
        ----------
        study : path, optional
            The study's folder; the one it was recorded in otherwise.
        """
        from napari_batchfx.study.step_text import python_text

        return python_text(self, study if study is not None else self._folder)

    def as_command(self, study: Path | str | None = None) -> str:
        """A command line that does this step on the study and saves it; for a POSIX shell."""
        from napari_batchfx.study.step_text import command_text

        return command_text(self, study if study is not None else self._folder, self._number)
