"""From labels and controls to predictions before and after a correction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from napari_batchfx.adapt.comparison import Comparison, Estimate, compare_predictions
from napari_batchfx.adapt.controls import ControlDiagnostics, diagnose_job
from napari_batchfx.adapt.correction import Correction, control_mask
from napari_batchfx.adapt.head import ERMHead, Prediction
from napari_batchfx.adapt.inside import accuracy_inside_job
from napari_batchfx.adapt.methods import make_correction
from napari_batchfx.adapt.units import independent_units
from napari_batchfx.errors import AdaptError
from napari_batchfx.jobs import Job, Ticker
from napari_batchfx.probe.columns import category_codes, feature_matrix
from napari_batchfx.probe.metrics import MetricResult, class_retention

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["AdaptResult", "PlainHead", "adapt_job"]


@dataclass(frozen=True)
class AdaptResult:
    """Predictions with and without correction; rows follow the table.

    Attributes
    ----------
    before, after : Prediction
        Of the tiles on slides that were not trained on; other rows are left without prediction.
    changed : bool (n,)
        Tiles whose class changed.
    target : bool (n,)
        Tiles that were predicted.
    correction : Correction
        Fitted on the controls of every batch.
    head, head_before : ERMHead
        Trained on corrected and on raw features of the training tiles.
    comparison : Comparison
        Accuracy there counts labelled tiles that were no controls.
    diagnostics : ControlDiagnostics
    retention_before, retention_after : MetricResult
        Class retention of all labelled tiles that are no controls: what the correction cost in biology.
    warnings : list of str
    """

    before: Prediction
    after: Prediction
    changed: NDArray[np.bool_]
    target: NDArray[np.bool_]
    correction: Correction
    head: ERMHead
    head_before: ERMHead
    comparison: Comparison
    diagnostics: ControlDiagnostics
    retention_before: MetricResult
    retention_after: MetricResult
    warnings: list[str]

    @property
    def plain(self) -> PlainHead:
        """What doesn't depend on the correction, for another one."""
        return PlainHead(self.head_before, self.comparison.inside_before)


@dataclass(frozen=True)
class PlainHead:
    """The classifier on raw features, and its accuracy on held-out tiles of the slides it learned from."""

    head: ERMHead
    inside: Estimate | None


