"""A slide as the study knows it: where it is, what it is, and what the user said about it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator

__all__ = ["IDENTITY", "AlignmentRecord", "SlideEntry"]

Row: TypeAlias = tuple[float, float, float]
Affine: TypeAlias = tuple[Row, Row, Row]
Micrometres: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]

IDENTITY: Affine = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


class AlignmentRecord(BaseModel):
    """How a slide came to lie on another one, kept beside its ``affine_um``.

    Attributes
    ----------
    reference : str
        Name of the slide it was laid on.
    method : str
        "auto", "points" (by hand) or "file".
    model : str
        "translation", "similarity" or "affine".
    residual_um : float or None
        Median distance left, micrometres; None where it could not be measured.
    correlation : float
        Pearson's correlation of the grey optical densities over the overlap.
    verdict : str
        "good", "uncertain" or "failed".
    n_windows : int
        Windows or point pairs behind the residual.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    reference: str
    method: Literal["auto", "points", "file"] = "auto"
    model: Literal["translation", "similarity", "affine"] = "similarity"
    residual_um: float | None = None
    correlation: float = 0.0
    verdict: Literal["good", "uncertain", "failed"] = "good"
    n_windows: int = 0


class SlideEntry(BaseModel):
    """One slide of a study.

    ``name`` and ``fingerprint`` are changed by the study only (:meth:`Study.update_slide`), because labels
    refer to the name and
    features to the fingerprint.

    Attributes
    ----------
    name : str
        Unique in the study; the file's name unless the user gave another.
    path : Path
        Where the file is now (absolute; ``study.json`` keeps it relative to the study's folder).
    fingerprint : str
        Identity of the content, 32 hexadecimal digits.
    size_bytes : int
        Size of the file, for a quick look whether it changed.
    site, scanner, stain, patient : str
        What the user, or the file, says; empty = unknown.
    mpp_given : tuple of float or None
        Micrometres a pixel (y, x) that the user gave where the file has none or a wrong one.
    affine_um : tuple of tuple of float
        3 x 3 matrix on (y, x, 1): this slide's micrometres to the study's common ones (alignment).
    alignment : AlignmentRecord or None
        How ``affine_um`` was found and how well it fits; None where it wasn't.
    earlier_affines : list of (affine, AlignmentRecord or None)
        What was set before, oldest first, for taking an alignment back.
    label : str
        Class of the whole slide: that of its tiles where no region says otherwise.
    more : dict of str to str
        Further columns of the table the slide came with; kept, and in no table or report.
    icc : str
        Colour profile: "off" (pixels as stored), "auto" (to sRGB where the file has a profile) or "on" (to
        sRGB, refused where it has none).
    """

    model_config = ConfigDict(validate_assignment=True, extra="forbid")

    name: str = Field(min_length=1, frozen=True)
    path: Path
    fingerprint: str = Field(min_length=1, frozen=True)
    size_bytes: int = Field(default=0, ge=0)
    site: str = ""
    scanner: str = ""
    stain: str = ""
    patient: str = ""
    label: str = ""
    more: dict[str, str] = Field(default_factory=dict)
    mpp_given: tuple[Micrometres, Micrometres] | None = None
    affine_um: Affine = IDENTITY
    alignment: AlignmentRecord | None = None
    earlier_affines: list[tuple[Affine, AlignmentRecord | None]] = Field(default_factory=list)
    icc: Literal["off", "auto", "on"] = "off"

    @field_validator("affine_um")
    @classmethod
    def _is_affine(cls, value: Affine) -> Affine:
        (a, b, _), (c, d, _), last = value
        if last != (0.0, 0.0, 1.0) or not abs(a * d - b * c) > 0:
            raise ValueError("affine_um must be an invertible 3 x 3 matrix with the last row 0, 0, 1")
        return value

    @property
    def is_aligned(self) -> bool:
        """Whether an alignment other than the identity is set."""
        return self.affine_um != IDENTITY
