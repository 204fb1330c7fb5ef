"""Doing the steps of a study again: the same features, the same numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from napari_batchfx.errors import BatchfxError, StudyError
from napari_batchfx.jobs import Job
from napari_batchfx.study.adapted import AdaptOutcome
from napari_batchfx.study.encoding import EncodeOutcome
from napari_batchfx.study.probed import ProbeOutcome
from napari_batchfx.study.problems import Problem
from napari_batchfx.study.recording import ADAPT, ENCODE, PROBE, add_step, made_step
from napari_batchfx.study.selection import Selection
from napari_batchfx.study.step import LeftOut, Step, StepKind, step_kind
from napari_batchfx.study.tables import batch_value
from napari_batchfx.study.tissue_regions import is_tissue_class

if TYPE_CHECKING:
    from napari_batchfx.study.bench import Bench

__all__ = ["RunOutcome", "plan", "repeat_job", "run_job"]


@dataclass(frozen=True)
class RunOutcome:
    """What :func:`run_job` did; a step that could not be done is ``None`` and its reason is in ``problems``.

    Parameters
    ----------
    encode : EncodeOutcome
        Of all encode steps together.
    probe : ProbeOutcome or None
        The last one.
    adapt : AdaptOutcome or None
        The last one.
    problems : tuple of Problem
        Slides and steps that failed.
    skipped : tuple of str
        Steps the study has no data for, with what is missing.
    done : tuple of (Step, object)
        Every step with its outcome, in order.
    """

    encode: EncodeOutcome
    probe: ProbeOutcome | None = None
    adapt: AdaptOutcome | None = None
    problems: tuple[Problem, ...] = ()
    skipped: tuple[str, ...] = ()
    done: tuple[tuple[Step, Any], ...] = ()


def plan(study: Bench) -> tuple[list[Step], list[str]]:
    """The steps that were recorded, then what the present settings ask for beyond them.

    Returns
    -------
    steps : list of Step
    skipped : list of str
        What the study isn't ready for, and what is missing.
    """
    steps, skipped = list(study.steps), []
    for kind, missing in ((ENCODE, ""), (PROBE, _probe_lacks(study)), (ADAPT, _adapt_lacks(study))):
        if missing:
            if not any(step.kind == kind.name for step in steps):
                skipped.append(f"{kind.name}: {missing}")
            continue
        step = _present(study, kind)
        if step.question() not in {_of_all(one).question() for one in steps if one.kind == kind.name}:
            steps.append(step)
    # What was encoded comes first, so that what is computed from it finds it; what is about all of it comes
    # last; the rest as it was done.
    return sorted(steps, key=_turn), skipped


def _turn(step: Step) -> int:
    kind = step_kind(step.kind)
    return 0 if step.kind == "encode" else 2 if kind is not None and kind.comes_last else 1


def _of_all(step: Step) -> Step:
    """The same step for all slides and tiles."""
    return step.model_copy(update={"selection": Selection()})


def run_job(study: Bench, steps: Sequence[Step] | None = None) -> Job[RunOutcome]:
    """Do the steps of a study, or those given, in order (see :meth:`Study.run_job`)."""
    planned, skipped = plan(study) if steps is None else (list(steps), [])
    problems: list[Problem] = []
    done: list[tuple[Step, Any]] = []
    encoded = EncodeOutcome(0, 0, ())
    last: dict[str, Any] = {}
    for step in planned:
        try:
            outcome = yield from repeat_job(study, step)
        except BatchfxError as error:
            if len(planned) == 1 or step.kind == "encode":
                raise
            if isinstance(error, LeftOut):
                skipped.append(f"{step.kind}: {error}")
                continue
            problems.append(Problem(step.kind, str(error)))
            continue
        done.append((step, outcome))
        last[step.kind] = outcome
        if isinstance(outcome, EncodeOutcome):
            encoded = _both(encoded, outcome)
            problems += outcome.problems
    return RunOutcome(
        encoded, last.get("probe"), last.get("adapt"), tuple(problems), tuple(skipped), tuple(done)
    )


def repeat_job(study: Bench, step: Step) -> Job[Any]:
    """Do one step as it was done, whatever the settings are now; they are left as they are.

    Tiles that it needs and the store doesn't have are encoded first.

    Returns
    -------
    Job
        Returns the outcome of the step.

    Raises
    ------
    StudyError
        If this program doesn't know the kind, or a slide isn't in the study any more.
    """
    kind = step_kind(step.kind)
    if kind is None:
        raise StudyError(
            f"{study.name}: the step {step.kind!r} was recorded by napari-batchfx {step.version or '?'} or "
            "another plugin, and this program can't do it; update, or run the other steps."
        )
    for name in {*step.selection.slides, *step.selection.tiles}:
        study.slide(name)
    then = study.settings
    with _as_it_was(study, step):
        settings = study.settings.model_copy(deep=True)
        if kind.needs_tiles and study.cluster is None:
            encoded = yield from study.encode_job()
            if encoded.problems and not encoded.slides:
                raise StudyError(str(encoded.problems[0]))
        elif kind.needs_tiles:
            yield from study.encode_job()
        outcome = yield from kind.start(study, dict(step.options))
    again = made_step(study, step.kind, outcome, settings, step.options)
    if step.kind == "encode":
        again = again.model_copy(update={"selection": step.selection})
    study.settings = then
    add_step(study, again)
    return outcome


@contextlib.contextmanager
def _as_it_was(study: Bench, step: Step) -> Iterator[None]:
    """The study with a step's settings and selection meanwhile."""
    settings, selection, repeating = study.settings, study.selection, study.is_repeating
    chosen = step.chosen_settings()
    # Where it runs is for the machine at hand to say.
    chosen.encode.device, chosen.encode.batch_size = settings.encode.device, settings.encode.batch_size
    kind = step_kind(step.kind)
    if kind is not None and not kind.sections:  # about the study as it is
        chosen = settings
    study.settings, study.selection, study.is_repeating = chosen, step.selection, True
    try:
        yield
    finally:
        study.settings, study.selection, study.is_repeating = settings, selection, repeating


