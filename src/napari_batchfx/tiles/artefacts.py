"""What lies on a slide besides tissue: pen, edges, folds, blur, damage; each by a rule of its own."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_batchfx.errors import TileError
from napari_batchfx.tiles._blur import measure_sharpness
from napari_batchfx.tiles._edges import edge_mask
from napari_batchfx.tiles._folds import fold_mask
from napari_batchfx.tiles._moment import Moment
from napari_batchfx.tiles._pen import ink_masks, marker_pen
from napari_batchfx.tiles._tissue_fields import TissueFields
from napari_batchfx.tiles.overview import Overview, slide_overview, slide_state
from napari_batchfx.tiles.tissue import TissueMask, TissueSettings, find_tissue

if TYPE_CHECKING:
    from napari_batchfx.slides import Slide

__all__ = ["ARTEFACTS", "ArtefactMask", "artefact_mask"]

#: Kinds of artefact, in the order of their labels (1, 2, ...).
ARTEFACTS: Final = ("pen", "edge", "fold", "blur", "damaged")


@dataclass(frozen=True, eq=False)
class ArtefactMask:
    """Artefacts over a slide, from its top left corner.

    Parameters
    ----------
    flags : ndarray of uint8, (h, w)
        Bit ``i`` is set where there is the artefact ``ARTEFACTS[i]``: a place can have several.
    mpp : (float, float)
        Micrometres a pixel, (y, x).
    kinds : tuple of str
        The artefacts that were looked for.
    not_judged : tuple of str
        Those of them that could not be judged on this slide (folds in fluorescence, blur at 4 um a pixel).
    inks : tuple of str
        Colours of the pen found.
    """

    flags: NDArray[np.uint8]
    mpp: tuple[float, float]
    kinds: tuple[str, ...]
    not_judged: tuple[str, ...] = ()
    inks: tuple[str, ...] = ()

    @property
    def labels(self) -> NDArray[np.uint8]:
        """One artefact a pixel, uint8 (h, w): 0 none, 1 pen, 2 edge, ...; the first of several."""
        table = np.zeros(256, np.uint8)
        for value in range(1, 1 << len(ARTEFACTS)):
            table[value] = (value & -value).bit_length()
        return table[self.flags]

    def mask(self, *kinds: str) -> NDArray[np.bool_]:
        """Where there is any of these artefacts (of all, if none is named), bool (h, w)."""
        bits = sum(1 << _index(kind) for kind in set(kinds or self.kinds))
        result: NDArray[np.bool_] = (self.flags & bits) > 0
        return result

    def fraction(self, kind: str, bounds_um: ArrayLike) -> NDArray[np.float32]:
        """Return the share of boxes (n, 4) of y0, x0, y1, x1 in micrometres that an artefact covers."""
        boxes = np.asarray(bounds_um, dtype=np.float64)
        return TissueMask(self.mask(kind), self.mpp, 0.0).fraction(boxes)

    def share(self, kind: str, of: NDArray[np.bool_] | None = None) -> float:
        """Share (0..1) of the slide, or of a mask of the same shape, that an artefact covers."""
        mask = self.mask(kind)
        part = mask if of is None else mask[of]
        return float(part.mean()) if part.size else 0.0


_found: WeakKeyDictionary[Slide, dict[tuple[object, ...], tuple[NDArray[np.bool_] | None, tuple[str, ...]]]]
_found = WeakKeyDictionary()
_lock = threading.Lock()


def artefact_mask(slide: Slide, mpp: float = 8.0, kinds: Sequence[str] = ARTEFACTS) -> ArtefactMask:
    """Find pen, edges of coverslip and slide, folds, blur and damaged parts of the file.

    The rules and what they were measured on: *Artefacts* in the documentation. They flag little that is
    clean, and miss some of what isn't; none of them is a diagnosis of the slide.

    Parameters
    ----------
    slide : Slide
        With a known pixel size.
    mpp : float
        Micrometres a pixel of the mask. The rules were measured at 8.
    kinds : sequence of str
        Which to look for, of :data:`ARTEFACTS`; blur is the one that takes time (it reads the tissue at about
        1 um a pixel, at most 6,000 windows of 64 um).

    Returns
    -------
    ArtefactMask
        Each kind is computed once for an open slide.

    Raises
    ------
    TileError
        If the slide has no pixel size, or there is no such artefact.

    References
    ----------
    Bautista and Yagi 2010, Improving the visualization and detection of tissue folds in whole slide images
    through color enhancement, J Pathol Inform 1:25; Kothari et al. 2013, Eliminating tissue-fold artifacts in
    histopathological whole-slide images, J Pathol Inform 4:22 (folds are dense and elongated). Pech-Pacheco
    et al. 2000, Diatom autofocusing in brightfield microscopy, ICPR 3:314 (variance of the Laplacian). The
    rules here are others.

    Examples
    --------
    >>> from napari_batchfx.slides import open_slide, write_pyramid
    >>> pixels = np.full((600, 600, 3), 240, np.uint8)
    >>> pixels[100:500, 100:300] = 190, 22, 30
    >>> _ = write_pyramid("a.tif", pixels, mpp=2.0, compression="deflate")
    >>> with open_slide("a.tif") as slide:
    ...     found = artefact_mask(slide, kinds=["pen"])
    >>> found.inks, bool(found.mask("pen")[75, 50]), bool(found.mask("pen")[75, 120])
    (('red',), True, False)
    """
    for kind in kinds:
        _index(kind)
    wanted = tuple(kind for kind in ARTEFACTS if kind in kinds)
    while True:
        before = Moment.of(slide)
        colours_and_size = slide_state(slide)[:2]
        overview = slide_overview(slide, float(mpp))
        state = (*colours_and_size, overview.n_damaged, float(mpp))
        with _lock:
            known = {kind: _found.get(slide, {}).get((*state, kind)) for kind in wanted}
        finder = _Finder(slide, overview)
        made = {kind: finder.find(kind) for kind, found in known.items() if found is None}
        if before.holds(slide):
            break  # else colours or pixel size were changed meanwhile: look again
    with _lock:
        kept = _found.setdefault(slide, {})
        if made:
            for old in [key for key in kept if key[:-2] != state[:-1]]:
                del kept[old]  # of another pixel size or colour
        kept.update({(*state, kind): found for kind, found in made.items()})
    known.update(made)
    flags = np.zeros(overview.shape, np.uint8)
    not_judged: list[str] = []
    inks: tuple[str, ...] = ()
    for kind, found in known.items():
        assert found is not None
        mask, words = found
        if mask is None:
            not_judged.append(kind)
            continue
        flags |= mask.astype(np.uint8) << np.uint8(_index(kind))
        inks = words if kind == "pen" else inks
    return ArtefactMask(flags, overview.mpp, wanted, tuple(not_judged), inks)


class _Finder:
    """The rules on one overview; what several of them need is computed once."""

    def __init__(self, slide: Slide, overview: Overview) -> None:
        self.slide = slide
        self.overview = overview
        self._od: NDArray[np.float32] | None = None
        self._tissue: NDArray[np.bool_] | None = None

    @property
    def od(self) -> NDArray[np.float32]:
        if self._od is None:
            self._od = self.overview.density()
        return self._od

    @property
    def tissue(self) -> NDArray[np.bool_]:
        if self._tissue is None:
            self._tissue = find_tissue(TissueFields(self.overview, marker_pen), TissueSettings()).mask
        return self._tissue

    def find(self, kind: str) -> tuple[NDArray[np.bool_] | None, tuple[str, ...]]:
        """The mask of a kind, ``None`` where it can't be judged; for pen the colours found."""
        overview = self.overview
        if kind == "damaged":
            return overview.missing, ()
        if kind == "blur":
            sharpness = measure_sharpness(self.slide, overview, self.tissue)
            return (None if sharpness is None else sharpness.blurred(overview, self.tissue)), ()
        if overview.is_fluorescence:
            return None, ()
        if kind == "pen":
            inks = ink_masks(self.od, overview)
            found = tuple(name for name, mask in inks.items() if mask.any())
            return np.logical_or.reduce(list(inks.values())), found
        if kind == "edge":
            return edge_mask(self.od, overview), ()
        return fold_mask(self.od, self.tissue, overview), ()


def _index(kind: str) -> int:
    if kind not in ARTEFACTS:
        raise TileError(f"There is no artefact {kind!r}; there are {', '.join(ARTEFACTS)}.")
    return ARTEFACTS.index(kind)
