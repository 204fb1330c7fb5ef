"""Does the probe keep its word? p under no effect, coverage of the intervals, slides that differ and sites that don't.

    python benchmarks/probe/properties.py [p] [coverage] [logistic] [paired] [slides] [metrics] [--runs 200] [--draws 300]

p: tables whose slides differ and whose sites don't; the rank of the true labels among 19 relabellings, ties broken at
random, is compared with the uniform (Kolmogorov-Smirnov), and the reported p, which counts ties against the site, with
its nominal share. coverage: draws of patients from fixed sites; the share of 95 % intervals that hold the mean of all
draws. logistic: the same for the
whole probe, 100 draws at most. paired: the same for the change between two sets of features of the same tiles. slides: the same tables held out by slide and by tile. metrics: coverage of the robustness index and of CRoMa.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from scipy.stats import kstest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.probe.batch_tables import make_batches  # noqa: E402
from tests.probe.metrics.made import table_of  # noqa: E402

from napari_batchfx.jobs import Ticker, run  # noqa: E402
from napari_batchfx.probe import site_probe  # noqa: E402
from napari_batchfx.probe.crossfit import DEFAULT_C  # noqa: E402
from napari_batchfx.probe.design import read_design  # noqa: E402
from napari_batchfx.probe.folds import grouped_folds  # noqa: E402
from napari_batchfx.probe.metrics import croma, robustness_index  # noqa: E402
from napari_batchfx.probe.permuting import permutation_scores  # noqa: E402
from napari_batchfx.probe.probes import fit_centroids  # noqa: E402
from napari_batchfx.probe.statistics import balanced_accuracy, bootstrap_interval, paired_interval  # noqa: E402


def uniform_p(runs: int, probes: list[str]) -> None:
    designs = {
        "5 patients a site": {"slides": 10, "tiles": 6},
        "10 patients a site": {"slides": 20, "tiles": 6},
        "3 sites, 4 patients each": {"slides": 12, "tiles": 6, "sites": 3},
        "one slide a site": {"one_slide_a_site": True, "tiles": 100},
    }
    for probe in probes:
        for name, how in designs.items():
            rng = np.random.default_rng(0)
            ranks, reported = [], []
            sd = 0.0 if "one_slide_a_site" in how else 1.0
            start = time.perf_counter()
            for seed in range(runs):
                table = make_batches(shift=0.0, slide_sd=sd, dim=4, class_signal=0, seed=seed, **how)
                design = read_design(table, "site", "patient", 5, seed, 6)
                scores, _ = run(
                    permutation_scores(design, DEFAULT_C, 19, seed, Ticker(20, "", unit="fits"), probe)
                )
                higher, same = (
                    (scores[1:] > scores[0] + 1e-12).sum(),
                    (abs(scores - scores[0]) <= 1e-12).sum(),
                )
                ranks.append((higher + rng.uniform(0, same)) / len(scores))
                reported.append((1 + (scores[1:] >= scores[0] - 1e-12).sum()) / len(scores))
            p = np.array(reported)
            test = kstest(ranks, "uniform")
            print(
                f"p, {probe}, {name}: KS {test.statistic:.3f}, p {test.pvalue:.2f}; reported p <= 0.05 in "
                f"{np.mean(p <= 0.05):.3f}, <= 0.2 in {np.mean(p <= 0.2):.3f} of {runs} "
                f"({time.perf_counter() - start:.0f} s)",
                flush=True,
            )


def held(values: list[float], intervals: list[np.ndarray]) -> str:
    low, high = np.array(intervals, dtype=float).T
    truth = np.mean(values)
    covered = (low <= truth) & (truth <= high)
    return (
        f"mean {truth:.3f}, interval holds it in {covered.mean():.3f}; too high {np.mean(truth < low):.3f}, "
        f"too low {np.mean(truth > high):.3f}; width {np.mean(high - low):.2f}"
    )


def cross_validated(patients: int, effect: float, seed: int, *, sites=2, tiles=10, sd=0.5, dim=4, noise=0.0):
    """Patients of fixed sites, told apart by the nearest centroid out of fold: truth, prediction, patient, folds."""
    rng = np.random.default_rng([seed, patients])
    unit = np.repeat(np.arange(sites * patients), tiles)
    y = unit % sites
    x = rng.normal(size=(len(y), dim)) + sd * rng.normal(size=(sites * patients, dim))[unit]
    x[:, 0] += effect * y
    x = (x + noise * rng.normal(size=x.shape)).astype(np.float32)
    k = min(5, patients)
    fold = grouped_folds(unit, y, k, seed)
    predicted = np.empty_like(y)
    for f in range(k):
        train = fold != f
        scorer = fit_centroids(x[train], y[train], np.ones(train.sum()), sites)
        predicted[~train] = scorer.logits(x[~train]).argmax(axis=1)
    return y, predicted, unit, k


def coverage(draws: int) -> None:
    cases = [(p, e, {}) for p in (2, 3, 4, 5, 6, 10, 20) for e in (0.0, 1.2, 3.0)]
    cases += [(p, 1.2, {"sites": 3}) for p in (3, 5, 10)]
    cases += [(p, 1.2, how) for p in (5, 10) for how in ({"sd": 1.5}, {"tiles": 100})]
    shares = []
    for patients, effect, how in cases:
        values, intervals = [], []
        for seed in range(draws):
            y, predicted, unit, k = cross_validated(patients, effect, seed, **how)
            values.append(balanced_accuracy(y, predicted, how.get("sites", 2)))
            intervals.append(bootstrap_interval(y, predicted, unit, how.get("sites", 2), 300, 0, k))
        low, high = np.array(intervals).T
        shares.append(np.mean((low <= np.mean(values)) & (np.mean(values) <= high)))
        name = f"{patients} patients a site, effect {effect}" + (f", {how}" if how else "")
        print(f"interval, centroid, {name}: {held(values, intervals)}", flush=True)
    print(f"all {len(cases)} cases: {np.mean(shares):.3f}, least {min(shares):.3f}", flush=True)


def coverage_of_the_probe(draws: int) -> None:
    """The whole site probe: logistic regression, its penalty chosen inside."""
    for patients in (4, 10):
        values, intervals = [], []
        for seed in range(draws):
            table = make_batches(
                shift=0.0, slide_sd=0.5, slides=2 * patients, tiles=10, dim=4, class_signal=0, seed=seed
            )
            table.X[:, 0] += 1.2 * (table.obs["site"] == "AMC").to_numpy()
            found = site_probe(table, permutations=0)
            values.append(found.balanced_accuracy)
            intervals.append(found.ci)
        print(f"interval, logistic, {patients} patients a site: {held(values, intervals)}", flush=True)


def paired(draws: int) -> None:
    """The change from an effect to another with further noise, and the percentiles that were used before."""
    shares = []
    for patients in (2, 3, 4, 5, 10, 20):
        for effect, left in ((1.2, 1.2), (3.0, 1.2), (3.0, 0.0), (1.2, 0.0)):
            values, intervals, plain = [], [], []
            for seed in range(draws):
                y, before, unit, k = cross_validated(patients, effect, seed)
                _, after, _, _ = cross_validated(patients, left, seed, noise=0.5)
                values.append(balanced_accuracy(y, after, 2) - balanced_accuracy(y, before, 2))
                intervals.append(paired_interval(y, before, after, unit, 2, 300, 0, k))
                plain.append(percentiles(y, before, after, unit))
            low, high = np.array(intervals).T
            shares.append(np.mean((low <= np.mean(values)) & (np.mean(values) <= high)))
            low, high = np.array(plain).T
            before_share = np.mean((low <= np.mean(values)) & (np.mean(values) <= high))
            print(
                f"change, {patients} patients a site, effect {effect} to {left}: {held(values, intervals)}; "
                f"percentiles {before_share:.3f}",
                flush=True,
            )
    print(f"all {len(shares)} cases: {np.mean(shares):.3f}, least {min(shares):.3f}", flush=True)


def percentiles(y, before, after, unit, n: int = 300) -> np.ndarray:
    """Percentiles of the change over draws of patients, each site's among each other."""
    change = (after == y).astype(float) - (before == y)
    per = np.bincount(unit, weights=change) / np.bincount(unit)
    rng = np.random.default_rng(0)
    means = [rng.choice(per[site::2], (n, len(per[site::2]))).mean(axis=1) for site in (0, 1)]
    return np.percentile(np.mean(means, axis=0), [2.5, 97.5])


