"""What was found about the probe run last, as sections of the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_batchfx.study.findings import AfterOutcome, ComponentsOutcome, RobustnessOutcome
from napari_batchfx.study.report_rows import correction_name, stain_label, stain_name

if TYPE_CHECKING:
    from napari_batchfx.probe import SignatureResult
    from napari_batchfx.report import AfterSection, ComponentsSection, Estimate, RobustnessSection
    from napari_batchfx.study.before_after import Measure
    from napari_batchfx.study.bench import Bench
    from napari_batchfx.study.probed import ProbeOutcome

__all__ = ["after_sections", "components_section", "robustness_section"]

#: Where components were not looked at yet: how many of the first are probed, on at most so many tiles.
_FIRST, _FEW = (1, 2, 5, 10), 3000


def components_section(study: Bench) -> ComponentsSection | None:
    """Along which components the batch of the probe run last lies.

    What was found in the dock is used; else a few numbers are computed for the report. None where the
    features are gone.
    """
    from napari_batchfx.errors import BatchfxError
    from napari_batchfx.report import ComponentsSection, Estimate

    outcome = study.results.probe
    if outcome is None:
        return None
    kept = study.results.about(outcome, ComponentsOutcome)
    try:
        found = _few_components(study, outcome) if kept is None else kept.result
    except (BatchfxError, OSError):  # the probe's own numbers stand without it
        return None
    encode = outcome.computed_from["encode"]
    first = [
        (int(one["components"]), Estimate(one["balanced_accuracy"], (one["low"], one["high"])))
        for one in found.first
    ]
    return ComponentsSection(
        found.batch,
        found.explained_variance,
        found.auroc,
        found.auroc_level,
        first,
        float(found.chance),
        found.tiles,
        encode["encoder"],
        stain_name(encode),
        kept is None or study.still_holds(kept),
    )


def _few_components(study: Bench, outcome: ProbeOutcome) -> SignatureResult:
    from napari_batchfx.jobs import run
    from napari_batchfx.probe import signature
    from napari_batchfx.study.probe_table import probe_table_job

    settings = outcome.computed_from["settings"]
    table, _ = run(probe_table_job(study, outcome))
    return signature(
        table,
        settings["batch"],
        settings["group"],
        first=_FIRST,
        n_splits=int(settings.get("n_splits", 5)),
        n_bootstrap=200,
        max_tiles=_FEW,
        seed=int(settings.get("seed", 0)),
    )


def robustness_section(study: Bench) -> RobustnessSection | None:
    """The metrics of the probe run last, biology first; None where they were not measured."""
    from napari_batchfx.probe.metrics.shown import SHOWN
    from napari_batchfx.report import Estimate, RobustnessSection

    outcome = study.results.probe
    kept = None if outcome is None else study.results.about(outcome, RobustnessOutcome)
    if outcome is None or kept is None:
        return None
    rows: list[tuple[str, Estimate, str, str]] = []
    warnings: list[str] = []
    for name in ("class_retention", *(one for one in SHOWN if one != "class_retention")):
        one = kept.metrics.get(name)
        if one is None:
            continue
        title, scale, about = SHOWN[name]
        chance = one.support.get("chance")
        if name == "class_retention" and isinstance(chance, (int, float)):
            scale = f"guessing {chance:.2f}"
        rows.append((title, Estimate(one.value, one.interval), scale, one.reason or about))
        warnings += [text for text in one.warnings if text != one.reason]
    encode = outcome.computed_from["encode"]
    return RobustnessSection(
        outcome.result.batch,
        rows,
        list(dict.fromkeys(warnings)),
        encode["encoder"],
        stain_name(encode),
        study.still_holds(kept),
    )


def after_sections(study: Bench) -> list[AfterSection]:
    """What the probe run last was compared with, in the order of the methods' names."""
    from napari_batchfx.report import AfterSection

    outcome = study.results.probe
    if outcome is None:
        return []
    encode = outcome.computed_from["encode"]
    kept = [one for one in study.results.findings if isinstance(one, AfterOutcome) and one.is_about(outcome)]
    return [
        AfterSection(
            one.found.comparison.batch,
            stain_label(one.found.after) if one.found.kind == "stain" else correction_name(one.found.after),
            one.found.comparison.sentence,
            [_row(measure) for measure in one.found.comparison.measures],
            list(one.found.warnings),
            encode["encoder"],
            stain_name(encode),
            study.still_holds(one),
        )
        for one in sorted(kept, key=lambda one: one.found.after)
    ]


def _row(measure: Measure) -> tuple[str, Any, Any, Any, float | None, str]:
    from napari_batchfx.report import Estimate

    if not measure.is_known:
        return measure.name, None, None, None, None, measure.reason or "can't be computed"
    change = None
    if measure.change_interval is not None or np.isfinite(measure.change):
        change = Estimate(measure.change, measure.change_interval)
    return (
        measure.name,
        Estimate(measure.before, measure.interval_before),
        Estimate(measure.after, measure.interval_after),
        change,
        measure.chance,
        "",
    )
