"""All docks as tabs in the order of the work."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakSet

from qtpy.QtCore import QSize
from qtpy.QtWidgets import QTabWidget, QVBoxLayout, QWidget

from napari_batchfx.viewer import seam

if TYPE_CHECKING:
    import napari

    from napari_batchfx.viewer.docks.common import Dock

__all__ = ["DOCKS", "Workbench", "show_dock"]

# key, tab, tooltip, and the name of the widget in the manifest
DOCKS = (
    ("slides", "Slides", "Open slides and say where they come from", "Slides"),
    ("encode", "Encode", "Turn tiles into feature vectors", "Encode"),
    ("probe", "Probe", "How well a simple classifier recognises scanner or site", "Site probe"),
    ("stain", "Stain", "Preview stain normalisation", "Stain"),
    ("adapt", "Adapt", "Carry predictions to a new scanner with control samples", "Adapt"),
    ("report", "Report", "Save the study, write the report", "Study and report"),
)
# beside the workbench, not in it: they are used together with its docks
_BESIDE = {"tile": "What the model saw"}

_benches: WeakSet[Workbench] = WeakSet()


def _make(key: str, viewer: napari.Viewer) -> Dock:
    from napari_batchfx.viewer.docks.adapt import AdaptDock
    from napari_batchfx.viewer.docks.encode import EncodeDock
    from napari_batchfx.viewer.docks.probe import ProbeDock
    from napari_batchfx.viewer.docks.report import ReportDock
    from napari_batchfx.viewer.docks.slides import SlidesDock
    from napari_batchfx.viewer.docks.stain import StainDock

    kinds = {
        "slides": SlidesDock,
        "encode": EncodeDock,
        "probe": ProbeDock,
        "stain": StainDock,
        "adapt": AdaptDock,
        "report": ReportDock,
    }
    return kinds[key](viewer)


class Workbench(QWidget):
    """The docks as tabs; each is also available on its own in the Plugins menu."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self.viewer = seam.unwrap(napari_viewer)
        self.tabs = QTabWidget()
        self.tabs.setDocumentMode(True)
        self.tabs.setUsesScrollButtons(True)
        self.tabs.setStyleSheet("QTabBar::tab { padding: 4px 5px; min-width: 0px; }")  # six tabs in 300 px
        self.docks: dict[str, Dock] = {}
        for key, text, tooltip, _ in DOCKS:
            dock = _make(key, napari_viewer)
            self.docks[key] = dock
            self.tabs.setTabToolTip(self.tabs.addTab(dock, text), tooltip)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.tabs)
        self.setMinimumWidth(300)
        _benches.add(self)

    def sizeHint(self) -> QSize:
        """As wide as one dock."""
        return QSize(380, 700)

    def show_dock(self, key: str) -> Dock:
        """Bring a dock forward."""
        dock = self.docks[key]
        self.tabs.setCurrentWidget(dock)
        return dock


def show_dock(viewer: napari.Viewer, key: str) -> None:
    """Bring a dock forward: in the viewer's workbench where there is one, else on its own."""
    for bench in list(_benches):
        if bench.viewer is seam.unwrap(viewer) and key not in _BESIDE:
            bench.show_dock(key)
            return
    widget_name = _BESIDE.get(key) or next(name for own, _, _, name in DOCKS if own == key)
    dock, _ = viewer.window.add_plugin_dock_widget("napari-batchfx", widget_name)
    dock.show()  # it may be there, and closed
    dock.raise_()
