"""What carries a batch: components, colour, distances."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx import jobs
from napari_batchfx.errors import ProbeError
from napari_batchfx.jobs import Job, Progress, Ticker
from napari_batchfx.probe.probes import ProbeName
from napari_batchfx.probe.result import _plain, with_nan

if TYPE_CHECKING:
    from anndata import AnnData

    from napari_batchfx.probe.design import Design

__all__ = ["FIRST", "SignatureResult", "signature", "signature_job"]

FIRST = (1, 2, 3, 5, 10, 20, 30, 50)
COMPONENTS = 60
MAX_TILES = 5_000


@dataclass(frozen=True)
class SignatureResult:
    """What carries a batch.

    Attributes
    ----------
    batch : str
    batches : list of str
    explained_variance : list of float, length r
        Share of the variance of each principal component.
    auroc : dict of str to list of float
        For each pair of batches ("A / B"), how well each component alone tells them apart, 0.5 to 1.
    auroc_level : list of float, length r
        95 % level of the highest AUROC of any pair with the batch moved between whole slides or patients;
        NaN where it can't be had.
    first : list of dict
        ``components``, ``variance`` (their share together), ``balanced_accuracy``, ``low``, ``high`` of the
        probe on the first so many components.
    colour : dict
        Empty without colour features; else ``features``, ``colour`` and ``without_colour`` (each with
        ``balanced_accuracy``, ``low``, ``high``), ``colour_share`` (colour's part of what lies above chance)
        and ``left_share`` (what is left of it with colour taken out); NaN where features are at chance.
    distances : list of dict
        See :func:`~napari_batchfx.probe.carriers.distances`.
    chance : float
    tiles : int
        Tiles this is about.
    grouped_by : str
    warnings : list of str
    """

    batch: str
    batches: list[str]
    explained_variance: list[float]
    auroc: dict[str, list[float]]
    auroc_level: list[float]
    first: list[dict[str, Any]]
    colour: dict[str, Any]
    distances: list[dict[str, Any]]
    chance: float
    tiles: int
    grouped_by: str
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN becomes ``None``."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SignatureResult:
        """Take back what :meth:`to_dict` gave."""
        known = {f.name for f in fields(cls)}
        return cls(**{key: with_nan(value) for key, value in values.items() if key in known})


def signature(
    table: AnnData,
    batch: str = "site",
    group: str | None = "patient",
    *,
    colour: AnnData | NDArray[np.floating] | None = None,
    probe: ProbeName = "logistic",
    first: tuple[int, ...] = FIRST,
    n_components: int = COMPONENTS,
    n_splits: int = 5,
    n_bootstrap: int = 500,
    relabellings: int = 19,
    max_tiles: int = MAX_TILES,
    seed: int = 0,
) -> SignatureResult:
    """Find what carries a batch: which components, how many, how much of it is colour, how far apart.

    Parameters
    ----------
    table : anndata.AnnData
        As for :func:`~napari_batchfx.probe.site_probe`.
    batch, group : str
        As there.
    colour : anndata.AnnData or float (n, q), optional
        ``colour-statistics`` of the same tiles: a table whose rows have the same names, or an array in the
        same order.
    probe : {"logistic", "centroid", "knn", "linear"}
        The classifier of the accuracies (the paper has "knn" for the components).
    first : tuple of int
        Numbers of components.
    n_components : int
        Components whose AUROC is taken.
    n_splits, n_bootstrap, seed : int
        As there.
    relabellings : int
        For the level that slides alone reach; fewer than 19 leave it out.
    max_tiles : int
        More are thinned, evenly over batches and slides.

    Returns
    -------
    SignatureResult

    Raises
    ------
    ProbeError
        As :func:`~napari_batchfx.probe.site_probe`; or the colour features belong to other tiles, or every
        tile has the same features.

    References
    ----------
    Kömen et al. 2024, arXiv:2411.05489, experiments C to E.

    Examples
    --------
    >>> import anndata, numpy, pandas
    >>> rng = numpy.random.default_rng(0)
    >>> slide = numpy.repeat(numpy.arange(8), 20)
    >>> obs = pandas.DataFrame({"slide": slide.astype(str), "site": numpy.where(slide % 2, "A", "B")})
    >>> obs.index = obs.index.astype(str)
    >>> x = rng.normal(size=(160, 5)).astype("float32"); x[:, 0] += 6 * (slide % 2)
    >>> found = signature(anndata.AnnData(x, obs=obs), first=(1,), n_bootstrap=50)
    >>> found.auroc["A / B"][0] > 0.95, found.first[0]["balanced_accuracy"] > 0.9
    (True, True)
    """
    return jobs.run(
        signature_job(
            table,
            batch,
            group,
            colour=colour,
            probe=probe,
            first=first,
            n_components=n_components,
            n_splits=n_splits,
            n_bootstrap=n_bootstrap,
            relabellings=relabellings,
            max_tiles=max_tiles,
            seed=seed,
        )
    )


def signature_job(
    table: AnnData,
    batch: str = "site",
    group: str | None = "patient",
    *,
    colour: AnnData | NDArray[np.floating] | None = None,
    probe: ProbeName = "logistic",
    first: tuple[int, ...] = FIRST,
    n_components: int = COMPONENTS,
    n_splits: int = 5,
    n_bootstrap: int = 500,
    relabellings: int = 19,
    max_tiles: int = MAX_TILES,
    seed: int = 0,
) -> Job[SignatureResult]:
    """:func:`signature` as a job."""
    from napari_batchfx.probe.carriers import component_auroc, components, distances, thin
    from napari_batchfx.probe.columns import category_codes
    from napari_batchfx.probe.crossfit import crossfit, fits_a_fold
    from napari_batchfx.probe.design import read_design
    from napari_batchfx.probe.probes import check_probe
    from napari_batchfx.probe.site_probe import MIN_TILES
    from napari_batchfx.probe.statistics import balance_weights, bootstrap_interval, recalls

    probe = check_probe(probe)
    if n_splits < 2:
        raise ProbeError(f"Signature: at least 2 folds are needed, not {n_splits}.")
    design = read_design(table, batch, group or "slide", n_splits, seed, MIN_TILES)
    numbers = _aligned(table, colour)
    warnings = [*design.grouping.warnings, *design.notes]
    keep: NDArray[np.bool_] | None = None
    if numbers is not None:
        keep = np.asarray(np.isfinite(numbers[design.rows]).all(axis=1), dtype=bool)
        if not keep.all():
            warnings.append(f"{int((~keep).sum()):,} tiles have no colour features and were left out.")
        counts = np.bincount(design.y[keep], minlength=len(design.batches))
        if counts.min() < MIN_TILES:
            raise ProbeError(
                f"{design.batches[int(counts.argmin())]}: {int(counts.min())} tiles have colour features; at "
                f"least {MIN_TILES} are needed."
            )
    small = thin(design, max_tiles, seed, keep)
    if len(small.y) < (len(design.y) if keep is None else int(keep.sum())):
        warnings.append(f"{len(small.y):,} of {len(design.y):,} tiles were drawn, evenly over slides.")
    weight = balance_weights(small.y, small.slide)
    scores, variance = components(small.x, weight, max(n_components, *first))
    if not len(variance):
        raise ProbeError("Every tile has the same features: nothing carries anything here.")
    lengths = sorted({min(n, scores.shape[1]) for n in first if n > 0})
    runs = len(lengths) + (3 if numbers is not None else 0)
    ticker = Ticker(
        runs * small.grouping.n_splits * fits_a_fold(probe) + 2,
        f"finding what carries the {batch}",
        unit="fits",
    )
    yield ticker.tick(0)

    def accuracy(
        part: Design, nuisance: NDArray[np.float32] | None = None
    ) -> Generator[Progress, None, dict[str, float]]:
        fit = yield from crossfit(part, ticker, seed, probe, nuisance)
        predicted = fit.proba.argmax(axis=1)
        b = len(part.batches)
        unit, k = part.grouping.unit, part.grouping.n_splits
        low, high = bootstrap_interval(part.y, predicted, unit, b, n_bootstrap, seed, k)
        value = float(np.mean(recalls(part.y, predicted, b)))
        return {"balanced_accuracy": value, "low": float(low), "high": float(high)}

    by_pair, level = component_auroc(scores[:, :n_components], small, relabellings, seed)
    yield ticker.tick()
    found: list[dict[str, Any]] = []
    for n in lengths:
        part = replace(small, x=np.ascontiguousarray(scores[:, :n]))
        reached = yield from accuracy(part)
        found.append({"components": n, "variance": float(variance[:n].sum()), **reached})
    chance = 1.0 / len(small.batches)
    of_colour: dict[str, Any] = {}
    if numbers is not None:
        q = np.asarray(numbers[small.rows], dtype=np.float32)
        whole = yield from accuracy(small)
        alone = yield from accuracy(replace(small, x=q))
        without = yield from accuracy(small, q)
        above = whole["balanced_accuracy"] - chance
        # the interval of the features reaches chance: there is nothing to share out
        known = whole["low"] > chance
        of_colour = {
            "features": whole,
            "colour": alone,
            "without_colour": without,
            "colour_share": (alone["balanced_accuracy"] - chance) / above if known else float("nan"),
            "left_share": (without["balanced_accuracy"] - chance) / above if known else float("nan"),
        }
    label = category_codes(table, "label")[0][small.rows]
    apart = distances(small, label, seed)
    yield ticker.tick(max(0, ticker.total - ticker.done))
    return SignatureResult(
        batch,
        list(small.batches),
        variance[:n_components].tolist(),
        by_pair,
        level,
        found,
        of_colour,
        apart,
        chance,
        len(small.y),
        small.grouping.kind,
        warnings,
    )


def _aligned(table: AnnData, colour: AnnData | NDArray[np.floating] | None) -> NDArray[np.float32] | None:
    """Colour features in the order of the table's rows."""
    if colour is None:
        return None
    if hasattr(colour, "obs_names"):
        from napari_batchfx.probe.columns import feature_matrix

        at = colour.obs_names.get_indexer(table.obs_names) if colour.obs_names.is_unique else None
        if at is None or (at < 0).any():
            raise ProbeError("The colour features are of other tiles: their rows have other names.")
        return np.asarray(feature_matrix(colour)[at], dtype=np.float32)
    numbers = np.asarray(colour, dtype=np.float32)
    if numbers.ndim != 2 or len(numbers) != table.n_obs:
        raise ProbeError(
            f"The colour features have the shape {numbers.shape}; one row for each of {table.n_obs:,} tiles "
            "is needed."
        )
    return numbers
