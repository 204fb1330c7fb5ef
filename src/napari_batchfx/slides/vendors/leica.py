"""Leica SCN: XML in the first page lists the images on the glass, their pages, sizes and settings."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from napari_batchfx.slides._declined import NotReadHere
from napari_batchfx.slides._layout import (
    Layout,
    associated_of,
    find_all,
    levels_of,
    local_name,
    number,
    objective,
    parse_xml,
    require_rgb,
)
from napari_batchfx.slides._tifffile import Page
from napari_batchfx.slides.dates import iso_date
from napari_batchfx.slides.metadata import SlideMetadata, plausible_mpp
from napari_batchfx.slides.private import decoded_barcode, private_fields

__all__ = ["matches", "parse"]

_SAME_MPP = 1.02  # areas of one scan differ by less


def matches(first: Page, pages: Sequence[Page]) -> bool:
    """Tell whether the first page holds Leica's XML."""
    return "leica-microsystems.com/scn" in first.description


def parse(pages: Sequence[Page], name: str) -> Layout:
    """Take the largest of the images with the finest pixels; the overview of the whole glass is the macro."""
    root = parse_xml(pages[0].description)
    by_ifd = {p.index[0]: p for p in pages if len(p.index) == 1}
    images = [] if root is None else [found for e in find_all(root, "image") if (found := _image(e, by_ifd))]
    if root is None or not images:
        raise NotReadHere(f"{name}: its Leica SCN header can't be understood; export it as OME-TIFF or SVS.")
    finest = min(mpp for mpp, _, _ in images)
    _, image, levels = max(
        (i for i in images if i[0] <= finest * _SAME_MPP), key=lambda i: max(p.width * p.height for p in i[2])
    )
    source = next((e.text for e in find_all(image, "illuminationSource") if e.text), "brightfield")
    fluorescence = "fluorescence" in source.lower()
    main = require_rgb(max(levels, key=lambda p: p.width * p.height), name, fluorescence=fluorescence)
    kept, shapes = levels_of(main, levels)
    view = find_all(image, "view")[0]
    size_y, size_x = number(view.get("sizeY")), number(view.get("sizeX"))
    mpp = plausible_mpp(
        size_y / 1000 / main.height if size_y else None, size_x / 1000 / main.width if size_x else None
    )
    metadata = SlideMetadata(
        mpp=mpp,
        mpp_source="file" if mpp else "unknown",
        vendor="leica",
        scanner=next((e.get("model") for e in find_all(image, "device") if e.get("model")), None),
        scanner_serial=next((e.get("serial") for e in find_all(image, "device") if e.get("serial")), None),
        objective_power=next((objective(e.text) for e in find_all(image, "objective") if e.text), None),
        scan_date=next((iso_date(e.text) for e in find_all(image, "creationDate") if e.text), None),
        modality="fluorescence" if fluorescence else "brightfield",
        private=_private(root),
    )
    overview = [i for i in images if i[0] > finest * _SAME_MPP]
    named = [("macro", max(pages_, key=lambda p: p.width)) for _, _, pages_ in overview]
    return Layout(kept, shapes, metadata, associated_of(named))


def _image(image: Element, by_ifd: dict[int, Page]) -> tuple[float, Element, list[Page]] | None:
    """Return (micrometres a pixel, element, pages) of one image: its first focal plane and first channel."""
    view = next(iter(find_all(image, "view")), None)
    sizes = [d for d in find_all(image, "dimension") if d.get("z", "0") == "0" and d.get("c", "0") == "0"]
    found = [by_ifd[ifd] for d in sizes if (ifd := _whole(d.get("ifd"))) in by_ifd]
    width_nm = number(view.get("sizeX")) if view is not None else None
    if not found or not width_nm or width_nm <= 0:
        return None
    return width_nm / 1000.0 / max(p.width for p in found), image, found


def _whole(text: str | None) -> int:
    value = number(text)
    return int(value) if value is not None and value.is_integer() else -1


def _private(root: Element) -> dict[str, str]:
    pairs: list[tuple[str, str | None]] = []
    for element in root.iter():
        tag = local_name(element)
        pairs += [(f"{tag} {local}" if local == "name" else local, v) for local, v in element.attrib.items()]
        if len(element) == 0:
            pairs.append((tag, element.text))
    found = private_fields(pairs)
    return {k: decoded_barcode(v) if "barcode" in k.lower() else v for k, v in found.items()}
