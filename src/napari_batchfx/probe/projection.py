"""Tiles as points in a plane: the two leading principal components, or UMAP."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_batchfx import jobs
from napari_batchfx.errors import ProbeError
from napari_batchfx.jobs import Job, Progress

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["PROJECTIONS", "Projection", "has_umap", "projection", "projection_job"]

ProjectionName = Literal["pca", "umap"]
PROJECTIONS: tuple[ProjectionName, ...] = ("pca", "umap")

MAX_TILES = 100_000
_SAMPLE = 20_000
_UMAP_COMPONENTS = 50
_ROWS = 8192


@dataclass(frozen=True, eq=False)
class Projection:
    """Tiles as points.

    Attributes
    ----------
    xy : float32 (m, 2)
        Places in the plane; their unit says nothing by itself.
    rows : int (m,)
        Their rows in the table.
    kind : str
        "pca" or "umap".
    explained : (float, float) or None
        Share of the variance of each axis, for "pca".
    warnings : list of str
        What it leaves out, in words.
    """

    xy: NDArray[np.float32]
    rows: NDArray[np.intp]
    kind: str
    explained: tuple[float, float] | None = None
    warnings: list[str] = field(default_factory=list)


def has_umap() -> bool:
    """Whether the package umap-learn is there, which UMAP needs; it isn't loaded for the answer."""
    return importlib.util.find_spec("umap") is not None


def projection(
    table: AnnData, kind: ProjectionName = "pca", *, max_tiles: int = MAX_TILES, seed: int = 0
) -> Projection:
    """Lay the tiles of a table out in a plane.

    Principal components are those of the centred features, not scaled, with every slide counting the same;
    they are found on at most 20,000 tiles and every tile is then projected. UMAP starts at the first 50 of
    them.

    Parameters
    ----------
    table : anndata.AnnData
        One row a tile; ``X`` float32 (n, d). Column ``slide`` where there is one.
    kind : {"pca", "umap"}
        UMAP needs the package umap-learn. It keeps neighbours together; distances between clouds mean little.
    max_tiles : int
        More are thinned, evenly over slides.
    seed : int
        Of the draws, and of UMAP.

    Returns
    -------
    Projection

    Raises
    ------
    ProbeError
        If fewer than three tiles have features, all are the same, or umap-learn is missing.

    References
    ----------
    McInnes L, Healy J, Melville J. UMAP, arXiv:1802.03426, 2018.

    Examples
    --------
    >>> import anndata
    >>> x = np.random.default_rng(0).normal(size=(100, 4)).astype("float32"); x[50:, 2] += 30
    >>> found = projection(anndata.AnnData(x))
    >>> found.xy.shape, bool(found.explained[0] > 0.9)
    ((100, 2), True)
    """
    return jobs.run(projection_job(table, kind, max_tiles=max_tiles, seed=seed))


def projection_job(
    table: AnnData, kind: ProjectionName = "pca", *, max_tiles: int = MAX_TILES, seed: int = 0
) -> Job[Projection]:
    """:func:`projection` as a job. UMAP itself is one step: it can be stopped before and after."""
    from napari_batchfx.probe.columns import category_codes, feature_matrix

    if kind not in PROJECTIONS:
        raise ProbeError(f"There is no projection {kind}; choose of {', '.join(PROJECTIONS)}.")
    if kind == "umap" and not has_umap():
        raise ProbeError("UMAP needs the package umap-learn: install it, or take the principal components.")
    yield Progress(0, 0, "laying out tiles")
    x = feature_matrix(table)
    rows = np.flatnonzero(np.isfinite(x).all(axis=1))
    warnings = []
    if len(rows) < len(x):
        warnings.append(f"{len(x) - len(rows):,} tiles have missing features and are no points.")
    if len(rows) < 3:
        raise ProbeError("Fewer than three tiles have features: there is nothing to lay out.")
    slide = category_codes(table, "slide")[0]
    weight = _even(slide[rows])
    rng = np.random.default_rng([seed, 17])
    if len(rows) > max_tiles:
        warnings.append(f"{max_tiles:,} of {len(rows):,} tiles were drawn, evenly over slides.")
        drawn = np.sort(rng.choice(len(rows), max_tiles, replace=False, p=weight / weight.sum()))
        rows, weight = rows[drawn], weight[drawn]
    mean, axes, explained = _axes(x, rows, weight, 2 if kind == "pca" else _UMAP_COMPONENTS, rng)
    yield Progress(0, 0, "laying out tiles")
    scores = np.empty((len(rows), axes.shape[1]), dtype=np.float32)
    for i in range(0, len(rows), _ROWS):
        scores[i : i + _ROWS] = (x[rows[i : i + _ROWS]] - mean) @ axes
        yield Progress(min(i + _ROWS, len(rows)), len(rows), "laying out tiles")
    if kind == "pca":
        xy = scores if scores.shape[1] == 2 else np.c_[scores, np.zeros_like(scores)]
        shares = (float(explained[0]), float(explained[1]) if len(explained) > 1 else 0.0)
        return Projection(np.ascontiguousarray(xy), rows, kind, shares, warnings)
    yield Progress(0, 0, "UMAP: this step can't be stopped")
    return Projection(_umap(scores, seed), rows, kind, None, warnings)


def _even(slide: NDArray[np.intp]) -> NDArray[np.float64]:
    """Weights with which every slide counts the same."""
    _, code, counts = np.unique(slide, return_inverse=True, return_counts=True)
    return np.asarray(1.0 / counts[code.ravel()])


def _axes(
    x: NDArray[np.floating],
    rows: NDArray[np.intp],
    weight: NDArray[np.float64],
    n: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
    """Mean (d,), leading axes (d, r) and the share of the variance of each (r,)."""
    if len(rows) > _SAMPLE:
        drawn = rng.choice(len(rows), _SAMPLE, replace=False, p=weight / weight.sum())
        rows, weight = rows[drawn], np.ones(_SAMPLE)
    share = weight / weight.sum()
    sample = np.asarray(x[rows], dtype=np.float32)
    mean = (share @ sample).astype(np.float32)
    sample -= mean
    sample *= np.sqrt(share).astype(np.float32)[:, None]
    # Of the smaller Gram matrix; a single value more than wanted costs nothing.
    if sample.shape[1] <= sample.shape[0]:
        values, vectors = np.linalg.eigh((sample.T @ sample).astype(np.float64))
    else:
        values, left = np.linalg.eigh((sample @ sample.T).astype(np.float64))
        vectors = sample.T.astype(np.float64) @ left / np.sqrt(np.maximum(values, 1e-30))
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    total = float(values.sum())
    r = int(min(n, np.sum(values > 1e-9 * max(total, 1e-30))))
    if r < 1 or total <= 0:
        raise ProbeError("Every tile has the same features: there is nothing to lay out.")
    axes = vectors[:, :r]
    # An axis has no direction of its own: its largest weight is positive, so that two runs look alike.
    axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), np.arange(r)] < 0, -1.0, 1.0)
    return mean, axes.astype(np.float32), values[:r] / total


def _umap(scores: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    import umap

    model: Any = umap.UMAP(n_components=2, random_state=seed, n_jobs=1)
    return np.asarray(model.fit_transform(scores), dtype=np.float32)
