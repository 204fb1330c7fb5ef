"""Ventana BIF and TIFF: XML packets with the scanner's attributes and each pair of tiles' overlap."""

from __future__ import annotations

import re
from collections.abc import Sequence

from napari_batchfx.slides._declined import NotReadHere
from napari_batchfx.slides._layout import (
    Layout,
    associated_of,
    find_all,
    levels_of,
    number,
    objective,
    parse_xml,
    require_rgb,
)
from napari_batchfx.slides._tifffile import Page
from napari_batchfx.slides.dates import iso_date
from napari_batchfx.slides.metadata import SlideMetadata, plausible_mpp
from napari_batchfx.slides.private import private_fields

__all__ = ["matches", "parse"]


def matches(first: Page, pages: Sequence[Page]) -> bool:
    """Tell whether a page holds Ventana's XML packet."""
    return any("<iScan" in p.xmp or "<EncodeInfo" in p.xmp for p in pages)


def parse(pages: Sequence[Page], name: str) -> Layout:
    """Take the pages that say which level they are.

    Raises
    ------
    NotReadHere
        If tiles overlap: every pair has its own overlap, so in the smaller levels tiles lie at fractions of a
        pixel, and no crop of whole pixels puts them together.
    """
    overlaps = [float(v) for page in pages for v in re.findall(r'Overlap[XY]="(-?\d+(?:\.\d+)?)"', page.xmp)]
    if any(overlaps):
        raise NotReadHere(
            f"{name}: Ventana BIF slides with overlapping tiles aren't read here; convert it to OME-TIFF "
            "(QuPath, bfconvert)."
        )
    slide = [p for p in pages if p.description.lower().startswith("level=")] or [
        p for p in pages if p.is_tiled
    ]
    main = require_rgb(max(slide or [pages[0]], key=lambda p: p.height * p.width), name)
    kept, shapes = levels_of(main, slide)
    fields = _fields(pages)
    resolution = number(fields.get("ScanRes"))
    mpp = plausible_mpp(resolution, resolution)
    metadata = SlideMetadata(
        mpp=mpp,
        mpp_source="file" if mpp else "unknown",
        vendor="ventana",
        scanner=fields.get("ScannerModel") or None,
        scanner_serial=fields.get("UnitNumber") or None,
        objective_power=objective(fields.get("Magnification")),
        scan_date=iso_date(fields.get("ScanDate")) or iso_date(main.date_time or pages[0].date_time),
        private=private_fields(fields.items()),
    )
    named = [(n, p) for p in pages if p is not main and (n := _other(p))]
    return Layout(kept, shapes, metadata, associated_of(named))


def _other(page: Page) -> str:
    text = page.description.strip().lower().replace("_", " ")
    # the picture of the whole glass, its label too
    return {"label image": "macro", "thumbnail": "thumbnail"}.get(text, "")


def _fields(pages: Sequence[Page]) -> dict[str, str]:
    """Return the attributes of every ``iScan`` element; of damaged XML what its text still shows."""
    found: dict[str, str] = {}
    for page in pages:
        if "<iScan" not in page.xmp:
            continue
        root = parse_xml(page.xmp)
        if root is None:
            pairs = re.findall(r'([\w-]+)="([^"]*)"', page.xmp.partition("<iScan")[2].partition(">")[0])
        else:
            pairs = [pair for e in find_all(root, "iScan") for pair in e.attrib.items()]
        for key, value in pairs:
            found.setdefault(key, value)
    return found
