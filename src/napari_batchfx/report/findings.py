"""Tables of a report on what was found about a probe: robustness metrics, and before and after."""

from __future__ import annotations

from typing import Any

from napari_batchfx.report.adaptations import STALE
from napari_batchfx.report.identifiers import Masker
from napari_batchfx.report.numbers import MISSING, estimate_parts, number, signed_text
from napari_batchfx.report.sections import AfterSection, RobustnessSection

__all__ = ["after_table", "robustness_table"]


def robustness_table(found: RobustnessSection | None, masker: Masker) -> dict[str, Any] | None:
    """The metrics as the page prints them; ``None`` where none were measured."""
    if found is None or not found.rows:
        return None
    return {
        "batch": found.batch,
        "encoder": masker.text(found.encoder),
        "stain": masker.text(found.stain),
        "rows": [
            (name, *estimate_parts(value), scale, masker.text(about))
            for name, value, scale, about in found.rows
        ],
        "warnings": _warnings(found.is_current, found.warnings, masker),
    }


def after_table(found: AfterSection, masker: Masker) -> dict[str, Any]:
    """A comparison as the page prints it."""
    rows = []
    for name, before, after, change, chance, reason in found.rows:
        shown = [estimate_parts(before), estimate_parts(after)]
        guess = MISSING if chance is None else number(chance)
        rows.append((name, shown, signed_text(change), guess, masker.text(reason)))
    return {
        "batch": found.batch,
        "after": masker.text(found.after),
        "encoder": masker.text(found.encoder),
        "stain": masker.text(found.stain),
        "sentence": masker.text(found.sentence),
        "rows": rows,
        "warnings": _warnings(found.is_current, found.warnings, masker),
    }


def _warnings(is_current: bool, warnings: Any, masker: Masker) -> list[str]:
    return ([] if is_current else [STALE]) + [masker.text(str(one)) for one in warnings]
