"""Aperio and Leica SVS: fields in the description of every page, levels tiled, everything else in strips."""

from __future__ import annotations

from collections.abc import Sequence

from napari_batchfx.slides._layout import Layout, associated_of, levels_of, number, objective, require_rgb
from napari_batchfx.slides._tifffile import Page
from napari_batchfx.slides.dates import iso_date
from napari_batchfx.slides.metadata import SlideMetadata, plausible_mpp
from napari_batchfx.slides.private import private_fields

__all__ = ["matches", "parse"]

_LABEL, _MACRO = 1, 9  # NewSubfileType


def matches(first: Page, pages: Sequence[Page]) -> bool:
    """Tell whether the first page says it is Aperio's."""
    return first.description.startswith("Aperio")


def parse(pages: Sequence[Page], name: str) -> Layout:
    """Take the tiled pages as levels; the second page is the thumbnail where it is in strips."""
    tiled = [p for p in pages if p.is_tiled]
    main = require_rgb((tiled or list(pages))[0], name)
    kept, shapes = levels_of(main, tiled)
    pairs = _pairs(main.description)
    fields = dict(pairs)
    mpp = number(fields.get("MPP"))
    found = plausible_mpp(mpp, mpp)
    metadata = SlideMetadata(
        mpp=found,
        mpp_source="file" if found else "unknown",
        vendor="aperio",
        scanner=fields.get("ScannerType") or fields.get("ScanScope ID") or None,
        scanner_serial=fields.get("ScanScope ID") if fields.get("ScannerType") else None,
        objective_power=objective(fields.get("AppMag")),
        scan_date=iso_date(fields.get("Date"), fields.get("Time"), fields.get("Time Zone")),
        private=private_fields(pairs),
    )
    others = [(_name(p), p) for p in pages if not p.is_tiled and p is not main]
    return Layout(kept, shapes, metadata, associated_of([(n, p) for n, p in others if n]))


def _pairs(description: str) -> list[tuple[str, str]]:
    """Return the fields as written; the first part is the library and the size, not a field."""
    parts = [part.partition("=") for part in description.split("|")[1:]]
    return [(key.strip(), value.strip(" \0\r\n")) for key, equals, value in parts if equals]


def _name(page: Page) -> str:
    text = page.description.lower()
    lines = text.splitlines()
    last = lines[1] if len(lines) > 1 else text
    if last.lstrip().startswith("label") or page.subfiletype == _LABEL:
        return "label"
    if last.lstrip().startswith("macro") or page.subfiletype == _MACRO:
        return "macro"
    return "thumbnail" if page.index == (1,) else ""
