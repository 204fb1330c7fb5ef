"""Staining conditions to simulate: another laboratory's stain as numbers that are documented."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from napari_batchfx.errors import StainError
from napari_batchfx.stain.estimate import StainEstimate

if TYPE_CHECKING:
    from napari_batchfx.slides import Slide

__all__ = [
    "CONDITIONS",
    "StainingCondition",
    "condition_from",
    "load_conditions",
    "save_conditions",
]

_FORMAT = "napari-batchfx staining conditions"


@dataclass(frozen=True, eq=False)
class StainingCondition:
    """The look of one way of staining and scanning.

    Parameters
    ----------
    id : str
        Short name, for files and the command line.
    label : str
        What people call it.
    matrix : float64 (2, 3)
        Unit vectors of haematoxylin and eosin in optical density.
    intensity : float64 (2,)
        95th percentile of each stain's concentrations above 0.1.
    origin : str
        Where the numbers come from.

    Examples
    --------
    >>> [one.id for one in CONDITIONS]
    ['low-intensity', 'high-intensity', 'low-similarity', 'high-similarity']
    """

    id: str
    label: str
    matrix: npt.NDArray[np.float64]
    intensity: npt.NDArray[np.float64]
    origin: str

    def __post_init__(self) -> None:
        matrix = np.array(self.matrix, np.float64)
        intensity = np.array(self.intensity, np.float64)
        sound = matrix.shape == (2, 3) and intensity.shape == (2,)
        sound = sound and bool(np.isfinite(matrix).all() and np.isfinite(intensity).all())
        if sound:
            lengths = np.linalg.norm(matrix, axis=1)
            sound = bool((intensity > 0).all() and (lengths > 1e-6).all())
        if sound:
            if np.abs(lengths - 1.0).max() > 1e-12:  # so that what was written reads back bit for bit
                matrix = matrix / lengths[:, None]
            sound = abs(float(matrix[0] @ matrix[1])) < 0.9994  # 2 degrees apart
        if not sound:
            raise StainError(
                f"The staining condition {self.id!r} needs two different stain vectors of three numbers and "
                "two intensities above 0."
            )
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "intensity", intensity)

    @property
    def angle_deg(self) -> float:
        """Angle between haematoxylin and eosin: large where their colours are easily told apart."""
        return float(np.degrees(np.arccos(np.clip(self.matrix[0] @ self.matrix[1], -1.0, 1.0))))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "id": self.id,
            "label": self.label,
            "matrix": self.matrix.tolist(),
            "intensity": self.intensity.tolist(),
            "origin": self.origin,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> StainingCondition:
        """Read what :meth:`to_dict` wrote.

        Raises
        ------
        StainError
            If the values don't describe a condition.
        """
        try:
            return cls(
                str(values["id"]),
                str(values.get("label", values["id"])),
                np.asarray(values["matrix"], np.float64),
                np.asarray(values["intensity"], np.float64),
                str(values.get("origin", "")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise StainError(
                f"These values don't describe a staining condition ({error}); it has id, matrix and "
                "intensity."
            ) from error


#: Four conditions as in the protocol. Its own library (PLISM slides) may not be passed on, so these are the
#: extremes among open images, measured with the same density estimate (benchmarks/stain/conditions.py).
CONDITIONS: Final[tuple[StainingCondition, ...]] = (
    StainingCondition(
        "low-intensity",
        "pale stain",
        np.array([[0.5680, 0.7238, 0.3918], [0.2672, 0.7980, 0.5402]]),
        np.array([1.279, 0.638]),
        "template2.png of HistoQC (Clear BSD licence), one tile of 448 px; density estimate",
    ),
    StainingCondition(
        "high-intensity",
        "strong stain",
        np.array([[0.5815, 0.7614, 0.2866], [0.3640, 0.8835, 0.2949]]),
        np.array([3.328, 1.905]),
        "Camelyon17 (CC0), patient 116, node 2: median of 64 tiles of 448 px; density estimate",
    ),
    StainingCondition(
        "low-similarity",
        "colours far apart",
        np.array([[0.6251, 0.6810, 0.3813], [0.1884, 0.8376, 0.5127]]),
        np.array([2.630, 1.701]),
        "CMU-1-Small-Region of OpenSlide's test data (CC0): median of 19 tiles of 448 px; density estimate",
    ),
    StainingCondition(
        "high-similarity",
        "colours close together",
        np.array([[0.5313, 0.7387, 0.4147], [0.4102, 0.7552, 0.5113]]),
        np.array([2.758, 1.372]),
        "Camelyon17 (CC0), patient 101, node 4: median of 64 tiles of 448 px; density estimate",
    ),
)


def condition_from(source: Slide | npt.ArrayLike, id: str, label: str = "") -> StainingCondition:
    """The staining condition of a slide or an image of your own.

    Parameters
    ----------
    source : Slide or uint8 (h, w, 3)
        A slide is measured on ten random tiles (:func:`density_slide`).
    id, label : str
        What to call it.

    Returns
    -------
    StainingCondition

    Raises
    ------
    StainError
        If the stain can't be estimated.

    Examples
    --------
    >>> amounts = np.random.default_rng(0).gamma(1.5, 0.4, (128, 128, 2))
    >>> image = (240 * np.exp(-amounts @ CONDITIONS[0].matrix)).astype(np.uint8)
    >>> condition_from(image, "mine").origin
    'own image, 16,384 pixels'
    """
    from napari_batchfx.stain.density import density_estimate, density_slide

    if hasattr(source, "pyramid"):
        slide: Any = source
        found: StainEstimate = density_slide(slide)
        origin = f"own slide ({found.origin.removeprefix('slide, ')})"
    else:
        image = np.asarray(source)
        found = density_estimate(image)
        origin = f"own image, {image.size // 3:,} pixels"
    return StainingCondition(id, label or id, found.matrix, found.max_concentration, origin)


def save_conditions(conditions: Sequence[StainingCondition], path: Path | str) -> Path:
    """Write conditions as JSON; :func:`load_conditions` reads them.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> file = save_conditions(CONDITIONS, pathlib.Path(tempfile.mkdtemp()) / "conditions.json")
    >>> len(load_conditions(file))
    4
    """
    values = {"format": _FORMAT, "version": 1, "conditions": [one.to_dict() for one in conditions]}
    Path(path).write_text(json.dumps(values, indent=1), encoding="utf-8")
    return Path(path)


def load_conditions(path: Path | str) -> tuple[StainingCondition, ...]:
    """Read conditions from JSON, or the protocol's published library from its folder.

    Parameters
    ----------
    path : path
        A JSON file of :func:`save_conditions`; or the folder of the published library, with
        ``stain_vectors/NAME_median.npz`` and ``intensities/median_intensities_per_condition.csv`` in it.

    Returns
    -------
    tuple of StainingCondition

    Raises
    ------
    StainError
        If the file or folder isn't one of these; the sentence says what is missing.

    References
    ----------
    Schönpflug et al. 2026; data set CTPLab-DBE-UniBas/staining-robustness-evaluation, folder
    plism-wsi_stain_references.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> file = save_conditions(CONDITIONS[:1], pathlib.Path(tempfile.mkdtemp()) / "mine.json")
    >>> load_conditions(file)[0].label
    'pale stain'
    """
    path = Path(path)
    try:
        found = _published(path) if path.is_dir() else _json(path)
    except (OSError, ValueError) as error:
        raise StainError(f"{path.name}: the staining conditions can't be read ({error}).") from error
    if not found:
        raise StainError(f"{path.name}: there are no staining conditions in it.")
    return found


def _json(path: Path) -> tuple[StainingCondition, ...]:
    values = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict) or values.get("format") != _FORMAT:
        raise StainError(
            f"{path.name}: this JSON holds no staining conditions; write it with save_conditions."
        )
    return tuple(StainingCondition.from_dict(one) for one in values.get("conditions", ()))


def _published(folder: Path) -> tuple[StainingCondition, ...]:
    tables = sorted(folder.glob("**/median_intensities_per_condition.csv"))
    vectors = sorted(folder.glob("**/*_median.npz"))
    if not tables or not vectors:
        raise StainError(
            f"{folder.name}: a folder of published conditions holds intensities/"
            "median_intensities_per_condition.csv and stain_vectors/*_median.npz; these were not found."
        )
    with tables[0].open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"H_95th", "E_95th"} <= set(rows[0]):
        raise StainError(f"{tables[0].name}: the columns H_95th and E_95th were not found in it.")
    name_of = next(key for key in rows[0] if key not in ("H_95th", "E_95th"))
    intensities = {_plain(row[name_of]): (float(row["H_95th"]), float(row["E_95th"])) for row in rows}
    found = []
    for file_ in vectors:
        name = file_.name.removesuffix("_median.npz")
        if _plain(name) not in intensities:
            continue
        with np.load(file_, allow_pickle=False) as arrays:
            shaped = [arrays[key] for key in arrays.files if arrays[key].shape in ((3, 3), (3, 2))]
        if not shaped:
            raise StainError(f"{file_.name}: there is no 3 x 3 stain matrix in it.")
        # Stains lie in its columns.
        matrix = np.asarray(shaped[0], np.float64)[:, :2].T
        intensity = np.array(intensities[_plain(name)])
        found.append(
            StainingCondition(name, name.replace("_", " "), matrix, intensity, "published library (PLISM)")
        )
    return tuple(found)


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
