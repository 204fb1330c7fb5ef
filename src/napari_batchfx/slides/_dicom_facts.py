"""What the headers of a DICOM slide say about the scan; what could name a patient is kept apart."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from napari_batchfx.slides._dicom_header import DicomHeader
from napari_batchfx.slides._layout import number
from napari_batchfx.slides.dates import iso_date
from napari_batchfx.slides.metadata import SlideMetadata, mpp_from_objective, plausible_mpp

__all__ = ["read_facts"]

_PRIVATE = {
    "PatientName": 0x00100010, "PatientID": 0x00100020, "PatientBirthDate": 0x00100030,
    "PatientSex": 0x00100040, "PatientAge": 0x00101010, "AccessionNumber": 0x00080050,
    "InstitutionName": 0x00080080, "ReferringPhysicianName": 0x00080090, "StationName": 0x00081010,
    "StudyDescription": 0x00081030, "SeriesDescription": 0x0008103E, "OperatorsName": 0x00081070,
    "StudyInstanceUID": 0x0020000D, "StudyID": 0x00200010, "StudyDate": 0x00080020,
    "ContainerIdentifier": 0x00400512, "BarcodeValue": 0x22000005, "LabelText": 0x22000002,
    "ImageComments": 0x00204000,
}  # fmt: skip
_SPECIMEN = 0x00400551
_UNKNOWN = {"", "unknown", "none", "n/a"}


def read_facts(main: DicomHeader, headers: Sequence[DicomHeader]) -> SlideMetadata:
    """Return the metadata of a slide.

    Parameters
    ----------
    main : DicomHeader
        Of the full-size image: pixel size, optics, scanner.
    headers : sequence of DicomHeader
        Of all of the slide's files: any of them can name a patient.
    """

    def known(tag: int) -> str | None:
        text = main.text(tag)
        return None if text.lower() in _UNKNOWN else text

    shared = next(iter(main.items(0x52009229)), {})
    measures = next(iter(main.items(0x00289110, shared)), {})
    spacing = measures.get(0x00280030)
    sides = spacing.decode("ascii", "replace").split("\\") if isinstance(spacing, bytes) else []
    values = [number(side.strip(" \0")) for side in sides]
    mpp = (
        plausible_mpp(*(None if v is None else round(v * 1000, 9) for v in values))
        if len(values) == 2
        else None
    )
    optics = next(iter(main.items(0x00480105)), {})
    power = optics.get(0x00480112)
    objective = number(power.decode("ascii", "replace").strip(" \0")) if isinstance(power, bytes) else None
    source = "file"
    if mpp is None:
        mpp = mpp_from_objective(objective)
        source = "objective power (estimate)" if mpp else "unknown"
    icc = optics.get(0x00282000)
    return SlideMetadata(
        mpp=mpp,
        mpp_source=source,
        vendor=(known(0x00080070) or "").lower() or None,
        scanner=known(0x00081090),
        scanner_serial=known(0x00181000),
        objective_power=objective,
        icc_profile=_profile(icc if isinstance(icc, bytes) else b""),
        scan_date=iso_date(main.text(0x0008002A)) or iso_date(main.text(0x00080022) + main.text(0x00080032)),
        modality="brightfield",
        private=_private(headers),
    )


def _profile(data: bytes) -> bytes | None:
    """Return a colour profile without DICOM's padding byte: its first four bytes state its length."""
    if len(data) < 128:
        return None
    stated = struct.unpack(">I", data[:4])[0]
    return data[:stated] if 128 <= stated <= len(data) else data


def _private(headers: Sequence[DicomHeader]) -> dict[str, str]:
    found: dict[str, str] = {}
    for header in headers:
        for name, tag in _PRIVATE.items():
            text = header.text(tag)
            if text and text.lower() not in _UNKNOWN:
                found.setdefault(name, text)
        for item in header.items(0x00400560):
            value = item.get(_SPECIMEN)
            text = value.decode("utf-8", "replace").strip(" \0") if isinstance(value, bytes) else ""
            if text and text.lower() not in _UNKNOWN:
                found.setdefault("SpecimenIdentifier", text)
    return found
