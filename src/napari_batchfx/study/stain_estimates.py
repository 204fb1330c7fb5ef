"""The stain of each slide of a study: estimated once a method, kept in memory and beside the study."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_batchfx.errors import StainError
from napari_batchfx.study import files
from napari_batchfx.study.entries import SlideEntry
from napari_batchfx.study.shelf import Shelf

if TYPE_CHECKING:
    from napari_batchfx.slides import Slide
    from napari_batchfx.stain import LabStatistics, StainEstimate, StainTransform

__all__ = ["StainEstimates"]

STAIN_FILE = "stain.json"
_FORMAT = "napari-batchfx stain estimates"
#: Raised when estimates of the same slide would come out otherwise: older ones are then made again.
_VERSION = 2


class StainEstimates:
    """Estimates of a study's slides, made when they are first asked for.

    Parameters
    ----------
    shelf : Shelf
        The slides and the settings they follow.
    folder : callable returning Path
        Where they are kept (``stain.json``); a file that can't be read or written is done without.
    """

    def __init__(self, shelf: Shelf, folder: Callable[[], Path]) -> None:
        self._shelf = shelf
        self._folder = folder
        self._lock = threading.RLock()
        self._known: dict[str, dict[str, Any]] | None = None
        self._busy: dict[str, threading.Lock] = {}
        self._transforms: dict[tuple[Any, ...], StainTransform] = {}

    def of(self, entry: SlideEntry, method: str) -> StainEstimate | LabStatistics:
        """The stain of a slide, over all of its tissue or in its drawn regions (``settings.stain.regions``).

        Raises
        ------
        StainError
            If it can't be estimated: no tissue, pen, fluorescence, other stains.
        """
        from napari_batchfx import stain

        method = stain.method(method).estimator
        slide = self._shelf.open_slide(entry)
        regions = self._shelf.settings.stain.regions.get(entry.name)
        key = self._key(entry, slide, method, regions)
        with self._lock:
            known = self._read()
            busy = self._busy.setdefault(key, threading.Lock())
        # Only who wants this very estimate waits for it: a slider that asks for one that is there does not.
        if key not in known:
            with busy:
                if key not in known:
                    made = stain.estimate_slide(slide, method, region=regions or None)
                    with self._lock:
                        known[key] = made.to_dict()
                        self._write()
        return _estimate(known[key])

    def cohort(self, method: str) -> StainEstimate | LabStatistics:
        """The average over all slides of the study whose stain can be estimated.

        Raises
        ------
        StainError
            If there is none, or the slides are stained differently.
        """
        from napari_batchfx.errors import BatchfxError
        from napari_batchfx.stain.cohort import average

        found: list[Any] = []
        reasons = []
        for entry in self._shelf.slides:
            try:
                found.append(self.of(entry, method))
            except BatchfxError as error:
                reasons.append(str(error))
        if not found and reasons:
            raise StainError(reasons[0])
        averaged: StainEstimate | LabStatistics = average(found)
        return averaged

    def target(
        self, method: str, target: str | None, cohort: bool = False
    ) -> StainEstimate | LabStatistics | None:
        """The look to aim at: a slide's, the cohort's, or ``None`` for the built-in reference."""
        from napari_batchfx import stain

        if target is None and (cohort or stain.method(method).several_targets):
            return self.cohort(method)
        return None if target is None else self.of(self._shelf.slide(target), method)

    def transform(
        self, entry: SlideEntry, method: str, target: str | None, cohort: bool = False
    ) -> StainTransform:
        """The transform from a slide to a target.

        Raises
        ------
        StudyError
            If the target isn't in the study.
        StainError
            If stain can't be estimated on the slide or the target.
        """
        from napari_batchfx import stain

        source, aim = self.of(entry, method), self.target(method, None if cohort else target, cohort)
        kind: Any = stain.method(method).normalizer
        made: StainTransform = kind(aim).from_source(source)
        with self._lock:
            # One object a transform: a layer that asks again gets the same.
            return self._transforms.setdefault((entry.fingerprint, made.key), made)

    def forget(self, fingerprint: str | None = None) -> None:
        """Drop transforms made for a slide, or all; estimates are kept by what they were made from."""
        with self._lock:
            self._transforms = {
                key: made
                for key, made in self._transforms.items()
                if fingerprint is not None and key[0] != fingerprint
            }

    def _key(self, entry: SlideEntry, slide: Slide, method: str, regions: Any) -> str:
        state = [slide.mpp, getattr(slide, "colour_key", ""), regions]
        digest = hashlib.sha256(json.dumps(state, default=str).encode()).hexdigest()[:16]
        return f"{entry.fingerprint}-{method}-{digest}"

    def _read(self) -> dict[str, dict[str, Any]]:
        if self._known is None:
            self._known = {}
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                kept = json.loads((Path(self._folder()) / STAIN_FILE).read_text(encoding="utf-8"))
                if kept["format"] == _FORMAT and kept["version"] == _VERSION:
                    for key, values in kept["estimates"].items():
                        _estimate(values)
                        self._known[key] = values
        return self._known

    def _write(self) -> None:
        values = {"format": _FORMAT, "version": _VERSION, "estimates": self._known}
        with contextlib.suppress(OSError):
            files.write_text(Path(self._folder()) / STAIN_FILE, json.dumps(values, indent=1))


def _estimate(values: dict[str, Any]) -> StainEstimate | LabStatistics:
    from napari_batchfx.stain import LabStatistics, StainEstimate

    return StainEstimate.from_dict(values) if "matrix" in values else LabStatistics.from_dict(values)
