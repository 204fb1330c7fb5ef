"""The one place that touches names of napari that move between versions.

napari 0.9 moved the grid to ``viewer.canvas.grid`` and the camera to ``viewer.scene.camera``; 0.10 will make
the Qt classes private. Everything else in this package asks here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import EmitLoopError
from qtpy.QtCore import QCoreApplication, QEvent, QObject, QTimer

if TYPE_CHECKING:
    import napari

__all__ = [
    "add_to_canvas",
    "before_draw",
    "camera",
    "canvas_widget",
    "current_viewer",
    "drawn_nodes",
    "fit_to",
    "grid",
    "insert_layer",
    "line_node",
    "many_layers",
    "on_theme_changed",
    "on_view_changed",
    "on_window_closed",
    "qt_window",
    "scene_of",
    "set_colorbar",
    "show_scale_bar",
    "show_text",
    "theme_colours",
    "unwrap",
    "view_box_um",
]


def unwrap(viewer: Any) -> Any:
    """The viewer itself: napari hands plugins a proxy, a new one for every widget, which can't be a key."""
    return getattr(viewer, "__wrapped__", viewer)


def current_viewer() -> napari.Viewer | None:
    """The viewer that is in front, or ``None``."""
    import napari

    return napari.current_viewer()


def camera(viewer: napari.Viewer) -> Any:
    """The camera of a viewer."""
    return viewer.scene.camera


def grid(viewer: napari.Viewer) -> Any:
    """The grid settings of a viewer."""
    return viewer.canvas.grid


def view_box_um(viewer: napari.Viewer) -> tuple[float, float, float, float] | None:
    """What is on the canvas: ``(y0, x0, y1, x1)`` in micrometres; ``None`` where the canvas doesn't show the slide's plane."""
    height, width = (float(side) for side in viewer.canvas.size)
    settings = grid(viewer)
    if settings.enabled:
        rows, columns = settings.actual_shape(viewer.layers)
        height, width = height / max(1, rows), width / max(1, columns)
    zoom = float(camera(viewer).zoom) or 1.0
    # Down and across the canvas lie the last two displayed axes, which a transposed view swaps.
    down, across = viewer.dims.displayed[-2:]
    middle = camera(viewer).center[-2:]
    spans = {
        down: (middle[0] - height / 2 / zoom, middle[0] + height / 2 / zoom),
        across: (middle[1] - width / 2 / zoom, middle[1] + width / 2 / zoom),
    }
    y, x = viewer.dims.ndim - 2, viewer.dims.ndim - 1
    if viewer.dims.ndisplay != 2 or y not in spans or x not in spans:
        return None
    return float(spans[y][0]), float(spans[x][0]), float(spans[y][1]), float(spans[x][1])


def fit_to(viewer: napari.Viewer, box_um: tuple[float, float, float, float], margin: float = 1.05) -> None:
    """Point the camera at a box ``(y0, x0, y1, x1)`` in micrometres so that all of it is seen."""
    y0, x0, y1, x1 = box_um
    height, width = viewer.canvas.size
    settings = grid(viewer)
    if settings.enabled:
        rows, columns = settings.actual_shape(viewer.layers)
        height, width = height / max(1, rows), width / max(1, columns)
    camera(viewer).center = ((y0 + y1) / 2, (x0 + x1) / 2)
    camera(viewer).zoom = min(height / max(1e-6, y1 - y0), width / max(1e-6, x1 - x0)) / margin


def on_view_changed(viewer: napari.Viewer, callback: Callable[..., None]) -> Callable[[], None]:
    """Call ``callback()`` whenever the view moves, zooms or changes its size; returns what disconnects it."""
    sources = (
        camera(viewer).events.center,
        camera(viewer).events.zoom,
        viewer.canvas.events.size,
        viewer.dims.events.order,
    )

    def moved(_event: object = None) -> None:
        callback()

    for source in sources:
        source.connect(moved)

    def disconnect() -> None:
        for source in sources:
            source.disconnect(moved)

    return disconnect


def insert_layer(viewer: napari.Viewer, position: int, layer: Any, *, select: bool) -> None:
    """Put a layer at a place of the list; ``select=False``: what is selected stays so.

    napari selects what it inserts. To select it and give the selection back lays out the panel of layer controls twice, a third of
    the time that the layer takes; where napari has no switch for it any more, that is what happens.
    """
    layers = viewer.layers
    before = set(layers.selection)
    switch = getattr(layers, "_activate_on_insert", None)
    if select or switch is None:
        layers.insert(position, layer)
        if not select:
            layers.selection = before
        return
    layers._activate_on_insert = False
    try:
        layers.insert(position, layer)
    finally:
        layers._activate_on_insert = switch


@contextmanager
def many_layers(viewer: napari.Viewer) -> Iterator[None]:
    """Inside, layers come and go and the scene is put in order once, at the end.

    napari does it after each layer, and after each that goes collects all garbage of the process, 0.1 s and more once
    torch is loaded.
    """
    with viewer.layers.batched_update():
        yield


def qt_window(viewer: napari.Viewer) -> Any:
    """The Qt main window, or ``None`` for a viewer without one."""
    return getattr(getattr(unwrap(viewer), "window", None), "_qt_window", None)


