"""Whether control samples can carry a correction."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from napari_batchfx.adapt.correction import FEW_CONTROLS, MIN_CONTROLS, Correction, control_mask
from napari_batchfx.adapt.diagnostics import ControlDiagnostics
from napari_batchfx.adapt.judgement import judgement
from napari_batchfx.adapt.measures import (
    direction,
    effective_rank,
    leverage,
    placebo,
    principal_angles,
    reach,
    variance_ratio,
)
from napari_batchfx.adapt.standardize import StandardizeOnControls
from napari_batchfx.adapt.units import independent_units
from napari_batchfx.errors import AdaptError, ProbeError
from napari_batchfx.jobs import Job, Progress, run
from napari_batchfx.probe import site_probe_job
from napari_batchfx.probe.columns import category_codes, feature_matrix
from napari_batchfx.probe.metrics import class_retention

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["diagnose", "diagnose_job"]


def diagnose(
    table: AnnData,
    batch: str = "site",
    controls: npt.ArrayLike | None = None,
    *,
    method: Correction | None = None,
    label: str = "label",
    group: str = "patient",
    seed: int = 0,
) -> ControlDiagnostics:
    """Judge control samples before a correction is trusted.

    The controls are split, by slide or else by place, into a half that a correction is fitted on and a half
    that judges it.

    Parameters
    ----------
    table : anndata.AnnData
    batch : str
        Column to correct for.
    controls : bool array (n,), optional
        Default ``obs["control"]``.
    method : Correction, optional
        What to judge them with; default :class:`StandardizeOnControls`.
    label, group : str
        Columns of the class and of what belongs together.
    seed : int

    Returns
    -------
    ControlDiagnostics
        Too few controls are a verdict, not an error.

    Raises
    ------
    AdaptError
        If the batch column is empty or the mask has the wrong length.

    Examples
    --------
    >>> import anndata, numpy, pandas
    >>> rng = numpy.random.default_rng(0); slide = numpy.repeat(numpy.arange(8), 40)
    >>> site = numpy.where(slide % 2, "A", "B")
    >>> x = (rng.normal(size=(320, 6)) + 3 * (slide % 2)[:, None]).astype("float32")
    >>> obs = pandas.DataFrame({"site": site, "slide": slide.astype(str)})
    >>> obs["control"] = numpy.arange(320) % 2 == 0
    >>> obs.index = obs.index.astype(str)
    >>> diagnose(anndata.AnnData(x, obs=obs)).verdict
    'usable'
    """
    return run(diagnose_job(table, batch, controls, method=method, label=label, group=group, seed=seed))


def diagnose_job(
    table: AnnData,
    batch: str = "site",
    controls: npt.ArrayLike | None = None,
    *,
    method: Correction | None = None,
    label: str = "label",
    group: str = "patient",
    seed: int = 0,
) -> Job[ControlDiagnostics]:
    """:func:`diagnose` as a job."""
    mask = control_mask(table, controls)
    y, names = category_codes(table, batch)
    if not names:
        raise AdaptError(f"No slide has a {batch}: give each slide one in the Slides dock.")
    finite = np.isfinite(feature_matrix(table)).all(axis=1)
    mask = mask & finite & (y >= 0)
    slide = category_codes(table, "slide")[0]
    n = {name: int((mask & (y == b)).sum()) for b, name in enumerate(names)}
    n_slides = {name: len(np.unique(slide[mask & (y == b)])) for b, name in enumerate(names)}
    share = _largest_share(slide, y, mask, len(names))
    bad: list[str] = []
    weak: list[str] = []
    for name, count in n.items():
        if count < MIN_CONTROLS:
            bad.append(f"{name} has {count} control tiles; at least {MIN_CONTROLS} are needed.")
        elif count < FEW_CONTROLS // 2:
            weak.append(f"{name} has {count} control tiles: few, {FEW_CONTROLS} or more are better.")
    facts: dict[str, Any] = {"n": n, "n_slides": n_slides, "largest_slide_share": share}
    if bad:
        return ControlDiagnostics("not usable", bad, effective_rank=float("nan"), split_by="none", **facts)

    kept = np.flatnonzero(finite & (y >= 0))
    sub = table[kept].copy()
    mask, y = mask[kept], y[kept]
    x = feature_matrix(sub).astype(np.float64)
    rank = effective_rank(x[mask], y[mask])
    facts["reach"] = reach(x, y, mask)
    facts["leverage"] = leverage(x[mask], y[mask], category_codes(sub, "slide")[0][mask])
    units, split_by = independent_units(sub, batch, group)
    if split_by not in ("spatial block", "tile") and not _splittable(units, y, mask, len(names)):
        units, split_by = independent_units(sub, batch, batch)
        if split_by == "slide" and not _splittable(units, y, mask, len(names)):
            units, split_by = np.arange(sub.n_obs), "tile"
    yield Progress(1, 4, "judging controls", "steps")

    judged, chance, low = yield from _held_out_probe(sub, batch, mask, y, units, method, group, seed)
    yield Progress(2, 4, "judging controls", "steps")
    numbers = yield from _whole_fit(sub, batch, mask, y, x, label, group, units, method, seed)
    yield Progress(3, 4, "judging controls", "steps")
    facts["angles"] = principal_angles(x, y, mask, category_codes(sub, label)[0])

    before, after = judged
    facts |= {"probe_before": before, "probe_after": after, "chance": chance, "effective_rank": rank}
    facts |= numbers
    n_known = int((~mask & (category_codes(sub, label)[0] >= 0)).sum())
    verdict, reasons, notes = judgement(facts, batch, n_known, split_by, weak, low)
    return ControlDiagnostics(verdict, reasons, split_by=split_by, notes=notes, **facts)


def _largest_share(slide: NDArray[np.intp], y: NDArray[np.intp], mask: NDArray[np.bool_], b: int) -> float:
    shares = []
    for k in range(b):
        counts = np.unique(slide[mask & (y == k)], return_counts=True)[1]
        if len(counts):
            shares.append(counts.max() / counts.sum())
    return float(max(shares, default=float("nan")))


def _splittable(units: NDArray[np.intp], y: NDArray[np.intp], mask: NDArray[np.bool_], b: int) -> bool:
    return all(len(np.unique(units[mask & (y == k)])) > 1 for k in range(b))


def _halves(units: NDArray[np.intp], y: NDArray[np.intp], seed: int) -> NDArray[np.bool_]:
    """Half of the units of every batch (n,), to fit on."""
    from napari_batchfx.probe.folds import grouped_folds

    return np.asarray(grouped_folds(units, y, 2, seed) == 0, dtype=bool)


def _held_out_probe(
    table: AnnData,
    batch: str,
    mask: NDArray[np.bool_],
    y: NDArray[np.intp],
    units: NDArray[np.intp],
    method: Correction | None,
    group: str,
    seed: int,
) -> Generator[Progress, None, tuple[tuple[float, float], float, float]]:
    """Probe before and after, guessing, and the lower end of the interval after."""
    nothing = (float("nan"), float("nan")), float("nan"), float("nan")
    rows = np.flatnonzero(mask)
    fit_half = _halves(units[rows], y[rows], seed)
    fit = np.zeros(len(mask), dtype=bool)
    fit[rows[fit_half]] = True
    judge = mask & ~fit
    present = np.unique(y)
    if len(present) < 2 or min(int((fit & (y == b)).sum()) for b in present) < MIN_CONTROLS:
        return nothing
    try:
        raw = yield from site_probe_job(table[judge].copy(), batch, group, permutations=0, n_bootstrap=100)
        corrected = _fresh(method).fit(table, batch, fit).transform(table[judge].copy())
        done = yield from site_probe_job(corrected, batch, group, permutations=0, n_bootstrap=100)
    except (ProbeError, AdaptError):  # too few tiles or groups to judge: the verdict says so
        return nothing
    return (raw.balanced_accuracy, done.balanced_accuracy), raw.chance, float(done.ci[0])


def _whole_fit(
    table: AnnData,
    batch: str,
    mask: NDArray[np.bool_],
    y: NDArray[np.intp],
    x: NDArray[np.float64],
    label: str,
    group: str,
    units: NDArray[np.intp],
    method: Correction | None,
    seed: int,
) -> Generator[Progress, None, dict[str, float]]:
    """What correcting on all controls does to the other tiles."""
    others = ~mask
    codes = category_codes(table, label)[0]
    names = (
        "retention_before",
        "retention_after",
        "class_before",
        "class_after",
        "direction",
        "variance_ratio",
    )
    out = dict.fromkeys(names, float("nan"))
    out["placebo"] = placebo(x[mask], y[mask], seed)
    if others.any():
        out["direction"] = direction(x, y, mask, codes)
    try:
        fitted = _fresh(method).fit(table, batch, mask)
        corrected = fitted.transform(table)
    except AdaptError:  # the correction itself says why when it is asked for
        return out
    yield Progress(2, 4, "judging controls", "steps")
    moved = _placebo_of(fitted, table[mask], batch, y[mask], x[mask], seed)
    out["placebo"] = moved if np.isfinite(moved) else out["placebo"]
    if not others.any():
        return out
    z = feature_matrix(corrected).astype(np.float64)
    out["variance_ratio"] = variance_ratio(x, z, y, mask)
    known = others & (codes >= 0)
    if known.any():
        before = class_retention(table[others], label, units[others], n_bootstrap=0)
        after = class_retention(corrected[others], label, units[others], n_bootstrap=0)
        out["retention_before"], out["retention_after"] = before.value, after.value
        yield Progress(3, 4, "judging controls", "steps")
        for when, one in (("class_before", table), ("class_after", corrected)):
            try:
                probed = yield from site_probe_job(
                    one[known].copy(), label, group, permutations=0, n_bootstrap=0, seed=seed
                )
            except ProbeError:  # one class, or too few tiles of one: there is nothing to recognise
                break
            out[when] = probed.balanced_accuracy
    return out


def _placebo_of(
    fitted: Correction,
    controls: AnnData,
    batch: str,
    y: NDArray[np.intp],
    x: NDArray[np.float64],
    seed: int,
) -> float:
    """How far apart two corrections put a tile: for halves of one batch's controls, over that for batches.

    Halves have half of the controls, so the difference of their corrections is larger by sqrt(2).
    """
    rng = np.random.default_rng(seed)
    false: list[float] = []
    for b in np.unique(y):
        rows = np.flatnonzero(y == b)
        if len(rows) < 2 * MIN_CONTROLS:
            continue
        half = np.full(len(rows), "1", dtype=object)
        half[rng.permutation(len(rows))[: len(rows) // 2]] = "2"
        part = controls[rows].copy()
        part.obs[batch] = half
        part.obs["label"] = None  # halves of one batch: classes say nothing here
        try:
            pseudo = _fresh(fitted).fit(part, batch, np.ones(len(rows), dtype=bool))
        except AdaptError:
            continue
        false.append(_apart(pseudo, x[rows], pseudo.batches))
    real = _apart(fitted, x, fitted.batches)
    if not false or not real > 0:
        return float("nan")
    return float(np.sqrt(np.mean(np.square(false)) / 2.0) / real)


def _apart(correction: Correction, x: NDArray[np.float64], batches: list[str]) -> float:
    """Root mean square distance of where two batches' corrections put the same tiles, in units of spread."""
    placed = [correction.apply_to(x, name) for name in batches]
    mean = np.mean(placed, axis=0)
    spread = float(mean.var(axis=0).sum())
    apart = float(np.mean([((one - mean) ** 2).sum(axis=1).mean() for one in placed])) * len(placed)
    return float(np.sqrt(apart / max(len(placed) - 1, 1) / spread)) if spread > 0 else float("nan")


def _fresh(method: Correction | None) -> Correction:
    """An unfitted correction with the same settings, so that the caller's stays as it is."""
    return StandardizeOnControls() if method is None else type(method)(**method._settings())
