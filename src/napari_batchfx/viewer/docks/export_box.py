"""Part of the Report dock: tiles, values and overlays for other programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QCheckBox, QFileDialog, QVBoxLayout, QWidget

from napari_batchfx.study import EXPORTS
from napari_batchfx.viewer import regions
from napari_batchfx.viewer.docks.common import Dock, RunRow

if TYPE_CHECKING:
    from napari_batchfx.study import ExportOutcome

__all__ = ["ExportBox"]

_NAMES = {
    "geojson": "GeoJSON for QuPath",
    "csv": "CSV, a line a tile",
    "h5ad": "h5ad for scanpy",
    "h5": "h5 as TRIDENT has it",
    "spatialdata": "SpatialData",
    "png": "Pictures (PNG)",
    "ome-tiff": "Overlays as OME-TIFF",
    "ome-zarr": "Overlays as OME-Zarr",
}
_USUAL = ("geojson", "csv", "h5ad")


class ExportBox(QWidget):
    """Choose what is written, press the button, give a folder.

    Parameters
    ----------
    dock : Dock
        The dock it is in: its card says what came of it.
    with_identifiers : callable
        Whether names of slides and patients are kept.
    """

    def __init__(self, dock: Dock, with_identifiers: Callable[[], bool]) -> None:
        super().__init__()
        self._dock, self._with_identifiers = dock, with_identifiers
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        self.boxes: dict[str, QCheckBox] = {}
        for kind, words in EXPORTS.items():
            box = QCheckBox(_NAMES[kind])
            box.setToolTip(f"{words[:1].upper()}{words[1:]}.")
            box.setChecked(kind in _USUAL)
            box.toggled.connect(lambda *_: self.refresh())
            self.boxes[kind] = box
            layout.addWidget(box)
        self.row = RunRow(
            "Export ...", "Write the chosen files into a folder, with what they were made from beside them."
        )
        layout.addSpacing(4)
        layout.addWidget(self.row)
        self.job = dock.make_job(
            self.row, self._on_written, self.refresh, stopped="Stopped; files that were complete are kept."
        )
        self.row.run.connect(self.ask)
        self.refresh()

    @property
    def kinds(self) -> list[str]:
        """What is ticked."""
        return [kind for kind, box in self.boxes.items() if box.isChecked()]

    def ask(self) -> None:
        """Ask for a folder and write."""
        folder = QFileDialog.getExistingDirectory(self, "Export into this folder")
        if folder:
            self.write_to(Path(folder))

    def write_to(self, folder: Path) -> None:
        """Write off the GUI thread."""
        session = self._dock.session
        regions.pull(session)
        job = session.study.export_job(folder, self.kinds, with_identifiers=self._with_identifiers())
        self.job.start(job, "Exporting")
        self.row.set_running(True)

    def refresh(self) -> None:
        """Enable the button where there is something to write."""
        self.row.set_running(self.job.is_running)
        study = self._dock.session.study
        store = self._dock.guarded(study.store)
        if store is None or not store.holds_any():
            self.row.allow(False, "Encode tiles first: the files are about tiles.")
        else:
            self.row.allow(bool(self.kinds), "Tick what is to be written.")

    def _on_written(self, outcome: ExportOutcome) -> None:
        self._dock.copy_row.refresh()
        n = len(outcome.files)
        lines = [str(problem) for problem in outcome.problems]
        if not self._with_identifiers():
            lines += [f"{number} is {name}" for name, number in outcome.slides.items() if number != name]
        self._dock.card.say(
            f"Exported {n} {'file' if n == 1 else 'files'} to {outcome.folder.name}.",
            "\n".join(lines[:12] + (["..."] if len(lines) > 12 else [])),
            kind="warn" if outcome.problems else "good",
            links={"Open the folder": f"file:{outcome.folder}"},
        )


def open_place(target: str) -> bool:
    """Open a file or folder named by a link of the card; False where the link is another kind."""
    if not target.startswith("file:"):
        return False
    place: Any = QUrl.fromLocalFile(target.removeprefix("file:"))
    QDesktopServices.openUrl(place)
    return True
