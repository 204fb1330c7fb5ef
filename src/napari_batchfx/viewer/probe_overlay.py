"""The site probe over the slides: what is shown of it, and new tiles painted the moment they are encoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_batchfx.viewer import seam
from napari_batchfx.viewer.layers import KEY, tag

if TYPE_CHECKING:
    from napari_batchfx.study.probe_picture import ProbePicture
    from napari_batchfx.study.probed import ProbeOutcome
    from napari_batchfx.tiles import TileMap
    from napari_batchfx.viewer.session import Session

__all__ = ["NOTES", "ProbeOverlay", "probe_overlay_for"]

PAINT_MS = 120
NOTES = {
    "confidence": "grey is guessing",
    "margin": "orange: recognised, blue: taken for another",
    "entropy": "orange: sure, grey: no idea",
    "difference": "blue: less recognised after",
    "after": "grey is guessing",
}
"""What the canvas says of each quantity."""


def probe_overlay_for(session: Session) -> ProbeOverlay:
    """The session's overlay of the site probe; every dock of a viewer shows the same."""
    found: ProbeOverlay | None = session.findChild(ProbeOverlay)
    return found if found is not None else ProbeOverlay(session)


class ProbeOverlay(QObject):
    """Keeps the layers of the site probe as the last result is, and scores tiles that are encoded since.

    Parameters
    ----------
    session : Session
    """

    came = Signal()  # tiles were scored
    looked = Signal(str)  # something else is shown: "after", "difference", ...
    _came = Signal()  # the same, from the job's thread

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.session = session
        self.picture: ProbePicture | None = None
        self.what = "confidence"
        self.is_live = True
        #: Maps shown instead of the picture's, by what is chosen: those of a comparison.
        self.others: dict[str, dict[str, TileMap]] = {}
        self._job = session.new_job()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(PAINT_MS)
        self._timer.timeout.connect(self._paint_changed)
        self._came.connect(self._soon)
        self._job.succeeded.connect(lambda n: self._soon() if n else None)
        session.tile_listeners.append(self._on_tiles)

    def use(self, outcome: ProbeOutcome | None) -> None:
        """Show another result; ``None`` shows nothing."""
        from napari_batchfx.study.probe_picture import ProbePicture

        self._job.cancel()
        self.others = {}
        self.picture = None if outcome is None else ProbePicture(self.session.study, outcome)
        if self.what in ("difference", "after"):
            self.what = "confidence"
        self.catch_up()

    def catch_up(self) -> None:
        """Score what was encoded since the probe, where its classifiers are there."""
        from napari_batchfx.study.probe_picture import catch_up_job

        picture = self.picture
        if picture is not None and self.is_live and picture.fits:
            self._job.start(catch_up_job(self.session.study, picture), bar=False)

    def set_live(self, on: bool) -> None:
        """Whether tiles encoded from now on are scored."""
        self.is_live = on
        if on:
            self.catch_up()
        else:
            self._job.cancel()

    @property
    def title(self) -> str:
        """What the layers are called."""
        picture = self.picture
        batch = "" if picture is None else picture.outcome.result.batch
        words = {
            "margin": "site probe, margin",
            "entropy": "site probe, entropy",
            "difference": "site probe, change",
            "after": "site probe, after",
        }
        return f"{words.get(self.what, 'site probe')} ({batch})"

    def paint(self) -> None:
        """Draw the whole picture."""
        self._timer.stop()
        for fingerprint, tile_map in self._maps().items():
            self._show(fingerprint, tile_map)

    def show(self) -> None:
        """Draw it and hide the other overlays."""
        self.session.allow_overlays("probe")
        self.paint()
        self.session.show_only("probe", NOTES[self.what])

    def stop(self) -> None:
        """Score and draw nothing more."""
        self._timer.stop()
        self._job.cancel()
        if self._on_tiles in self.session.tile_listeners:
            self.session.tile_listeners.remove(self._on_tiles)

    # ------------------------------------------------------------------ tiles that come

    def _on_tiles(self, tiles: Any, grid: Any) -> None:
        """In the job's thread."""
        picture = self.picture
        if picture is not None and self.is_live and picture.fits and picture.add(tiles, grid):
            self._came.emit()

    def _soon(self) -> None:
        if not self._timer.isActive():
            self._timer.start()

    def _maps(self, *, changed: bool = False) -> dict[str, TileMap]:
        if self.what in self.others:
            return {} if changed else self.others[self.what]
        if self.picture is None or self.what not in ("confidence", "margin", "entropy"):
            return {}
        return self.picture.maps(self.what, changed=changed)  # type: ignore[arg-type]

    def _paint_changed(self) -> None:
        if self.session.is_closed:
            return
        for fingerprint, tile_map in self._maps(changed=True).items():
            self._show(fingerprint, tile_map)
        self.came.emit()

    def _show(self, fingerprint: str, tile_map: TileMap) -> None:
        entry = next((one for one in self.session.study.slides if one.fingerprint == fingerprint), None)
        if entry is None:
            return
        layer: Any = self.session.layer(entry, "probe")
        is_same = (
            layer is not None
            and not tag(layer).get("placeholder")
            and layer.data.shape == tile_map.values.shape
            and np.allclose(layer.scale, tile_map.scale_um)
            and tag(layer).get("title") == (self.title, tile_map.description)
        )
        if not is_same:
            known = layer is not None
            layer = self.session.show_map(entry, "probe", tile_map, self.title)
            if layer is not None:
                layer.metadata[KEY]["title"] = (self.title, tile_map.description)
                if not known:
                    seam.set_visible(layer, self._is_seen(layer))
            return
        # In place: setting the data anew would have napari look at all layers' extents again.
        layer.data[...] = tile_map.values
        layer.refresh(extent=False, highlight=False, thumbnail=False)

    def _is_seen(self, layer: Any) -> bool:
        """Whether the probe is what is looked at: a layer that is made by new tiles must not cover another overlay."""
        others = [one for one in self.session.viewer.layers if one is not layer and tag(one)]
        probes = [
            one for one in others if tag(one).get("kind") == "probe" and not tag(one).get("placeholder")
        ]
        if probes:
            return any(one.visible for one in probes)
        return not any(
            one.visible and tag(one).get("kind") in ("encoded", "before", "after", "changed")
            for one in others
        )
