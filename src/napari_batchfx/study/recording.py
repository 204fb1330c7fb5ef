"""Writing down what is done: each job that ends leaves a step in the study."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.jobs import Job
from napari_batchfx.study.adapted import AdaptOutcome
from napari_batchfx.study.selection import Selection, text_of_cells
from napari_batchfx.study.settings import Settings
from napari_batchfx.study.step import Step, StepKind, register_step, step_kind

if TYPE_CHECKING:
    from napari_batchfx.study.bench import Bench
    from napari_batchfx.study.encoding import EncodeOutcome
    from napari_batchfx.study.entries import SlideEntry

__all__ = [
    "ADAPT",
    "APPLY_HEAD",
    "COMPONENTS",
    "ENCODE",
    "JUDGE_CONTROLS",
    "PROBE",
    "PROBE_AFTER",
    "ROBUSTNESS",
    "STAIN_EFFECT",
    "SUGGEST_CONTROLS",
    "adapt_step",
    "add_step",
    "made_step",
    "record_cells",
    "recorded",
    "recorded_encoding",
]

T = TypeVar("T")


def _encode_said(outcome: EncodeOutcome) -> str:
    slides = "slide" if len(outcome.slides) == 1 else "slides"
    left = f", {len(outcome.problems)} failed" if outcome.problems else ""
    return f"{outcome.tiles + outcome.kept:,} tiles of {len(outcome.slides):,} {slides}{left}."


ENCODE = register_step(
    StepKind(
        "encode", "Encode", ("tissue", "stain", "encode"), "encode_job", needs_tiles=False, said=_encode_said
    )
)
PROBE = register_step(
    StepKind(
        "probe",
        "Site probe",
        ("tissue", "stain", "encode", "probe"),
        "probe_job",
        said=lambda outcome: outcome.result.verdict,
    )
)
_OF_PROBE = ("tissue", "stain", "encode", "probe")
COMPONENTS = register_step(
    StepKind(
        "components",
        "What carries it",
        _OF_PROBE,
        "components_job",
        said=lambda outcome: outcome.sentence,
    )
)
ROBUSTNESS = register_step(
    StepKind(
        "robustness",
        "Robustness metrics",
        _OF_PROBE,
        "robustness_job",
        said=lambda outcome: outcome.sentence,
    )
)
PROBE_AFTER = register_step(
    StepKind(
        "probe-after",
        "Probe before and after",
        _OF_PROBE,
        "probe_after_job",
        said=lambda outcome: outcome.sentence,
        counts_stain=True,
    )
)
ADAPT = register_step(
    StepKind(
        "adapt",
        "Adapt",
        ("tissue", "stain", "encode", "adapt"),
        "adapt_job",
        said=lambda outcome: outcome.sentence,
    )
)
APPLY_HEAD = register_step(
    StepKind(
        "apply-head",
        "Apply a saved classifier",
        ("tissue", "stain", "encode", "adapt"),
        "apply_head_job",
        said=lambda outcome: outcome.sentence,
    )
)
SUGGEST_CONTROLS = register_step(
    StepKind(
        "suggest-controls",
        "Suggest control samples",
        ("tissue", "stain", "encode", "adapt"),
        "fill_basket_job",
        needs_tiles=False,
        said=lambda outcome: outcome.sentence,
    )
)
JUDGE_CONTROLS = register_step(
    StepKind(
        "judge-controls",
        "Judge the control samples",
        ("tissue", "stain", "encode", "adapt"),
        "diagnose_controls_job",
        said=lambda outcome: outcome.sentence,
    )
)
STAIN_EFFECT = register_step(
    StepKind(
        "stain-effect",
        "What normalisation does to the signature",
        ("tissue", "stain", "encode", "probe"),
        "stain_effect_job",
        needs_tiles=False,
        said=lambda outcome: outcome.sentence,
        counts_stain=True,
    )
)


def recorded(study: Bench, kind: str, job: Job[T], options: Mapping[str, Any] | None = None) -> Job[T]:
    """Drive a job and write it down when it is done, with the settings it began with.

    Parameters
    ----------
    study : Study
    kind : str
        A registered kind of step.
    job : generator
        Its outcome may have ``computed_from`` (as that of :meth:`Study.probe_job`): then slides and tiles
        are those of the table it was computed from.
    options : mapping, optional
        What it was asked with besides the settings, as plain values.

    Returns
    -------
    Job
        The same job.
    """
    settings = study.settings.model_copy(deep=True)
    outcome = yield from job
    if not study.is_repeating:
        add_step(study, made_step(study, kind, outcome, settings, options))
    return outcome


def made_step(
    study: Bench, kind: str, outcome: Any, settings: Settings, options: Mapping[str, Any] | None = None
) -> Step:
    """The step of an outcome."""
    known = step_kind(kind)
    sections = tuple(Settings.model_fields) if known is None else known.sections
    origin: dict[str, Any] = getattr(outcome, "computed_from", None) or {}
    return Step(
        kind=kind,
        settings=settings.model_dump(mode="json", include=set(sections)),
        options=dict(options or {}),
        selection=_selection_of(study, origin),
        when=_now(),
        version=metadata.version("napari-batchfx"),
        found="" if known is None else known.said(outcome),
    )


def adapt_step(study: Bench, outcome: AdaptOutcome, settings: Settings) -> None:
    """Write an adaptation down with the method it was done with."""
    if study.is_repeating:
        return
    used = settings.model_copy(deep=True)
    for key, value in outcome.computed_from["settings"].items():
        setattr(used.adapt, key, value)
    add_step(study, made_step(study, "adapt", outcome, used))


def recorded_encoding(
    study: Bench,
    job: Job[EncodeOutcome],
    entries: Sequence[SlideEntry] | None,
    cells: Mapping[str, NDArray[np.integer[Any]]] | None,
) -> Job[EncodeOutcome]:
    """Drive an encode job and write it down: whole slides, or the tiles that were named."""
    settings = study.settings.model_copy(deep=True)
    outcome = yield from job
    if study.is_repeating or not outcome.slides:
        return outcome
    if cells is None:
        names = [] if entries is None or len(entries) == len(study.slides) else [e.name for e in entries]
        step = made_step(study, "encode", outcome, settings)
        add_step(study, step.model_copy(update={"selection": Selection(slides=names)}))
    else:
        record_cells(study, settings, {name: cells[name] for name in outcome.slides if name in cells})
    return outcome


def record_cells(study: Bench, settings: Settings, cells: Mapping[str, NDArray[np.integer[Any]]]) -> None:
    """Write down that tiles of slides were encoded, together with those of before under these settings."""
    cells = {name: np.asarray(some).reshape(-1, 2) for name, some in cells.items() if len(some)}
    if study.is_repeating or not cells:
        return
    values = settings.model_dump(mode="json", include=set(ENCODE.sections))
    asked = Step(kind="encode", settings=values).question()
    for known in study.steps:
        if known.kind != "encode" or _of_all(known).question() != asked:
            continue
        if not known.selection.tiles:  # whole slides: what is encoded of them is part of that
            cells = {name: some for name, some in cells.items() if not known.selection.takes(name)}
            continue
        for name in known.selection.tiles:
            before = known.selection.cells(name)
            if before is not None:
                cells[name] = np.concatenate([before, cells[name]]) if name in cells else before
        study.steps = [step for step in study.steps if step is not known]
    if not cells:
        return
    tiles = {name: text_of_cells(some) for name, some in cells.items()}
    total = sum(len(np.unique(some, axis=0)) for some in cells.values())
    slides = "slide" if len(tiles) == 1 else "slides"
    add_step(
        study,
        Step(
            kind="encode",
            settings=values,
            selection=Selection(slides=sorted(tiles), tiles=tiles),
            when=_now(),
            version=metadata.version("napari-batchfx"),
            found=f"{total:,} tiles that were looked at, of {len(tiles):,} {slides}.",
        ),
    )


def _of_all(step: Step) -> Step:
    """The same step for all slides and tiles."""
    return step.model_copy(update={"selection": Selection()})


def add_step(study: Bench, step: Step) -> Step:
    """Keep a step; where the same was asked before it takes that one's place."""
    asked = step.question()
    steps = list(study.steps)
    for number, known in enumerate(steps):
        if known.question() == asked:
            steps[number] = step
            break
    else:
        steps.append(step)
    study.steps = steps
    for number, one in enumerate(steps, start=1):
        one.bind(study.folder, number)
    return step


def _selection_of(study: Bench, origin: Mapping[str, Any]) -> Selection:
    """Slides and tiles that a result was computed from, by the names they have now."""
    by_content = {entry.fingerprint: entry.name for entry in study.slides}
    then: dict[str, str] = origin.get("slides") or {}
    names = {name: by_content[mark] for name, mark in then.items() if mark in by_content}
    parts: dict[str, str] = origin.get("parts") or {}
    slides = [] if not names or len(names) == len(study.slides) else sorted(names.values())
    return Selection(
        slides=slides, tiles={names[name]: text for name, text in parts.items() if name in names}
    )


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")
