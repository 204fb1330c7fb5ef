"""An open slide goes on where its file is now: moved, or replaced and put back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_batchfx.errors import SlideError

if TYPE_CHECKING:
    from napari_batchfx.slides.slide import Slide

__all__ = ["carry_on", "still_reads"]


def still_reads(slide: Slide, *, now: bool = False) -> bool:
    """Whether a slide's file is where it was opened, unchanged; looks at most once a second, or now."""
    try:
        slide._watch.check(now=now)
    except SlideError:
        return False
    return not slide.is_closed


def carry_on(slide: Slide, found: Slide) -> bool:
    """Let an open slide, and every pyramid made from it, read on from the file of another one.

    Parameters
    ----------
    slide : Slide
        Whose file was moved or changed. It keeps its pixel size and colours; damage is counted anew.
    found : Slide
        The same content at its place of now. Its file becomes the other's: it is closed afterwards.

    Returns
    -------
    bool
        False, and nothing is done, where it is other content, another reader reads it or its levels differ.

    Examples
    --------
    >>> import numpy as np
    >>> from pathlib import Path
    >>> from napari_batchfx.slides import open_slide, write_pyramid
    >>> _ = write_pyramid("a.tif", np.full((300, 400, 3), 200, np.uint8), mpp=0.5, compression="deflate")
    >>> slide = open_slide("a.tif")
    >>> found = open_slide(Path("a.tif").rename("b.tif"))
    >>> carry_on(slide, found), slide.path.name, int(slide.read(0, 0, 0, 9, 9).mean())
    (True, 'b.tif', 200)
    """
    same = (
        not slide.is_closed
        and not found.is_closed
        and slide.fingerprint == found.fingerprint
        and type(slide._source) is type(found._source)
        and slide.levels == found.levels
    )
    if not same:
        return False
    source, pixels = slide._source, slide._pixels
    slide.path, slide.name, slide.lost_share = found.path, found.name, found.lost_share
    slide._source, slide._watch, slide._damage = found._source, found._watch, found._damage
    slide._pixels = slide._pixels_in(pixels.colour)
    # Closed, but for the file: it is the other's now.
    found._is_closed = True
    found._pixels.retire()
    pixels.retire()
    source.close()
    return True
