"""Which pages of a TIFF are levels of one image, and the little that every vendor's parser needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.etree import ElementTree

from napari_batchfx.errors import SlideError
from napari_batchfx.slides._tifffile import Page
from napari_batchfx.slides.metadata import SlideMetadata, plausible_mpp

__all__ = [
    "Layout",
    "associated_of",
    "find_all",
    "greyscale_text",
    "levels_of",
    "local_name",
    "number",
    "objective",
    "parse_xml",
    "require_rgb",
    "resolution_mpp",
    "same_pixels",
]

HIGHEST_POWER = 200
_UNIT_UM = {2: 25_400.0, 3: 10_000.0}


@dataclass(frozen=True)
class Layout:
    """The pages that are levels, largest first, the shape that counts of each, and the metadata.

    ``associated`` names the other pages (label, macro, thumbnail), which are read only when asked for by
    name; ``encoded`` does so for images that the file keeps as JPEG inside of its header. ``overlaps`` are
    the pixels (y, x) that neighbouring tiles of each level share; empty where tiles lie side by side.
    """

    pages: tuple[Page, ...]
    shapes: tuple[tuple[int, int], ...]
    metadata: SlideMetadata
    associated: tuple[tuple[str, Page], ...] = ()
    encoded: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)
    overlaps: tuple[tuple[int, int], ...] = ()


def resolution_mpp(page: Page) -> tuple[float, float] | None:
    unit = _UNIT_UM.get(page.resolution_unit)
    if unit is None or page.resolution is None:
        return None
    return plausible_mpp(unit / page.resolution[0], unit / page.resolution[1])


def levels_of(main: Page, others: Sequence[Page]) -> tuple[tuple[Page, ...], tuple[tuple[int, int], ...]]:
    """Keep those pages that are ``main`` made smaller by the same factor on both axes (within a pixel)."""
    chosen = {(main.height, main.width): (main, (main.height, main.width))}
    for page in others:
        if (
            page is main
            or min(page.height, page.width) < 1
            or not same_pixels(page, main)
            or page.width >= main.width
            or page.height >= main.height
        ):
            continue
        fy, fx = main.height / page.height, main.width / page.width
        shape = (page.height, page.width)
        # the same factor on both axes to within one pixel of the smaller image
        if abs(main.height / fx - page.height) <= 1.5 and abs(main.width / fy - page.width) <= 1.5:
            chosen.setdefault(shape, (page, shape))
    order = sorted(chosen.values(), key=lambda item: -item[1][0] * item[1][1])
    return tuple(p for p, _ in order), tuple(s for _, s in order)


def same_pixels(page: Page, main: Page) -> bool:
    """Whether two pages hold the same kind of pixels, so that one may be a level of the other."""
    if main.is_rgb:
        return page.is_rgb
    return (page.samples, page.bits, page.photometric) == (main.samples, main.bits, main.photometric)


def associated_of(named: Sequence[tuple[str, Page]]) -> tuple[tuple[str, Page], ...]:
    """Keep the first page of each name that is a picture one could look at (8 bits, grey or RGB)."""
    found: dict[str, Page] = {}
    for name, page in named:
        if (
            page.bits == 8
            and page.is_integer
            and (page.is_rgb or (page.samples == 1 and page.photometric == 1))
        ):
            found.setdefault(name, page)
    return tuple(found.items())


def require_rgb(page: Page, name: str, *, fluorescence: bool = False) -> Page:
    """Return the page if its pixels can be shown as RGB; one grey channel only of a fluorescence scan."""
    if min(page.height, page.width, *page.segment) < 1:
        raise SlideError(f"{name}: its header states an image without pixels; copy or export the file again.")
    if page.is_rgb and page.n_depth == 1:
        return page
    grey = (page.samples, page.bits, page.photometric) == (1, 8, 1) and page.is_integer
    if fluorescence and grey and page.n_depth == 1:
        return page
    if page.bits > 8 or not page.is_integer:
        kind = f"{page.bits}-bit" if page.is_integer else "floating point or signed"
        raise SlideError(
            f"{name}: its pixels are {kind}; export it as 8-bit RGB, as brightfield scanners do, and open "
            "that."
        )
    if page.photometric == 3:
        raise SlideError(f"{name}: its colours come from a palette; export it as 8-bit RGB.")
    if page.samples == 1:
        raise SlideError(greyscale_text(name))
    raise SlideError(
        f"{name}: its colours are stored in a way that isn't read here ({page.samples} samples, photometric "
        f"{page.photometric}); "
        "export it as 8-bit RGB."
    )


def greyscale_text(name: str) -> str:
    """One sentence for a file without colours: stain and scanner can't be told from it."""
    return (
        f"{name}: it is greyscale or one colour channel, not a brightfield RGB slide; export it as 8-bit RGB."
    )


def number(text: str | None) -> float | None:
    """Return the finite number that a field holds, else None."""
    try:
        value = float(str(text).strip())
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def objective(text: str | None) -> float | None:
    """Return the power of an objective; -1 and 0 are how some files say that they don't know."""
    power = number(text)
    return power if power is not None and 0 < power <= HIGHEST_POWER else None


def parse_xml(text: str) -> ElementTree.Element | None:
    try:
        return ElementTree.fromstring(text.strip("\0 \r\n"))  # noqa: S314 - expat >= 2.4.1 bounds entity expansion
    except (ElementTree.ParseError, ValueError, LookupError):  # the last two: an encoding nobody knows
        return None


def local_name(element: ElementTree.Element) -> str:
    return element.tag.rsplit("}", 1)[-1]


def find_all(root: ElementTree.Element, tag: str) -> list[ElementTree.Element]:
    return [e for e in root.iter() if local_name(e) == tag]
