"""Give a slide of a study another pixel size, or its file's own back; what lies on it follows its pixels."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from napari_batchfx.errors import SlideError
from napari_batchfx.study.pixel_sizes import forget_pixel_size, remember_pixel_size
from napari_batchfx.study.rescaling import rescale_slide

if TYPE_CHECKING:
    from napari_batchfx.study.entries import SlideEntry
    from napari_batchfx.study.shelf import Shelf

__all__ = ["own_pixel_size", "set_pixel_size", "use_own_pixel_size"]


def set_pixel_size(study: Shelf, entry: SlideEntry, given: tuple[float, float]) -> None:
    """Let a pixel size (y, x), in micrometres, count for a slide from now on, here and in later studies."""
    slide = study._open_slides.get(entry.fingerprint)
    if slide is None and entry.mpp_given is None:
        # what its regions were drawn with: the file's own
        with contextlib.suppress(SlideError):
            slide = study.open_slide(entry)
    before = entry.mpp_given if slide is None else slide.mpp
    if slide is not None:
        slide.with_mpp(given)
    entry.mpp_given = given
    if before is not None:
        rescale_slide(study, entry, before, given)
    remember_pixel_size(entry.fingerprint, given)
    study._slide_changed(entry)


def own_pixel_size(study: Shelf, entry: SlideEntry) -> tuple[float, float]:
    """The pixel size that a slide's file states; SlideError where it states none."""
    own = study.open_slide(entry).own_mpp
    if own is None:
        raise SlideError(f"{entry.name}: its file states no pixel size; give micrometres a pixel.")
    return own


def use_own_pixel_size(study: Shelf, entry: SlideEntry, own: tuple[float, float]) -> None:
    """Let ``own``, the file's pixel size, count again and forget the other."""
    slide = study.open_slide(entry)
    before = slide.mpp
    slide.with_own_mpp()
    entry.mpp_given = None
    if before is not None:
        rescale_slide(study, entry, before, own)
    forget_pixel_size(entry.fingerprint)
    study._slide_changed(entry)