def slides_that_differ(draws: int) -> None:
    for sd in (0.5, 1.0, 2.0, 4.0):
        by_slide, by_tile = [], []
        for seed in range(draws):
            table = make_batches(shift=0.0, slide_sd=sd, slides=12, tiles=25, class_signal=0, seed=seed)
            rng = np.random.default_rng(seed)  # sites dealt out to slides at random
            site = dict(zip(table.obs["slide"].unique(), rng.permutation(["A", "B"] * 6), strict=True))
            table.obs["site"] = table.obs["slide"].map(site).to_numpy()
            by_slide.append(site_probe(table, permutations=0, n_bootstrap=1).balanced_accuracy)
            table.obs["tile"] = [f"T{i}" for i in range(table.n_obs)]
            by_tile.append(site_probe(table, group="tile", permutations=0, n_bootstrap=1).balanced_accuracy)
        print(
            f"slides differ by {sd} deviations of a tile: held out by slide {np.mean(by_slide):.3f} "
            f"({np.quantile(by_slide, 0.05):.2f}-{np.quantile(by_slide, 0.95):.2f}), by tile {np.mean(by_tile):.3f}",
            flush=True,
        )


def of_metrics(draws: int) -> None:
    for slides in (8, 12, 24, 48):
        index, margin = ([], []), ([], [])
        rng = np.random.default_rng(1)
        classes, sites = rng.normal(size=(2, 2, 12)) * 0.6
        for seed in range(draws):
            rng = np.random.default_rng([seed, slides])
            slide = np.repeat(np.arange(slides), 20)
            site, label = slide % 2, rng.integers(0, 2, len(slide))
            x = rng.normal(size=(len(slide), 12)) + classes[label] + sites[site]
            x += 0.4 * rng.normal(size=(slides, 12))[slide]
            table = table_of(x, label, site, slide)
            for found, (values, intervals) in (
                (robustness_index(table, k=11, device="cpu"), index),
                (croma(table, device="cpu"), margin),
            ):
                values.append(found.value)
                intervals.append(found.interval)
        for name, (values, intervals) in (("RI", index), ("CRoMa", margin)):
            print(f"{name}, {slides // 2} slides a site: {held(values, intervals)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what", nargs="*", default=["p", "coverage", "logistic", "paired", "slides", "metrics"]
    )
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--probes", nargs="+", default=["centroid", "logistic"], help="of the part p")
    options = parser.parse_args()
    parts = {
        "p": lambda: uniform_p(options.runs, options.probes),
        "coverage": lambda: coverage(options.draws),
        "logistic": lambda: coverage_of_the_probe(min(options.draws, 100)),
        "paired": lambda: paired(options.draws),
        "slides": lambda: slides_that_differ(min(options.draws, 40)),
        "metrics": lambda: of_metrics(options.draws),
    }
    for what in options.what:
        if what not in parts:
            sys.exit(f"There is no part {what}; choose of {', '.join(parts)}.")
        parts[what]()


if __name__ == "__main__":
    main()
