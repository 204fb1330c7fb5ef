"""The layers of the stain preview: one a slide, its pixels computed for the view; its opacity is the strength.

A transform of strength s is the blend ``I + s (I' - I)``, which is what the graphics card does with a layer of opacity s over
the slide: the slider moves no pixel through the processor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_batchfx.viewer import layers as batchfx_layers
from napari_batchfx.viewer.layers import tag

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_batchfx.study import SlideEntry
    from napari_batchfx.viewer.session import Session

__all__ = ["StainLayers"]


class StainLayers(QObject):
    """Preview layers of a session's slides.

    ``strength_changed(float)`` is emitted when the user moves a preview's opacity in napari's own controls.
    """

    strength_changed = Signal(float)

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.session = session
        self.strength = 1.0
        self._is_busy = False

    def shown(self) -> list[Any]:
        """The preview layers there are, bottom to top."""
        found = []
        for entry in self.session.shown_slides():
            layer = self.session.layer(entry, "preview")
            if layer is not None and not tag(layer).get("placeholder"):
                found.append(layer)
        return found

    def show(self, entry: SlideEntry, pixels: Any, title: str, *, blends: bool) -> Any:
        """Show a slide through ``pixels`` (a transform, or one stain alone); a layer deleted by hand stays away.

        ``blends`` says whether the strength counts: one stain alone is shown whole.
        """
        from napari.layers import Image

        from napari_batchfx.stain import preview

        if self.session.is_dismissed(entry, "preview"):
            return None
        slide = self.session.study.open_slide(entry)
        layer = self.session.layer(entry, "preview")
        if layer is not None and tag(layer).get("placeholder"):
            layer = None
        if layer is None or tag(layer).get("shows") != pixels.key:
            pyramid = preview(slide, pixels, pending="blank")
            data = pyramid if len(pyramid) > 1 else pyramid[0]
            if layer is None:
                _, options, _ = batchfx_layers.slide_layer_data(slide, entry.name)
                options.pop("metadata")
                affine = batchfx_layers.affine_to_napari(entry.affine_um)
                layer = self.session.add_layer(entry, "preview", Image(data, affine=affine, **options))
                layer.events.opacity.connect(self._listener(layer))
            else:
                layer.data = data
            layer.metadata[batchfx_layers.KEY] = tag(layer) | {"shows": pixels.key}
        layer.name = f"{entry.name} · {title}"
        layer.metadata[batchfx_layers.KEY]["blends"] = blends
        self._set(layer)
        return layer

    def set_strength(self, strength: float) -> None:
        """Blend every preview anew; nothing is read or computed."""
        self.strength = float(strength)
        for layer in self.shown():
            self._set(layer)

    def drop(self) -> None:
        """Take all previews away; that is no deletion by the user."""
        self.session.drop_all("preview")

    def _set(self, layer: Any) -> None:
        opacity = self.strength if tag(layer).get("blends") else 1.0
        if layer.opacity != opacity:
            self._is_busy = True
            try:
                layer.opacity = opacity
            finally:
                self._is_busy = False

    def _listener(self, layer: Any) -> Callable[..., None]:
        def changed(_event: object = None) -> None:
            if self._is_busy or self.session.is_closed or not tag(layer).get("blends"):
                return
            self.set_strength(layer.opacity)
            self.strength_changed.emit(float(layer.opacity))

        return changed