def _present(study: Bench, kind: StepKind) -> Step:
    """The step that the present settings ask for."""
    values = study.settings.model_dump(mode="json", include=set(kind.sections))
    return Step(kind=kind.name, settings=values)


def _both(one: EncodeOutcome, other: EncodeOutcome) -> EncodeOutcome:
    def add(a: dict[str, int], b: dict[str, int]) -> dict[str, int]:
        return {name: max(a.get(name, 0), b.get(name, 0)) for name in {**a, **b}}

    damaged = add(one.damaged_by_slide, other.damaged_by_slide)
    return replace(
        other,
        tiles=one.tiles + other.tiles,
        kept=one.kept + other.kept,
        slides=tuple(dict.fromkeys((*one.slides, *other.slides))),
        problems=tuple(dict.fromkeys((*one.problems, *other.problems))),
        damaged=sum(damaged.values()),
        damaged_by_slide=damaged,
        lost_by_slide=add(one.lost_by_slide, other.lost_by_slide),
    )


def _probe_lacks(study: Bench) -> str:
    batch: Literal["site", "scanner", "stain", "slide", "patient"] = study.settings.probe.batch
    if len({value for entry in study.slides if (value := batch_value(entry, batch))}) < 2:
        return f"give at least two slides a different {batch}"
    return ""


def _adapt_lacks(study: Bench) -> str:
    from napari_batchfx.adapt import OFFERED_HEADS, REGISTRY
    from napari_batchfx.study.steps import has_controls, has_pairs

    named = {a.class_name for a in study.annotations if a.class_name is not None}
    classes = {name for name in named if not is_tissue_class(name)}
    classes |= {entry.label for entry in study.slides if entry.label}
    if len(classes) < 2:
        return "draw regions of at least two classes"
    needs = REGISTRY[study.settings.adapt.method].needs
    if study.settings.adapt.head != "linear":
        needs = "controls" if OFFERED_HEADS[study.settings.adapt.head].needs_controls else "nothing"
    if needs == "pairs" and not has_pairs(study):
        return "align rescans of the same section, or choose another method"
    if needs == "controls" and not has_controls(study):
        return "mark regions or tiles as control samples"
    return ""