def adapt_job(
    table: AnnData,
    *,
    train_mask: npt.ArrayLike | None = None,
    train_slides: Sequence[str] | None = None,
    batch: str = "site",
    method: str | Correction = "standardize",
    label: str = "label",
    controls: npt.ArrayLike | None = None,
    covariates: Sequence[str] = (),
    group: str = "patient",
    seed: int = 0,
    n_bootstrap: int = 1000,
    plain: PlainHead | None = None,
) -> Job[AdaptResult]:
    """Train a classifier on some slides and apply it to the others, with and without a correction.

    The correction is fitted on the controls of every batch. "Before" is a head trained on raw features of the
    training tiles, "after" one trained on their corrected features. Neither sees a label of the other slides.

    Parameters
    ----------
    table : anndata.AnnData
    train_mask : bool array (n,), optional
        Tiles to train on (those of them that have a label).
    train_slides : sequence of str, optional
        Slides to train on, instead of a mask.
    batch : str
        Column to correct for.
    method : str or Correction
        An id of :data:`napari_batchfx.adapt.METHODS`; a correction of your own is fitted in place.
    label, group : str
        Columns of the class and of what belongs together.
    controls : bool array (n,), optional
        Default ``obs["control"]``.
    covariates : sequence of str
        Passed to the correction.
    seed, n_bootstrap : int
    plain : PlainHead, optional
        Of an earlier call with the same table, training tiles and settings (``result.plain``): the head on
        raw features, which no correction changes, is then not trained again.

    Returns
    -------
    AdaptResult
        As the result of the job.

    Raises
    ------
    AdaptError
        If training tiles, controls or something to apply to are missing; one sentence says which.

    Examples
    --------
    >>> import anndata, numpy, pandas
    >>> from napari_batchfx.jobs import run
    >>> rng = numpy.random.default_rng(0); y = numpy.tile([0, 1], 160)
    >>> slide = numpy.repeat(numpy.arange(4), 80)
    >>> site = numpy.where(slide < 2, "A", "B")
    >>> x = rng.normal(size=(320, 5)); x[:, 0] += 4 * y; x[:, 0] += 6 * (slide >= 2)
    >>> obs = pandas.DataFrame({"site": site, "slide": slide.astype(str)})
    >>> obs["label"] = numpy.where(y, "tumour", "normal")
    >>> obs["control"] = numpy.arange(320) % 4 < 2
    >>> obs.index = obs.index.astype(str)
    >>> table = anndata.AnnData(x.astype("float32"), obs=obs)
    >>> result = run(adapt_job(table, train_slides=["0", "1"], n_bootstrap=100))
    >>> c = result.comparison
    >>> c.balanced_accuracy_before.value < 0.6 < 0.9 < c.balanced_accuracy_after.value
    True
    """
    ticker = Ticker(0, "adapting", unit="steps")
    yield ticker.tick(0)
    warnings: list[str] = []
    n = table.n_obs
    y, names = category_codes(table, batch)
    if not names:
        raise AdaptError(f"No slide has a {batch}: give each slide one in the Slides dock.")
    slide = category_codes(table, "slide")[0]
    if (slide < 0).any():
        slide = y
    train = _training(table, train_mask, train_slides)
    finite = np.isfinite(feature_matrix(table)).all(axis=1)
    usable = finite & (y >= 0)
    if not finite.all():
        warnings.append(f"{int((~finite).sum()):,} tiles have missing features and are not predicted.")
    if (y < 0).any():
        warnings.append(f"{int((y < 0).sum()):,} tiles have no {batch} and are not predicted.")
    codes, classes = category_codes(table, label)
    train &= usable
    if not (train & (codes >= 0)).any():
        raise AdaptError("No training tile has a class: draw labels on the slide to learn from.")
    target = usable & ~np.isin(slide, np.unique(slide[train]))
    if not target.any():
        target = usable & ~train
    if not target.any():
        raise AdaptError("There is no other slide to apply the classifier to: train on some slides only.")
    mask = control_mask(table, controls)

    rows = np.flatnonzero(usable)
    sub = table[rows].copy()
    correction = make_correction(method)
    correction.fit(sub, batch, mask[rows], covariates)
    corrected = correction.transform(sub)
    yield ticker.tick()
    if not np.isin(np.unique(y[target]), np.unique(y[train])).all() and len(np.unique(y[usable])) < 2:
        warnings.append(f"All tiles are of one {batch}: there is nothing to correct for.")

    heads: list[ERMHead] = []
    predictions: list[Prediction] = []
    inside: list[Estimate | None] = []
    for features in (sub, corrected):
        if plain is not None and features is sub:
            head, held_out = plain.head, plain.inside
        else:
            head, own = ERMHead(seed=seed), features[train[rows]].copy()
            yield from head.fit_steps(own, label, group, ticker)
            held_out = yield from accuracy_inside_job(
                own, label, group, c=head.c, seed=seed, n_bootstrap=n_bootstrap, ticker=ticker
            )
        inside.append(held_out)
        part = head.predict(features)
        proba = np.full((n, len(head.classes)), np.nan)
        proba[rows] = part.proba
        heads.append(head)
        predictions.append(Prediction.from_proba(head.classes, proba).only(target))
        yield ticker.tick()
    before, after = predictions

    units, _ = independent_units(table, batch, group)
    truth = np.array([classes[c] if c >= 0 else "" for c in codes], dtype=object)
    known = truth != ""
    truth[mask] = ""
    if (target & known).any() and not (target & (truth != "")).any():
        warnings.append(
            "All labelled tiles of the other slides are controls, so the accuracy there can't be judged."
        )
    comparison = compare_predictions(before, after, truth, units, n_bootstrap=n_bootstrap, seed=seed)
    comparison = replace(comparison, inside_before=inside[0], inside_after=inside[1])
    yield ticker.tick()

    diagnostics = yield from diagnose_job(
        sub, batch, mask[rows], method=correction, label=label, group=group, seed=seed
    )
    others = ~mask[rows]
    retention = [
        class_retention(t[others], label, units[rows][others], n_bootstrap=n_bootstrap)
        for t in (sub, corrected)
    ]
    yield ticker.tick()
    warnings += correction.warnings + heads[1].warnings + comparison.warnings
    if diagnostics.verdict != "usable":
        warnings.append(f"The control samples are {diagnostics.verdict}: {' '.join(diagnostics.reasons)}")
    lost = retention[0].value - retention[1].value
    if lost > 0.01:
        warnings.append(
            "The correction costs biology: classes are told apart by their neighbours in "
            f"{100 * retention[1].value:.0f} of 100 tiles, "
            f"{100 * retention[0].value:.0f} before."
        )
    changed = before.predicted & after.predicted & (before.label != after.label)
    return AdaptResult(
        before,
        after,
        changed,
        target,
        correction,
        heads[1],
        heads[0],
        comparison,
        diagnostics,
        retention[0],
        retention[1],
        list(dict.fromkeys(warnings)),
    )


def _training(
    table: AnnData, train_mask: npt.ArrayLike | None, train_slides: Sequence[str] | None
) -> NDArray[np.bool_]:
    if (train_mask is None) == (train_slides is None):
        raise AdaptError("Say what to train on: either train_slides or train_mask.")
    if train_mask is not None:
        mask = np.array(train_mask, dtype=bool)
        if mask.shape != (table.n_obs,):
            raise AdaptError(f"The training mask has {mask.size:,} values for {table.n_obs:,} tiles.")
        return mask
    codes, names = category_codes(table, "slide")
    wanted = [str(s) for s in train_slides or ()]
    unknown = [s for s in wanted if s not in names]
    if unknown or not wanted:
        raise AdaptError(
            f"There is no slide {unknown[0]} in the table." if unknown else "No slide to train on was named."
        )
    return np.isin(codes, [names.index(s) for s in wanted])
