"""What every plot of the docks is made of: two axes and a box, in the colours of napari's theme."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyqtgraph as pg
from qtpy.QtCore import QPointF, QSize, Qt
from qtpy.QtGui import QColor, QFont
from qtpy.QtWidgets import QSizePolicy, QToolTip

from napari_batchfx.viewer import seam

if TYPE_CHECKING:
    import napari

__all__ = ["Plot", "elided"]


class Plot(pg.GraphicsView):
    """A plot with a left and a bottom axis.

    It has no menus of pyqtgraph's, and the wheel scrolls the dock unless the plot itself can be moved.

    Parameters
    ----------
    viewer : napari.Viewer
        Whose theme it follows.
    name : str
        What it shows, for screen readers.
    x, y : str
        Titles of the axes.
    height : int
        In lines of text.
    moves : bool
        Whether dragging and the wheel move and zoom it.
    """

    def __init__(
        self,
        viewer: napari.Viewer,
        name: str,
        x: str = "",
        y: str = "",
        *,
        height: float = 13,
        moves: bool = False,
    ) -> None:
        super().__init__(background=None)
        self.viewer = viewer
        self.moves = moves
        self.setAccessibleName(name)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus if moves else Qt.FocusPolicy.NoFocus)
        self._titles = {"left": y, "bottom": x}
        self._lines = height
        self.box = self.make_box()
        self.axes = {side: pg.AxisItem(side, linkView=self.box) for side in ("left", "bottom")}
        layout = pg.GraphicsLayout()
        layout.setContentsMargins(2, 4, 6, 2)
        layout.setSpacing(0)
        layout.addItem(self.axes["left"], 0, 0)
        layout.addItem(self.box, 0, 1)
        layout.addItem(self.axes["bottom"], 1, 1)
        self.setCentralItem(layout)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setMouseTracking(True)
        self.text = QColor("#ffffff")
        self.faint = QColor("#888888")
        self.ground = QColor("#000000")
        self.themed()
        disconnect = seam.on_theme_changed(viewer, self.themed)
        self.destroyed.connect(lambda *_: disconnect())

    def make_box(self) -> pg.ViewBox:
        """The box that the data are drawn in."""
        return pg.ViewBox(enableMenu=False, enableMouse=self.moves)

    def sizeHint(self) -> QSize:
        """As wide as the dock, some lines of text high."""
        return QSize(280, round(self._lines * self.fontMetrics().height()))

    def small_font(self) -> QFont:
        """The font of the axes: a little smaller than that of the dock."""
        font = QFont(self.font())
        font.setPointSizeF(max(6.5, font.pointSizeF() * 0.85))
        return font

    def themed(self) -> None:
        """Take the colours of the viewer's theme."""
        colours = seam.theme_colours(self.viewer)
        self.text, self.faint = QColor(colours["text"]), QColor(colours["highlight"])
        self.ground = QColor(colours["background"])
        self.setBackground(self.ground)
        for side, axis in self.axes.items():
            axis.setPen(pg.mkPen(self.faint))
            axis.setTextPen(pg.mkPen(self.text))
            axis.setStyle(tickFont=self.small_font(), tickLength=-4, autoExpandTextSpace=True)
            if self._titles[side]:
                style = {"color": self.text.name(), "font-size": f"{self.small_font().pointSizeF():.1f}pt"}
                axis.setLabel(self._titles[side], **style)
            axis.enableAutoSIPrefix(False)
        self.redraw()

    def set_titles(self, x: str | None = None, y: str | None = None) -> None:
        """Other titles of the axes."""
        self._titles = {
            "left": self._titles["left"] if y is None else y,
            "bottom": self._titles["bottom"] if x is None else x,
        }
        self.themed()

    def redraw(self) -> None:
        """Draw the data again, in the colours there are now."""

    def tip_at(self, point: QPointF) -> str:
        """What to say of a place in the plot's own coordinates; empty for nothing."""
        return ""

    def in_plot(self, position: Any) -> QPointF:
        """A position of the mouse on the widget in the plot's coordinates."""
        return self.box.mapSceneToView(self.mapToScene(position.toPoint()))

    def mouseMoveEvent(self, ev: Any) -> None:
        """Say what is under the pointer."""
        super().mouseMoveEvent(ev)
        if ev.buttons() == Qt.MouseButton.NoButton:
            inside = self.box.sceneBoundingRect().contains(self.mapToScene(ev.position().toPoint()))
            text = self.tip_at(self.in_plot(ev.position())) if inside else ""
            QToolTip.showText(ev.globalPosition().toPoint(), text, self)

    def wheelEvent(self, ev: Any) -> None:
        """Zoom where the plot can be moved; scroll the dock where not."""
        if self.moves:
            super().wheelEvent(ev)
        else:
            ev.ignore()


def elided(plot: Plot, text: str, width: int) -> str:
    """A name cut in its middle so that it fits into some pixels of an axis."""
    from qtpy.QtGui import QFontMetrics

    return QFontMetrics(plot.small_font()).elidedText(text, Qt.TextElideMode.ElideMiddle, width)
