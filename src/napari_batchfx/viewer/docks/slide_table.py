"""The table of the Slides dock: what is known of every slide, editable where the user may know better."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem

from napari_batchfx.errors import BatchfxError
from napari_batchfx.viewer.session import MANY

if TYPE_CHECKING:
    from napari_batchfx.slides import Slide
    from napari_batchfx.study import SlideEntry
    from napari_batchfx.viewer.session import Session

__all__ = ["COLOUR_MODES", "SlideTable", "colour_text", "facts", "parse_mpp"]

_COLUMNS = ("name", "site", "scanner", "patient", "mpp", "colour")
_HEADERS = ("Name", "Site", "Scanner", "Patient", "µm/px", "Colour")
_TIPS = (
    "The slide's name; double-click to change it.",
    "Hospital or laboratory the slide comes from.",
    "Scanner that made the image; filled from the file where the file says so.",
    "Patient or case; tiles of one patient are never split between training and test.",
    "Micrometres a pixel at full resolution (height x width where they differ); ≈ is an estimate from the objective. "
    "Emptied, it is the file's own again.",
    "Colour profile: none in the file, stored (there is one, not applied), or sRGB (applied); change it under More.",
)
_WIDTHS = {1: 44, 3: 50, 4: 52, 5: 52}

COLOUR_MODES = (
    ("As stored", "off"),
    ("As the file says", "auto"),
    ("Converted to sRGB", "on"),
)
"""Text and mode of the colour choices."""


class SlideTable(QTableWidget):
    """One row a slide; ``on_edited(entry, key, value)`` is called with what the user typed."""

    def __init__(
        self,
        session: Session,
        on_edited: Callable[[SlideEntry, str, Any], None],
        on_refused: Callable[[str], None],
    ) -> None:
        super().__init__(0, len(_COLUMNS))
        self._session = session
        self._on_edited = on_edited
        self._on_refused = on_refused
        self._filling = False
        self.setHorizontalHeaderLabels(list(_HEADERS))
        for column, tip in enumerate(_TIPS):
            self.horizontalHeaderItem(column).setToolTip(tip)
        header = self.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        for column in (0, 2):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.Stretch)
        header.setMinimumSectionSize(36)
        header.setTextElideMode(Qt.TextElideMode.ElideRight)
        for column, width in _WIDTHS.items():
            self.setColumnWidth(column, width)
        self.setWordWrap(False)
        self.verticalHeader().hide()
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setAccessibleName("Slides of the study")
        self.setMinimumHeight(140)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.itemChanged.connect(self._edited)

    def selected(self) -> list[SlideEntry]:
        """The slides whose rows are selected."""
        rows = sorted({index.row() for index in self.selectionModel().selectedRows()})
        slides = self._session.study.slides
        return [slides[row] for row in rows if row < len(slides)]

    def refresh(self) -> None:
        """Fill the table from the study; what did not change is left alone."""
        slides = self._session.study.slides
        shown = {entry.fingerprint for entry in self._session.shown_slides()}
        self._filling = True
        self.setUpdatesEnabled(False)
        try:
            self.setRowCount(len(slides))
            for row, entry in enumerate(slides):
                self._fill_row(row, entry, hidden=entry.fingerprint not in shown)
        finally:
            self.setUpdatesEnabled(True)
            self._filling = False

    def _fill_row(self, row: int, entry: SlideEntry, *, hidden: bool) -> None:
        slide = open_or_none(self._session, entry)
        for column, key in enumerate(_COLUMNS):
            tip = ""
            if key == "mpp":
                text = mpp_text(entry, slide)
            elif key == "colour":
                text, tip = colour_text(slide)
            else:
                text = getattr(entry, key)
            item = self.item(row, column) or QTableWidgetItem()
            if item.text() != text:
                item.setText(text)
            font = item.font()
            if font.italic() != hidden:
                font.setItalic(hidden)
                item.setFont(font)
            item.setToolTip(
                f"{text}\nNot shown: its layer was deleted; Show brings it back."
                if hidden
                else tip or text or _TIPS[column]
            )
            if key == "colour":
                item.setFlags(item.flags() & ~Qt.ItemFlag.ItemIsEditable)
            if self.item(row, column) is None:
                self.setItem(row, column, item)

    def _edited(self, item: QTableWidgetItem) -> None:
        if self._filling:
            return
        entry = self._session.study.slides[item.row()]
        key, text = _COLUMNS[item.column()], item.text().strip()
        try:
            # an emptied pixel size: the file's own again
            value = text if key != "mpp" else parse_mpp(text) if text else "file"
            self._on_edited(entry, key, value)
        except (BatchfxError, ValueError) as error:
            self.refresh()
            self._on_refused(str(error))


def open_or_none(session: Session, entry: SlideEntry) -> Slide | None:
    """The open slide, or ``None`` where its file can't be read, or a study has too many to open them all."""
    if len(session.study.slides) > MANY and not session.study.is_open(entry):
        return None
    try:
        return session.study.open_slide(entry)
    except BatchfxError:
        return None


