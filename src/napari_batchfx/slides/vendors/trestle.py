"""Trestle TIFF (MedScan): every page a level, ``key=value`` in the description, tiles that overlap."""

from __future__ import annotations

import re
from collections.abc import Sequence

from napari_batchfx.errors import SlideError
from napari_batchfx.slides._layout import Layout, objective, require_rgb
from napari_batchfx.slides._tifffile import Page
from napari_batchfx.slides.dates import iso_date
from napari_batchfx.slides.metadata import SlideMetadata, plausible_mpp
from napari_batchfx.slides.private import private_fields

__all__ = ["matches", "parse"]


def matches(first: Page, pages: Sequence[Page]) -> bool:
    """Tell whether MedScan wrote it; its pages are all tiled."""
    return first.software.startswith("MedScan") and bool(first.description) and first.is_tiled


def parse(pages: Sequence[Page], name: str) -> Layout:
    """Take every tiled page as a level, as large as its tiles are together without the overlaps."""
    main = require_rgb(pages[0], name)
    pairs = [part.partition("=") for part in main.description.split(";")]
    fields = {key.strip(): value.strip() for key, equals, value in pairs if equals}
    levels = [p for p in pages if p.is_tiled and p.is_rgb and p.n_depth == 1 and min(p.segment) > 0]
    given = [int(v) for v in re.findall(r"\b[0-9]{1,6}\b", fields.get("OverlapsXY", ""))]
    # x before y, one pair a page
    overlaps = [
        (given[2 * k + 1], given[2 * k]) if 2 * k + 1 < len(given) else (0, 0) for k in range(len(levels))
    ]
    shapes = []
    for page, overlap in zip(levels, overlaps, strict=True):
        if any(2 * o > tile for o, tile in zip(overlap, page.segment, strict=True)):
            raise SlideError(
                f"{name}: its tiles overlap by more than half ({overlap[1]} x {overlap[0]} px), so its "
                "header is damaged; export it as OME-TIFF."
            )
        size = (page.height, page.width)
        counts = [-(-n // tile) for n, tile in zip(size, page.segment, strict=True)]
        shapes.append(tuple(n - (c - 1) * o for n, c, o in zip(size, counts, overlap, strict=True)))
    order = sorted(range(len(levels)), key=lambda k: -shapes[k][0] * shapes[k][1])
    # MedScan writes micrometres a pixel where TIFF has pixels a unit
    mpp = plausible_mpp(*main.resolution) if main.resolution else None
    metadata = SlideMetadata(
        mpp=mpp,
        mpp_source="file" if mpp else "unknown",
        vendor="trestle",
        scanner=main.model or main.software or None,
        objective_power=objective(fields.get("Objective Power")),
        scan_date=iso_date(main.date_time),
        private=private_fields(fields.items()),
    )
    return Layout(
        tuple(levels[k] for k in order),
        tuple((shapes[k][0], shapes[k][1]) for k in order),
        metadata,
        overlaps=tuple(overlaps[k] for k in order) if any(map(any, overlaps)) else (),
    )
