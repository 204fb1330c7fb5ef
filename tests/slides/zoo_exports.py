"""Writers of Philips TIFF, OME-TIFF, Trestle TIFF, generic pyramids and strips."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
from tests.slides.raw_tiff import Page, RawTiff
from tests.slides.zoo_pages import (
    DATE,
    SECRET,
    ZooSlide,
    jpeg,
    label,
    smaller,
    strips,
    tiled,
    tissue,
)

__all__ = ["write_generic", "write_ome", "write_philips", "write_strips", "write_trestle"]


def write_philips(
    folder: Path,
    *,
    size: tuple[int, int] = (768, 1024),
    tile: int = 128,
    levels: int = 4,
    mpp=(0.25, 0.227),
    label_in_xml: bool = False,
    leave_out: tuple[int, ...] = (),
    name: str = "a.tiff",
) -> ZooSlide:
    """Philips TIFF: DICOM-like XML, each level padded to whole tiles, missing tiles where nothing was scanned."""
    out = RawTiff(folder / name, "big")
    # level 0 is padded as well, and what counts of the smaller levels follows from its padded size
    image = np.pad(tissue(*size), [(0, -n % tile) for n in size] + [(0, 0)], mode="edge")
    chosen = [image] + [smaller(image, 2**k) for k in range(1, levels)]

    def attribute(name: str, value: str) -> str:
        return f'<Attribute Name="{name}" Group="0x0000" Element="0x0000" PMSVR="IString">{value}</Attribute>'

    def spacing(k: int) -> str:
        return attribute("DICOM_PIXEL_SPACING", " ".join(f"&quot;{v / 1000 * 2**k:.9f}&quot;" for v in mpp))

    def scanned(kind: str, inside: str) -> str:
        return f'<DataObject ObjectType="DPScannedImage">{attribute("PIM_DP_IMAGE_TYPE", kind)}{inside}</DataObject>'

    def picture(seed: str) -> str:
        return attribute("PIM_DP_IMAGE_DATA", base64.b64encode(jpeg(label(seed), ycbcr=True)).decode())

    rows = "".join(
        f'<DataObject ObjectType="PixelDataRepresentation">{spacing(k)}</DataObject>' for k in range(levels)
    )
    derivation = f"tiff-useBigTIFF=1-levels=10003,10002,10000-processing=0-sourceFilename=&quot;{SECRET}-file.isyntax&quot;"
    wsi = attribute("DICOM_DERIVATION_DESCRIPTION", derivation) + spacing(0)
    wsi += f'<Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE"><Array>{rows}</Array></Attribute>'
    images = scanned("WSI", wsi) + "".join(
        scanned(k, picture(k)) for k in ("LABELIMAGE", "MACROIMAGE") if label_in_xml
    )
    barcode = base64.b64encode(f"{SECRET}-barcode".encode()).decode()
    text = (
        '<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport">'
        + attribute("DICOM_ACQUISITION_DATETIME", "20091229095915.000000")
        + attribute("DICOM_DATE_OF_LAST_CALIBRATION", "&quot;20091228&quot;")
        + attribute("DICOM_MANUFACTURER", "PHILIPS") + attribute("DICOM_MANUFACTURERS_MODEL_NAME", "UFS Scanner")
        + attribute("DICOM_DEVICE_SERIAL_NUMBER", "FMT0107") + attribute("PIIM_DP_SCANNER_OPERATOR_ID", f"{SECRET}-operator")
        + attribute("PIM_DP_UFS_BARCODE", barcode)
        + f'<Attribute Name="PIM_DP_SCANNED_IMAGES"><Array>{images}</Array></Attribute></DataObject>'
    )  # fmt: skip
    pages = []
    for k, level in enumerate(chosen):
        pad = [(0, -n % tile) for n in level.shape[:2]] + [(0, 0)]
        tags = {"ImageDescription": text} if k == 0 else {"NewSubfileType": 1}
        page = tiled(out, np.pad(level, pad, mode="edge"), "jpeg", tile, ycbcr=True, leave_out=leave_out if k == 0 else (),
                     Software="Philips DP v1.0", **tags)  # fmt: skip
        pages.append(page)
    if not label_in_xml:
        for kind in ("Macro -offset=(0,0)-pixelsize=(0.0315,0.0315)", "Label"):
            pages.append(
                strips(out, label(kind), "jpeg", 96, ycbcr=True, NewSubfileType=1, ImageDescription=kind)
            )
    facts = {"mpp": mpp, "scanner": "UFS Scanner", "serial": "FMT0107", "scan_date": DATE}
    return ZooSlide(out.finish(pages), "philips", chosen, False, facts, ("macro", "label"))


def write_ome(
    folder: Path,
    *,
    size: tuple[int, int] = (611, 803),
    tile: int = 128,
    how: str = "deflate",
    levels: int = 3,
    fluorescence: bool = False,
    name: str = "a.ome.tif",
) -> ZooSlide:
    """OME-TIFF: smaller levels in sub-IFDs, then images of the label and the macro, as Bio-Formats exports slides."""
    out = RawTiff(folder / name, "big")
    chosen = [tissue(*size)] + [smaller(tissue(*size), 2**k) for k in range(1, levels)]
    if fluorescence:
        chosen = [level[..., 1] for level in chosen]
    others = [label("label"), label("macro", (64, 160))]
    grey = '<Channel ID="Channel:0:0" SamplesPerPixel="1" ContrastMethod="Fluorescence" AcquisitionMode="WideField"/>'

    def entry(k: int, title: str, shape: tuple[int, ...], extra: str = "", scale: str = "") -> str:
        return (
            f'<Image ID="Image:{k}" Name="{title}">{extra}<Pixels ID="Pixels:{k}" DimensionOrder="XYCZT" Type="uint8" SizeX="{shape[1]}" '
            f'SizeY="{shape[0]}" SizeC="3" SizeZ="1" SizeT="1"{scale}>'
            + (grey if fluorescence and k == 0 else f'<Channel ID="Channel:{k}:0" SamplesPerPixel="3"/>')
            + f'<TiffData IFD="{k}" PlaneCount="1"/></Pixels></Image>'
        )

    scale = ' PhysicalSizeX="227.0" PhysicalSizeXUnit="nm" PhysicalSizeY="0.25" PhysicalSizeYUnit="µm"'
    about = f"<AcquisitionDate>2009-12-29T09:59:15</AcquisitionDate><Description>{SECRET} description</Description>"
    text = (
        '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" Creator="OME Bio-Formats 7">'
        f'<Experimenter ID="Experimenter:0" FirstName="{SECRET}" LastName="{SECRET}-surname" Email="{SECRET}@b.example"/>'
        '<Instrument ID="Instrument:0"><Microscope Manufacturer="Hamamatsu" Model="S360" SerialNumber="B000123"/>'
        '<Objective ID="Objective:0:0" NominalMagnification="40.0"/></Instrument>'
        + entry(0, f"{SECRET}-file.ndpi", size, about, scale) + entry(1, "label image", others[0].shape) + entry(2, "macro image", others[1].shape)
        + '<StructuredAnnotations><XMLAnnotation ID="Annotation:0"><Value><OriginalMetadata><Key>Barcode</Key>'
        f"<Value>{SECRET}-barcode</Value></OriginalMetadata></Value></XMLAnnotation><MapAnnotation ID=\"Annotation:1\"><Value>"
        f'<M K="PatientName">{SECRET}^JANE</M></Value></MapAnnotation></StructuredAnnotations></OME>'
    )  # fmt: skip
    pages = [
        tiled(out, level, how, tile, ycbcr=how == "jpeg", **({"NewSubfileType": 1} if k else {}))
        for k, level in enumerate(chosen)
    ]
    main = Page(pages[0].tags | {"ImageDescription": text.encode()}, pages[0].pieces, pages[1:])
    extra = [strips(out, other, "lzw", 32) for other in others]
    facts = {"mpp": (0.25, 0.227), "scanner": "S360", "serial": "B000123", "power": 40.0, "scan_date": DATE}
    if fluorescence:
        facts["modality"] = "fluorescence"
        chosen = [np.repeat(level[..., None], 3, -1) for level in chosen]
    return ZooSlide(out.finish([main, *extra]), "hamamatsu", chosen, how != "jpeg", facts, ("label", "macro"))


def write_trestle(
    folder: Path,
    *,
    size: tuple[int, int] = (620, 820),
    tile: int = 256,
    overlap: int = 32,
    name: str = "a.tif",
) -> ZooSlide:
    """Trestle (MedScan): every page a level, tiles that overlap, half as much in the next level."""
    out = RawTiff(folder / name)
    chosen = [tissue(*size), smaller(tissue(*size), 2)]
    overlaps = [overlap, overlap // 2]
    listed = " ".join(f"{o} {o}" for o in overlaps)
    text = f"Background Color=E6E6E6;White Balance=C0AAA1;Objective Power=10;JPEG Quality=80;OverlapsXY={listed};Slide Name={SECRET}-slide"
    about = {
        "ImageDescription": text, "Software": "MedScan 1.0", "Make": "Trestle", "Model": "MedMicro", "HostComputer": f"{SECRET}-host",
        "DocumentName": f"{SECRET}-document", "Artist": f"{SECRET}-artist", "DateTime": "2009:12:29 09:59:15",
        "XResolution": (93, 100), "YResolution": (93, 100), "ResolutionUnit": 3,
    }  # fmt: skip
    pages = [
        tiled(
            out,
            level,
            "jpeg",
            tile,
            ycbcr=True,
            overlap=o,
            **(about if k == 0 else {"NewSubfileType": 1, "Software": "MedScan 1.0"}),
        )
        for k, (level, o) in enumerate(zip(chosen, overlaps, strict=True))
    ]
    facts = {"mpp": (0.93, 0.93), "scanner": "MedMicro", "power": 10.0, "scan_date": DATE}
    return ZooSlide(out.finish(pages), "trestle", chosen, False, facts)


def write_generic(
    folder: Path,
    *,
    size: tuple[int, int] = (611, 803),
    tile: int = 128,
    how: str = "deflate",
    levels: int = 3,
    icc: bytes | None = None,
    kind: str = "classic",
    mpp: float | None = 0.5,
    leave_out: tuple[int, ...] = (),
    name: str = "a.tif",
) -> ZooSlide:
    """Write a tiled pyramid as libvips and QuPath do: reduced pages behind the first one, a label in strips."""
    out = RawTiff(folder / name, kind)
    chosen = [tissue(*size)] + [smaller(tissue(*size), 2**k) for k in range(1, levels)]
    pages = []
    for k, level in enumerate(chosen):
        tags = {"NewSubfileType": 1} if k else ({"ICCProfile": icc} if icc else {})
        if mpp:
            tags |= {
                "XResolution": 1e4 / (mpp * 2**k),
                "YResolution": 1e4 / (mpp * 2**k),
                "ResolutionUnit": 3,
            }
        pages.append(
            tiled(out, level, how, tile, ycbcr=how == "jpeg", leave_out=leave_out if k == 0 else (), **tags)
        )
    pages[0].tags |= {
        "Artist": f"{SECRET}-artist",
        "HostComputer": f"{SECRET}-host",
        "DocumentName": f"{SECRET}-document",
    }
    label_page = strips(out, label(), "lzw", 32, ImageDescription=f"Label {SECRET}")
    facts = {"mpp": (mpp, mpp) if mpp else None}
    return ZooSlide(out.finish([*pages, label_page]), None, chosen, how != "jpeg", facts, ("label",))


def write_strips(
    folder: Path, *, size: tuple[int, int] = (611, 803), rows: int = 16, how: str = "lzw", name: str = "a.tif"
) -> ZooSlide:
    """Write one level in strips."""
    out = RawTiff(folder / name)
    image = tissue(*size)
    tags = {"Artist": f"{SECRET}-artist", "XResolution": 2e4, "YResolution": 2e4, "ResolutionUnit": 3}
    page = strips(out, image, how, rows, ycbcr=how == "jpeg", **tags)
    return ZooSlide(out.finish([page]), None, [image], how != "jpeg", {"mpp": (0.5, 0.5)})
