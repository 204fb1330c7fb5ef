"""A plane of up to 100,000 points that can be moved, zoomed, clicked and lassoed.

The points are drawn as one picture, made anew with numpy for every view: some milliseconds for 100,000, where an item a
point takes tens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import QPointF, QRectF, Qt, Signal
from qtpy.QtGui import QImage

from napari_batchfx.viewer.plots.base import Plot

if TYPE_CHECKING:
    import napari
    from numpy.typing import NDArray

__all__ = ["PointPlot"]

_MANY = 20_000
_NEAR_PX = 10
_FADED = 0.78


class PointPlot(Plot):
    """Points coloured by the number of a colour.

    Parameters
    ----------
    viewer : napari.Viewer
        Whose theme it follows.
    """

    lassoed = Signal(object)  # bool (n,): points inside
    picked = Signal(int)  # the point that was clicked

    def __init__(self, viewer: napari.Viewer) -> None:
        self.xy: NDArray[np.float32] = np.empty((0, 2), np.float32)
        self._colours: NDArray[np.uint32] = np.empty(0, np.uint32)
        self.selected: NDArray[np.bool_] = np.empty(0, bool)
        self.found: int | None = None
        self.words: Any = None  # called with a point: what to say of it
        super().__init__(viewer, "Tiles as points", height=19, moves=True)
        self._cloud = _Cloud(self)
        self.box.addItem(self._cloud, ignoreBounds=True)
        self._lasso = pg.PlotCurveItem()
        self.box.addItem(self._lasso, ignoreBounds=True)
        self._rings = [pg.ScatterPlotItem(pxMode=True), pg.ScatterPlotItem(pxMode=True)]
        for ring in self._rings:
            self.box.addItem(ring, ignoreBounds=True)
        for axis in self.axes.values():
            axis.setStyle(showValues=False)
        self.themed()

    def make_box(self) -> pg.ViewBox:
        """A box that can be lassoed in."""
        return _LassoBox(self)

    # ------------------------------------------------------------------ what is shown

    def show_points(self, xy: NDArray[np.float32]) -> None:
        """Show other points, all in view."""
        self.xy = np.ascontiguousarray(xy, dtype=np.float32)
        self.selected = np.zeros(len(xy), dtype=bool)
        self._colours = np.full(len(xy), 0xFF808080, dtype=np.uint32)
        self.find(None)
        self.fit()

    def fit(self) -> None:
        """Bring all points into view."""
        if len(self.xy):
            (x0, y0), (x1, y1) = self.xy.min(axis=0), self.xy.max(axis=0)
            self.box.setRange(xRange=(float(x0), float(x1)), yRange=(float(y0), float(y1)), padding=0.05)

    def colour(self, numbers: NDArray[np.integer[Any]], palette: list[str]) -> None:
        """Colour the points: ``palette[number]``; -1 is the faint colour of the theme."""
        table = np.array([_argb(pg.mkColor(name)) for name in [*palette, self.faint.name()]], dtype=np.uint32)
        self._colours = table[numbers]
        self._cloud.update()

    def select(self, points: NDArray[np.bool_]) -> None:
        """Light some points and fade the others; none = all as they are."""
        self.selected = np.asarray(points, dtype=bool)
        self._cloud.update()

    def find(self, point: int | None) -> None:
        """Put a ring around a point, and bring it into view."""
        self.found = point
        places = self.xy[[point]] if point is not None else np.empty((0, 2))
        for ring, size, colour, width in zip(
            self._rings, (15, 15), ("#000000", "#ffe119"), (5, 2), strict=True
        ):
            ring.setData(
                x=places[:, 0], y=places[:, 1], size=size, brush=None, pen=pg.mkPen(colour, width=width)
            )
        if point is not None:
            (x0, x1), (y0, y1) = self.box.viewRange()
            x, y = (float(v) for v in self.xy[point])
            if not (x0 <= x <= x1 and y0 <= y <= y1):
                self.box.translateBy(x=x - (x0 + x1) / 2, y=y - (y0 + y1) / 2)

    def set_lasso(self, on: bool) -> None:
        """Whether dragging draws a lasso instead of moving the plane."""
        self.box.lassoes = on
        self.setCursor(Qt.CursorShape.CrossCursor if on else Qt.CursorShape.ArrowCursor)

    def redraw(self) -> None:
        """Draw in the colours there are now."""
        if hasattr(self, "_cloud"):
            self._lasso.setPen(pg.mkPen(self.text, width=1.5, style=Qt.PenStyle.DashLine))
            self._cloud.update()

    # ------------------------------------------------------------------ the mouse

    def near(self, point: QPointF, pixels: float = _NEAR_PX) -> int | None:
        """The point nearest to a place in the plane, if it is no further than some pixels."""
        if not len(self.xy):
            return None
        px, py = self.box.viewPixelSize()
        gap = np.hypot((self.xy[:, 0] - point.x()) / px, (self.xy[:, 1] - point.y()) / py)
        best = int(np.argmin(gap))
        return best if gap[best] <= pixels else None

    def tip_at(self, point: QPointF) -> str:
        """What the nearest point is."""
        best = self.near(point)
        return "" if best is None or self.words is None else str(self.words(best))

    def inside(self, polygon: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which points lie in a polygon (k, 2)."""
        from skimage.measure import points_in_poly

        low, high = polygon.min(axis=0), polygon.max(axis=0)
        out = ((self.xy >= low) & (self.xy <= high)).all(axis=1)
        rows = np.flatnonzero(out)
        out[rows] = points_in_poly(self.xy[rows].astype(float), polygon)
        return np.asarray(out)

    def draw_lasso(self, path: list[tuple[float, float]], *, finished: bool) -> None:
        """The path so far; the points inside are lit when it is finished."""
        where = np.array([*path, path[0]] if path else np.empty((0, 2)), dtype=float).reshape(-1, 2)
        self._lasso.setData(where[:, 0], where[:, 1])
        if finished:
            self._lasso.setData([], [])
            points = self.inside(where) if len(where) > 3 else np.zeros(len(self.xy), dtype=bool)
            self.select(points)
            self.lassoed.emit(points)

    # ------------------------------------------------------------------ the picture

    def picture(self, rect: QRectF, width: int, height: int) -> NDArray[np.uint32]:
        """The points in a part of the plane, (height, width) of 0xAARRGGBB, its first row at the smallest y."""
        r = 1 if len(self.xy) > _MANY else 2
        image = np.zeros((height + 2 * r, width + 2 * r), dtype=np.uint32)
        if not len(self.xy) or width < 1 or height < 1:
            return image[r:-r, r:-r]
        column = (self.xy[:, 0] - rect.left()) * (width / rect.width())
        row = (self.xy[:, 1] - rect.top()) * (height / rect.height())
        seen = np.flatnonzero((column >= 0) & (column < width) & (row >= 0) & (row < height))
        place = (row[seen].astype(np.intp) + r) * image.shape[1] + column[seen].astype(np.intp) + r
        colour = self._colours[seen]
        lit = self.selected[seen]
        if lit.any():
            colour = np.where(lit, colour, _mixed(colour, _argb(self.ground), _FADED))
            order = np.argsort(lit, kind="stable")  # the lit ones on top
            place, colour = place[order], colour[order]
        flat = image.reshape(-1)
        for dy in range(-r, r + 1):
            for dx in range(-r, r + 1):
                if dx * dx + dy * dy <= r * r + (0 if r == 1 else 1):
                    flat[place + dy * image.shape[1] + dx] = colour
        return image[r:-r, r:-r]


