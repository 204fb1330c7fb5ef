"""From labels and controls to predictions of a classifier before and after it adapts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from napari_batchfx.adapt.comparison import Comparison, Estimate, compare_predictions
from napari_batchfx.adapt.correction import control_mask
from napari_batchfx.adapt.head import Prediction
from napari_batchfx.adapt.heads._data import TrainingData
from napari_batchfx.adapt.heads.base import NeuralHead
from napari_batchfx.adapt.heads.offered import make_head
from napari_batchfx.adapt.heads.settings import TrainingSettings
from napari_batchfx.adapt.heads.ways import Ways
from napari_batchfx.adapt.inside import accuracy_of
from napari_batchfx.adapt.reference import FEWEST, SlideJudgement
from napari_batchfx.adapt.units import independent_units
from napari_batchfx.errors import AdaptError
from napari_batchfx.jobs import Job, Ticker
from napari_batchfx.probe.columns import category_codes, feature_matrix

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["HeadResult", "adapt_head_job"]


@dataclass(frozen=True)
class HeadResult:
    """Predictions of the slides that were not trained on; rows follow the table.

    Attributes
    ----------
    before, after : Prediction
        With the statistics of the training, and as the method was made for.
    changed, target : bool (n,)
        Tiles whose class changed, and tiles that were predicted.
    ways : Ways
        Source, controls only and mixed side by side.
    comparison : Comparison
        Accuracy there counts labelled tiles that were no controls.
    judgements : dict of SlideJudgement
        For each domain that was predicted: which of the training's it is most like.
    head : NeuralHead
    warnings : list of str
    """

    before: Prediction
    after: Prediction
    changed: NDArray[np.bool_]
    target: NDArray[np.bool_]
    ways: Ways
    comparison: Comparison
    judgements: dict[str, SlideJudgement]
    head: NeuralHead
    warnings: list[str]


def adapt_head_job(
    table: AnnData,
    *,
    train_slides: Sequence[str],
    batch: str = "site",
    method: str | NeuralHead = "csarmbn",
    label: str = "label",
    controls: npt.ArrayLike | None = None,
    group: str = "patient",
    settings: TrainingSettings | None = None,
    seed: int = 0,
    n_bootstrap: int = 1000,
) -> Job[HeadResult]:
    """Train a classifier on some slides and apply it to the others, with and without adapting to them.

    Parameters
    ----------
    table : anndata.AnnData
        With ``slide`` and the column ``batch``.
    train_slides : sequence of str
    batch : str
        Column of the domains that have statistics of their own.
    method : str or NeuralHead
        Of :data:`~napari_batchfx.adapt.HEADS`, or a trained head, which is then applied as it is.
    label, group : str
    controls : bool (n,), optional
        Default ``obs["control"]``.
    settings : TrainingSettings, optional
    seed, n_bootstrap : int

    Returns
    -------
    HeadResult
        As the result of the job; while it trains, ``partial`` holds points of the loss curve.

    Raises
    ------
    AdaptError
        If training tiles, controls or other slides are missing; one sentence says which.

    Examples
    --------
    >>> import anndata, numpy, pandas
    >>> from napari_batchfx.jobs import run
    >>> rng = numpy.random.default_rng(0); y = numpy.tile([0, 1], 320)
    >>> slide = numpy.repeat(["A", "B", "C", "D"], 160)
    >>> x = rng.normal(size=(640, 6)); x[:, :3] += 3 * y[:, None]
    >>> x += 5 * rng.normal(size=(4, 6))[numpy.repeat(range(4), 160)]
    >>> obs = pandas.DataFrame({"label": numpy.where(y, "tumour", "normal"), "slide": slide})
    >>> obs["control"] = numpy.arange(640) // 2 % 2 == 0; obs.index = obs.index.astype(str)
    >>> table = anndata.AnnData(x.astype("float32"), obs=obs)
    >>> small = TrainingSettings(steps=60, hidden=(32, 16))
    >>> job = adapt_head_job(table, train_slides=["A", "B", "C"], batch="slide", settings=small)
    >>> result = run(job)
    >>> result.comparison.balanced_accuracy_after.value > 0.9
    True
    """
    ticker = Ticker(0, "adapting", unit="steps")
    yield ticker.tick(0)
    slide, slides = category_codes(table, "slide")
    unknown = [s for s in train_slides if s not in slides]
    if unknown:
        raise AdaptError(f"There is no slide {unknown[0]} in the table.")
    train = np.isin(slide, [slides.index(s) for s in train_slides])
    finite = np.isfinite(feature_matrix(table)).all(axis=1)
    domain, names = category_codes(table, batch)
    target = ~train & finite & (domain >= 0)
    if not target.any():
        raise AdaptError("There is no other slide to apply the classifier to: train on some slides only.")
    mask = control_mask(table, controls)
    if isinstance(method, NeuralHead):
        head = method
    else:
        head = make_head(method, settings)
        training = table[train].copy()
        yield from head.fit_job(training, label, batch, mask[train], group)
    warnings, inside = list(head.warnings), None
    if train.any():  # a head of a file comes without what it learned from
        inside = _inside(head, table[train].copy(), label, batch, mask[train], group, seed, n_bootstrap)
    rows = np.flatnonzero(target)
    part = table[rows].copy()
    mine = mask[rows]

    def spread(found: Prediction) -> Prediction:
        proba = np.full((table.n_obs, len(found.classes)), np.nan)
        proba[rows] = found.proba
        return Prediction.from_proba(found.classes, proba)

    ways = head.predict_ways(part, batch, mine, seed=seed)
    yield ticker.tick()
    after = spread(head.predict(part, batch, mine, seed=seed))
    warnings += head.warnings
    wide = Ways(spread(ways.source), spread(ways.controls), spread(ways.mixed), ways.contexts, ways.warnings)
    yield ticker.tick()
    judgements = _judge(head, table, domain, names, target, seed)
    yield ticker.tick()
    codes, classes = category_codes(table, label)
    truth: NDArray[Any] = np.array([classes[c] if c >= 0 else "" for c in codes], dtype=object)
    truth[mask] = ""
    units, _ = independent_units(table, batch, group)
    comparison = compare_predictions(wide.source, after, truth, units, n_bootstrap=n_bootstrap, seed=seed)
    comparison = replace(comparison, inside_before=inside and inside[0], inside_after=inside and inside[1])
    changed = wide.source.predicted & after.predicted & (wide.source.label != after.label)
    warnings += [f"{name}: {j.sentence}" for name, j in judgements.items() if j.is_unlike]
    warnings += comparison.warnings
    return HeadResult(
        wide.source,
        after,
        changed,
        target,
        wide,
        comparison,
        judgements,
        head,
        list(dict.fromkeys(warnings)),
    )


def _inside(
    head: NeuralHead,
    table: AnnData,
    label: str,
    batch: str,
    controls: NDArray[np.bool_],
    group: str,
    seed: int,
    n_bootstrap: int,
) -> tuple[Estimate, Estimate] | None:
    """Balanced accuracy, without and with adapting, on the seventh that the training held out and ended by.

    Training it again for each of several folds would take several times as long; that the training was
    ended by these tiles makes it a little kind.
    """
    data = TrainingData.of(table, label, batch, controls, group, head.settings.seed)
    if not len(data.valid) or len(np.unique(data.y[data.valid])) < 2:
        return None
    before = head.predict_ways(table, batch, controls, seed=seed).source
    after = head.predict(table, batch, controls, seed=seed)
    names = np.asarray(data.classes, dtype=object)[data.y[data.valid]]
    unit = data.unit[data.valid]
    first, second = (
        accuracy_of(one.label[data.valid], names, unit, n_bootstrap, seed) for one in (before, after)
    )
    return first, second


def _judge(
    head: NeuralHead,
    table: AnnData,
    domain: NDArray[np.intp],
    names: list[str],
    target: NDArray[np.bool_],
    seed: int,
) -> dict[str, SlideJudgement]:
    """Each domain that is predicted against those of the training; left out where it has too few tiles."""
    found: dict[str, SlideJudgement] = {}
    if head.reference is None:
        return found
    x = feature_matrix(table)
    for code in np.unique(domain[target]):
        rows = target & (domain == code)
        if rows.sum() >= FEWEST:
            found[names[code]] = head.reference.judge(x[rows], seed=seed)
    return found
