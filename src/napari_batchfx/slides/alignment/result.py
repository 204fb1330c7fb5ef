"""How one slide lies on another: a 3 x 3 matrix in micrometres, and how far it can be trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_batchfx.errors import SlideError

__all__ = ["MODELS", "Alignment", "Method", "Model", "Verdict"]

Model: TypeAlias = Literal["translation", "similarity", "affine"]
Method: TypeAlias = Literal["auto", "points", "file"]
Verdict: TypeAlias = Literal["good", "uncertain", "failed"]
MODELS: tuple[Model, ...] = ("translation", "similarity", "affine")
_VERDICTS: tuple[Verdict, ...] = ("good", "uncertain", "failed")
_METHODS: tuple[Method, ...] = ("auto", "points", "file")


@dataclass(frozen=True, eq=False)
class Alignment:
    """How slide b lies on slide a.

    Parameters
    ----------
    affine_um : float64 (3, 3)
        On (y, x, 1): b's micrometres to a's, each from the slide's outer top-left corner.
    residual_um : float
        Median distance left, micrometres: of windows that the fit did not see ("auto"), of the point pairs
        themselves ("points"); NaN where nothing was measured ("file").
    correlation : float
        Pearson's correlation of the two grey optical densities over the overlap, -1..1; NaN where it was not
        measured.
    verdict : str
        "good", "uncertain" or "failed" (see :func:`register`).
    n_windows : int
        Windows, or point pairs, behind ``residual_um``.
    model : str
        "translation", "similarity" (turn, scale, shift, mirror) or "affine".
    method : str
        "auto", "points" (by hand) or "file".

    Examples
    --------
    >>> quarter = Alignment([[0, -1, 300.0], [1, 0, 0.0], [0, 0, 1]], 0.4, 0.9, "good", 30)
    >>> round(quarter.rotation_deg), round(quarter.scale, 3), quarter.is_mirrored
    (90, 1.0, False)
    >>> Alignment.from_dict(quarter.to_dict()).shift_um
    (300.0, 0.0)
    """

    affine_um: NDArray[np.float64]
    residual_um: float
    correlation: float
    verdict: Verdict
    n_windows: int = 0
    model: Model = "similarity"
    method: Method = "auto"

    def __init__(
        self,
        affine_um: ArrayLike,
        residual_um: float,
        correlation: float,
        verdict: Verdict,
        n_windows: int = 0,
        model: Model = "similarity",
        method: Method = "auto",
    ) -> None:
        matrix = np.array(affine_um, dtype=np.float64)
        if (
            matrix.shape != (3, 3)
            or not np.isfinite(matrix).all()
            or abs(np.linalg.det(matrix[:2, :2])) < 1e-9
        ):
            raise SlideError("An alignment is an invertible 3 x 3 matrix of finite numbers.")
        if not np.allclose(matrix[2], (0, 0, 1)):
            raise SlideError("An alignment's last row is 0, 0, 1; this matrix has a perspective.")
        if verdict not in _VERDICTS or model not in MODELS or method not in _METHODS:
            raise SlideError(f"No alignment is called {verdict!r:.30}, {model!r:.30}, {method!r:.30}.")
        matrix[2] = 0, 0, 1
        matrix.setflags(write=False)
        values = (matrix, float(residual_um), float(correlation), verdict, int(n_windows), model, method)
        for name, value in zip(self.__dataclass_fields__, values, strict=True):
            object.__setattr__(self, name, value)

    @classmethod
    def none_found(cls, model: Model = "similarity", correlation: float = 0.0) -> Alignment:
        """The identity with the verdict "failed"."""
        return cls(np.eye(3), math.nan, correlation, "failed", 0, model)

    @property
    def shift_um(self) -> tuple[float, float]:
        """Where b's top-left corner lies on a, (y, x) in micrometres."""
        return float(self.affine_um[0, 2]), float(self.affine_um[1, 2])

    @property
    def is_mirrored(self) -> bool:
        """Whether b shows the tissue from its other side."""
        return bool(np.linalg.det(self.affine_um[:2, :2]) < 0)

    @property
    def scale(self) -> float:
        """Length on a over length on b (the mean of both directions)."""
        return float(math.sqrt(abs(np.linalg.det(self.affine_um[:2, :2]))))

    @property
    def rotation_deg(self) -> float:
        """Turn of b, -180..180 degrees, counter-clockwise on the screen, after the flip if there is one."""
        u, _, vt = np.linalg.svd(self.affine_um[:2, :2])
        turn = u @ vt
        return float(math.degrees(math.atan2(turn[1, 0], turn[0, 0])))

    def apply(self, points_um: ArrayLike) -> NDArray[np.float64]:
        """Positions on b, (n, 2) of (y, x) in micrometres, as positions on a."""
        points = np.asarray(points_um, dtype=np.float64).reshape(-1, 2)
        return np.asarray(points @ self.affine_um[:2, :2].T + self.affine_um[:2, 2])

    def sentence(self) -> str:
        """Say it in words."""
        if self.verdict == "failed":
            return "No alignment found: the slides show different tissue, or too little that both show."
        y, x = self.shift_um
        if self.model == "translation" or (
            abs(self.rotation_deg) < 0.005 and abs(self.scale - 1) < 1e-4 and not self.is_mirrored
        ):
            how = f"Shifted by {_plain(y, 1)} µm down and {_plain(x, 1)} µm right"
        else:
            how = f"Turned by {_plain(self.rotation_deg, 2)}°"
            how += " and mirrored" if self.is_mirrored else ""
            how += f", scaled by {self.scale:.4f}" if abs(self.scale - 1) >= 5e-5 else ""
            how += f"; its corner lies {_plain(y, 1)} µm down and {_plain(x, 1)} µm right"
        doubt = "" if self.verdict == "good" else " Check it by eye before you compare tiles."
        return f"{how}; {self._left()}.{doubt}"

    def _left(self) -> str:
        if math.isnan(self.residual_um):
            return "what is left apart was not measured"
        if self.method == "points" and math.isnan(self.correlation):  # what windows saw has a correlation
            pairs = f"the {self.n_windows} point pairs"
            return f"{pairs} lie {self.residual_um:.1f} µm apart (median, fitted to them)"
        return f"what is left apart is about {self.residual_um:.1f} µm (median)"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what was not measured is None."""
        return {
            "format": "napari-batchfx alignment",
            "affine_um": self.affine_um.tolist(),
            "residual_um": None if math.isnan(self.residual_um) else self.residual_um,
            "correlation": None if math.isnan(self.correlation) else self.correlation,
            "verdict": self.verdict,
            "n_windows": self.n_windows,
            "model": self.model,
            "method": self.method,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Alignment:
        """Back from :meth:`to_dict`.

        Raises
        ------
        SlideError
            If it is no such dictionary.
        """
        try:
            residual, correlation = (
                math.nan if data[key] is None else float(data[key]) for key in ("residual_um", "correlation")
            )
            verdict, model = cast(Verdict, data["verdict"]), cast(Model, data["model"])
            windows, method = int(data["n_windows"]), cast(Method, data["method"])
            return cls(data["affine_um"], residual, correlation, verdict, windows, model, method)
        except (KeyError, TypeError, ValueError) as error:
            raise SlideError(f"This is no alignment written by napari-batchfx ({error}).") from error


def _plain(value: float, digits: int) -> str:
    """The number without a sign on nothing: 0.0, not -0.0."""
    return f"{round(value, digits) + 0.0:.{digits}f}"
