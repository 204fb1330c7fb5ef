"""Lay two scans of the same tissue on each other: all turns at a glance, then windows, finer and finer."""

from __future__ import annotations

from napari_batchfx.errors import SlideError
from napari_batchfx.jobs import Job, Progress, run
from napari_batchfx.slides.alignment.poses import SCALES, Pose, Search
from napari_batchfx.slides.alignment.refining import CANDIDATES, Sides, Track, judged, refine
from napari_batchfx.slides.alignment.result import MODELS, Alignment, Model
from napari_batchfx.slides.slide import Slide

__all__ = ["register", "register_job"]


def register(a: Slide, b: Slide, *, model: Model = "similarity", mirror: bool = True) -> Alignment:
    """Find how slide b lies on slide a: rescans of one section, or serial sections.

    1. Overviews of the tissue at about 112 px, as local contrast of the grey optical density, are
    correlated over all shifts at every 3 degrees, both sides and three sizes. 2. The best dozen are refined
    by windows at finer and finer pixels down to 0.5 um: each window finds its own best match nearby, and the
    transform most windows agree on is fitted. 3. At each pixel size one half of the windows tests what the
    other half fitted.

    Parameters
    ----------
    a, b : Slide
        With known pixel sizes.
    model : {"similarity", "translation", "affine"}
        "translation": same turn, side and size. "similarity": any turn, a scale of 0.9 to 1.1. "affine": as
        that, then a linear stretch and shear from what windows say.
    mirror : bool
        Whether b may show the tissue from its other side.

    Returns
    -------
    Alignment
        "good": windows at 2.6 um a pixel or finer agree beyond chance (1 in a million), and what is left is
        at most 5 um. "uncertain": beyond chance, but more is left, or only at coarser pixels. "failed":
        as unrelated tissue would. A failed alignment is the identity.

    Raises
    ------
    SlideError
        If a slide has no pixel size.

    References
    ----------
    Lewis 1995, Fast normalized cross-correlation. Moisan, Stival 2004, A probabilistic criterion to detect
    rigid point matches, Int. J. Comput. Vis. 57:201.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import ndimage
    >>> from napari_batchfx.slides import open_slide, write_pyramid
    >>> noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(600, 600)), 4)
    >>> pixels = np.repeat((230 - 120 * (noise > 0.05))[..., None], 3, axis=2).astype(np.uint8)
    >>> for name, part in (("a.tif", pixels), ("b.tif", np.rot90(pixels, -1))):
    ...     _ = write_pyramid(name, np.ascontiguousarray(part), mpp=1.0, compression="deflate")
    >>> with open_slide("a.tif") as a, open_slide("b.tif") as b:
    ...     found = register(a, b)
    >>> found.verdict, round(found.rotation_deg), round(found.scale, 2)
    ('good', 90, 1.0)
    """
    return run(register_job(a, b, model=model, mirror=mirror))


def register_job(a: Slide, b: Slide, *, model: Model = "similarity", mirror: bool = True) -> Job[Alignment]:
    """:func:`register` as a job that says how far it is."""
    if model not in MODELS:
        raise SlideError(f"There is no model {model!r:.30}; there are {', '.join(MODELS)}.")
    what = f"aligning {b.name}"
    total = 100
    yield Progress(0, total, what, "steps")
    sides = Sides.of(a, b)
    if sides is None:
        return Alignment.none_found(model)
    yield Progress(5, total, what, "steps")
    search = Search(
        *sides.grays,
        *(place.data > 0 for place in sides.tissues),
        turns=model != "translation",
        mirror=mirror,
    )
    best: Track | None = None
    # rescans have one size: the other sizes are looked at where that finds nothing good
    for number, scales in enumerate(SCALES if model != "translation" else SCALES[:1]):
        poses: list[Pose] = []
        start = 5 + 47 * number
        for share, poses in search.run(scales, CANDIDATES):  # noqa: B007 - the last list is the result
            yield Progress(start + round(22 * share), total, what, "steps")
        matrices = [pose.matrix for pose in poses]
        found = yield from refine(sides, matrices, search.mpp, model, what, (start + 22, start + 46))
        if found is not None and (best is None or found.order < best.order):
            best = found
        if best is not None and best.is_good:
            break
    return Alignment.none_found(model) if best is None else judged(sides, best, model)
