"""The tissue mask and the artefacts of a slide as small pictures, again and again while a slider moves."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.study.settings import TissueChoice
from napari_batchfx.study.tissue_regions import tissue_regions

if TYPE_CHECKING:
    from napari_batchfx.slides import Slide
    from napari_batchfx.study.bench import Bench
    from napari_batchfx.study.entries import SlideEntry
    from napari_batchfx.tiles import ArtefactMask

__all__ = [
    "ARTEFACT_COLOURS",
    "TISSUE_COLOUR",
    "TissueMap",
    "TissuePreview",
    "study_tissue",
    "tissue_preview",
]

#: Colours of the overlays (Okabe and Ito's palette: told apart by colour-blind people).
TISSUE_COLOUR: Final = "#009E73"
ARTEFACT_COLOURS: Final = {
    "pen": "#D55E00",
    "edge": "#56B4E9",
    "fold": "#F0E442",
    "blur": "#CC79A7",
    "damaged": "#000000",
}
_NAMES = {
    "pen": "under pen",
    "edge": "at edges of coverslip or slide",
    "fold": "in folds",
    "blur": "out of focus",
    "damaged": "damaged in the file",
}


@dataclass(frozen=True, eq=False)
class TissueMap:
    """What an overlay shows of one slide.

    Parameters
    ----------
    tissue : ndarray of uint8, (h, w)
        1 where there is tissue.
    artefacts : ndarray of uint8, (h, w) or None
        0 none, else ``kinds.index(kind) + 1``; ``None`` where they were not looked for.
    mpp : (float, float)
        Micrometres a pixel, (y, x): ``scale`` of an image layer, whose ``translate`` is half of it.
    kinds : tuple of str
        Artefacts by label.
    colours : tuple of str
        Their colours.
    threshold : float
        Density above which a pixel counts.
    is_automatic : bool
        Whether the threshold was found, not chosen.
    share : float
        Tissue, 0..1 of the slide.
    artefact_shares : dict of str to float
        For each kind looked for, the share of what would be tissue without artefacts being left out; of the
        whole slide for edges and damage, which mostly lie beside it.
    not_judged : tuple of str
        Artefacts that can't be judged on this slide.
    """

    tissue: NDArray[np.uint8]
    artefacts: NDArray[np.uint8] | None
    mpp: tuple[float, float]
    kinds: tuple[str, ...]
    colours: tuple[str, ...]
    threshold: float
    is_automatic: bool
    share: float
    artefact_shares: dict[str, float]
    not_judged: tuple[str, ...] = ()

    @property
    def translate_um(self) -> tuple[float, float]:
        """Centre of the first pixel, (y, x), micrometres."""
        return (self.mpp[0] / 2, self.mpp[1] / 2)

    def sentence(self) -> str:
        """Say it in words: "31 % of the slide is tissue; 2.1 % of it lies under pen."."""
        text = f"{_percent(self.share)} of the slide is tissue"
        inside = [
            f"{_percent(share)} of it lies {_NAMES[kind]}"
            for kind, share in self.artefact_shares.items()
            if share > 0 and kind not in ("edge", "damaged", "blur")
        ]
        if self.artefact_shares.get("blur", 0) > 0:
            inside.append(f"{_percent(self.artefact_shares['blur'])} of it is {_NAMES['blur']}")
        beside = [
            f"{_percent(share)} of the slide is {_NAMES[kind]}"
            for kind, share in self.artefact_shares.items()
            if share > 0 and kind in ("edge", "damaged")
        ]
        text = "; ".join([text, *inside, *beside]) + "."
        if self.not_judged:
            text += f" Not judged on this slide: {', '.join(self.not_judged)}."
        return text


class TissuePreview:
    """A slide's overview, read once; masks of other settings follow in milliseconds.

    Made by :func:`tissue_preview`. Safe to use from a worker thread, one call at a time (a lock sees to it);
    nothing in it touches the screen.

    Parameters
    ----------
    slide : Slide
        Open, with a known pixel size.
    mpp : float
        Micrometres a pixel.

    Examples
    --------
    >>> from napari_batchfx.slides import open_slide, write_pyramid
    >>> pixels = np.full((400, 400, 3), 240, np.uint8)
    >>> pixels[100:300, 100:300] = 180, 90, 150
    >>> _ = write_pyramid("a.tif", pixels, mpp=1.0, compression="deflate")
    >>> with open_slide("a.tif") as slide:
    ...     preview = TissuePreview(slide)
    ...     preview.show(TissueChoice(threshold=0.1)).sentence()
    '27 % of the slide is tissue.'
    """

    def __init__(self, slide: Slide, mpp: float = 8.0) -> None:
        from napari_batchfx.tiles._pen import marker_pen
        from napari_batchfx.tiles._tissue_fields import TissueFields
        from napari_batchfx.tiles.overview import slide_overview

        self._slide = slide
        self._asked_mpp = float(mpp)
        self._fields = TissueFields(slide_overview(slide, mpp), marker_pen)
        self._lock = threading.Lock()

    @property
    def image(self) -> NDArray[np.uint8]:
        """The overview, uint8 (h, w, 3)."""
        return self._fields.overview.image

    def show(
        self,
        choice: TissueChoice,
        include: Sequence[NDArray[np.float64]] = (),
        exclude: Sequence[NDArray[np.float64]] = (),
        kinds: Sequence[str] = (),
    ) -> TissueMap:
        """Find the tissue with these settings, and the artefacts asked for.

        Parameters
        ----------
        choice : TissueChoice
        include, exclude : sequence of array (k, 2)
            Polygons (y, x) in micrometres that override.
        kinds : sequence of str
            Artefacts to show (of :data:`napari_batchfx.tiles.ARTEFACTS`). Each kind takes its time once for
            an open slide (blur most: seconds on a large one); then it is there.

        Returns
        -------
        TissueMap
        """
        from napari_batchfx.tiles import artefact_mask
        from napari_batchfx.tiles.tissue import find_tissue

        settings = choice.settings()
        left_out = tuple(kind for kind in settings.exclude if kind != "pen")
        with self._lock:
            found: ArtefactMask | None = None
            if kinds or left_out:
                found = artefact_mask(self._slide, self._asked_mpp, tuple({*kinds, *left_out}))
            removed = found.mask(*left_out) if found is not None and left_out else None
            made = find_tissue(self._fields, settings, include, exclude, removed)
            automatic = choice.threshold is None
            shares: dict[str, float] = {}
            labels = None
            if found is not None and kinds:
                # what lies under an artefact is left out of the tissue: count it where it is missed
                whole = made.mask
                for kind in settings.exclude:
                    if kind in kinds:
                        whole = whole | found.mask(kind)
                for kind in (kind for kind in found.kinds if kind in kinds and kind not in found.not_judged):
                    beside = kind in ("edge", "damaged")
                    shares[kind] = found.share(kind, None if beside else whole)
                labels = _relabel(found, tuple(kinds))
        return TissueMap(
            made.mask.astype(np.uint8),
            labels,
            made.mpp,
            tuple(kinds),
            tuple(ARTEFACT_COLOURS[kind] for kind in kinds),
            made.threshold,
            automatic,
            made.fraction_of_slide,
            shares,
            () if found is None else tuple(kind for kind in found.not_judged if kind in kinds),
        )


def tissue_preview(study: Bench, entry: SlideEntry | str, mpp: float = 8.0) -> TissuePreview:
    """Read what is needed to show the tissue of a slide of a study; call it off the GUI thread.

    Parameters
    ----------
    study : Study
    entry : SlideEntry or str
    mpp : float
        Micrometres a pixel of the maps.

    Raises
    ------
    SlideError, TileError
        If the slide can't be read or has no pixel size.
    """
    return TissuePreview(study.open_slide(entry), mpp)


def study_tissue(study: Bench, entry: SlideEntry | str, kinds: Sequence[str] = ()) -> TissueMap:
    """Map of the tissue as the study has it now: its settings and the regions drawn on the slide."""
    entry = study.slide(entry)
    include, exclude = tissue_regions(list(study.annotations), entry.name)
    return tissue_preview(study, entry).show(study.settings.tissue, include, exclude, kinds)


def _relabel(found: ArtefactMask, kinds: tuple[str, ...]) -> NDArray[np.uint8]:
    labels = np.zeros(found.flags.shape, np.uint8)
    for number, kind in reversed(list(enumerate(kinds, start=1))):
        labels[found.mask(kind)] = number
    return labels


def _percent(share: float) -> str:
    value = 100 * share
    if 0 < value < 0.1:
        return "less than 0.1 %"
    return f"{value:.0f} %" if value >= 10 or value == 0 else f"{value:.1f} %"
