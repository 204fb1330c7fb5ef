"""The work of a study on encoded tiles as jobs: probe and adapt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_batchfx.errors import AdaptError, StudyError
from napari_batchfx.jobs import Job, Progress
from napari_batchfx.study import files
from napari_batchfx.study.adapted import AdaptOutcome
from napari_batchfx.study.recipe import Recipe
from napari_batchfx.study.recording import adapt_step
from napari_batchfx.study.results import ProbeOutcome
from napari_batchfx.study.settings import Settings
from napari_batchfx.study.tables import (
    computed_from,
    make_study_table,
    table_rows,
    training_rows,
)

if TYPE_CHECKING:
    from napari_batchfx.adapt import ControlDiagnostics
    from napari_batchfx.adapt.job import PlainHead
    from napari_batchfx.study.bench import Bench
    from napari_batchfx.study.settings import AdaptSettings

__all__ = [
    "adapt_all_job",
    "adapt_job",
    "diagnose_controls_job",
    "has_controls",
    "has_pairs",
    "keep_results",
    "probe_job",
]


def probe_job(study: Bench, device: str = "auto") -> Job[ProbeOutcome]:
    """Probe the encoded tiles of a study (see :meth:`Study.probe_job`)."""
    from napari_batchfx.probe import site_probe_job

    choice = study.settings.probe.model_copy()
    yield Progress(0, 0, "reading features")
    recipe = yield from Recipe.job(study)
    table = make_study_table(recipe, "tissue", list(study.slides))
    origin = computed_from(recipe, table, choice.said(), regions=False)
    result = yield from site_probe_job(table, **choice.model_dump(), device=device)
    outcome = ProbeOutcome(result, table_rows(table), origin)
    study.results.keep(outcome)
    keep_results(study)
    return outcome


def adapt_job(study: Bench, enough: Callable[[], bool] | None = None) -> Job[AdaptOutcome]:
    """Train a head, correct on the controls and compare (see :meth:`Study.adapt_job`)."""
    choice = study.settings.adapt.model_copy(deep=True)
    yield Progress(0, 0, "reading features")
    recipe = yield from Recipe.job(study)
    return (yield from _adapt(recipe, choice, enough))


def _adapt(
    recipe: Recipe,
    choice: AdaptSettings,
    enough: Callable[[], bool] | None = None,
    plain: PlainHead | None = None,
) -> Job[AdaptOutcome]:
    from napari_batchfx.adapt import adapt_job as job

    study = recipe.study
    settings = Settings(tissue=recipe.tissue, encode=recipe.settings, adapt=choice)
    table = make_study_table(recipe, "tissue", list(study.slides))
    if choice.label not in table.obs or not table.obs[choice.label].notna().any():
        raise StudyError(f"{study.name}: no encoded tile has a class; draw regions and give each a class.")
    train = training_rows(table, choice.train_on, choice.batch, choice.label)
    origin = computed_from(recipe, table, choice.said())
    if choice.head != "linear":
        from napari_batchfx.study.head_steps import head_outcome_job

        outcome = yield from head_outcome_job(table, choice, train, origin, enough)
        return _finish(study, outcome, settings)
    result = yield from job(
        table,
        train_mask=train,
        batch=choice.batch,
        method=choice.method,
        label=choice.label,
        group=choice.group,
        seed=choice.seed,
        plain=plain,
    )
    rows = table_rows(table)
    # Slides by their content: they may be named anew before the result is shown.
    learned = train & table.obs[choice.label].notna().to_numpy()
    origin["learned_from"] = [rows.fingerprints[i] for i in np.unique(rows.slide[learned])]
    origin["applied_to"] = [rows.fingerprints[i] for i in np.unique(rows.slide[result.target])]
    return _finish(study, AdaptOutcome.of(result, rows, origin), settings)


def _finish(study: Bench, outcome: AdaptOutcome, settings: Settings) -> AdaptOutcome:
    from napari_batchfx.study.written import record_controls

    study.results.keep(outcome)
    record_controls(study)
    adapt_step(study, outcome, settings)
    keep_results(study)
    return outcome


def adapt_all_job(
    study: Bench, methods: Sequence[str] | None = None, heads: Sequence[str] = ()
) -> Job[list[AdaptOutcome]]:
    """Every correction in turn, the one of the settings last (see :meth:`Study.adapt_all_job`)."""
    from napari_batchfx.adapt import HEADS, METHODS, REGISTRY

    choice = study.settings.adapt.model_copy(deep=True)
    asked = list(METHODS if methods is None else methods)
    unknown = [method for method in asked if method not in METHODS]
    if unknown:
        raise StudyError(f"{unknown[0]}: there is no such correction; choose of {', '.join(METHODS)}.")
    unknown = [head for head in heads if head not in HEADS]
    if unknown:
        raise StudyError(f"{unknown[0]}: there is no such classifier; choose of {', '.join(HEADS)}.")
    yield Progress(0, 0, "reading features")
    recipe = yield from Recipe.job(study)
    if methods is None:
        # without aligned rescans what learns from pairs has nothing to learn from: no problem to report
        can_pair = has_pairs(study)
        asked = [method for method in asked if REGISTRY[method].needs != "pairs" or can_pair]
    found: list[AdaptOutcome] = []
    plain = None  # no correction changes the classifier on raw features: it is trained once
    turns = [("linear", method) for method in dict.fromkeys(asked)]
    turns += [(head, choice.method) for head in dict.fromkeys(heads)]
    for head, method in turns:
        if head == choice.head and (head != "linear" or method == choice.method):
            continue
        other = choice.model_copy(update={"method": method, "head": head})
        try:
            found.append((yield from _adapt(recipe, other, plain=plain)))
            plain = _plain_of(found[-1]) or plain
        except AdaptError as error:  # another correction may well do
            study.report_problem(f"adapt ({method if head == 'linear' else head})", error)
    found.append((yield from _adapt(recipe, choice, plain=plain)))
    return found


def _plain_of(outcome: AdaptOutcome) -> PlainHead | None:
    from napari_batchfx.adapt import AdaptResult

    return outcome.result.plain if isinstance(outcome.result, AdaptResult) else None


def diagnose_controls_job(study: Bench) -> Job[ControlDiagnostics]:
    """Judge the control samples with the method of the settings (see :meth:`Study.diagnose_controls_job`)."""
    from napari_batchfx.adapt import make_correction, method_named
    from napari_batchfx.adapt.controls import diagnose_job

    choice = study.settings.adapt.model_copy(deep=True)
    yield Progress(0, 0, "reading features")
    recipe = yield from Recipe.job(study)
    table = make_study_table(recipe, "tissue", list(study.slides))
    asked = method_named(choice.method)
    # controls are judged by a correction that is fitted on them
    correction = make_correction(choice.method if asked.needs == "controls" else "standardize")
    return (
        yield from diagnose_job(
            table,
            choice.batch,
            method=correction,
            label=choice.label,
            group=choice.group,
            seed=choice.seed,
        )
    )


def has_pairs(study: Bench) -> bool:
    """Whether a slide lies on another one with an alignment that its pairs can be taken from."""
    from napari_batchfx.study.alignment import root_of

    return any(root_of(study, entry) is not None for entry in study.slides)


def keep_results(study: Bench) -> None:
    """Write the results; where the folder can't be written they stay in memory and the problem is told."""
    from napari_batchfx.adapt import AdaptResult

    folder = study.folder / files.RESULTS_FOLDER
    try:
        study.results.write(folder)
        found = study.results.adapt
        if found is not None and found.result is not None:
            # The fitted parts too: another study can load them with adapt.load_head and adapt.load.
            found.result.head.save(folder / "head.safetensors")
            if isinstance(found.result, AdaptResult):
                found.result.correction.save(folder / "correction.safetensors")
            else:  # a head that adapts by itself has none, and another's is not its own
                (folder / "correction.safetensors").unlink(missing_ok=True)
    except (OSError, AdaptError) as error:
        study.report_problem(
            "results",
            f"The results can't be written to {study.folder.name} ({error}); save the study elsewhere.",
        )


def has_controls(study: Bench) -> bool:
    """Whether any control sample is drawn or in the basket."""
    return any(a.is_control for a in study.annotations) or any(tile.is_taken for tile in study.controls)
