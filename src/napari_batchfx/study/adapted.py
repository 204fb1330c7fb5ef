"""What an adaptation found, in a form that is kept with the study."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.study.tile_rows import TileRows

if TYPE_CHECKING:
    from napari_batchfx.adapt import AdaptResult, ControlDiagnostics, HeadResult, Prediction

__all__ = ["AdaptOutcome"]


# Two runs are two results: comparing their arrays is for those who want it.
@dataclass(frozen=True, eq=False)
class AdaptOutcome:
    """Predictions before and after the correction, for which tiles, and what they were computed from.

    Parameters
    ----------
    before, after : Prediction
        One row a tile.
    changed : array (n,), bool
        Tiles whose predicted class changed.
    tiles : TileRows
        Which tile each row is.
    sentence : str
        The comparison in words.
    numbers : dict
        Comparison, control diagnostics and class retention, as plain values.
    warnings : list of str
        What could mislead.
    computed_from : dict
        Encoder, tile geometry, stain variant, slides and settings.
    result : AdaptResult, HeadResult or None
        The correction and the head themselves, or the head that adapts by itself; ``None`` when the study was
        opened from its folder (run the job again for them).
    """

    before: Prediction
    after: Prediction
    changed: NDArray[np.bool_]
    tiles: TileRows
    sentence: str
    numbers: dict[str, Any]
    warnings: list[str]
    computed_from: dict[str, Any]
    result: AdaptResult | HeadResult | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, result: AdaptResult, tiles: TileRows, computed_from: dict[str, Any]) -> Self:
        """From the result of :func:`napari_batchfx.adapt.adapt_job`."""
        numbers = {
            "comparison": plain(result.comparison),
            "diagnostics": plain(result.diagnostics),
            "retention_before": plain(result.retention_before),
            "retention_after": plain(result.retention_after),
        }
        return cls(
            result.before,
            result.after,
            np.asarray(result.changed, dtype=bool),
            tiles,
            result.comparison.sentence,
            numbers,
            list(result.warnings),
            computed_from,
            result,
        )

    @classmethod
    def of_head(
        cls,
        result: HeadResult,
        controls: ControlDiagnostics,
        retention: Any,
        tiles: TileRows,
        computed_from: dict[str, Any],
        notes: Sequence[str] = (),
    ) -> Self:
        """From the result of :func:`napari_batchfx.adapt.adapt_head_job`.

        Class retention is that of the features as they are: a head changes none, so there is none after.
        ``numbers`` also holds ``judgements`` (for each batch value what it is most like of the training) and
        ``ways`` (tiles that change class with the statistics of the controls, and of controls and tiles).
        """
        nothing = {"value": None, "ci": None}
        numbers = {
            "comparison": plain(result.comparison),
            "diagnostics": plain(controls),
            "retention_before": nothing if retention is None else plain(retention),
            "retention_after": nothing,
            "judgements": {
                name: {"sentence": one.sentence, "is_unlike": one.is_unlike}
                for name, one in result.judgements.items()
            },
            "ways": {way: int(result.ways.flipped(way).sum()) for way in ("controls", "mixed")},
        }
        warnings = [*notes, *result.warnings]
        if result.head.with_controls and controls.verdict != "usable":
            warnings.append(f"The control samples are {controls.verdict}: {' '.join(controls.reasons)}")
        return cls(
            result.before,
            result.after,
            np.asarray(result.changed, dtype=bool),
            tiles,
            result.comparison.sentence,
            numbers,
            warnings,
            computed_from,
            result,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "classes": [str(name) for name in self.before.classes],
            "before": plain(self.before.proba),
            "after": plain(self.after.proba),
            "changed": self.changed.astype(int).tolist(),
            "tiles": self.tiles.to_dict(),
            "sentence": self.sentence,
            "numbers": self.numbers,
            "warnings": self.warnings,
            "computed_from": self.computed_from,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Back from :meth:`to_dict`."""
        return cls(
            _prediction(data["classes"], data["before"]),
            _prediction(data["classes"], data["after"]),
            np.asarray(data["changed"], dtype=bool),
            TileRows.from_dict(data["tiles"]),
            data["sentence"],
            data["numbers"],
            data["warnings"],
            data["computed_from"],
        )


def plain(value: Any) -> Any:
    """Plain values for JSON: arrays as lists, dataclasses as mappings, what is not finite as ``None``."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if hasattr(value, "to_dict") and hasattr(value, "columns"):  # a data frame
        return plain(value.to_dict("list"))
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(one) for one in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)


def _prediction(classes: list[str], rows: list[list[float | None]]) -> Prediction:
    from napari_batchfx.adapt import Prediction

    proba = np.array([[np.nan if v is None else v for v in row] for row in rows], dtype=np.float64)
    return Prediction.from_proba(tuple(classes), proba.reshape(-1, len(classes)))
