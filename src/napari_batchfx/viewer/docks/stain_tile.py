"""The part of the Stain dock that shows what normalisation does to one tile, as the model sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_batchfx.viewer.docks.common import More, tool_button
from napari_batchfx.viewer.docks.tile_pictures import PictureRow, TilePicture
from napari_batchfx.viewer.tile_view import tile_view_for

if TYPE_CHECKING:
    from napari_batchfx.study import SeenTile
    from napari_batchfx.viewer.docks.stain import StainDock

__all__ = ["TileBox"]


class TileBox(QWidget):
    """The tile that was clicked: what the model gets as scanned, and normalised with the dock's method and strength."""

    def __init__(self, dock: StainDock) -> None:
        super().__init__()
        self._dock = dock
        self._view = tile_view_for(dock.session)
        self.before = TilePicture(
            "as scanned", "scanned", "What the model gets of the tile as it was scanned."
        )
        self.after = TilePicture(
            "normalised", "normalised", "What the model would get with this method, target and strength."
        )
        self.more = More("On one tile, as the model sees it")
        self.pick = tool_button(
            "Choose a tile...", "Open What the model saw, then click on a slide.", self._choose
        )
        self.more.form.addRow(PictureRow((self.before, self.after)))
        self.more.form.addRow(self.pick)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.more)
        self._view.shown.connect(self.show_tile)
        self._view.cleared.connect(lambda: self.show_tile(None))
        self.more.toggled.connect(lambda *_: self.refresh())
        self.show_tile(self._view.tile)

    def refresh(self) -> None:
        """Show the tile that is looked at with the choices there are now."""
        self.show_tile(self._view.tile)

    def show_tile(self, tile: SeenTile | None) -> None:
        """Show a tile."""
        if not self.more.isExpanded():
            return
        pictures: Any = None if tile is None else self._dock.normalised(tile)
        if pictures is None:
            why = "click on\na slide" if tile is None else "no estimate"
            self.before.show_pixels(None, why if tile is None else "")
            self.after.show_pixels(None, why)
            return
        self.after.name = "simulated" if self._dock.is_simulated else "normalised"
        self.before.show_pixels(pictures[0])
        self.after.show_pixels(pictures[1])

    def _choose(self) -> None:
        from napari_batchfx.viewer.workbench import show_dock

        show_dock(self._dock.viewer, "tile")
