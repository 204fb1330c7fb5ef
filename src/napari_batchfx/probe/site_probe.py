"""How well a simple classifier recognises where a tile came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_batchfx import jobs
from napari_batchfx.errors import ProbeError
from napari_batchfx.jobs import Job, Ticker
from napari_batchfx.probe.probes import ProbeName
from napari_batchfx.probe.result import SiteProbeResult

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["MIN_TILES", "site_probe", "site_probe_job"]

MIN_TILES = 10


def site_probe(
    table: AnnData,
    batch: str = "site",
    group: str | None = "patient",
    *,
    n_splits: int = 5,
    seed: int = 0,
    permutations: int = 19,
    n_bootstrap: int = 1000,
    probe: ProbeName = "logistic",
    device: str = "auto",
) -> SiteProbeResult:
    """Train a simple classifier to tell batches apart; score every tile with one that has not seen it.

    By default a standardised, L2-penalised multinomial logistic regression (scikit-learn's, lbfgs).
    Everything is out of fold: the tiles of a patient (or slide) are scored by a classifier trained on other
    patients. Standardisation, the strength of
    the penalty and the temperature that makes the probabilities honest are all estimated inside the training
    folds, again grouped. Every batch counts the same, and every slide the same within its batch.

    Parameters
    ----------
    table : anndata.AnnData
        One row a tile; ``X`` float32 (n, d).
    batch : str
        Column of ``obs`` to recognise: "site", "scanner", "stain" or "slide".
    group : str
        Column of what is held out together. Where it is empty, or a batch has only one of it, slides are
        used; where a batch has one slide only, pieces of that slide (with the tiles that touch a test tile
        left out of training) and a warning.
    n_splits : int
        Folds at most; fewer where a batch has fewer groups.
    seed : int
        Of folds, permutations and bootstrap.
    permutations : int
        Relabellings of whole units (patients, slides or blocks), none twice and never the labels at hand or
        their mirror image; all there are, where that is fewer. They, and the true labels once more for the
        comparison, are run with a fixed ``C`` of 0.01, on at most 3,000 tiles and the leading 128 principal
        components. With fewer than 19 nothing can be called recognised.
    n_bootstrap : int
        Draws of groups for the interval.
    probe : {"logistic", "centroid", "knn", "linear"}
        Logistic regression; nearest centroid; five nearest neighbours; or the paper's linear layer (Adam,
        needs torch). Centroid and neighbours take the features as they are, the others standardise each.
    device : str
        Where the logistic regressions are fitted: "cpu", "cuda", "mps"; "auto" takes an Nvidia GPU where
        there is one, the table is large and the program was started with ``SCIPY_ARRAY_API=1``
        (:mod:`napari_batchfx.probe.devices`). The rest, permutations too, runs on the CPU.

    Returns
    -------
    SiteProbeResult

    Raises
    ------
    ProbeError
        One sentence: the column is missing or empty, there is only one batch, or too few tiles.

    References
    ----------
    Kömen et al. 2024, "Do histopathological foundation models eliminate batch effects?", arXiv:2411.05489
    (section 4.1, the linear probe); Guo et al. 2017 for the temperature.

    Examples
    --------
    >>> import anndata, numpy, pandas
    >>> rng = numpy.random.default_rng(0)
    >>> slide = numpy.repeat(numpy.arange(8), 20)
    >>> obs = pandas.DataFrame({"slide": slide.astype(str), "site": numpy.where(slide % 2, "A", "B")})
    >>> obs.index = obs.index.astype(str)
    >>> x = rng.normal(size=(160, 5)).astype("float32"); x[:, 0] += 4 * (slide % 2)
    >>> result = site_probe(anndata.AnnData(x, obs=obs), permutations=0)
    >>> result.balanced_accuracy > 0.9, result.grouped_by
    (True, 'slide')
    """
    return jobs.run(
        site_probe_job(
            table,
            batch,
            group,
            n_splits=n_splits,
            seed=seed,
            permutations=permutations,
            n_bootstrap=n_bootstrap,
            probe=probe,
            device=device,
        )
    )


def site_probe_job(
    table: AnnData,
    batch: str = "site",
    group: str | None = "patient",
    *,
    n_splits: int = 5,
    seed: int = 0,
    permutations: int = 19,
    n_bootstrap: int = 1000,
    probe: ProbeName = "logistic",
    device: str = "auto",
) -> Job[SiteProbeResult]:
    """:func:`site_probe` as a job: yields after every fit and returns the result."""
    import numpy as np

    from napari_batchfx.probe.calibration import calibration
    from napari_batchfx.probe.caveats import build_warnings, inside_classes
    from napari_batchfx.probe.crossfit import DEFAULT_C, crossfit, fits_a_fold
    from napari_batchfx.probe.design import read_design
    from napari_batchfx.probe.devices import fit_device
    from napari_batchfx.probe.fitted import FittedProbe
    from napari_batchfx.probe.permuting import permutation_scores
    from napari_batchfx.probe.probes import check_probe
    from napari_batchfx.probe.relabellings import MANY
    from napari_batchfx.probe.statistics import balance_weights, bootstrap_interval, recalls

    if n_splits < 2:
        raise ProbeError(f"Site probe: at least 2 folds are needed, not {n_splits}.")
    probe = check_probe(probe)
    design = read_design(table, batch, group or "slide", n_splits, seed, MIN_TILES)
    b = len(design.batches)
    k = design.grouping.n_splits
    ticker = Ticker(
        k * fits_a_fold(probe) + (permutations + 1 if permutations else 0),
        f"recognising the {batch}",
        unit="fits",
    )
    yield ticker.tick(0)
    where = fit_device(device, design.x.size) if probe == "logistic" else None
    fit = yield from crossfit(design, ticker, probe=probe, device=where)

    predicted = fit.proba.argmax(axis=1)
    confusion = np.zeros((b, b), dtype=np.int64)
    np.add.at(confusion, (design.y, predicted), 1)
    recall = recalls(design.y, predicted, b)
    ci = bootstrap_interval(design.y, predicted, design.grouping.unit, b, n_bootstrap, seed, k)
    p, p_floor = float("nan"), 1.0
    exist: int | None = None
    scored = 0
    if permutations:
        # not the penalty that the true labels chose: it would suit them better than the relabelled
        scores, exist = yield from permutation_scores(design, DEFAULT_C, permutations, seed, ticker, probe)
        scored = len(scores) - 1
        p_floor = 1.0 / (1 + scored)
        p = (1 + int(np.sum(scores[1:] >= scores[0] - 1e-12))) / (1 + scored)

    n = table.n_obs
    proba = np.full((n, b), np.nan)
    proba[design.rows] = fit.proba
    confidence = np.full(n, np.nan)
    confidence[design.rows] = fit.proba[np.arange(len(design.rows)), design.y]
    folds = np.full(n, -1, dtype=np.int64)
    folds[design.rows] = design.grouping.fold
    by_class, association = inside_classes(table, design, predicted)
    value = float(np.mean(recall))
    weight = balance_weights(design.y, design.slide)
    right = predicted == design.y
    even = float(np.mean([np.average(right[design.y == i], weights=weight[design.y == i]) for i in range(b)]))
    honest = calibration(fit.proba, design.y, weight)
    result = SiteProbeResult(
        confidence=confidence,
        proba=proba,
        batches=list(design.batches),
        balanced_accuracy=value,
        ci=ci,
        chance=1.0 / b,
        permutation_p=p,
        p_floor=p_floor,
        relabellings=None if exist is None else min(exist, MANY),
        confusion=confusion,
        recall=recall,
        folds=folds,
        batch=batch,
        grouped_by=design.grouping.kind,
        warnings=build_warnings(
            design, by_class, association, value, fit.notes, permutations, exist, even, honest["ece"]
        ),
        support=design.support,
        by_class=by_class,
        association=association,
        settings={
            "C": fit.c,
            "temperature": fit.temperature,
            "n_splits": k,
            "permutations": scored,
            "permutations_asked": permutations,
            "n_bootstrap": n_bootstrap,
            "seed": seed,
            "probe": probe,
            **({} if where is None else {"device": where}),
        },
        probe=probe,
        slide_balanced_accuracy=even,
        calibration=honest,
        fitted=FittedProbe.of(table, design, fit, probe),
    )
    yield ticker.tick(max(0, ticker.total - ticker.done), partial=result)
    return result
