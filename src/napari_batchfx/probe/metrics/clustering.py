"""PathoROB's clustering score: whether clusters follow the class or the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_batchfx import jobs
from napari_batchfx.errors import ProbeError
from napari_batchfx.jobs import Job, Ticker
from napari_batchfx.probe.metrics.result import MetricResult, undefined
from napari_batchfx.probe.metrics.retention import retention_beside
from napari_batchfx.probe.metrics.robustness_index import two_by_two
from napari_batchfx.probe.metrics.tiles import Group, read_tiles

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["clustering_score", "clustering_score_job"]


def clustering_score(
    table: AnnData,
    label: str = "label",
    batch: str = "site",
    group: Group = "slide",
    *,
    most_clusters: int = 30,
    starts: int = 20,
    trials: int = 50,
    max_tiles: int = 4_000,
    seed: int = 1337,
) -> MetricResult:
    """Adjusted Rand index of clusters with the class, less that with the batch: -1 batch, 1 class.

    For every two classes in every two batches: features of unit length, the number of clusters (2 to
    ``most_clusters``) with the highest cosine silhouette of k-means (``starts`` random starts), then
    ``trials`` runs of k-means with 5 starts each. Mean over trials, then over the combinations.

    Parameters
    ----------
    table : anndata.AnnData
        ``X`` float32 (n, d).
    label, batch : str
        Columns of class and batch.
    group : str, int array (n,) or None
        Used by ``retention`` alone.
    most_clusters, starts, trials : int
        PathoROB's are 30, 20 and 50; smaller ones are faster and rougher.
    max_tiles : int
        Tiles of a combination at most, drawn at random: the silhouette needs all their distances.
    seed : int

    Returns
    -------
    MetricResult
        ``support["combinations"]``: of each, the number of clusters, both Rand indices and the score.
        ``interval``: none; the spread over trials is ``support["trial_sd"]``.

    Raises
    ------
    ProbeError
        A column is missing or empty.

    References
    ----------
    "Towards robust foundation models for digital pathology" (PathoROB), arXiv:2507.17845.

    Examples
    --------
    >>> import anndata, pandas
    >>> rng = np.random.default_rng(0); x = rng.normal(size=(40, 4)).astype("float32")
    >>> obs = pandas.DataFrame({"slide": np.arange(40) // 5, "site": np.arange(40) // 5 % 2})
    >>> obs["label"] = np.where(np.arange(40) % 5 < 2, "tumour", "normal")
    >>> x[:, 0] += np.where(obs["label"] == "tumour", 20, -20); obs.index = obs.index.astype(str)
    >>> fast = {"most_clusters": 3, "starts": 2, "trials": 2}
    >>> clustering_score(anndata.AnnData(x, obs=obs.astype(str)), **fast).value > 0.9
    True
    """
    return jobs.run(
        clustering_score_job(
            table,
            label,
            batch,
            group,
            most_clusters=most_clusters,
            starts=starts,
            trials=trials,
            max_tiles=max_tiles,
            seed=seed,
        )
    )


def clustering_score_job(
    table: AnnData,
    label: str = "label",
    batch: str = "site",
    group: Group = "slide",
    *,
    most_clusters: int = 30,
    starts: int = 20,
    trials: int = 50,
    max_tiles: int = 4_000,
    seed: int = 1337,
) -> Job[MetricResult]:
    """:func:`clustering_score` as a job: yields after every clustering."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, silhouette_score

    if most_clusters < 2 or trials < 1 or starts < 1:
        raise ProbeError("The clustering score needs 2 clusters, 1 trial and 1 start at least.")
    tiles = read_tiles(table, label, batch, group)
    if reason := tiles.trouble():
        return undefined(reason, tiles.support)
    problems = two_by_two(tiles)
    if not problems:
        return undefined(
            f"No two classes occur together in two {batch}s: there are no pairs to weigh.", tiles.support
        )
    rng = np.random.default_rng(seed)
    warnings = list(tiles.notes)
    largest = max(map(len, problems))
    if largest > max_tiles:
        warnings.append(f"Up to {largest:,} tiles a combination, of which {max_tiles:,} were drawn.")
    choices = most_clusters - 1
    ticker = Ticker(len(problems) * (choices + trials), "clustering", unit="runs")
    yield ticker.tick(0)
    combinations = []
    scores = []
    for rows in problems:
        rows = rows if len(rows) <= max_tiles else np.sort(rng.choice(rows, max_tiles, replace=False))
        part = tiles.only(rows)
        x = _unit(part.x)
        best, best_silhouette = 2, -np.inf
        for k in range(2, most_clusters + 1):
            if k < len(x):
                found = KMeans(k, init="random", n_init=starts, random_state=seed).fit_predict(x)
                if 1 < len(np.unique(found)) < len(x):
                    silhouette = float(silhouette_score(x, found, metric="cosine"))
                    if silhouette > best_silhouette:
                        best, best_silhouette = k, silhouette
            yield ticker.tick()
        rand = np.empty((trials, 2))
        for trial in range(trials):
            found = KMeans(best, init="random", n_init=5, random_state=seed + trial).fit_predict(x)
            rand[trial] = adjusted_rand_score(part.label, found), adjusted_rand_score(part.batch, found)
            yield ticker.tick()
        scores.append(rand[:, 0] - rand[:, 1])
        combinations.append(
            {
                "classes": part.labels,
                "batches": part.batches,
                "tiles": len(rows),
                "clusters": best,
                "rand_class": float(rand[:, 0].mean()),
                "rand_batch": float(rand[:, 1].mean()),
                "score": float(scores[-1].mean()),
            }
        )
    stacked = np.stack(scores)
    support = tiles.support | {"combinations": combinations, "trials": trials}
    support["trial_sd"] = float(stacked.mean(axis=0).std())
    return MetricResult(
        float(stacked.mean()),
        support,
        warnings + tiles.traps(),
        retention=retention_beside(table, label, group)[0],
    )


def _unit(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), dtype=np.float32)