class _CloseFilter(QObject):
    """Tells once when a window goes away; a close that the user takes back does not count."""

    def __init__(self, window: QObject, callback: Callable[[], None]) -> None:
        super().__init__(window)
        self._window = window
        self._callback: Callable[[], None] | None = callback
        window.installEventFilter(self)
        application = QCoreApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self._fire)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Close:
            QTimer.singleShot(0, self._fire_if_closed)  # the window has not answered yet
        elif event.type() == QEvent.Type.DeferredDelete:
            self._fire()
        return False

    def _fire_if_closed(self) -> None:
        if not self._window.isVisible():
            self._fire()

    def _fire(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


def on_window_closed(viewer: napari.Viewer, callback: Callable[[], None]) -> None:
    """Call ``callback()`` once when the viewer's window goes away."""
    window = qt_window(viewer)
    if window is not None:
        _CloseFilter(window, callback)


def show_scale_bar(viewer: napari.Viewer) -> None:
    """Switch the scale bar on."""
    viewer.canvas.overlays.scale_bar.visible = True


def theme_colours(viewer: napari.Viewer) -> dict[str, str]:
    """The colours of the viewer's theme as ``#rrggbb``: background, foreground, primary, secondary, highlight, text."""
    from napari.utils.theme import get_theme

    theme = get_theme(viewer.theme)
    names = ("background", "foreground", "primary", "secondary", "highlight", "text")
    return {name: getattr(theme, name).as_hex(format="long") for name in names}


def on_theme_changed(viewer: napari.Viewer, callback: Callable[[], None]) -> Callable[[], None]:
    """Call ``callback()`` when the viewer gets another theme; returns what disconnects it."""

    def changed(_event: object = None) -> None:
        callback()

    viewer.events.theme.connect(changed)
    return lambda: viewer.events.theme.disconnect(changed)


def show_text(viewer: napari.Viewer, text: str) -> None:
    """Write a line onto the canvas; an empty one takes it away."""
    overlay = viewer.canvas.overlays.text
    overlay.text = text
    overlay.visible = bool(text)


def set_visible(layer: Any, visible: bool) -> None:
    """Show or hide a layer; napari lays the scene out anew also for one that is so already, 50 ms and more."""
    if layer.visible != visible:
        layer.visible = visible


def set_colorbar(viewer: napari.Viewer, layer: Any, visible: bool) -> None:
    """Show or hide the legend of an image layer on the canvas."""
    colorbar = getattr(layer, "colorbar", None)
    if colorbar is None or colorbar.visible == visible:
        return
    try:
        colorbar.visible = visible
    except EmitLoopError:
        # napari 0.9: the grid was laid out anew while the legend was hidden, which left it in a cell that is gone.
        # Laying the layers out again gives it its new one.
        viewer.layers.events.reordered()


# ---------------------------------------------------------------------- what is drawn
# napari has no public way to what draws a layer. Where these names are gone, the answers are None, an empty list and False,
# and the callers do without.


def _vispy_canvas(viewer: napari.Viewer) -> Any:
    return getattr(getattr(qt_window(viewer), "_qt_viewer", None), "canvas", None)


def canvas_widget(viewer: napari.Viewer) -> Any:
    """The Qt widget that the slides are drawn on, or ``None``."""
    return getattr(_vispy_canvas(viewer), "native", None)


def drawn_nodes(viewer: napari.Viewer, layer: Any) -> list[Any]:
    """The vispy visuals that draw a layer now: one, or one a tile where the image is larger than a texture.

    They are others after a switch to 3-D and back, and when an image grows beyond a texture or shrinks below it.
    """
    visual = getattr(_vispy_canvas(viewer), "layer_to_visual", {}).get(layer)
    node = getattr(visual, "node", None)
    if node is None:
        return []
    tiles = getattr(node, "adopted_children", None)
    return list(tiles) if tiles is not None else [node]


def scene_of(viewer: napari.Viewer, layer: Any) -> Any:
    """The vispy scene that a layer is drawn in (each cell of the grid has its own), or ``None``."""
    visual = getattr(_vispy_canvas(viewer), "layer_to_visual", {}).get(layer)
    return getattr(getattr(visual, "node", None), "parent", None)


def line_node(colour: str, width: float) -> Any:
    """A vispy line, to be put into a scene by its ``parent``; drawn over the layers, below napari's overlays."""
    from vispy.scene.visuals import Line

    line = Line(np.zeros((2, 2)), color=colour, width=width, method="gl", antialias=False)
    line.set_gl_state("translucent", depth_test=False)
    line.order = 1_000
    return line


def before_draw(viewer: napari.Viewer, callback: Callable[[], None]) -> Callable[[], None] | None:
    """Call ``callback()`` before every drawing of the canvas; returns what ends it, ``None`` where that can't be had."""
    canvas = _vispy_canvas(viewer)
    events: Any = getattr(canvas, "events", None)
    if events is None or not hasattr(events, "draw") or not hasattr(canvas, "layer_to_visual"):
        return None

    def draws(_event: object = None) -> None:
        callback()

    events.draw.connect(draws, position="first")

    def disconnect() -> None:
        events.draw.disconnect(draws)

    return disconnect


def add_to_canvas(viewer: napari.Viewer, node: Any) -> bool:
    """Lay a vispy node over everything, in pixels of the canvas (x, y) from its top left corner."""
    view = getattr(_vispy_canvas(viewer), "view", None)
    if view is None:
        return False
    node.parent = view
    node.order = 1_000_001  # napari's own overlays stop at a million
    return True
