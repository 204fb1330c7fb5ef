"""The layers of a session's slides: found by what they show, put among their slide's own, in one order."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from napari_batchfx.viewer import layers as batchfx_layers
from napari_batchfx.viewer import seam
from napari_batchfx.viewer.layers import tag
from napari_batchfx.viewer.overlays import KINDS

if TYPE_CHECKING:
    import napari
    from napari.layers import Image, Layer

    from napari_batchfx.study import SlideEntry, Study
    from napari_batchfx.tiles import TileMap

__all__ = ["SlideLayers"]

_STAYS = ("slide", "regions", "landmarks")
"""What does not follow from a slide's pixels."""


class SlideLayers:
    """What a session does with layers; it brings the viewer and the study."""

    viewer: napari.Viewer
    study: Study
    _dismissed: set[tuple[str, str]]
    _removing: bool

    def layers_of(self, entry: SlideEntry) -> list[Layer]:
        """All layers of a slide, bottom to top."""
        return [layer for layer in self.viewer.layers if tag(layer).get("slide") == entry.fingerprint]

    def layer(self, entry: SlideEntry, kind: str) -> Any:
        """The layer of a slide that shows ``kind`` (see ``KINDS``), or ``None``."""
        return next((layer for layer in self.layers_of(entry) if tag(layer)["kind"] == kind), None)

    def allow_overlays(self, kind: str) -> None:
        """The user asked for these overlays again: ones deleted by hand may come back."""
        self._dismissed = {(fingerprint, other) for fingerprint, other in self._dismissed if other != kind}

    def is_dismissed(self, entry: SlideEntry, kind: str) -> bool:
        """Whether the user deleted that layer of the slide by hand and has not asked for it since."""
        return (entry.fingerprint, kind) in self._dismissed

    def show_map(self, entry: SlideEntry, kind: str, tile_map: TileMap, title: str) -> Image | None:
        """Show a tile map over a slide: one layer a kind, made once and updated in place.

        Returns ``None`` where the user deleted that layer (or the slide's) and has not asked for it since.
        """
        layer = self.layer(entry, kind)
        if layer is not None and tag(layer).get("placeholder"):
            self.drop(entry, kind)
            layer = None
        if layer is not None:
            batchfx_layers.update_overlay(layer, tile_map)
            layer.name = f"{entry.name} · {title}"
            return layer
        if self.is_dismissed(entry, kind) or self.layer(entry, "slide") is None:
            return None
        layer = batchfx_layers.overlay_layer(
            tile_map,
            name=f"{entry.name} · {title}",
            fingerprint=entry.fingerprint,
            kind=kind,
            affine_um=entry.affine_um,
        )
        return self._insert(layer, entry)

    def add_layer(self, entry: SlideEntry, kind: str, layer: Layer) -> Layer:
        """Put another kind of layer (a preview, regions) among the slide's own, replacing one of that kind."""
        layer.metadata[batchfx_layers.KEY] = {"slide": entry.fingerprint, "kind": kind}
        self._dismissed.discard((entry.fingerprint, kind))
        self.drop(entry, kind)
        return self._insert(layer, entry)

    def drop(self, entry: SlideEntry, kind: str) -> None:
        """Take a slide's layer of that kind away (not counted as the user's deletion)."""
        self.drop_all(kind, of=[entry])

    def drop_all(self, *kinds: str, of: Iterable[SlideEntry] | None = None) -> None:
        """Take the layers of these kinds away from slides (default: all), together."""
        slides = self.study.slides if of is None else of
        found = [self.layer(entry, kind) for entry in slides for kind in kinds]
        self._take([layer for layer in found if layer is not None])

    def _take(self, layers: Sequence[Layer]) -> None:
        """Remove layers; not counted as the user's deletion."""
        self._removing = True
        try:
            with seam.many_layers(self.viewer) if len(layers) > 1 else contextlib.nullcontext():
                for layer in layers:
                    self.viewer.layers.remove(layer)
        finally:
            self._removing = False

    def _insert(self, layer: Layer, entry: SlideEntry) -> Layer:
        """Insert a layer among its slide's, in the order of ``KINDS``."""
        rank = KINDS.index(tag(layer)["kind"])
        position = len(self.viewer.layers)
        for index, other in enumerate(self.viewer.layers):
            info = tag(other)
            if info.get("slide") == entry.fingerprint:
                if KINDS.index(info["kind"]) > rank:
                    position = index
                    break
                position = index + 1
        active = self.viewer.layers.selection.active
        seam.insert_layer(
            self.viewer, position, layer, select=active is None or tag(layer)["kind"] == "slide"
        )
        return layer

    def _rescale(self, entry: SlideEntry) -> None:
        layer = self.layer(entry, "slide")
        mpp = self.study.open_slide(entry).mpp
        if layer is not None and mpp is not None:
            layer.scale = mpp
            layer.translate = tuple(side / 2 for side in mpp)
            layer.units = ("um", "um")
        self._take([one for one in self.layers_of(entry) if tag(one)["kind"] not in _STAYS])

    def _recolour(self, entry: SlideEntry) -> None:
        """Draw a slide in its new colours; what was computed from the old ones leaves."""
        layer = self.layer(entry, "slide")
        if layer is not None:
            layer.refresh()
        self._take([one for one in self.layers_of(entry) if tag(one)["kind"] not in _STAYS])
