"""Which parts of a slide hold tissue: Otsu on optical density, with a floor so that glass stays glass."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_batchfx.errors import TileError
from napari_batchfx.slides import Slide
from napari_batchfx.tiles._moment import Moment
from napari_batchfx.tiles._pen import marker_pen
from napari_batchfx.tiles._tissue_fields import TissueFields, drop_specks, fill_holes
from napari_batchfx.tiles.overview import polygon_mask, slide_overview, slide_state

__all__ = ["EXCLUDABLE", "TissueMask", "TissueSettings", "find_tissue", "tissue_mask"]

#: Artefacts that can be left out of the tissue.
EXCLUDABLE = ("pen", "edge", "fold", "blur")
Polygons = Iterable[ArrayLike]


@dataclass(frozen=True)
class TissueSettings:
    """How tissue is found.

    Parameters
    ----------
    threshold : float or None
        Optical density (mean over the channels, smoothed) above which a pixel counts; for fluorescence the
        brightness above the background as a share of full scale. ``None`` = found for each slide.
    smooth_um : float
        Standard deviation of the smoothing, micrometres; 0 to 200.
    min_area_um2 : float
        Connected tissue below this area is dropped.
    fill_holes_um2 : float
        Holes below this area are filled; larger ones (lumina, vessels, fat) stay. 0 fills none.
    exclude : tuple of str
        Artefacts that count as no tissue: of "pen", "edge", "fold", "blur" (see :func:`artefact_mask`).

    Raises
    ------
    TileError
        If a value is out of its range or an artefact isn't known.

    Examples
    --------
    >>> TissueSettings(threshold=0.05, exclude=("pen", "fold")).smooth_um
    8.0
    """

    threshold: float | None = None
    smooth_um: float = 8.0
    min_area_um2: float = 1000.0
    fill_holes_um2: float = 0.0
    exclude: tuple[str, ...] = ("pen",)

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 < self.threshold <= 3:
            raise TileError(f"The tissue threshold is a density above 0 and up to 3, not {self.threshold:g}.")
        if not 0 <= self.smooth_um <= 200:
            raise TileError(f"Tissue is smoothed over 0 to 200 µm, not {self.smooth_um:g}.")
        for area in (self.min_area_um2, self.fill_holes_um2):
            if not 0 <= area < float("inf"):
                raise TileError(f"An area of tissue or holes is 0 µm² or more, not {area:g}.")
        given: object = self.exclude
        if isinstance(given, str):
            raise TileError(f"Artefacts to leave out are a list of names, not the text {self.exclude!r}.")
        unknown = [name for name in self.exclude if name not in EXCLUDABLE]
        if unknown:
            raise TileError(
                f"{unknown[0]!r} is no artefact that can be left out; there are {', '.join(EXCLUDABLE)}."
            )
        # one order, so that equal choices are equal settings
        object.__setattr__(self, "exclude", tuple(name for name in EXCLUDABLE if name in self.exclude))


@dataclass(frozen=True)
class TissueMask:
    """Tissue over a slide, from its top left corner.

    Parameters
    ----------
    mask : ndarray of bool, (h, w)
        True where there is tissue.
    mpp : (float, float)
        Micrometres a mask pixel, (y, x).
    threshold : float
        Optical density above which a pixel counts.
    """

    mask: NDArray[np.bool_]
    mpp: tuple[float, float]
    threshold: float

    @property
    def fraction_of_slide(self) -> float:
        """Share of the slide that is tissue, 0..1."""
        return float(self.mask.mean()) if self.mask.size else 0.0

    def fraction(self, bounds_um: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the share of tissue in boxes, exact to parts of mask pixels.

        Parameters
        ----------
        bounds_um : ndarray, (n, 4)
            y0, x0, y1, x1 in micrometres.

        Returns
        -------
        ndarray of float32, (n,)
            0..1; what lies outside of the slide counts as no tissue.
        """
        bounds = np.asarray(bounds_um, dtype=np.float64).reshape(-1, 4)
        table = np.zeros((self.mask.shape[0] + 1, self.mask.shape[1] + 1))
        np.cumsum(np.cumsum(self.mask, axis=0, dtype=np.float64), axis=1, out=table[1:, 1:])
        y0, y1 = bounds[:, 0] / self.mpp[0], bounds[:, 2] / self.mpp[0]
        x0, x1 = bounds[:, 1] / self.mpp[1], bounds[:, 3] / self.mpp[1]
        inside = _at(table, y1, x1) - _at(table, y0, x1) - _at(table, y1, x0) + _at(table, y0, x0)
        area = np.maximum((y1 - y0) * (x1 - x0), 1e-12)
        result: NDArray[np.float32] = np.clip(inside / area, 0, 1).astype(np.float32)
        return result


