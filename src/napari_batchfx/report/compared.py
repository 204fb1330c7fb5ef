"""One table over all that was tried: encoder x stain x correction, the signature left, and the price."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from napari_batchfx.report.data import AdaptationRow, Estimate, ReportData
from napari_batchfx.report.identifiers import Masker
from napari_batchfx.report.numbers import estimate_parts, number

__all__ = ["ComparedRow", "compared_rows", "compared_table"]

NONE = "none"


@dataclass(frozen=True)
class ComparedRow:
    """One way of making features, and what was measured on it.

    Parameters
    ----------
    encoder, tiles, stain, correction : str
        What was done; ``correction`` is "none" for the features as they are.
    batch : str
        What the probe recognises ("scanner").
    signature : Estimate, optional
        Balanced accuracy of the site probe; after a correction on control samples that it was not fitted on.
    chance : float, optional
        What guessing gets there.
    accuracy : Estimate, optional
        Balanced accuracy of the predicted classes on slides that were not learned from.
    biology : Estimate, optional
        Class retention.
    is_current : bool
        Whether slides and regions are still what they were.
    """

    encoder: str
    tiles: str
    stain: str
    correction: str
    batch: str
    signature: Estimate | None = None
    chance: float | None = None
    accuracy: Estimate | None = None
    biology: Estimate | None = None
    is_current: bool = True


def compared_rows(data: ReportData) -> list[ComparedRow]:
    """Probes and adaptations of a report, side by side.

    Features as they are come first, then each correction of them. An accuracy without correction is that of
    the adaptation which was learned from and applied to the same slides; where several differ in that, it is
    left out.

    Examples
    --------
    >>> from napari_batchfx.report import AdaptationRow, ReportData
    >>> row = AdaptationRow("linear classifier", "TVN", before=Estimate(0.6), after=Estimate(0.8))
    >>> [(one.correction, one.accuracy.value) for one in compared_rows(ReportData("S", adaptations=[row]))]
    [('none', 0.6), ('TVN', 0.8)]
    """
    keys: dict[tuple[str, str, str, str], None] = {}
    for section in data.probes:
        keys.setdefault((section.encoder, section.tiles, section.stain, section.batch))
    for row in data.adaptations:
        keys.setdefault((row.encoder, row.tiles, row.stain, row.batch))
    found = []
    for encoder, tiles, stain, batch in keys:
        key = (encoder, tiles, stain, batch)
        probe = next((p for p in data.probes if (p.encoder, p.tiles, p.stain, p.batch) == key), None)
        rows = [row for row in data.adaptations if (row.encoder, row.tiles, row.stain, row.batch) == key]
        same = len({(row.trained_on, row.applied_to) for row in rows}) == 1
        first = rows[0] if same else None
        found.append(
            ComparedRow(
                *key[:3],
                NONE,
                batch,
                None if probe is None else _probed(probe),
                None if probe is None else float(probe.result.chance),
                None if first is None else first.before,
                None if first is None else first.retention_before,
                (probe is None or probe.is_current) and (first is None or first.is_current),
            )
        )
        found += [_corrected(row) for row in rows]
    return found


def _probed(section: Any) -> Estimate:
    result = section.result
    low, high = (float("nan") if v is None else float(v) for v in result.ci)
    return Estimate(float(result.balanced_accuracy), (low, high), section_tiles(result))


def section_tiles(result: Any) -> int | None:
    """Tiles that a probe scored."""
    n = int(sum(sum(row) for row in result.confusion))
    return n or None


def _corrected(row: AdaptationRow) -> ComparedRow:
    return ComparedRow(
        row.encoder,
        row.tiles,
        row.stain,
        row.correction,
        row.batch,
        row.signature_after,
        row.signature_chance,
        row.after,
        row.retention_after,
        row.is_current,
    )


def compared_table(data: ReportData, masker: Masker) -> list[dict[str, Any]]:
    """What the template needs; empty where there is nothing to compare."""
    rows = compared_rows(data)
    if len(rows) < 2:
        return []
    return [
        {
            "encoder": masker.text(row.encoder) or "–",
            "tiles": row.tiles,
            "stain": masker.text(row.stain),
            "correction": masker.text(row.correction),
            "batch": row.batch,
            "signature": estimate_parts(row.signature),
            "chance": number(row.chance),
            "n": "" if row.signature is None or not row.signature.n else f"{row.signature.n:,}",
            "accuracy": estimate_parts(row.accuracy),
            "accuracy_n": "" if row.accuracy is None or not row.accuracy.n else f"{row.accuracy.n:,}",
            "biology": estimate_parts(row.biology),
            "biology_n": "" if row.biology is None or not row.biology.n else f"{row.biology.n:,}",
            "is_current": row.is_current,
        }
        for row in rows
    ]
