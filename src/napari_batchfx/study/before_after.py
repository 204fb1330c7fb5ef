"""The same tiles with two sets of features: how well a batch is recognised, and what it cost in biology."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import StudyError
from napari_batchfx.jobs import Job, Progress

if TYPE_CHECKING:
    from anndata import AnnData

    from napari_batchfx.probe import SiteProbeResult
    from napari_batchfx.probe.metrics import MetricResult
    from napari_batchfx.probe.probes import ProbeName

__all__ = ["BeforeAfter", "Measure", "compare_job"]

Interval = tuple[float, float]


@dataclass(frozen=True)
class Measure:
    """One number before and after.

    Parameters
    ----------
    name : str
        What it is, for people.
    before, after : float
        NaN where it can't be computed.
    interval_before, interval_after : (float, float) or None
        95 %.
    change_interval : (float, float) or None
        95 % of ``after - before``, drawing the same groups for both.
    chance : float or None
        What guessing would give.
    reason : str
        Why there is no number.
    """

    name: str
    before: float
    after: float
    interval_before: Interval | None = None
    interval_after: Interval | None = None
    change_interval: Interval | None = None
    chance: float | None = None
    reason: str = ""

    @property
    def is_known(self) -> bool:
        """Whether there is a number on both sides."""
        return bool(np.isfinite(self.before) and np.isfinite(self.after))

    @property
    def change(self) -> float:
        """After less before."""
        return self.after - self.before

    def text(self) -> str:
        """``0.99 (0.97-1.00) to 0.93 (0.90-0.96); guessing 0.50``."""
        if not self.is_known:
            return self.reason or "can't be computed"
        said = f"{_number(self.before, self.interval_before)} to {_number(self.after, self.interval_after)}"
        return said + (f"; guessing {self.chance:.2f}" if self.chance is not None else "")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN becomes ``None``."""
        return {
            "name": self.name,
            "before": _plain(self.before),
            "after": _plain(self.after),
            "interval_before": _pair(self.interval_before),
            "interval_after": _pair(self.interval_after),
            "change": _plain(self.change),
            "change_interval": _pair(self.change_interval),
            "chance": self.chance,
            "reason": self.reason,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Take back what :meth:`to_dict` gave."""
        return cls(
            values["name"],
            _number_of(values["before"]),
            _number_of(values["after"]),
            _taken(values["interval_before"]),
            _taken(values["interval_after"]),
            _taken(values["change_interval"]),
            values["chance"],
            values["reason"],
        )


@dataclass(frozen=True, eq=False)
class BeforeAfter:
    """What :func:`compare_job` found.

    Parameters
    ----------
    probe : Measure
        Balanced accuracy of the site probe: lower is less signature.
    robustness : Measure
        Robustness index: higher is more biology in the neighbourhood, needs classes.
    retention : Measure
        Balanced accuracy of the class by nearest neighbours: a fall is biology lost; needs classes.
    batch : str
        What was recognised.
    tiles : int
    probe_before, probe_after : SiteProbeResult
    warnings : tuple of str
        What could mislead.
    """

    probe: Measure
    robustness: Measure
    retention: Measure
    batch: str
    tiles: int
    probe_before: SiteProbeResult = field(repr=False)
    probe_after: SiteProbeResult = field(repr=False)
    warnings: tuple[str, ...] = ()

    @property
    def measures(self) -> tuple[Measure, Measure, Measure]:
        """All three."""
        return (self.probe, self.robustness, self.retention)

    @property
    def still_there(self) -> bool:
        """Whether the batch is recognised after, its interval above chance."""
        low = (self.probe.interval_after or (np.nan, np.nan))[0]
        return bool(low > (self.probe.chance or 0.0))

    @property
    def sentence(self) -> str:
        """How many of 100 tiles are recognised before and after."""
        before, after = round(100 * self.probe.before), round(100 * self.probe.after)
        by_chance = round(100 * (self.probe.chance or 0.0))
        said = f"The {self.batch} is recognised in {after} of 100 tiles, before in {before}"
        return f"{said} (guessing: {by_chance})."

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "sentence": self.sentence,
            "batch": self.batch,
            "tiles": self.tiles,
            "still_recognised": self.still_there,
            "probe": self.probe.to_dict(),
            "robustness_index": self.robustness.to_dict(),
            "class_retention": self.retention.to_dict(),
            "warnings": list(self.warnings),
        }

    def to_kept(self) -> dict[str, Any]:
        """:meth:`to_dict` with both probes, every tile of them: what :meth:`from_kept` takes back."""
        probes = {"probe_before": self.probe_before.to_dict(), "probe_after": self.probe_after.to_dict()}
        return self.to_dict() | probes

    @classmethod
    def from_kept(cls, values: dict[str, Any]) -> Self:
        """Back from :meth:`to_kept`."""
        from napari_batchfx.probe import SiteProbeResult

        return cls(
            Measure.from_dict(values["probe"]),
            Measure.from_dict(values["robustness_index"]),
            Measure.from_dict(values["class_retention"]),
            values["batch"],
            int(values["tiles"]),
            SiteProbeResult.from_dict(values["probe_before"]),
            SiteProbeResult.from_dict(values["probe_after"]),
            tuple(values["warnings"]),
        )


def compare_job(
    before: AnnData,
    after: AnnData,
    *,
    batch: str = "scanner",
    group: str = "patient",
    label: str = "label",
    n_splits: int = 5,
    seed: int = 0,
    n_bootstrap: int = 1000,
    probe: ProbeName = "logistic",
) -> Job[BeforeAfter]:
    """Probe, robustness index and class retention of the same tiles with two sets of features.

    Parameters
    ----------
    before, after : anndata.AnnData
        The same tiles in the same order, one row a tile; the columns of ``obs`` are read from ``before``.
    batch, group : str
        As :func:`napari_batchfx.probe.site_probe` takes them.
    label : str
        Column of the class; without classes the robustness index and the retention are left open.
    n_splits, seed, n_bootstrap : int
        Of folds and intervals; folds are the same on both sides.
    probe : {"logistic", "centroid", "knn", "linear"}
        The classifier.

    Returns
    -------
    Job
        Returns a :class:`BeforeAfter`.

    Raises
    ------
    StudyError
        If the tables don't hold the same tiles.
    ProbeError
        If there are too few tiles, or only one batch.

    Notes
    -----
    The interval of the change is the probe's own (:func:`napari_batchfx.probe.statistics.paired_interval`):
    the units that are held out together (patients, slides, pieces of slides) are drawn, each batch's among
    each other, both sides on the same draw, so that what both share cancels; few units widen it.

    Examples
    --------
    >>> import anndata, pandas
    >>> from napari_batchfx.jobs import run
    >>> rng = np.random.default_rng(0)
    >>> slide = np.repeat(np.arange(8), 20)
    >>> obs = pandas.DataFrame({"slide": slide.astype(str), "scanner": np.where(slide % 2, "A", "B")})
    >>> obs.index = obs.index.astype(str)
    >>> x = rng.normal(size=(160, 5)).astype("float32")
    >>> marked = x.copy(); marked[:, 0] += 4 * (slide % 2)
    >>> found = run(compare_job(anndata.AnnData(marked, obs=obs), anndata.AnnData(x, obs=obs)))
    >>> found.probe.before > 0.9, found.probe.change < -0.2, found.still_there
    (True, True, False)
    """
    from napari_batchfx.probe import site_probe_job

    _check(before, after)
    options: dict[str, Any] = {
        "batch": batch, "group": group, "n_splits": n_splits, "seed": seed, "permutations": 0,
        "n_bootstrap": n_bootstrap, "probe": probe,
    }  # fmt: skip
    first = yield from site_probe_job(before, **options)
    second = yield from site_probe_job(after, **options)
    yield Progress(1, 3, "comparing", "steps")
    accuracy = Measure(
        "probe accuracy",
        first.balanced_accuracy,
        second.balanced_accuracy,
        _interval(first.ci),
        _interval(second.ci),
        _change(before, group, first, second, n_bootstrap, seed),
        first.chance,
    )
    robustness, retention = yield from _biology(before, after, label, batch, group, n_bootstrap, seed)
    told = [w for w in dict.fromkeys([*first.warnings, *second.warnings]) if "relabel" not in w]
    return BeforeAfter(accuracy, robustness, retention, batch, int(before.n_obs), first, second, tuple(told))


def _biology(
    before: AnnData, after: AnnData, label: str, batch: str, group: str, n_bootstrap: int, seed: int
) -> Job[tuple[Measure, Measure]]:
    from napari_batchfx.errors import ProbeError
    from napari_batchfx.probe.columns import has_values
    from napari_batchfx.probe.metrics import class_retention
    from napari_batchfx.probe.metrics.robustness_index import robustness_index_job

    if not has_values(before, label):
        why = "needs tiles with a class: draw regions of at least two classes"
        return _open("robustness index", why), _open("class retention", why)
    # A group that spans the batches would take every neighbour on the other scanner away.
    unit = "slide" if has_values(before, "slide") else group
    try:
        first = yield from robustness_index_job(
            before, label, batch, unit, interval=n_bootstrap > 0, seed=seed
        )
        k = first.support.get("k")
        second = yield from robustness_index_job(
            after, label, batch, unit, k, interval=n_bootstrap > 0, seed=seed
        )
        robustness = _measure("robustness index", first, second)
    except ProbeError as error:
        robustness = _open("robustness index", str(error))
    yield Progress(2, 3, "comparing", "steps")
    of = group if has_values(before, group) and before.obs[group].nunique() > 1 else unit
    try:
        kept = [
            class_retention(table, label, of, n_bootstrap=n_bootstrap, seed=seed) for table in (before, after)
        ]
        retention = _measure("class retention", *kept)
    except ProbeError as error:
        retention = _open("class retention", str(error))
    return robustness, retention


def _check(before: AnnData, after: AnnData) -> None:
    same = before.n_obs == after.n_obs
    for column in ("slide", "row", "col"):
        if same and column in before.obs and column in after.obs:
            same = bool((before.obs[column].to_numpy() == after.obs[column].to_numpy()).all())
    if not same:
        raise StudyError(
            "Before and after don't hold the same tiles, so they can't be compared; encode the same tiles."
        )


def _change(
    table: AnnData,
    group: str,
    first: SiteProbeResult,
    second: SiteProbeResult,
    n_bootstrap: int,
    seed: int,
) -> Interval | None:
    """95 % of the change of balanced accuracy, over draws of the units that were held out together."""
    from napari_batchfx.probe.design import read_design
    from napari_batchfx.probe.site_probe import MIN_TILES
    from napari_batchfx.probe.statistics import paired_interval

    if n_bootstrap <= 0:
        return None
    if np.array_equal(first.proba, second.proba, equal_nan=True):
        return 0.0, 0.0  # the same probabilities of every tile: not a change that happened to be none
    k = int(first.settings["n_splits"])
    design = read_design(table, first.batch, group, k, seed, MIN_TILES)
    before, after = (np.asarray(one.proba[design.rows].argmax(axis=1)) for one in (first, second))
    found = paired_interval(
        np.asarray(design.y), before, after, design.grouping.unit, len(design.batches), n_bootstrap, seed,
        design.grouping.n_splits,
    )  # fmt: skip
    return float(found[0]), float(found[1])


def _measure(name: str, first: MetricResult, second: MetricResult) -> Measure:
    return Measure(
        name,
        first.value,
        second.value,
        first.interval,
        second.interval,
        chance=first.support.get("chance"),
        reason=first.reason or second.reason,
    )


def _open(name: str, reason: str) -> Measure:
    return Measure(name, float("nan"), float("nan"), reason=reason)


def _interval(ci: NDArray[np.float64]) -> Interval | None:
    low, high = (float(v) for v in ci)
    return (low, high) if np.isfinite(low) and np.isfinite(high) else None


def _number(value: float, interval: Interval | None) -> str:
    return f"{value:.2f}" + ("" if interval is None else f" ({interval[0]:.2f}-{interval[1]:.2f})")


def _number_of(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _taken(pair: list[float | None] | None) -> Interval | None:
    return None if pair is None else (_number_of(pair[0]), _number_of(pair[1]))


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _pair(interval: Interval | None) -> list[float | None] | None:
    return None if interval is None else [_plain(v) for v in interval]