def _at(table: NDArray[np.float64], y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Summed area up to (y, x), linear between pixel corners (exact for a mask of constant pixels)."""
    y = np.clip(y, 0, table.shape[0] - 1)
    x = np.clip(x, 0, table.shape[1] - 1)
    i = np.minimum(y.astype(int), table.shape[0] - 2)
    j = np.minimum(x.astype(int), table.shape[1] - 2)
    v, u = y - i, x - j
    result: NDArray[np.float64] = (
        table[i, j] * (1 - v) * (1 - u)
        + table[i + 1, j] * v * (1 - u)
        + table[i, j + 1] * (1 - v) * u
        + table[i + 1, j + 1] * v * u
    )
    return result


_masks: WeakKeyDictionary[Slide, dict[tuple[object, ...], TissueMask]] = WeakKeyDictionary()
_lock = threading.Lock()
# Masks kept for an open slide: a slider passes through many settings.
KEPT = 8


def tissue_mask(
    slide: Slide,
    mpp: float = 8.0,
    settings: TissueSettings | None = None,
    include: Polygons = (),
    exclude: Polygons = (),
) -> TissueMask:
    """Find the tissue of a slide.

    The slide is brought to ``mpp`` by area means. A pixel's density is its mean optical density against the
    slide's own glass, smoothed over 8 um so that pale cytoplasm between nuclei counts. The threshold is
    Otsu's on the logarithm of the density (glass and tissue differ by a factor, not by a difference), held
    between a floor (a blank slide has no tissue) and a ceiling (a slide full of tissue isn't cut in two).
    Grey smooth shades (uneven light, dirt), pixels that are black in all channels (padding, scan borders),
    damaged parts of the file and the artefacts that the settings name don't count; specks are dropped, small
    holes filled if asked for. What a person drew overrides all of it.

    Fluorescence (``slide.modality``) is bright on dark: Otsu on the brightness above the darkest percent.

    Parameters
    ----------
    slide : Slide
        With a known pixel size.
    mpp : float
        Micrometres a mask pixel; made coarser where the mask would exceed 32 MPix, finer never than the
        slide.
    settings : TissueSettings, optional
        The defaults otherwise.
    include, exclude : iterable of array (k, 2)
        Polygons (y, x) in micrometres that are tissue, and that are none, whatever the pixels say; where both
        overlap there is none.

    Returns
    -------
    TissueMask
        Empty (all False) for a slide without tissue. Computed once for an open slide.

    Raises
    ------
    TileError
        If the slide has no pixel size.

    References
    ----------
    Otsu 1979, A threshold selection method from gray-level histograms, IEEE Trans. SMC 9:62.

    Examples
    --------
    >>> from napari_batchfx.slides import open_slide, write_pyramid
    >>> pixels = np.full((400, 400, 3), 240, np.uint8)
    >>> pixels[100:300, 100:300] = 180, 90, 150
    >>> _ = write_pyramid("a.tif", pixels, mpp=1.0, compression="deflate")
    >>> with open_slide("a.tif") as slide:
    ...     mask = tissue_mask(slide).mask
    >>> mask.shape, round(float(mask.mean()), 1), bool(mask[25, 25]), bool(mask[0, 0])
    ((50, 50), 0.3, True, False)
    """
    settings = settings or TissueSettings()
    include, exclude = tuple(include), tuple(exclude)
    drawn = tuple(
        tuple(np.asarray(polygon, dtype=np.float64).tobytes() for polygon in polygons)
        for polygons in (include, exclude)
    )
    asked = (float(mpp), settings, drawn)
    while True:
        before = Moment.of(slide)
        state = slide_state(slide)
        with _lock:
            known = _masks.get(slide, {}).get((*state, *asked))
        if known is not None:
            return known
        overview = slide_overview(slide, float(mpp))
        # of other colours or another pixel size than it began with: not to be kept under these
        if not before.holds(slide):
            continue
        artefacts = _left_out(slide, float(mpp), settings)
        if before.holds(slide):
            break
    found = find_tissue(TissueFields(overview, marker_pen), settings, include, exclude, artefacts)
    with _lock:
        kept = _masks.setdefault(slide, {})
        kept[(*state[:2], overview.n_damaged, *asked)] = found
        while len(kept) > KEPT:
            kept.pop(next(iter(kept)))
    return found


def find_tissue(
    fields: TissueFields,
    settings: TissueSettings,
    include: Polygons = (),
    exclude: Polygons = (),
    artefacts: NDArray[np.bool_] | None = None,
) -> TissueMask:
    """Do the last steps of :func:`tissue_mask`, on an overview that was prepared before.

    Parameters
    ----------
    fields : TissueFields
    settings : TissueSettings
    include, exclude : iterable of array (k, 2)
        As for :func:`tissue_mask`.
    artefacts : ndarray of bool, (h, w), optional
        Folds, blur and edges that are left out.
    """
    overview = fields.overview
    without_pen = "pen" in settings.exclude
    smoothed = fields.smoothed(settings.smooth_um, without_pen)
    threshold = smoothed.automatic if settings.threshold is None else float(settings.threshold)
    mask: NDArray[np.bool_] = (smoothed.density > threshold) & smoothed.possible
    mask = drop_specks(mask, settings.min_area_um2 / overview.pixel_um2)
    if settings.fill_holes_um2 > 0:
        closed = fields.never | fields.pen if without_pen else fields.never
        mask = fill_holes(mask, settings.fill_holes_um2 / overview.pixel_um2, closed)
    if artefacts is not None:
        mask &= ~artefacts
    mask |= polygon_mask(include, overview.shape, overview.mpp)
    mask &= ~polygon_mask(exclude, overview.shape, overview.mpp)
    # what can't be read can't be looked at, whoever drew it
    mask &= ~overview.missing
    return TissueMask(mask, overview.mpp, threshold)


def _left_out(slide: Slide, mpp: float, settings: TissueSettings) -> NDArray[np.bool_] | None:
    kinds = [kind for kind in settings.exclude if kind != "pen"]
    if not kinds:
        return None
    from napari_batchfx.tiles.artefacts import artefact_mask

    return artefact_mask(slide, mpp, kinds).mask(*kinds)
