"""A slide through a stain transform, computed only where it is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from napari_batchfx.slides import Slide
    from napari_batchfx.stain.transform import StainTransform

__all__ = ["preview"]


def preview(slide: Slide, transform: StainTransform, *, pending: str = "wait") -> list[Any]:
    """Pyramid of a slide through a stain transform, lazily and chunk by chunk.

    Parameters
    ----------
    slide : Slide
        An open slide.
    transform : StainTransform
        Usually ``normalizer.for_slide(slide)``.
    pending : {"wait", "blank"}
        What to do about levels that the file lacks, see :meth:`napari_batchfx.slides.Slide.pyramid`.

    Returns
    -------
    list of dask.array.Array
        uint8 (h, w, 3), as many levels and the same chunks as ``slide.pyramid()``. The dask names say which
        slide, transform and level they are, so that a cache never mixes up two previews.

    Examples
    --------
    >>> from napari_batchfx.jobs import run
    >>> from napari_batchfx.samples import demo_pair
    >>> from napari_batchfx.slides import open_slide
    >>> from napari_batchfx.stain import ReinhardNormalizer
    >>> demo = run(demo_pair("demo", size_um=150))
    >>> with open_slide(demo[0].path) as slide:
    ...     levels = preview(slide, ReinhardNormalizer().for_slide(slide))
    ...     part = levels[0][:64, :64].compute()
    >>> part.shape, part.dtype.name
    ((64, 64, 3), 'uint8')
    """
    return [
        level.map_blocks(
            _chunk,
            transform,
            dtype=np.uint8,
            chunks=level.chunks,
            meta=np.empty((0, 0, 3), np.uint8),
            name=f"stain-{slide.fingerprint}-{transform.key}-{i}-{level.name}",
        )
        for i, level in enumerate(slide.pyramid(pending=pending))
    ]


def _chunk(block: npt.NDArray[np.uint8], transform: StainTransform) -> npt.NDArray[np.uint8]:
    # dask already runs chunks in several threads.
    return transform.transform(block, workers=1)
