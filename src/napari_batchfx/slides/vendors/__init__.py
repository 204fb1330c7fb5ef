"""One small parser a vendor: which pages of a TIFF are the slide's levels, what the file says about the scan.

Label, macro and thumbnail pages are never among the levels: they may show a patient's name. Fields that could
name a patient or a person go into ``SlideMetadata.private`` and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from napari_batchfx.slides._layout import Layout, resolution_mpp
from napari_batchfx.slides._tifffile import Page
from napari_batchfx.slides.metadata import mpp_from_objective
from napari_batchfx.slides.private import private_fields
from napari_batchfx.slides.vendors import (
    aperio,
    generic,
    hamamatsu,
    leica,
    ome,
    philips,
    trestle,
    ventana,
)

__all__ = ["VENDORS", "Vendor", "read_layout"]


class Vendor(Protocol):
    """What a vendor's module holds."""

    def matches(self, first: Page, pages: Sequence[Page]) -> bool:
        """Tell from the first page, or from all of them, whether the file is theirs."""

    def parse(self, pages: Sequence[Page], name: str) -> Layout:
        """Find the levels and what the file says; SlideError if there is no slide in it."""


#: (vendor, parser): the first match wins, the last one matches everything.
VENDORS: tuple[tuple[str, Vendor], ...] = (
    ("hamamatsu", hamamatsu),
    ("aperio", aperio),
    ("leica", leica),
    ("philips", philips),
    ("ventana", ventana),
    ("trestle", trestle),
    ("ome", ome),
    ("generic", generic),
)


def read_layout(pages: Sequence[Page], name: str) -> Layout:
    """Find the vendor, parse its tags, fill the pixel size: vendor, then TIFF resolution, then objective.

    Parameters
    ----------
    pages : sequence of Page
        All pages of the file.
    name : str
        File name for messages.

    Raises
    ------
    SlideError
        If no page is an 8-bit RGB image, or one channel of a fluorescence scan.
    """
    parser = next(parser for _, parser in VENDORS if parser.matches(pages[0], pages))
    layout = parser.parse(pages, name)
    meta = layout.metadata
    if meta.icc_profile is None:
        # some SVS files carry the profile with a smaller level only
        icc = next((page.icc_profile for page in layout.pages if page.icc_profile), None)
        meta = replace(meta, icc_profile=icc)
    if meta.mpp is None:
        measured = resolution_mpp(layout.pages[0])
        estimate = mpp_from_objective(meta.objective_power)
        if measured:
            meta = replace(meta, mpp=measured, mpp_source="tiff resolution")
        elif estimate:
            meta = replace(meta, mpp=estimate, mpp_source="objective power (estimate)")
    return replace(layout, metadata=replace(meta, private=_private_tags(pages) | meta.private))


def _private_tags(pages: Sequence[Page]) -> dict[str, str]:
    """Fields of TIFF itself that name a computer, a person or a document, from any page."""
    names = {"HostComputer": "host_computer", "Artist": "artist", "DocumentName": "document_name"}
    return private_fields((key, getattr(page, name)) for page in pages for key, name in names.items())