class _Cloud(pg.UIGraphicsItem):
    """Draws the points of its plot into the part of the plane that is seen."""

    def __init__(self, plot: PointPlot) -> None:
        super().__init__()
        self._plot = plot

    def paint(self, painter: Any, *_: Any) -> None:
        box = self.getViewBox()
        ratio = float(painter.device().devicePixelRatioF()) if painter.device() is not None else 1.0
        width, height = max(1, round(box.width() * ratio)), max(1, round(box.height() * ratio))
        rect = self.viewRect()
        pixels = np.ascontiguousarray(self._plot.picture(rect, width, height))
        image = QImage(pixels.data, width, height, 4 * width, QImage.Format.Format_ARGB32)
        painter.drawImage(rect, image)


class _LassoBox(pg.ViewBox):
    """Dragging moves the plane, or draws a lasso; a click picks a point."""

    def __init__(self, plot: PointPlot) -> None:
        super().__init__(enableMenu=False, enableMouse=True)
        self._plot = plot
        self.lassoes = False
        self._path: list[tuple[float, float]] = []

    def mouseDragEvent(self, ev: Any, axis: Any = None) -> None:
        if not self.lassoes or ev.button() != Qt.MouseButton.LeftButton:
            super().mouseDragEvent(ev, axis)
            return
        ev.accept()
        # A drag that begins on an axis comes from there, in the axis' own coordinates.
        if ev.isStart():
            start = self.mapSceneToView(ev.buttonDownScenePos())
            self._path = [(start.x(), start.y())]
        here = self.mapSceneToView(ev.scenePos())
        self._path.append((here.x(), here.y()))
        self._plot.draw_lasso(self._path, finished=ev.isFinish())

    def mouseClickEvent(self, ev: Any) -> None:
        if ev.button() != Qt.MouseButton.LeftButton:
            return
        ev.accept()
        best = self._plot.near(self.mapSceneToView(ev.scenePos()))
        if best is not None:
            self._plot.picked.emit(best)


def _argb(colour: Any) -> int:
    return 0xFF000000 | colour.red() << 16 | colour.green() << 8 | colour.blue()


def _mixed(colours: NDArray[np.uint32], ground: int, share: float) -> NDArray[np.uint32]:
    """Colours mixed with another, channel by channel."""
    out = np.full(len(colours), 0xFF000000, dtype=np.uint32)
    for shift in (16, 8, 0):
        own = (colours >> np.uint32(shift)) & np.uint32(255)
        mixed = (1 - share) * own + share * (ground >> shift & 255)
        out |= mixed.astype(np.uint32) << np.uint32(shift)
    return out
