"""Transform parameter files of elastix: 2-D translation, Euler, similarity and affine transforms."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import SlideError
from napari_batchfx.slides.alignment.result import Model
from napari_batchfx.slides.slide import Slide

__all__ = ["elastix_unit", "is_elastix", "read_elastix"]

Matrix = NDArray[np.float64]

_LINE = re.compile(r"^\s*\((\S+)\s+(.*?)\)\s*$")
_MODELS: dict[str, Model] = {
    "TranslationTransform": "translation",
    "EulerTransform": "similarity",
    "SimilarityTransform": "similarity",
    "AffineTransform": "affine",
}
NONE = "NoInitialTransform"


def is_elastix(text: str) -> bool:
    """Whether a text is a transform parameter file."""
    return "(Transform " in text and "(TransformParameters" in text


def read_elastix(text: str, name: str) -> tuple[Matrix, Model]:
    """The matrix of a transform parameter file, from the fixed image's points to the moving image's.

    elastix computes T(x) = A (x - c) + t + c on points (x, y) in physical units, from the fixed to the moving
    image, which is the way resampling needs; the parameters are
    Translation t; Euler (angle, t); Similarity (scale, angle, t); Affine (A row by row, t). (elastix manual
    5.2, section 2.6.)

    Returns
    -------
    matrix : float64 (3, 3)
        On (y, x, 1), fixed to moving, in the file's units; points are measured from the middle of the first
        pixel where the file's origin is 0.
    model : str

    Raises
    ------
    SlideError
        If the transform is of another kind or dimension, or builds on another file.
    """
    values = _values(text)
    kind = values.get("Transform", "").strip('"')
    if kind not in _MODELS:
        raise SlideError(
            f"{name}: a {kind or 'nameless'} of elastix can't be read; write a translation, Euler, "
            "similarity or affine transform."
        )
    for key in ("FixedImageDimension", "MovingImageDimension"):
        if values.get(key, "2").split() != ["2"]:
            raise SlideError(f"{name}: the transform isn't between 2-D images.")
    earlier = values.get(
        "InitialTransformParametersFileName", values.get("InitialTransformParameterFileName", NONE)
    )
    if earlier.strip('"') != NONE:
        raise SlideError(
            f"{name}: it builds on another file ({earlier.strip(chr(34))[-60:]}); let elastix write one "
            "transform in one file."
        )
    direction = _numbers(values, "Direction", name, 4, "1 0 0 1")
    if direction != [1.0, 0.0, 0.0, 1.0]:
        raise SlideError(
            f"{name}: the fixed image is turned in space (Direction); only upright images are read."
        )
    wanted = {"TranslationTransform": 2, "EulerTransform": 3, "SimilarityTransform": 4, "AffineTransform": 6}[
        kind
    ]
    p = _numbers(values, "TransformParameters", name, wanted)
    centre = np.array(_numbers(values, "CenterOfRotationPoint", name, 2, "0 0"))
    if kind == "TranslationTransform":
        linear, shift, centre = np.eye(2), np.array(p), np.zeros(2)
    elif kind == "AffineTransform":
        linear, shift = np.array(p[:4]).reshape(2, 2), np.array(p[4:])
    else:
        scale, angle, *rest = ([1.0] if kind == "EulerTransform" else []) + p
        c, s = np.cos(angle), np.sin(angle)
        linear, shift = scale * np.array([[c, -s], [s, c]]), np.array(rest)
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[:2, 2] = shift + centre - linear @ centre
    swap = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1.0]])
    return swap @ matrix @ swap, _MODELS[kind]


def _values(text: str) -> dict[str, str]:
    found = (_LINE.match(line.split("//")[0]) for line in text.splitlines())
    return {match[1]: match[2] for match in found if match}


def _numbers(
    values: Mapping[str, str], key: str, name: str, n: int, default: str | None = None
) -> list[float]:
    text = values.get(key, default)
    try:
        numbers = [float(v) for v in (text or "").split()]
    except ValueError as error:
        raise SlideError(f"{name}: {key} isn't made of numbers.") from error
    if len(numbers) != n:
        raise SlideError(f"{name}: {key} has {len(numbers)} numbers, not {n}.")
    return numbers


def elastix_unit(text: str, name: str, fixed: Slide) -> tuple[float, tuple[float, float]]:
    """Micrometres a unit of the file, and the offset (y, x) in um from its positions to the slide's corner.

    The fixed image is slide a, at whatever reduction: its Size times Spacing has to measure what the slide
    measures, in micrometres or in millimetres. The moving image is taken to be written the same way (same
    unit, Origin and about the same Spacing: these aren't in the file).

    Raises
    ------
    SlideError
        If it measures something else: images written without their pixel size.
    """
    values = _values(text)
    width, height = _numbers(values, "Size", name, 2)
    spacing = _numbers(values, "Spacing", name, 2, "1 1")
    origin = _numbers(values, "Origin", name, 2, "0 0")
    extent = np.array(fixed.extent_um)
    measured = np.array([height * spacing[1], width * spacing[0]])
    for unit in (1.0, 1000.0):
        if np.abs(measured * unit / extent - 1).max() < 0.03:
            y, x = ((0.5 * s - o) * unit for s, o in zip(spacing[::-1], origin[::-1], strict=True))
            return unit, (float(y), float(x))
    raise SlideError(
        f"{name}: its fixed image measures {measured[0]:.6g} x {measured[1]:.6g}, {fixed.name} "
        f"{extent[0]:.6g} x {extent[1]:.6g} µm; give elastix images with their pixel size in µm or mm."
    )
