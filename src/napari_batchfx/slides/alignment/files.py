"""Alignments as files: our own JSON, a plain matrix, elastix and VALIS."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_batchfx.errors import SlideError
from napari_batchfx.slides.alignment.checking import check_alignment
from napari_batchfx.slides.alignment.elastix import elastix_unit, is_elastix, read_elastix
from napari_batchfx.slides.alignment.result import Alignment, Model
from napari_batchfx.slides.slide import Slide

__all__ = ["read_alignment", "write_alignment"]

Matrix = NDArray[np.float64]

MOST_BYTES = 1_000_000
SWAP = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1.0]])
_PICKLES = (".pickle", ".pkl", ".p", ".joblib")


def read_alignment(path: str | Path, a: Slide, b: Slide) -> Alignment:
    r"""Read how slide b lies on slide a from a file, and measure how well that fits.

    Parameters
    ----------
    path : path
        One of

        - what :func:`write_alignment` wrote (JSON);
        - a plain matrix: JSON ``{"matrix": [[...], [...], [0, 0, 1]], "units": "um" or "px", "axes": "xy" or
          "yx"}``, or three lines of CSV under a line ``# units=px axes=xy``. It takes b's positions to a's;
          px are level-0 pixels from the outer top-left corner;
        - elastix ``TransformParameters.*.txt`` with a as the fixed and b as the moving image: a 2-D
          translation, Euler, similarity or affine transform;
        - JSON that a short script writes from a VALIS registrar, see ``docs/methods/alignment.md``. The
          registrar itself is a pickle and never loaded.
    a, b : Slide
        With known pixel sizes.

    Returns
    -------
    Alignment
        As :func:`check_alignment` judges it on these two slides, whatever the file says of its residual and
        verdict; ``method`` is "file" (our own files keep theirs, and one that says "failed" stays failed).

    Raises
    ------
    SlideError
        If the file isn't one of these, or is about slides of other sizes.

    Examples
    --------
    >>> from pathlib import Path
    >>> from napari_batchfx.slides import open_slide, write_pyramid
    >>> _ = Path("shift.csv").write_text("# units=um axes=yx\n1,0,30\n0,1,-20\n0,0,1\n")
    >>> _ = write_pyramid("a.tif", np.full((300, 400, 3), 200, np.uint8), mpp=0.5, compression="deflate")
    >>> with open_slide("a.tif") as a, open_slide("a.tif") as b:
    ...     found = read_alignment("shift.csv", a, b)
    >>> found.shift_um, found.method
    ((30.0, -20.0), 'file')
    """
    path = Path(path)
    for slide in (a, b):
        slide.extent_um  # noqa: B018 - says so where there is no pixel size
    text = _text(path)
    if is_elastix(text):
        return check_alignment(a, b, _from_elastix(text, path.name, a))
    if path.suffix.lower() == ".json" or text.lstrip().startswith("{"):
        data = _json(text, path.name)
        if str(data.get("format", "")).startswith("napari-batchfx"):
            return _own(data, a, b, path.name)
        if data.get("format") == "valis":
            return check_alignment(a, b, _file(_valis(data, a, b, path.name), "affine", path.name))
        matrix = _in_um(data.get("matrix"), data, a, b, path.name)
        return check_alignment(a, b, _file(matrix, "affine", path.name))
    return check_alignment(a, b, _file(_csv(text, a, b, path.name), "affine", path.name))


def write_alignment(path: str | Path, alignment: Alignment) -> Path:
    """Write an alignment as JSON that :func:`read_alignment` reads.

    Examples
    --------
    >>> write_alignment("found.json", Alignment.none_found()).name
    'found.json'
    """
    path = Path(path)
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_text(json.dumps(alignment.to_dict(), indent=1) + "\n", encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise SlideError(
            f"{path.name}: the alignment can't be written ({error.strerror}); choose another place."
        ) from error
    return path


def _text(path: Path) -> str:
    name = path.name
    if path.suffix.lower() in _PICKLES:
        raise SlideError(
            f"{name}: a pickle can run anything and is never loaded; write JSON from it with the "
            "script in the documentation of alignment."
        )
    try:
        if path.stat().st_size > MOST_BYTES:
            raise SlideError(f"{name}: it is too large for an alignment; choose the small text file.")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SlideError(f"{name}: it is no text file; choose the file with the matrix.") from error
    except OSError as error:
        raise SlideError(f"{name}: the file can't be read ({error.strerror}).") from error


def _json(text: str, name: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SlideError(f"{name}: the JSON is damaged ({error}).") from error
    if not isinstance(data, dict):
        raise SlideError(f'{name}: the JSON has no "matrix" with "units" and "axes".')
    return data


def _own(data: Mapping[str, Any], a: Slide, b: Slide, name: str) -> Alignment:
    """Our own file: the matrix and how it was made; how well it fits is seen on the slides at hand."""
    try:
        known = Alignment.from_dict(data)
    except SlideError as error:
        raise SlideError(f"{name}: {error}") from error
    if known.verdict == "failed":
        return known
    nan = float("nan")
    told = Alignment(known.affine_um, nan, nan, "uncertain", 0, known.model, known.method)
    return check_alignment(a, b, told)


def _file(matrix: Matrix, model: Model, name: str) -> Alignment:
    try:
        return Alignment(matrix, float("nan"), float("nan"), "uncertain", 0, model, "file")
    except SlideError as error:
        raise SlideError(f"{name}: {error}") from error


def _matrix(values: Any, name: str) -> Matrix:
    try:
        matrix = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise SlideError(f"{name}: the matrix isn't made of numbers.") from error
    if matrix.shape == (2, 3):
        matrix = np.vstack([matrix, [0, 0, 1]])
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
        raise SlideError(f"{name}: a matrix of 3 x 3 finite numbers is wanted.")
    return matrix


def _in_um(values: Any, said: Mapping[str, Any], a: Slide, b: Slide, name: str) -> Matrix:
    units, axes = said.get("units"), said.get("axes")
    if units not in ("um", "px") or axes not in ("xy", "yx"):
        raise SlideError(
            f'{name}: say what the numbers mean: units "um" or "px" (level-0 pixels), axes "xy" or "yx".'
        )
    matrix = _matrix(values, name)
    matrix = SWAP @ matrix @ SWAP if axes == "xy" else matrix
    if units == "px":
        matrix = _sized(a) @ matrix @ np.linalg.inv(_sized(b))
    return np.asarray(matrix, dtype=np.float64)


def _sized(slide: Slide) -> Matrix:
    """Level-0 pixels to micrometres, on (y, x, 1)."""
    return np.diag([*slide.level_mpp(0), 1.0])


def _csv(text: str, a: Slide, b: Slide, name: str) -> Matrix:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    heads = " ".join(line.lstrip("# ") for line in lines if line.startswith("#"))
    said = dict(part.split("=", 1) for part in heads.replace(",", " ").split() if "=" in part)
    rows = list(csv.reader(line for line in lines if not line.startswith("#")))
    if len(rows) not in (2, 3):
        raise SlideError(
            f'{name}: neither JSON, nor elastix, nor three lines of a matrix under "# units=um axes=yx".'
        )
    return _in_um(rows, said, a, b, name)


def _from_elastix(text: str, name: str, a: Slide) -> Alignment:
    matrix, model = read_elastix(text, name)
    unit, half = elastix_unit(text, name, a)
    # physical positions count from the first pixel's centre, ours from its outer corner
    place = np.array([[unit, 0, half[0]], [0, unit, half[1]], [0, 0, 1.0]])
    fixed_to_moving = place @ matrix @ np.linalg.inv(place)
    if abs(np.linalg.det(fixed_to_moving[:2, :2])) < 1e-9:
        raise SlideError(f"{name}: the transform can't be inverted.")
    return _file(np.asarray(np.linalg.inv(fixed_to_moving)), model, name)


def _valis(data: Mapping[str, Any], a: Slide, b: Slide, name: str) -> Matrix:
    """B's pixels to VALIS' working image, to the common frame (inverse of M), and back down to a's pixels."""
    slides = data.get("slides")
    known = {str(s.get("name")): s for s in slides if isinstance(s, dict)} if isinstance(slides, list) else {}
    ways: list[Matrix] = []
    for slide in (a, b):
        entry = known.get(slide.name) or known.get(slide.name.replace(" ", "_")) or known.get(slide.path.stem)
        if entry is None:
            there = ", ".join(list(known)[:8]) or "none"
            raise SlideError(f"{name}: it has no slide called {slide.name}; there are {there}.")
        small, full = (_shape(entry.get(k), name) for k in ("processed_img_shape_rc", "slide_shape_rc"))
        if np.abs(full / slide.shape - 1).max() > 0.02:
            raise SlideError(
                f"{name}: {slide.name} has {slide.shape[0]} x {slide.shape[1]} px, not the "
                f"{full[0]:.0f} x {full[1]:.0f} px that VALIS saw."
            )
        matrix = SWAP @ _matrix(entry.get("M"), name) @ SWAP
        if abs(np.linalg.det(matrix[:2, :2])) < 1e-9:
            raise SlideError(f"{name}: the matrix of {slide.name} can't be inverted.")
        ways.append(np.diag([*(full / small), 1.0]) @ matrix)
    result: Matrix = _sized(a) @ ways[0] @ np.linalg.inv(ways[1]) @ np.linalg.inv(_sized(b))
    return result


def _shape(value: ArrayLike | None, name: str) -> NDArray[np.float64]:
    try:
        shape = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise SlideError(f"{name}: a shape isn't two numbers.") from error
    if shape.shape != (2,) or not (shape > 0).all():
        raise SlideError(f"{name}: a shape isn't two numbers above 0 (rows, columns).")
    return shape
