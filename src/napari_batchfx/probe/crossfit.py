"""Fits of the site probe: out of fold, penalty and temperature chosen inside the training folds."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.jobs import Progress, Ticker
from napari_batchfx.probe.design import Design
from napari_batchfx.probe.devices import TorchRows
from napari_batchfx.probe.inner import INNER_SPLITS, buffered, inner_folds, keep_batches, usable
from napari_batchfx.probe.logistic import SoftmaxWeights, fit_softmax, fit_temperature, log_loss, softmax
from napari_batchfx.probe.nuisance import take_out
from napari_batchfx.probe.probes import (
    LinearScorer,
    LogisticFits,
    NeighbourScorer,
    ProbeName,
    Rows,
    Scaler,
    fit_centroids,
    fit_neighbours,
)
from napari_batchfx.probe.statistics import balance_weights

__all__ = [
    "C_GRID",
    "DEFAULT_C",
    "INNER_SPLITS",
    "CrossFit",
    "choose_penalty",
    "crossfit",
    "fits_a_fold",
    "keep_batches",
]

C_GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
MAX_INNER_ROWS = 8_000
DEFAULT_C = 1e-2


@dataclass
class CrossFit:
    """Out-of-fold probabilities (m, b), what was chosen in each fold, and the classifier of each."""

    proba: NDArray[np.float64]
    scorers: list[LinearScorer | NeighbourScorer] = field(default_factory=list)
    c: list[float] = field(default_factory=list)
    temperature: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def choose_penalty(
    z: NDArray[np.float32],
    values: NDArray[np.float64],
    y: NDArray[np.intp],
    weight: NDArray[np.float64],
    inner: NDArray[np.intp],
    n_classes: int,
    ticker: Ticker,
    usable: NDArray[np.bool_] | None = None,
    grid: tuple[float, ...] = C_GRID,
) -> Generator[Progress, None, tuple[float, float]]:
    """Pick ``C`` by the held-out log loss over inner folds, and the temperature at that ``C``.

    ``inner`` (n,) is the inner fold of each row; ``usable`` (n_folds, n) says which rows a fold may train on.
    The grid is walked from strong to weak penalty, each fit starting at the last, and left once the loss has
    risen twice.
    """
    folds = np.unique(inner)
    starts: list[SoftmaxWeights | None] = [None] * len(folds)
    best: tuple[float, float, float] | None = None
    worse = 0
    for i, c in enumerate(grid):
        logits = np.full((len(y), n_classes), np.nan)
        for f, k in enumerate(folds):
            test = inner == k
            train = ~test if usable is None else ~test & usable[f]
            starts[f] = fit_softmax(z[train], values, y[train], weight[train], c, n_classes, starts[f])
            logits[test] = starts[f].logits(z[test])  # type: ignore[union-attr]
            yield ticker.tick()
        temperature = fit_temperature(logits, y, weight)
        loss = log_loss(logits, y, weight, temperature)
        if best is None or loss < best[0] - 1e-4:
            best, worse = (loss, c, temperature), 0
        else:
            worse += 1
            if worse == 2:
                yield ticker.tick((len(grid) - i - 1) * len(folds))
                break
    if best is None:
        return DEFAULT_C, 1.0
    return best[1], best[2]


def fits_a_fold(probe: ProbeName) -> int:
    """How many fits a fold takes, for the progress."""
    return {"logistic": INNER_SPLITS * len(C_GRID), "linear": 0}.get(probe, INNER_SPLITS) + 1


def crossfit(
    design: Design,
    ticker: Ticker,
    seed: int = 0,
    probe: ProbeName = "logistic",
    nuisance: NDArray[np.float32] | None = None,
    device: str | None = None,
) -> Generator[Progress, None, CrossFit]:
    """Score every tile with a classifier that has not seen its unit.

    With a torch ``device`` (see :func:`~napari_batchfx.probe.devices.fit_device`) the logistic regression is
    standardised, fitted and scored there. With ``nuisance`` (m, q), what a ridge regression on it explains of
    the features is taken out first, on the CPU; the regression too is estimated on the training tiles of a
    fold.
    """
    y, b = design.y, len(design.batches)
    out = CrossFit(np.full((len(y), b), 1.0 / b))
    rng = np.random.default_rng(seed)
    unchosen = 0
    scorer: LinearScorer | NeighbourScorer
    there = None
    if device is not None and probe == "logistic" and nuisance is None:
        there = TorchRows.put(design.x, device)
    for k in range(design.grouping.n_splits):
        before = ticker.done
        test = design.grouping.fold == k
        train_mask = ~test & ~buffered(design, test)
        train_mask = keep_batches(train_mask, ~test, y, b)
        train = np.flatnonzero(train_mask)
        weight = balance_weights(y[train], design.slide[train])
        if there is not None:
            scorer, c, temperature, chosen = yield from _chosen(
                design, train, there[train], weight, probe, rng, seed, ticker
            )
            out.c.append(c)
            logits = cast(LinearScorer, scorer).logits(there[test])
        else:
            x, x_test = design.x[train], design.x[test]
            if nuisance is not None:
                x, x_test = take_out(x, nuisance[train], weight, x_test, nuisance[test])
            if probe == "linear":
                scorer, temperature, chosen = _paper_layer(design, train, x, weight, seed)
            else:
                scorer, c, temperature, chosen = yield from _chosen(
                    design, train, x, weight, probe, rng, seed, ticker
                )
                if probe == "logistic":
                    out.c.append(c)
            logits = scorer.logits(x_test)
        unchosen += not chosen
        out.proba[test] = softmax(logits / temperature)
        out.scorers.append(scorer)
        out.temperature.append(float(temperature))
        yield ticker.tick(max(0, fits_a_fold(probe) - (ticker.done - before)))
    if unchosen:
        out.notes.append(
            "Too few groups to choose the strength of the penalty and the calibration inside the training "
            "folds: a fixed penalty was "
            "used and the confidence of single tiles is not calibrated."
        )
    return out


def _chosen(
    design: Design,
    train: NDArray[np.intp],
    x: Rows,
    weight: NDArray[np.float64],
    probe: ProbeName,
    rng: np.random.Generator,
    seed: int,
    ticker: Ticker,
) -> Generator[Progress, None, tuple[LinearScorer | NeighbourScorer, float, float, bool]]:
    """The classifier of a fold, with the penalty and the temperature that do best inside it."""
    b = len(design.batches)
    y, slide = design.y[train], design.slide[train]
    scaler: Scaler | None = None
    if probe == "logistic":
        scaler = Scaler.fit(x, weight)
        x = scaler.apply_inplace(x)  # a copy of the training rows: ours
    sub = np.arange(len(train))
    if len(sub) > MAX_INNER_ROWS:
        sub = np.sort(rng.choice(len(train), MAX_INNER_ROWS, replace=False, p=weight / weight.sum()))
    c, temperature = DEFAULT_C, 1.0
    inner = inner_folds(design, train[sub], seed)
    chosen = inner is not None and len(np.unique(y[sub])) == b
    if inner is not None and chosen:
        allowed = usable(design, train[sub], inner)
        c, temperature = yield from _inside(
            x if len(sub) == len(train) else x[sub],
            y[sub],
            slide[sub],
            inner,
            allowed,
            b,
            probe,
            seed,
            ticker,
        )
    if chosen and len(sub) < len(train):
        # one fitted on so few tiles is surer than it should be where one fitted on all is not
        temperature = _whole_temperature(design, train, x, y, slide, weight, probe, c, seed)
    scorer = _fit(x, y, slide, weight, b, probe, c, seed)
    if scaler is not None and isinstance(scorer, LinearScorer):
        coef = scorer.coef / scaler.scale[:, None]
        scorer = LinearScorer(scaler.mean, coef, scorer.intercept)
    return scorer, c, temperature, chosen


def _fit(
    x: Rows,
    y: NDArray[np.intp],
    slide: NDArray[np.intp],
    weight: NDArray[np.float64],
    b: int,
    probe: ProbeName,
    c: float,
    seed: int,
) -> LinearScorer | NeighbourScorer:
    """One classifier; the logistic regression takes features that are standardised already."""
    if not isinstance(x, TorchRows):
        if probe == "centroid":
            return fit_centroids(x, y, weight, b)
        if probe == "knn":
            return fit_neighbours(x, y, slide, b, seed)
    coef, intercept = LogisticFits(b).fit(x, y, weight, c)
    mean = np.zeros(len(coef), dtype=np.float32)
    return LinearScorer(mean, coef.astype(np.float32), intercept.astype(np.float32))


def _whole_temperature(
    design: Design,
    train: NDArray[np.intp],
    x: Rows,
    y: NDArray[np.intp],
    slide: NDArray[np.intp],
    weight: NDArray[np.float64],
    probe: ProbeName,
    c: float,
    seed: int,
) -> float:
    """Temperature of a classifier fitted on all but one inner fold, on tiles of that fold."""
    inner = inner_folds(design, train, seed)
    assert inner is not None  # there is one for fewer tiles of the same units
    allowed = usable(design, train, inner)[0]
    b = len(design.batches)
    fit = _fit(x[allowed], y[allowed], slide[allowed], weight[allowed], b, probe, c, seed)
    held = np.flatnonzero(inner == inner.min())
    if len(held) > MAX_INNER_ROWS:
        held = np.sort(np.random.default_rng([seed, 3]).choice(held, MAX_INNER_ROWS, replace=False))
    logits = cast(Any, fit).logits(x[held])
    return _temperature(logits, y[held], weight[held])


def _inside(
    x: Rows,
    y: NDArray[np.intp],
    slide: NDArray[np.intp],
    inner: NDArray[np.intp],
    allowed: NDArray[np.bool_],
    b: int,
    probe: ProbeName,
    seed: int,
    ticker: Ticker,
) -> Generator[Progress, None, tuple[float, float]]:
    """``C`` by the held-out log loss over inner folds, and the temperature at it.

    The grid is walked from strong to weak penalty and left once the loss has risen twice.
    """
    folds = np.unique(inner)
    weight = balance_weights(y, slide)
    fits = [LogisticFits(b) for _ in folds]
    best: tuple[float, float, float] | None = None
    worse = 0
    for c in C_GRID if probe == "logistic" else (DEFAULT_C,):
        logits = np.full((len(y), b), np.nan)
        for f, fold in enumerate(folds):
            test, train = inner == fold, allowed[f]
            if isinstance(x, TorchRows):
                coef, intercept = fits[f].fit(x[train], y[train], weight[train], c)
                none = np.zeros(len(coef), dtype=np.float32)
                parts = none, coef.astype(np.float32), intercept.astype(np.float32)
                logits[test] = x[test].logits(*parts)
            elif probe == "centroid":
                logits[test] = fit_centroids(x[train], y[train], weight[train], b).logits(x[test])
            elif probe == "knn":
                logits[test] = fit_neighbours(x[train], y[train], slide[train], b, seed).logits(x[test])
            else:
                coef, intercept = fits[f].fit(x[train], y[train], weight[train], c)
                logits[test] = x[test] @ coef.astype(np.float32) + intercept
            yield ticker.tick()
        temperature = _temperature(logits, y, weight)
        loss = log_loss(logits, y, weight, temperature)
        if best is None or loss < best[0] - 1e-4:
            best, worse = (loss, c, temperature), 0
        else:
            worse += 1
            if worse == 2:
                break
    return (DEFAULT_C, 1.0) if best is None else best[1:]


def _paper_layer(
    design: Design,
    train: NDArray[np.intp],
    x: NDArray[np.float32],
    weight: NDArray[np.float64],
    seed: int,
) -> tuple[LinearScorer, float, bool]:
    """The paper's layer: one inner fold validates, the rest trains."""
    from napari_batchfx.probe.adam_layer import fit_adam_layer

    b = len(design.batches)
    y = design.y[train]
    inner = inner_folds(design, train, seed)
    chosen = inner is not None and len(np.unique(y[inner == inner.min()])) == b
    if inner is None or not chosen:
        everything = np.ones(len(train), dtype=bool)
        return fit_adam_layer(x, y, weight, everything, b, seed, train=everything), 1.0, False
    held = inner == inner.min()
    scorer = fit_adam_layer(x, y, weight, held, b, seed, train=usable(design, train, inner)[0])
    return scorer, _temperature(scorer.logits(x[held]), y[held], weight[held]), True


def _temperature(logits: NDArray[np.float64], y: NDArray[np.intp], weight: NDArray[np.float64]) -> float:
    """A temperature from far more to far less sure: centroid distances have no scale of their own."""
    return fit_temperature(logits, y, weight, (1e-2, 1e3))
