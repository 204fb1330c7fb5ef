"""Every metric of a table at once, out of two searches for neighbours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_batchfx import jobs
from napari_batchfx.errors import ProbeError
from napari_batchfx.jobs import Job, Progress
from napari_batchfx.probe.metrics.clustering import clustering_score_job
from napari_batchfx.probe.metrics.components import pcr
from napari_batchfx.probe.metrics.cramers_v import cramers_v
from napari_batchfx.probe.metrics.jackknife import Blocks
from napari_batchfx.probe.metrics.lisi import lisi_from, neighbourhood
from napari_batchfx.probe.metrics.margins import margins_from, spare, weighted_index_from
from napari_batchfx.probe.metrics.mixing import batch_asw, connectivity_from, kbet
from napari_batchfx.probe.metrics.result import MetricResult, undefined
from napari_batchfx.probe.metrics.retention import retention_beside
from napari_batchfx.probe.metrics.robustness_index import Counted, choose_ks, index_from
from napari_batchfx.probe.metrics.tiles import Group, Tiles, read_tiles
from napari_batchfx.probe.metrics.typed import typed_job
from napari_batchfx.probe.neighbours import Wanted, nearest_job

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["measure", "measure_job"]

_GRAPH_K = 15


def measure(
    table: AnnData,
    label: str | None = "label",
    batch: str = "site",
    group: Group = "slide",
    k: int | Sequence[int] | None = None,
    *,
    k_max: int = 61,
    m: int = 5,
    perplexity: float = 30,
    slow: bool = False,
    interval: bool = True,
    seed: int = 0,
    device: str = "auto",
) -> dict[str, MetricResult]:
    """All metrics of how batch and biology lie in the features of a table.

    Parameters
    ----------
    table : anndata.AnnData
        ``X`` float32 (n, d).
    label, batch, group : str
        Columns of class, batch and slide (or patient). Without a class (``None``) only mixing is measured.
    k, k_max, m, perplexity
        Of the robustness index, CRoMa and LISI.
    slow : bool
        The clustering score too: minutes.
    interval, seed, device
        As for :func:`robustness_index`.

    Returns
    -------
    dict of str to MetricResult
        By name of the function. One that can't be computed is NaN and says why.

    Raises
    ------
    ProbeError
        A column is missing or empty.

    Examples
    --------
    >>> import anndata, pandas
    >>> rng = np.random.default_rng(0)
    >>> obs = pandas.DataFrame({"slide": np.arange(120) // 10, "site": np.arange(120) // 10 % 2})
    >>> obs["label"] = np.where(np.arange(120) % 10 < 5, "tumour", "normal")
    >>> obs.index = obs.index.astype(str)
    >>> x = rng.normal(size=(120, 4)).astype("float32"); x[:, 0] += 20 * (obs["label"] == "tumour")
    >>> found = measure(anndata.AnnData(x, obs=obs.astype(str)), k=5)
    >>> found["robustness_index"].value, found["class_retention"].value
    (1.0, 1.0)
    """
    return jobs.run(
        measure_job(
            table,
            label,
            batch,
            group,
            k,
            k_max=k_max,
            m=m,
            perplexity=perplexity,
            slow=slow,
            interval=interval,
            seed=seed,
            device=device,
        )
    )


def measure_job(
    table: AnnData,
    label: str | None = "label",
    batch: str = "site",
    group: Group = "slide",
    k: int | Sequence[int] | None = None,
    *,
    k_max: int = 61,
    m: int = 5,
    perplexity: float = 30,
    slow: bool = False,
    interval: bool = True,
    seed: int = 0,
    device: str = "auto",
) -> Job[dict[str, MetricResult]]:
    """:func:`measure` as a job."""
    plain = read_tiles(table, label, batch, None, unit_length=False)
    retention, minded = retention_beside(table, label, group, 1000 if interval else 0)
    yield Progress(1, 0, "telling classes apart")
    out: dict[str, MetricResult] = {}
    if label is not None:
        tiles = read_tiles(table, label, batch, group)
        out |= yield from _typed_metrics(tiles, k, k_max, m, interval, seed, device)
    out |= yield from _mixing_metrics(plain, perplexity, retention, minded, device)

    def beside(found: MetricResult) -> MetricResult:
        if found.retention is None and retention is not None and not np.isnan(found.value):
            return MetricResult(
                found.value, found.support, found.warnings + minded, None, found.per_tile, None, retention
            )
        return found

    steps: dict[str, Callable[[], MetricResult]] = {
        "kbet": lambda: kbet(table, label, batch, group, device=device, beside=False),
        "batch_asw": lambda: batch_asw(table, label, batch, group, seed=seed, beside=False),
        "pcr": lambda: pcr(table, batch, beside=False),
    }
    for name, step in steps.items():
        yield Progress(len(out), 0, "measuring how batches mix")
        out[name] = beside(_or_reason(step, plain))
    if label is not None:
        out["cramers_v"] = cramers_v(table, label, batch)
        if retention is not None:
            out["class_retention"] = retention
        if slow:
            out["clustering_score"] = yield from clustering_score_job(table, label, batch, group)
    return out


def _typed_metrics(
    tiles: Tiles,
    k: int | Sequence[int] | None,
    k_max: int,
    m: int,
    interval: bool,
    seed: int,
    device: str,
) -> Job[dict[str, MetricResult]]:
    """Robustness index, CRoMa and MaRI out of one search."""
    if reason := tiles.trouble() or tiles.lone():
        return {name: undefined(reason, tiles.support) for name in ("robustness_index", "croma", "mari")}
    if not 1 <= m < len(tiles.rows):
        raise ProbeError(f"m is {m}, and there are {len(tiles.rows):,} tiles; take between 1 and 50.")
    ks = choose_ks([tiles], k, k_max)
    found = yield from typed_job(tiles, max(ks), spare(tiles, m), device)
    assert found.every is not None
    blocks = Blocks.deal(tiles.group, tiles.batch, seed) if interval else None
    counted = Counted.empty(len(tiles.rows), ks, blocks)
    counted.add(np.arange(len(tiles.rows)), tiles, found.every)
    index = index_from(tiles, counted)
    return {
        "robustness_index": index,
        "croma": margins_from(tiles, found, m, 0.1, interval, seed),
        "mari": weighted_index_from(tiles, found.every, index.support["k"], None, interval, seed),
    }


def _mixing_metrics(
    tiles: Tiles, perplexity: float, retention: MetricResult | None, minded: list[str], device: str
) -> Job[dict[str, MetricResult]]:
    """LISI of batch and class, and connectivity of the classes, out of one search."""
    names = ["ilisi"] + (["clisi", "graph_connectivity"] if tiles.label_column is not None else [])
    n = len(tiles.rows)
    try:
        k = neighbourhood(perplexity, n)
    except ProbeError as error:
        return {name: undefined(str(error), tiles.support, retention) for name in names}
    if (tiles.x == tiles.x[0]).all():
        reason = "Every tile has the same features: the encoder sees nothing here."
        return {name: undefined(reason, tiles.support, retention) for name in names}
    wanted = [Wanted(max(k, min(_GRAPH_K, n - 1)), np.ones((1, 1), dtype=bool))]
    (near,) = yield from nearest_job(tiles.x, wanted, metric="euclidean", device=device)
    out: dict[str, MetricResult] = {}
    if len(tiles.batches) < 2:
        out["ilisi"] = undefined(tiles.trouble(), tiles.support, retention)
    else:
        out["ilisi"] = lisi_from(tiles, tiles.batch, near, perplexity, "mixing", retention, minded)
    if tiles.label_column is None:
        return out
    if len(tiles.labels) < 2:
        reason = (
            f"Every tile is of {tiles.label_column} {tiles.labels[0]}: there are no classes to keep apart."
        )
        out["clisi"] = undefined(reason, tiles.support, retention)
    else:
        out["clisi"] = lisi_from(tiles, tiles.label, near, perplexity, "separation", retention, [])
    out["graph_connectivity"] = connectivity_from(
        tiles, tiles.label, tiles.labels, near, min(_GRAPH_K, near.k), retention, minded
    )
    return out


def _or_reason(step: Callable[[], MetricResult], tiles: Tiles) -> MetricResult:
    """A result, or none and the sentence that says why."""
    try:
        return step()
    except ProbeError as error:
        return undefined(str(error), tiles.support)
