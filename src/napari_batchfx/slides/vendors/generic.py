"""Any other TIFF: the largest RGB page, and the pages that are the same made smaller."""

from __future__ import annotations

import re
from collections.abc import Sequence

from napari_batchfx.slides._layout import Layout, associated_of, levels_of, require_rgb
from napari_batchfx.slides._tifffile import Page
from napari_batchfx.slides.metadata import SlideMetadata

__all__ = ["matches", "parse"]


def matches(first: Page, pages: Sequence[Page]) -> bool:
    """Take what nobody else took."""
    return True


def parse(pages: Sequence[Page], name: str) -> Layout:
    """Take the largest RGB page; a page that says it is a label, macro or thumbnail is none of the levels."""
    named = [(kind, p) for p in pages if (kind := _kind(p))]
    slide = [p for p in pages if not _kind(p)] or list(pages)
    main = require_rgb(max(slide, key=lambda p: (p.is_rgb, p.height * p.width)), name)
    kept, shapes = levels_of(main, slide)
    return Layout(kept, shapes, SlideMetadata(), associated_of([(k, p) for k, p in named if p is not main]))


def _kind(page: Page) -> str:
    match = re.match(r"\s*(label|macro|thumbnail)", page.description, re.IGNORECASE)
    return match.group(1).lower() if match else ""
