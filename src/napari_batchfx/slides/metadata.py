"""What a slide's file says about the scan: pixel size and its source, vendor, scanner, date."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from napari_batchfx.errors import SlideError

__all__ = [
    "MODALITIES",
    "MPP_RANGE",
    "MPP_SOURCES",
    "SlideMetadata",
    "given_mpp",
    "mpp_from_objective",
    "plausible_mpp",
]

#: Pixel sizes (micrometres) that a slide scanner can have; anything else in a TIFF's resolution is a
# printer's dpi.
MPP_RANGE = (0.05, 20.0)
MPP_SOURCES = ("file", "tiff resolution", "given", "objective power (estimate)", "unknown")
MODALITIES = ("brightfield", "fluorescence")


@dataclass(frozen=True)
class SlideMetadata:
    """Facts read from a file; ``None`` where it doesn't say.

    Parameters
    ----------
    mpp : (float, float) or None
        Micrometres a pixel of level 0, (y, x).
    mpp_source : str
        One of ``MPP_SOURCES``.
    vendor, scanner, scanner_serial : str or None
        Who made the scanner, its model, its serial number.
    objective_power : float or None
        Magnification the vendor states (20, 40).
    icc_profile : bytes or None
        Colour profile as stored.
    scan_date : str or None
        When it was scanned, ISO 8601: "2009-12-29T09:59:15", or the date alone.
    modality : str
        One of ``MODALITIES``.
    private : dict of str to str
        What could name a patient or a person (barcode, file name at the scanner, user, accession number).
        No ``repr``, table or export holds it.

    Examples
    --------
    >>> SlideMetadata(scanner="S360", private={"barcode": "S09-1234"})
    SlideMetadata(mpp=None, mpp_source='unknown', vendor=None, scanner='S360', scanner_serial=None, \
objective_power=None, scan_date=None, modality='brightfield')
    """

    mpp: tuple[float, float] | None = None
    mpp_source: str = "unknown"
    vendor: str | None = None
    scanner: str | None = None
    scanner_serial: str | None = None
    objective_power: float | None = None
    icc_profile: bytes | None = field(default=None, repr=False)
    scan_date: str | None = None
    modality: str = "brightfield"
    private: dict[str, str] = field(default_factory=dict, repr=False)


def plausible_mpp(y: float | None, x: float | None) -> tuple[float, float] | None:
    """Return (y, x) if both are pixel sizes that a slide can have, else ``None``."""
    if y is None or x is None:
        return None
    low, high = MPP_RANGE
    ok = all(math.isfinite(v) and low <= v <= high for v in (y, x))
    return (float(y), float(x)) if ok else None


def given_mpp(name: str, mpp: float | tuple[float, float]) -> tuple[float, float]:
    """Return a pixel size that the user gave, one number or (y, x), as (y, x).

    Raises
    ------
    SlideError
        If it is no size that slide ``name`` can have.
    """
    try:
        y, x = map(float, (mpp, mpp) if isinstance(mpp, (int, float)) else mpp)
    except (TypeError, ValueError) as error:
        raise SlideError(
            f"{name}: {mpp!r:.60} is no pixel size; give micrometres a pixel, one number or (y, x)."
        ) from error
    found = plausible_mpp(y, x)
    if found is None:
        raise SlideError(f"{name}: a pixel size of {y:g} x {x:g} µm isn't plausible; give 0.05 to 20 µm.")
    return found


def mpp_from_objective(power: float | None) -> tuple[float, float] | None:
    """Estimate the pixel size from the objective: 20x is about 0.5 um, 40x about 0.25 um.

    Scanners of the same power differ by 10 % and more, so this is an estimate and is shown as one.
    """
    if not power or not math.isfinite(power) or not 1 <= power <= 100:
        return None
    return (10.0 / power, 10.0 / power)
