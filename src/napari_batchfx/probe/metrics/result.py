"""A number and what it rests on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MetricResult", "undefined"]


@dataclass(frozen=True)
class MetricResult:
    """A metric's value with its support.

    Attributes
    ----------
    value : float
        NaN where it can't be computed; ``warnings`` says why, in its first sentence.
    support : dict
        How many tiles, groups and classes it rests on, and the figures that belong beside it.
    warnings : list of str
        What limits it, in words.
    interval : (float, float) or None
        95 % interval, where there is one; ``support["interval"]`` says of what kind.
    per_tile : float (n,) or None
        The quantity of each row of the table, for an overlay; NaN where a tile has none.
    curve : dict of int to float, or None
        The value at other choices of k.
    retention : MetricResult or None
        Biology beside batch: balanced accuracy of a vote of nearest neighbours for the class, same features.

    Examples
    --------
    >>> float(MetricResult(0.5, {"n": 3}))
    0.5
    """

    value: float
    support: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    interval: tuple[float, float] | None = None
    per_tile: NDArray[np.float64] | None = field(default=None, compare=False, repr=False)
    curve: dict[int, float] | None = None
    retention: MetricResult | None = None

    def __float__(self) -> float:
        return self.value

    @property
    def reason(self) -> str:
        """Why there is no value; empty where there is one."""
        return self.warnings[0] if np.isnan(self.value) and self.warnings else ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the one value a tile; NaN becomes ``None``."""
        out: dict[str, Any] = {"value": self.value, "interval": self.interval}
        out |= {"support": self.support, "warnings": self.warnings, "curve": self.curve}
        if self.retention is not None:
            out["retention"] = self.retention.to_dict()
        return {key: _plain(value) for key, value in out.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> MetricResult:
        """Take back what :meth:`to_dict` gave; there is no value a tile in it.

        Examples
        --------
        >>> kept = MetricResult(0.5, {"n": 3}, interval=(0.4, 0.6), curve={5: 0.5})
        >>> MetricResult.from_dict(kept.to_dict()) == kept
        True
        """
        number, interval, curve = values["value"], values.get("interval"), values.get("curve")
        retention = values.get("retention")
        return cls(
            _number(number),
            dict(values.get("support") or {}),
            [str(text) for text in values.get("warnings") or []],
            None if interval is None else (_number(interval[0]), _number(interval[1])),
            None,
            None if curve is None else {int(k): _number(v) for k, v in curve.items()},
            None if retention is None else cls.from_dict(retention),
        )


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def undefined(
    reason: str, support: dict[str, Any] | None = None, retention: MetricResult | None = None
) -> MetricResult:
    """A result without a value, and why."""
    return MetricResult(float("nan"), support or {}, [reason], retention=retention)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value
