"""Slides dock: open slides, say where they come from, compare them, lay rescans on each other."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import (
    QFileDialog,
    QGridLayout,
    QLabel,
    QMenu,
    QPushButton,
    QSizePolicy,
    QWidget,
)

from napari_batchfx.errors import BatchfxError
from napari_batchfx.viewer.docks.common import Dock, More, choice, form_row, hint, tool_button
from napari_batchfx.viewer.docks.compare_box import CompareBox
from napari_batchfx.viewer.docks.slide_menu import show_slide_menu
from napari_batchfx.viewer.docks.slide_sheet import SEEN, SheetAdding, is_sheet
from napari_batchfx.viewer.docks.slide_table import COLOUR_MODES, SlideTable, facts, open_or_none
from napari_batchfx.viewer.docks.tissue_box import TissueBox

if TYPE_CHECKING:
    import napari

    from napari_batchfx.study import SlideEntry

__all__ = ["SlidesDock"]

_FILTER = "Slides (*.svs *.ndpi *.scn *.bif *.mrxs *.dcm *.tif *.tiff *.png *.jpg *.jpeg *.bmp *.webp);;All files (*)"


class SlidesDock(Dock):
    """Add slides, edit site, scanner, patient and pixel size, compare, align, see the tissue."""

    title = "slides"

    def __init__(self, napari_viewer: napari.Viewer | None = None) -> None:
        super().__init__(napari_viewer)
        self.setAcceptDrops(True)
        self.table = SlideTable(self.session, self._on_edited, lambda text: self.card.say(text, kind="error"))
        self.table.itemSelectionChanged.connect(self._on_selected)
        self.table.customContextMenuRequested.connect(
            lambda point: show_slide_menu(self, self.table.viewport().mapToGlobal(point))
        )
        self.add(self.table)
        self._add_buttons()
        self.facts = QLabel()
        self.facts.setWordWrap(True)
        self.facts.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.stop_preparing = tool_button(
            "Stop preparing", "Stop making the overview; it goes on with Show.", self.session.preparer.cancel
        )
        self.sheet = SheetAdding(self, self.refresh)
        self.compare = CompareBox(self)
        self.tissue = TissueBox(self)
        more = More()
        self.colours = choice(list(COLOUR_MODES))
        form_row(
            more.form,
            "Colours",
            self.colours,
            "Pixels as stored, or converted to sRGB by the profile in the file; for the selected slides, or all.",
        )
        self.colours.activated.connect(lambda *_: self.set_colours(self.colours.currentData()))
        self.add(
            self.facts,
            self.stop_preparing,
            self.sheet.stop_button,
            self.compare,
            self.tissue,
            more,
            hint(
                "Labels and overview pictures of a slide file, which may show names, are only shown on request (right-click)."
            ),
        )
        self.finish()
        for signal in (self.session.slides_changed, self.session.study_changed, self.session.layers_changed):
            signal.connect(self.refresh)
        self.session.preparer.changed.connect(lambda *_: self._on_selected())
        self.refresh()

    def _add_buttons(self) -> None:
        row = QWidget()
        grid = QGridLayout(row)
        grid.setContentsMargins(0, 0, 0, 0)
        self.add_button = QPushButton("Add slides")
        self.add_button.setToolTip(
            "Open slide files, folders, or the slides of a table; you can also drop them here."
        )
        self.add_button.setAccessibleName("Add slides")
        menu = QMenu(self.add_button)
        menu.addAction("Files ...").triggered.connect(lambda *_: self.ask_for_slides())
        menu.addAction("Folder (DICOM, OME-Zarr) ...").triggered.connect(lambda *_: self.ask_for_folder())
        menu.addAction("Table of slides (CSV) ...").triggered.connect(lambda *_: self.sheet.ask())
        self.add_button.setMenu(menu)
        self.sample_button = QPushButton("Samples")
        self.sample_button.setToolTip("Tissue to try things on; phantoms need no network.")
        self.sample_button.setMenu(self._sample_menu())
        self.show_button = tool_button(
            "Show", "Go to the selected slide; shows it again if its layer was deleted.", self.show_selected
        )
        self.remove_button = tool_button(
            "Remove",
            "Take the selected slides out of the study; files and features stay.",
            self.remove_selected,
        )
        for index, button in enumerate(
            (self.add_button, self.sample_button, self.show_button, self.remove_button)
        ):
            button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            grid.addWidget(button, index // 2, index % 2)
        self.add(row)

    # ------------------------------------------------------------------ what the user does

    def ask_for_slides(self) -> None:
        """Open the file dialog and add what was chosen."""
        paths, _ = QFileDialog.getOpenFileNames(self, "Add slides", "", _FILTER)
        self.add_paths([Path(path) for path in paths])

    def ask_for_folder(self) -> None:
        """Open the folder dialog and add the slide in the folder."""
        path = QFileDialog.getExistingDirectory(self, "Add a slide that is a folder (DICOM, OME-Zarr)")
        self.add_paths([Path(path)] if path else [])

    def add_paths(self, paths: list[Path]) -> None:
        """Add slides; those that can't be opened are named on the card, the rest opens.

        Of tables (CSV) among them the last is read.
        """
        sheets = [path for path in paths if is_sheet(path)]
        paths = [path for path in paths if not is_sheet(path)]
        if sheets:
            self.sheet.add(sheets[-1])
        if not paths:
            return
        problems = self.session.add_slides(list(paths))
        self.refresh()
        if problems:
            opened = len(paths) - len(problems)
            self.card.say(
                problems[0],
                "\n".join([*problems[1:], f"{opened} of {len(paths)} opened." if opened else ""]),
                kind="error",
            )

    def show_selected(self) -> None:
        """Point the camera at the selected slides."""
        from napari_batchfx.viewer import seam

        entries = self.selected() or self.session.study.slides
        for entry in entries:
            self.guarded(partial(self.session.show_slide, entry))
        boxes = [box for entry in entries if (box := self._box(entry)) is not None]
        if boxes:
            y0, x0, y1, x1 = zip(*boxes, strict=True)
            seam.fit_to(self.viewer, (min(y0), min(x0), max(y1), max(x1)))
        self.session.slides_changed.emit()

    def remove_selected(self) -> None:
        """Take the selected slides out of the study."""
        for entry in self.selected():
            self.session.remove_slide(entry)

    def set_colours(self, mode: str) -> None:
        """Read the selected slides (all, if none is selected) with or without their colour profile."""
        refused = []
        for entry in self.selected() or list(self.session.study.slides):
            try:
                if entry.icc != mode:
                    self.session.update_slide(entry, icc=mode)
            except BatchfxError as error:
                refused.append(str(error))
        self.refresh()
        if refused:
            self.card.say(refused[0], "\n".join(refused[1:]), kind="error")

    def selected(self) -> list[SlideEntry]:
        """The slides whose rows are selected."""
        return self.table.selected()

    # ------------------------------------------------------------------ what the user sees

    def refresh(self) -> None:
        """Fill the table from the study."""
        self.table.refresh()
        self._say_what_is()
        slides = self.session.study.slides
        self.remove_button.setEnabled(bool(slides))
        self.show_button.setEnabled(bool(slides))
        self.colours.setEnabled(bool(slides))
        self.compare.refresh()
        self.tissue.refresh()
        self._on_selected()

    def _say_what_is(self) -> None:
        slides = self.session.study.slides
        problems = self.session.study.problems
        if self.sheet.job.is_running:
            return  # the card says how far it is
        if self.sheet.said is not None:
            self.sheet.show()
        elif problems:
            self.card.say(problems[0].text, "\n".join(problem.text for problem in problems[1:]), kind="warn")
        elif not slides:
            self.card.say("No slides yet.", "Add slide files, drop them here, or try a sample.")
        elif cut := self._cut_off(slides):
            self.card.say(
                f"{cut[0]}: the file is incomplete, {cut[1]:.0%} of its tiles are missing.",
                "Copy or export it again. What is missing is shown grey and left out of features.",
                kind="warn",
            )
        elif unsized := [entry.name for entry in slides if self._lacks_mpp(entry)]:
            self.card.say(
                f"{unsized[0]}: the file has no pixel size.",
                "Type it into the µm/px column (for example 0.5 at 20x, 0.25 at 40x); it is remembered for this slide. Nothing is measured before.",
                kind="warn",
            )
        elif guessed := [entry.name for entry in slides if self._is_estimate(entry)]:
            self.card.say(
                f"{guessed[0]}: the pixel size is only an estimate from the objective.",
                "Scanners of the same power differ by 10 % and more: type the true size into the µm/px column if you know it.",
                kind="warn",
            )
        else:
            counts = [text for words in _COUNTED if (text := _count(slides, *words))]
            self.card.say(" · ".join(counts), self._missing(slides), kind="info")

    def _missing(self, slides: list[SlideEntry]) -> str:
        lines = []
        if (
            len(slides) > 1
            and len({entry.site for entry in slides}) < 2
            and len({entry.scanner for entry in slides}) < 2
        ):
            lines.append(
                "To compare scanners or hospitals, give the slides different scanners or sites in the table."
            )
        return "\n".join(lines)

    def _on_selected(self) -> None:
        entries = self.selected()
        self.stop_preparing.setVisible(self.session.preparer.is_busy)
        if entries:
            blocked = self.colours.blockSignals(True)
            self.colours.setCurrentIndex(max(0, self.colours.findData(entries[0].icc)))
            self.colours.blockSignals(blocked)
        if len(entries) != 1:
            busy = [
                f"{entry.name}: {text}"
                for entry in self.session.study.slides
                if (text := self.session.preparer.text(entry))
            ]
            self.facts.setText("\n".join(busy))
            return
        try:
            slide = self.session.study.open_slide(entries[0])
        except BatchfxError as error:
            self.facts.setText(str(error))
            return
        self.facts.setText(facts(slide, entries[0], self.session.preparer.text(entries[0])))

    # ------------------------------------------------------------------ small parts

    def _on_edited(self, entry: SlideEntry, key: str, value: Any) -> None:
        self.session.update_slide(entry, **{key: value})

    def _sample_menu(self) -> QMenu:
        from napari_batchfx.viewer.sample_data import SAMPLES

        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        for key, title, tooltip in SAMPLES:
            action = menu.addAction(title)
            action.setToolTip(tooltip)
            action.triggered.connect(lambda *_, key=key: self.open_sample(key))
        return menu

    def open_sample(self, key: str) -> None:
        """Make or fetch a sample and open it."""
        from napari_batchfx.viewer.sample_data import open_sample

        job = open_sample(self.session, key)
        job.progressed.connect(lambda progress: self.card.say(progress.text()))
        job.failed.connect(self.card.fail)
        job.succeeded.connect(lambda *_: self.refresh())

    def _lacks_mpp(self, entry: SlideEntry) -> bool:
        """Whether the slide can be read but nobody knows its pixel size."""
        slide = open_or_none(self.session, entry)
        return slide is not None and slide.mpp is None

    def _cut_off(self, slides: list[SlideEntry]) -> tuple[str, float] | None:
        """The first slide whose file ends before its pixels do, and the share of tiles it lost."""
        for entry in slides:
            slide = open_or_none(self.session, entry)
            if slide is not None and slide.lost_share > 0:
                return entry.path.name, max(0.01, slide.lost_share)
        return None

    def _is_estimate(self, entry: SlideEntry) -> bool:
        slide = open_or_none(self.session, entry)
        return slide is not None and slide.mpp is not None and "estimate" in slide.mpp_source

    def _box(self, entry: SlideEntry) -> tuple[float, float, float, float] | None:
        try:
            return self.session.box_um(entry)
        except BatchfxError:
            return None

    def _follow(self, target: str) -> None:
        if target == SEEN:
            self.sheet.seen()
        else:
            super()._follow(target)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Take files."""
        if event.mimeData().hasUrls():
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Open the files dropped."""
        self.add_paths([Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()])


_COUNTED = (
    ("", "slide", "slides"),
    ("patient", "patient", "patients"),
    ("site", "site", "sites"),
    ("scanner", "scanner", "scanners"),
)


def _count(slides: list[SlideEntry], key: str, one: str, many: str) -> str:
    n = len(slides) if not key else len({getattr(entry, key) for entry in slides} - {""})
    return f"{n} {one if n == 1 else many}" if n else ""
