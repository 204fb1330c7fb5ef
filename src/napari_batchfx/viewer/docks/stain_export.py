"""The part of the Stain dock that writes a slide, or a part of it, with its stain normalised."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtWidgets import QFileDialog, QVBoxLayout, QWidget

from napari_batchfx.errors import StainError
from napari_batchfx.viewer import regions
from napari_batchfx.viewer.docks.common import More, RunRow, choice, fill, form_row
from napari_batchfx.viewer.seen import looks

if TYPE_CHECKING:
    from napari_batchfx.study import SlideEntry
    from napari_batchfx.viewer.docks.stain import StainDock

__all__ = ["ExportBox"]

_PARTS = [("the whole slide", "slide"), ("what is seen", "view"), ("around the drawn region", "region")]
_FORMATS = [
    ("OME-TIFF, lossless", (".ome.tif", "deflate")),
    ("OME-TIFF, JPEG (smaller)", (".ome.tif", "jpeg")),
    ("OME-Zarr, lossless", (".ome.zarr", "deflate")),
]


class ExportBox(QWidget):
    """Slide, part and format; the file is there when it is complete."""

    def __init__(self, dock: StainDock) -> None:
        super().__init__()
        self._dock = dock
        self.more = More("Export")
        self.slide = choice()
        form_row(self.more.form, "Slide", self.slide, "The slide to write.")
        self.part = choice(_PARTS)
        form_row(
            self.more.form,
            "Part",
            self.part,
            "All of it, what is on the canvas, or the box around the selected shapes.",
        )
        self.format = choice([(text, k) for k, (text, _) in enumerate(_FORMATS)])
        form_row(
            self.more.form,
            "Format",
            self.format,
            "Lossless keeps every pixel as the preview has it; JPEG is several times smaller.",
        )
        self.row = RunRow(
            "Export...",
            "Write the normalised slide with its pixel size and how it was made; no label picture, no names.",
        )
        self.more.form.addRow(self.row)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.more)
        self.job = dock.make_job(
            self.row, self._on_done, self.refresh, stopped="Stopped. No file was written."
        )
        self.row.run.connect(self.ask_and_write)

    def refresh(self) -> None:
        """Follow the slides."""
        self.row.set_running(self.job.is_running)
        shown = self._dock.session.shown_slides()
        fill(self.slide, [(entry.name, entry.fingerprint) for entry in shown])
        self.row.allow(bool(shown), "Open a slide first.")

    def ask_and_write(self) -> None:
        """Ask where, and write."""
        entry = self._entry()
        suffix, _ = _FORMATS[self.format.currentData()][1]
        if entry is None:
            return
        path, _ = QFileDialog.getSaveFileName(
            self, "Export the normalised slide", f"normalised{suffix}", f"OME-TIFF, OME-Zarr (*{suffix})"
        )
        if path:
            # the dialog has asked whether a file may be replaced
            self.write_to(Path(path), overwrite=True)

    def write_to(self, path: Path, *, overwrite: bool = False) -> None:
        """Write the chosen slide there."""
        entry = self._entry()
        if entry is None:
            return
        suffix, compression = _FORMATS[self.format.currentData()][1]
        if not path.name.lower().endswith((suffix, ".ome.tiff")):
            path = path.with_name(path.name + suffix)
        region = self._dock.guarded(lambda: self._region(entry))
        if region is None:
            return
        self._dock.write_settings()
        job = self._dock.session.study.export_stain_job(
            entry, path, region_um=region or None, compression=compression, overwrite=overwrite
        )
        self.job.start(job, "Writing the normalised slide")
        self.row.set_running(True)

    def _entry(self) -> SlideEntry | None:
        wanted = self.slide.currentData()
        shown = self._dock.session.shown_slides()
        return next((entry for entry in shown if entry.fingerprint == wanted), None)

    def _region(self, entry: SlideEntry) -> Any:
        """y0, x0, y1, x1 in the slide's micrometres; () for all of it."""
        session = self._dock.session
        part = self.part.currentData()
        if part == "slide":
            return ()
        if part == "view":
            box = next((look.box_um for look in looks(session) if look.entry is entry), None)
            if box is None:
                raise StainError(f"{entry.name}: it isn't on the canvas; move the view over it.")
            return box
        polygons = regions.selected_polygons(session)
        if not polygons:
            raise StainError("No region is drawn; draw one, or choose another part.")
        points = session.to_slide_um(entry, np.concatenate(polygons))
        return (*points.min(axis=0).tolist(), *points.max(axis=0).tolist())

    def _on_done(self, done: Any) -> None:
        height, width = done.shape
        size = f"{width:,} x {height:,} px, {done.n_bytes / 1e6:,.1f} MB"
        self._dock.card.say(
            f"Written: {done.path.name}, {size}.",
            "\n".join(done.warnings),
            kind="warn" if done.warnings else "good",
        )
        self.refresh()
