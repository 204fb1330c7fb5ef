"""What the settings come to: the encoder, and the tile grid and stain transform of each slide."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from napari_batchfx.jobs import Job, Progress, run
from napari_batchfx.study.entries import SlideEntry
from napari_batchfx.study.settings import EncodeSettings, TissueChoice
from napari_batchfx.study.shelf import Shelf
from napari_batchfx.study.stain_estimates import StainEstimates
from napari_batchfx.study.tissue_regions import tissue_regions

if TYPE_CHECKING:
    from napari_batchfx.encoders import Encoder
    from napari_batchfx.stain import StainTransform
    from napari_batchfx.tiles import TileGrid

__all__ = ["Instruments"]

_DEFAULT_PX = 224
_DEFAULT_MPP = 0.5
_WAIT_S = 0.05


class Instruments:
    """Grids, encoders and stain transforms of a study, made when they are first asked for.

    Parameters
    ----------
    shelf : Shelf
        The slides and the settings they follow.
    folder : callable returning Path
        The study's folder, where stain estimates are kept.
    """

    def __init__(self, shelf: Shelf, folder: Callable[[], Path]) -> None:
        self._shelf = shelf
        #: The stain of each slide, estimated once.
        self.stain = StainEstimates(shelf, folder)
        #: CPU threads of encoders, as :func:`napari_batchfx.encoders.load` takes them.
        self.threads: int | str | None = None
        self._grids: dict[tuple[object, ...], tuple[object, TileGrid]] = {}
        self._encoders: dict[tuple[str, str, str], Encoder] = {}
        self._loading: dict[tuple[str, str, str], int] = {}
        # One lock a kind, and none is held while an encoder loads: nothing waits for a download.
        self._encoder_lock = threading.RLock()
        self._grid_lock = threading.RLock()

    def encoder(self, choice: EncodeSettings) -> Encoder:
        """The encoder of these settings, loaded here and now where it isn't yet; see :meth:`encoder_job`."""
        return run(self.encoder_job(choice))

    def loaded_encoder(self, choice: EncodeSettings) -> Encoder | None:
        """The encoder of these settings if it is loaded; never waits, so a window may ask."""
        with self._encoder_lock:
            return self._encoders.get(_key(choice))

    def adopt(self, choice: EncodeSettings, encoder: Encoder) -> None:
        """Go on with an encoder of these settings that is loaded already."""
        with self._encoder_lock:
            self._encoders = {_key(choice): encoder}

    def encoder_job(self, choice: EncodeSettings) -> Job[Encoder]:
        """The encoder of these settings as a job; the one before is let go when the new one is there.

        Parameters
        ----------
        choice : EncodeSettings

        Yields
        ------
        Progress
            In bytes while weights are downloaded (see :func:`napari_batchfx.encoders.load_job`). Closing the
            job stops that, and what arrived goes on from there the next time; the encoder before stays.

        Returns
        -------
        Encoder
        """
        key, me = _key(choice), threading.get_ident()
        while True:
            with self._encoder_lock:
                if key in self._encoders:
                    return self._encoders[key]
                # A job of this very thread that waits for its turn would wait for ever.
                if self._loading.get(key, me) == me:
                    self._loading[key] = me
                    break
            yield Progress(0, 0, f"waiting for {choice.encoder}, which is being loaded", "encoders")
            time.sleep(_WAIT_S)
        try:
            yield Progress(0, 0, f"loading {choice.encoder}", "encoders")
            from napari_batchfx.encoders import load_job

            loaded = yield from load_job(
                choice.encoder, device=choice.device, precision=choice.precision, threads=self.threads
            )
            with self._encoder_lock:
                # The one before isn't closed: a job may still run with it, and its memory goes with that job.
                if key not in self._encoders:
                    self._encoders = {key: loaded}
                return self._encoders[key]
        finally:
            with self._encoder_lock:
                if self._loading.get(key) == me:
                    del self._loading[key]

    def grid(
        self,
        entry: SlideEntry,
        choice: EncodeSettings,
        encoder: Encoder | None = None,
        tissue: TissueChoice | None = None,
    ) -> TileGrid:
        """The tiles of a slide; sizes that the choice leaves open are the encoder's.

        Tissue is what the study's present settings and regions say, unless other settings are given.
        """
        from napari_batchfx.tiles import TileGrid

        size_px, mpp = choice.size_px, choice.mpp
        if size_px is None or mpp is None:
            encoder = encoder or self.encoder(choice)
            size_px = size_px or encoder.input_px or _DEFAULT_PX
            mpp = mpp or encoder.mpp or _DEFAULT_MPP
        slide = self._shelf.open_slide(entry)
        with self._grid_lock:
            settings = (tissue or self._shelf.settings.tissue).settings()
            drawn = tissue_regions(list(self._shelf.annotations), entry.name)
            tissue_key = (settings, *(tuple(p.tobytes() for p in polygons) for polygons in drawn))
            key = (entry.fingerprint, size_px, mpp, choice.stride_px, slide.mpp)
            known = self._grids.get(key)
            if (
                known is None
                or known[1].slide is not slide
                or known[0] != tissue_key
                or not known[1].is_current
            ):
                grid = TileGrid(slide, size_px, mpp, choice.stride_px, settings, *drawn)
                # one a size: a slider that changes the tissue must not pile them up
                self._grids[key] = known = (tissue_key, grid)
            return known[1]

    def encode_transform(self, entry: SlideEntry, choice: EncodeSettings) -> StainTransform | None:
        """The stain transform applied to a slide's tiles before the encoder, or ``None``."""
        if choice.normalizer is None:
            return None
        return self.transform(entry, choice.normalizer, choice.target, choice.cohort)

    def transform(
        self, entry: SlideEntry, method: str, target: str | None, cohort: bool = False
    ) -> StainTransform:
        """The stain transform from a slide to a target: a slide, all slides, or the built-in reference.

        Raises
        ------
        StudyError
            If the target isn't in the study.
        StainError
            If stain can't be estimated on the slide or the target.
        """
        return self.stain.transform(entry, method, target, cohort)

    def forget_slide(self, fingerprint: str) -> None:
        """Drop what was made for a slide (it was removed, or its pixel size changed)."""
        with self._grid_lock:
            self._grids = {key: grid for key, grid in self._grids.items() if key[0] != fingerprint}
        self.stain.forget(fingerprint)

    def close(self) -> None:
        """Close the encoder and drop everything."""
        with self._encoder_lock, self._grid_lock:
            for encoder in self._encoders.values():
                encoder.close()
            self._encoders, self._grids = {}, {}
        self.stain.forget()


def _key(choice: EncodeSettings) -> tuple[str, str, str]:
    return (choice.encoder, choice.device, choice.precision)
