"""The built-in reference that normalisers aim at when no target was fitted."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from napari_batchfx.stain.estimate import StainEstimate
from napari_batchfx.stain.lab import LabStatistics

__all__ = ["REFERENCE", "REFERENCE_DAB", "REFERENCE_LAB", "reference"]


def _unit(rows: list[list[float]]) -> npt.NDArray[np.float64]:
    matrix = np.array(rows)
    return np.asarray(matrix / np.linalg.norm(matrix, axis=1, keepdims=True))


#: The usual reference of Macenko's method in the field (white 240, 99th percentile); published with four
#: digits.
REFERENCE: Final = StainEstimate(
    _unit([[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581]]),
    np.array([1.9705, 1.0308]),
    "macenko",
    0,
    origin="built in",
)

#: CIELAB statistics of tissue in the look of :data:`REFERENCE`: the tissue pixels of eight Camelyon17 fields
#: (CC0) after Macenko normalisation to it, so that both methods aim at the same appearance.
REFERENCE_LAB: Final = LabStatistics(
    np.array([56.0, 21.7, -11.0]), np.array([17.8, 6.8, 6.5]), origin="built in"
)


#: Haematoxylin and DAB: the vectors of Ruifrok and Johnston (2001), with the intensities along them of the
#: Ki-67 section of OpenSlide's test data (OS-2, mean of its two scans, free to use).
REFERENCE_DAB: Final = StainEstimate(
    _unit([[0.65, 0.70, 0.29], [0.27, 0.57, 0.78]]),
    np.array([1.38, 1.91]),
    "macenko",
    0,
    kind="H-DAB",
    origin="built in",
)

#: For each method, what it finds in tissue of the look of :data:`REFERENCE`: the eight Camelyon17 fields
#: (CC0) after Macenko normalisation to it; made by benchmarks/stain/references.py.
_BY_METHOD: Final = {
    "macenko": REFERENCE,
    "vahadane": StainEstimate(
        _unit([[0.5319, 0.7330, 0.4240], [0.2632, 0.7975, 0.5430]]),
        np.array([2.1498, 1.1271]),
        "vahadane",
        origin="built in",
    ),
    "density": StainEstimate(
        _unit([[0.5352, 0.7262, 0.4314], [0.3039, 0.7795, 0.5478]]),
        np.array([2.0513, 1.1420]),
        "density",
        origin="built in",
    ),
    "ruifrok": StainEstimate(
        _unit([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]]),
        np.array([2.0162, 0.5526]),
        "ruifrok",
        origin="built in",
    ),
}


def reference(method: str, kind: str = "H&E") -> StainEstimate:
    """The built-in target of a method with stain vectors.

    Parameters
    ----------
    method : str
        Id of the method.
    kind : {"H&E", "H-DAB"}
        What the slide is stained with.

    Returns
    -------
    StainEstimate

    Examples
    --------
    >>> reference("macenko", "H-DAB").stains
    ('haematoxylin', 'DAB')
    """
    if kind == "H-DAB":
        return replace(REFERENCE_DAB, method=method)
    return _BY_METHOD[method]
