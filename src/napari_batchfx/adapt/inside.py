"""How well a classifier does on held-out tiles of the slides it learns from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_batchfx.adapt.comparison import Estimate
from napari_batchfx.adapt.head import ERMHead, Prediction, training_folds
from napari_batchfx.adapt.intervals import draw_units, share_interval
from napari_batchfx.jobs import Job, Ticker
from napari_batchfx.probe.columns import category_codes, feature_matrix
from napari_batchfx.probe.statistics import balanced_accuracy

if TYPE_CHECKING:
    import numpy.typing as npt
    from anndata import AnnData
    from numpy.typing import NDArray

__all__ = ["accuracy_inside_job", "accuracy_of"]


def accuracy_inside_job(
    table: AnnData,
    label: str = "label",
    group: str = "patient",
    *,
    c: float = 1e-2,
    seed: int = 0,
    n_bootstrap: int = 1000,
    ticker: Ticker | None = None,
) -> Job[Estimate | None]:
    """Balanced accuracy of a linear head on the labelled tiles of a table, cross-validated.

    Three folds hold out whole patients, or slides, or pieces of slides where there are too few.

    Parameters
    ----------
    table : anndata.AnnData
        The tiles it learns from, with the features it learns from.
    label, group : str
    c : float
        Inverse penalty.
    seed, n_bootstrap : int
    ticker : Ticker, optional

    Returns
    -------
    Job
        Returns an :class:`~napari_batchfx.adapt.Estimate`; ``None`` where a class can't be held out.

    Examples
    --------
    >>> import anndata, pandas
    >>> from napari_batchfx.jobs import run
    >>> rng = np.random.default_rng(0); y = np.tile([0, 1], 120)
    >>> obs = pandas.DataFrame({"label": y.astype(str), "slide": (np.arange(240) // 40).astype(str)})
    >>> obs.index = obs.index.astype(str)
    >>> x = rng.normal(size=(240, 4)) + 4 * y[:, None]
    >>> run(accuracy_inside_job(anndata.AnnData(x.astype("float32"), obs=obs))).value > 0.95
    True
    """
    ticker = ticker or Ticker(0, "accuracy on held-out tiles", unit="fits")
    codes, names = category_codes(table, label)
    rows = np.flatnonzero((codes >= 0) & np.isfinite(feature_matrix(table)).all(axis=1))
    if len(np.unique(codes[rows])) < 2:
        return None
    y = np.unique(codes[rows], return_inverse=True)[1].astype(np.intp)
    folds, _, unit = training_folds(table, rows, y, group, seed)
    if folds is None:
        return None
    predicted: NDArray[np.object_] = np.full(len(rows), "", dtype=object)
    for k in np.unique(folds):
        if min(np.bincount(y[folds != k], minlength=int(y.max()) + 1)) < 5:
            return None
        part = table[rows].copy()
        head = ERMHead(c=c, seed=seed)
        yield from head.fit_steps(part[folds != k].copy(), label, group, ticker)
        predicted[folds == k] = head.predict(part[folds == k].copy()).label
    truth = np.array(names, dtype=object)[codes[rows]]
    return accuracy_of(predicted, truth, unit, n_bootstrap, seed)


def accuracy_of(
    predicted: npt.ArrayLike | Prediction,
    truth: npt.ArrayLike,
    unit: npt.ArrayLike,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Balanced accuracy of class names with its interval over units (patients, slides, places).

    Examples
    --------
    >>> truth = np.repeat(["a", "b"], 20)
    >>> print(accuracy_of(truth, truth, np.arange(40) // 4))
    1.00 (0.72-1.00)
    """
    called = predicted.label if isinstance(predicted, Prediction) else np.asarray(predicted, dtype=object)
    known = np.asarray(truth, dtype=object)
    names = sorted({*map(str, known), *map(str, called)})
    place = {name: i for i, name in enumerate(names)}
    y, p = (np.array([place[str(v)] for v in values], dtype=np.intp) for values in (known, called))
    group = np.unique(np.asarray(unit).astype(str), return_inverse=True)[1]
    n_units = int(group.max()) + 1
    total, right = np.zeros((n_units, len(names))), np.zeros((n_units, len(names)))
    np.add.at(total, (group, y), 1.0)
    np.add.at(right, (group[y == p], y[y == p]), 1.0)
    times, free = draw_units(total > 0, n_bootstrap, seed)
    present = total.sum(axis=0) > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = np.nanmean(((times @ right) / (times @ total))[:, present], axis=1)
    value = balanced_accuracy(y, p, len(names))
    return Estimate(value, share_interval(value, draws, n_units, free, len(y)))