def mpp_text(entry: SlideEntry, slide: Slide | None) -> str:
    """Pixel size for the table: ``0.25``, ``0.25 x 0.26``, ``≈0.5`` where it is an estimate."""
    mpp = entry.mpp_given if slide is None else slide.mpp
    if mpp is None:
        return ""
    y, x = (f"{side:.4g}" for side in mpp)
    about = "≈" if slide is not None and "estimate" in slide.mpp_source else ""
    return about + (y if y == x else f"{y} x {x}")


def colour_text(slide: Slide | None) -> tuple[str, str]:
    """How a slide's colours are read, for the table, and a sentence about it."""
    if slide is None:
        return "", ""
    if slide.modality == "fluorescence":
        return "fluor.", "A fluorescence scan, shown in grey; stain tools need brightfield."
    if slide.colour_key:
        return "sRGB", f"Converted to sRGB by the profile in the file ({slide.icc_name})."
    if slide.icc_name is None:
        return "none", "The file has no colour profile; pixels are shown as stored."
    return "stored", f"The file has a colour profile ({slide.icc_name}); pixels are shown as stored."


def parse_mpp(text: str) -> tuple[float, float]:
    """Micrometres a pixel (y, x) from what was typed; :class:`ValueError` says what to type."""
    cleaned = text.replace("×", "x").replace(",", ".").replace("≈", "")
    parts = [part for part in cleaned.split("x") if part.strip()]
    try:
        values = [float(part) for part in parts]
    except ValueError:
        values = []
    if len(values) not in (1, 2) or not all(0.01 <= value <= 100 for value in values):
        raise ValueError(
            f"{text or 'nothing'} is no pixel size; type micrometres a pixel, for example 0.25 or 0.25 x 0.26."
        )
    return values[0], values[-1]


_SOURCES = {"file": "from the file", "given": "typed in", "tiff resolution": "from the TIFF resolution"}


def facts(slide: Slide, entry: SlideEntry, overview: str = "") -> str:
    """What the file says of a slide, a line each; nothing that could name a patient."""
    height, width = slide.shape
    lines = [f"{height:,} x {width:,} px"]
    if slide.mpp:
        lines[0] += f", {height * slide.mpp[0] / 1000:.3g} x {width * slide.mpp[1] / 1000:.3g} mm"
    lines.append(f"pixel size: {_SOURCES.get(slide.mpp_source, slide.mpp_source)}")
    words = {
        "format": slide.vendor,
        "scanner in file": slide.scanner,
        "objective": None if slide.objective_power is None else f"{slide.objective_power:g}x",
        "scanned": slide.scan_date,
    }
    lines += [f"{word}: {value}" for word, value in words.items() if value]
    lines.append(f"colours: {colour_text(slide)[1]}")
    if entry.alignment is not None:
        record = entry.alignment
        left = "" if record.residual_um is None else f", {record.residual_um:.1f} µm left (median)"
        how = {"auto": "", "points": " by hand", "file": " from a file"}[record.method]
        lines.append(f"aligned on {record.reference}{how}: {record.verdict}{left}")
    if slide.damage:
        n = len(slide.damage)
        lines.append(
            f"damaged: {n} {'tile' if n == 1 else 'tiles'} so far, shown grey and left out of features"
        )
    if overview:
        lines.append(overview)
    return "\n".join(lines)
