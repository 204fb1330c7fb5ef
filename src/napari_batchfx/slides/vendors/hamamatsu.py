"""Hamamatsu NDPI: one JPEG strip a level, private tags 65420 to 65458, macro told by magnification."""

from __future__ import annotations

from collections.abc import Sequence

from napari_batchfx.slides._layout import (
    Layout,
    associated_of,
    levels_of,
    number,
    objective,
    require_rgb,
    resolution_mpp,
)
from napari_batchfx.slides._tifffile import Page
from napari_batchfx.slides.dates import iso_date
from napari_batchfx.slides.metadata import SlideMetadata
from napari_batchfx.slides.private import private_fields

__all__ = ["matches", "parse"]

_MACRO = -1.0  # magnification of the overview; -2 is the focus map


def matches(first: Page, pages: Sequence[Page]) -> bool:
    """Tell whether the file has NDPI's tags."""
    return first.ndpi is not None


def parse(pages: Sequence[Page], name: str) -> Layout:
    """Take the pages of the focal plane of the largest one as levels."""
    tags = pages[0].ndpi or {}
    fluorescence = bool(_text(tags.get("Fluorescence")) or number(_text(tags.get("Wavelength"))))
    slide = [p for p in pages if _magnification(p) > 0]
    # the plane in focus lies at 0; planes above and below have the same size
    main = max(slide or [pages[0]], key=lambda p: (p.height * p.width, -abs(_focus(p))))
    require_rgb(main, name, fluorescence=fluorescence)
    kept, shapes = levels_of(main, [p for p in slide if _focus(p) == _focus(main)])
    mpp = resolution_mpp(main)
    comments = _comments(tags)
    labels = [("SlideLabel", _text((p.ndpi or {}).get("SlideLabel"))) for p in pages]
    metadata = SlideMetadata(
        mpp=mpp,
        mpp_source="file" if mpp else "unknown",
        vendor="hamamatsu",
        scanner=main.model or comments.get("Product") or None,
        scanner_serial=_text(tags.get("ScannerSerialNumber")) or comments.get("NDP.S/N") or None,
        objective_power=objective(str(_magnification(main))),
        scan_date=iso_date(main.date_time),
        modality="fluorescence" if fluorescence else "brightfield",
        private=private_fields([*labels, *_free(comments)]),
    )
    named = [("macro", p) for p in pages if _magnification(p) == _MACRO]
    return Layout(kept, shapes, metadata, associated_of(named))


def _magnification(page: Page) -> float:
    return number(_text((page.ndpi or {}).get("Magnification"))) or 0.0


def _focus(page: Page) -> float:
    return number(_text((page.ndpi or {}).get("ZOffsetFromSlideCenter"))) or 0.0


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip("\0 ")
    return "" if value is None else str(value).strip("\0 ")


def _comments(tags: dict[str, object]) -> dict[str, str]:
    lines = _text(tags.get("Comments")).splitlines()
    return {
        key.strip(): value.strip() for key, equals, value in (li.partition("=") for li in lines) if equals
    }


def _free(comments: dict[str, str]) -> list[tuple[str, str]]:
    # exposure.barcode.macro, roi.barcode.macro, ";BarcodeNoR=None": how it was photographed
    technical = ("exposure.", "roi.", ";")
    return [(k, v) for k, v in comments.items() if not k.startswith(technical)]
