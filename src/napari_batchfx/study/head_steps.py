"""Classifiers that adapt by themselves, trained and applied within a study."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import StudyError
from napari_batchfx.jobs import Job, Progress
from napari_batchfx.study.adapted import AdaptOutcome
from napari_batchfx.study.recipe import Recipe
from napari_batchfx.study.tables import computed_from, make_study_table, table_rows

if TYPE_CHECKING:
    from anndata import AnnData

    from napari_batchfx.adapt import ControlDiagnostics
    from napari_batchfx.adapt.heads.base import NeuralHead
    from napari_batchfx.study.bench import Bench
    from napari_batchfx.study.settings import AdaptSettings

__all__ = ["head_outcome_job", "loaded_head_job"]

_NAN = float("nan")
_SAVED = "a saved classifier"


def loaded_head_job(study: Bench, path: Path | str) -> Job[AdaptOutcome]:
    """Apply a classifier that was saved to every encoded slide (see :meth:`Study.apply_head_job`)."""
    from napari_batchfx.adapt import load_head
    from napari_batchfx.adapt.heads.base import NeuralHead
    from napari_batchfx.adapt.state import encoder_key

    choice = study.settings.adapt.model_copy(deep=True)
    yield Progress(0, 0, "reading features")
    recipe = yield from Recipe.job(study)
    table = make_study_table(recipe, "tissue", list(study.slides))
    head = load_head(path, encoder_key(table))
    if not isinstance(head, NeuralHead):
        raise StudyError(f"{Path(path).name}: {_why_not(head)}")
    choice = choice.model_copy(update={"head": head.method, "train_on": [_SAVED]})
    origin = computed_from(recipe, table, choice.said())
    outcome = yield from head_outcome_job(table, choice, np.zeros(table.n_obs, dtype=bool), origin, head=head)
    study.results.keep(outcome)
    return outcome


def _why_not(head: object) -> str:
    """Why a classifier that was read can't be applied to the slides of a study as it is."""
    from napari_batchfx.adapt import AdaptiveNetwork
    from napari_batchfx.adapt.heads.onnx import ONNXHead
    from napari_batchfx.adapt.mil.scangen import ScanGenMIL

    if isinstance(head, ONNXHead):
        return (
            "an ONNX classifier is fixed and doesn't adapt by itself; predict with it from Python "
            "(adapt.load_head), or choose a classifier that adapts, such as CS-ARM-BN."
        )
    if isinstance(head, AdaptiveNetwork):
        return (
            "a whole network takes pixels, and here classifiers are applied to encoded tiles; predict with "
            "it from Python (adapt.load_head), or choose a classifier of features, such as CS-ARM-BN."
        )
    if isinstance(head, ScanGenMIL):
        return (
            "a slide-level classifier (ScanGen) gives one answer a slide, not one a tile; predict with it "
            "from Python (adapt.load_head)."
        )
    return (
        "it doesn't adapt by itself (a linear classifier belongs to the correction it was trained with); "
        "choose one that does, such as CS-ARM-BN."
    )


def head_outcome_job(
    table: AnnData,
    choice: AdaptSettings,
    train: NDArray[np.bool_],
    origin: dict[str, Any],
    enough: Callable[[], bool] | None = None,
    head: NeuralHead | None = None,
) -> Job[AdaptOutcome]:
    """Train the head of the settings (or take ``head``) and apply it to the slides it doesn't learn from.

    Parameters
    ----------
    table : AnnData
        All encoded tiles of the study.
    choice : AdaptSettings
    train : bool (n,)
        Tiles to learn from; with ``head``, tiles that are left out.
    origin : dict
        What it is computed from; ``learned_from`` and ``applied_to`` are added.
    enough : callable, optional
        Asked after every step of the training: True ends it there, with the best weights so far.
    head : NeuralHead, optional
        A trained one.

    Returns
    -------
    Job
        While it trains, ``partial`` holds points of the loss curve.
    """
    from napari_batchfx.adapt import TrainingSettings
    from napari_batchfx.adapt.controls import diagnose_job
    from napari_batchfx.adapt.heads.job import adapt_head_job
    from napari_batchfx.adapt.heads.offered import make_head
    from napari_batchfx.adapt.units import independent_units
    from napari_batchfx.probe.metrics import class_retention

    slide = table.obs["slide"].astype(str).to_numpy()
    slides = [str(name) for name in np.unique(slide[train])]
    notes: list[str] = []
    if head is None:
        head = make_head(choice.head, TrainingSettings(seed=choice.seed))
        own = table[np.isin(slide, slides)].copy()
        training = head.fit_job(own, choice.label, choice.batch, None, choice.group)
        try:
            for progress in training:
                yield progress
                if enough is not None and enough() and head.curve:
                    notes.append(f"The training was ended early, after step {head.curve[-1].step}.")
                    break
        finally:
            training.close()
    result = yield from adapt_head_job(
        table,
        train_slides=slides,
        batch=choice.batch,
        method=head,
        label=choice.label,
        group=choice.group,
        seed=choice.seed,
    )
    yield Progress(0, 0, "judging controls")
    batches = [str(name) for name in table.obs[choice.batch].dropna().unique()]
    if len(batches) > 1:
        found = yield from diagnose_job(
            table, choice.batch, label=choice.label, group=choice.group, seed=choice.seed
        )
    else:
        found = _one_batch(table, choice.batch, batches)
    # What a correction would do is not what this did: a head leaves the features as they are.
    controls = replace(
        found,
        probe_after=_NAN,
        class_after=_NAN,
        retention_after=_NAN,
        placebo=_NAN,
        variance_ratio=_NAN,
    )
    others = ~table.obs["control"].to_numpy(dtype=bool)
    retention = None
    if choice.label in table.obs and table.obs[choice.label][others].nunique() > 1:
        units, _ = independent_units(table, choice.batch, choice.group)
        retention = class_retention(table[others], choice.label, units[others], n_bootstrap=200)
    rows = table_rows(table)
    origin["learned_from"] = [rows.fingerprints[i] for i in np.unique(rows.slide[train])]
    origin["applied_to"] = [rows.fingerprints[i] for i in np.unique(rows.slide[result.target])]
    return AdaptOutcome.of_head(result, controls, retention, rows, origin, notes)


def _one_batch(table: AnnData, batch: str, names: list[str]) -> ControlDiagnostics:
    """Of slides of one scanner there is nothing to compare controls with."""
    from napari_batchfx.adapt import ControlDiagnostics

    mask = table.obs["control"].to_numpy(dtype=bool)
    return ControlDiagnostics(
        "weak",
        [f"The slides are of one {batch}: the controls can't be judged beside those of another."],
        {name: int(mask.sum()) for name in names},
        {name: int(table.obs["slide"][mask].nunique()) for name in names},
        1.0,
        _NAN,
        "none",
    )
