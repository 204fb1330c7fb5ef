"""The part of the Slides dock that shows what counts as tissue while its settings move, and flags artefacts."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QGridLayout, QLabel, QSizePolicy, QSlider, QWidget

from napari_batchfx.errors import BatchfxError
from napari_batchfx.jobs import Job, Ticker
from napari_batchfx.viewer import layers as batchfx_layers
from napari_batchfx.viewer import regions
from napari_batchfx.viewer.docks.common import More, form_row, tool_button

if TYPE_CHECKING:
    from napari_batchfx.study import SlideEntry
    from napari_batchfx.study.settings import TissueChoice
    from napari_batchfx.study.tissue_maps import TissueMap, TissuePreview
    from napari_batchfx.viewer.docks.slides import SlidesDock
    from napari_batchfx.viewer.session import Session

__all__ = ["TissueBox"]

_SETTLE_MS = 60
_STEP = 0.002  # optical density a slider step
_KINDS = (
    ("pen", "pen", "Marker pen, any colour."),
    ("edge", "edges", "Rims of coverslip, slide and air bubbles."),
    ("fold", "folds", "Tissue folded over itself."),
    ("blur", "blur", "Out of focus; takes seconds on a large slide, once."),
)


class TissueBox(More):
    """Tissue and artefacts over the slides, live; what is chosen decides which tiles are encoded."""

    def __init__(self, dock: SlidesDock) -> None:
        super().__init__("Tissue")
        self.toggleButton().setToolTip("What counts as tissue, and pen, edges, folds and blur on it.")
        self._dock = dock
        self._session: Session = dock.session
        self._previews: dict[str, tuple[Any, TissuePreview]] = {}
        self._text: dict[str, tuple[str, TissueMap]] = {}
        self._filling = False
        self.shown = QCheckBox("Show tissue and artefacts")
        self.shown.setToolTip("Green: tissue. Other colours: artefacts that are looked for.")
        self.form.addRow(self.shown)
        self.automatic = QCheckBox("found for each slide")
        self.threshold = QSlider(Qt.Orientation.Horizontal)
        self.threshold.setRange(1, 150)
        form_row(
            self.form, "Threshold", self.automatic, "Otsu's threshold on the optical density of each slide."
        )
        form_row(
            self.form,
            "by hand",
            self.threshold,
            "Optical density above which a pixel is tissue, the same for all slides. Right: less is tissue.",
        )
        self.holes = self._area(
            "Fill holes below", "Holes smaller than this count as tissue; larger ones are real."
        )
        self.specks = self._area("Drop below", "Pieces of tissue smaller than this are dropped.")
        self.leave_out = self._checks(
            "Leave out", "Artefacts that count as no tissue: their tiles are not encoded."
        )
        buttons = QWidget()
        line = QGridLayout(buttons)
        line.setContentsMargins(0, 0, 0, 0)
        self.draw_tissue = tool_button(
            "Draw tissue",
            "Draw a region that is tissue, whatever the mask says.",
            lambda: self._draw("tissue"),
        )
        self.draw_none = tool_button(
            "Draw no tissue",
            "Draw a region that is no tissue, whatever the mask says.",
            lambda: self._draw("no tissue"),
        )
        for column, button in enumerate((self.draw_tissue, self.draw_none)):
            button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            line.addWidget(button, 0, column)
        self.form.addRow(buttons)
        self.numbers = QLabel()
        self.numbers.setWordWrap(True)
        self.numbers.setTextFormat(Qt.TextFormat.RichText)
        self.numbers.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.form.addRow(self.numbers)
        self._job = self._session.new_job()
        self._job.progressed.connect(self._on_progress)
        self._job.failed.connect(dock.card.fail)
        self._settle = QTimer(self)
        self._settle.setSingleShot(True)
        self._settle.setInterval(_SETTLE_MS)
        self._settle.timeout.connect(self._find)
        self.shown.toggled.connect(self._on_shown)
        self.automatic.toggled.connect(self._changed)
        self.threshold.valueChanged.connect(self._changed)
        for widget in (self.holes, self.specks):
            widget.valueChanged.connect(self._changed)
        for box in self.leave_out.values():
            box.toggled.connect(self._changed)
        self._session.regions_changed.connect(self._on_regions)
        self._session.study_changed.connect(self._on_study)
        self._load()

    def _area(self, text: str, tooltip: str) -> QDoubleSpinBox:
        box = QDoubleSpinBox()
        box.setRange(0, 10_000_000)
        box.setDecimals(0)
        box.setSingleStep(500)
        box.setSuffix(" µm²")
        box.setKeyboardTracking(False)
        form_row(self.form, text, box, tooltip)
        return box

    def _checks(self, text: str, tooltip: str) -> dict[str, QCheckBox]:
        holder = QWidget()
        line = QGridLayout(holder)
        line.setContentsMargins(0, 0, 0, 0)
        boxes = {}
        for index, (kind, word, tip) in enumerate(_KINDS):
            boxes[kind] = QCheckBox(word)
            boxes[kind].setToolTip(tip)
            boxes[kind].setAccessibleName(f"{text} {word}")
            line.addWidget(boxes[kind], index // 2, index % 2)
        label = QLabel(text)
        label.setToolTip(tooltip)
        self.form.addRow(label, holder)
        return boxes

    # ------------------------------------------------------------------ settings

    def _load(self) -> None:
        """Show the study's settings."""
        choice = self._session.study.settings.tissue
        self._filling = True
        self.automatic.setChecked(choice.threshold is None)
        if choice.threshold is not None:
            self.threshold.setValue(round(choice.threshold / _STEP))
        self.holes.setValue(choice.fill_holes_um2)
        self.specks.setValue(choice.min_area_um2)
        for kind, box in self.leave_out.items():
            box.setChecked(kind in choice.exclude)
        self._filling = False
        self.threshold.setEnabled(choice.threshold is not None)

    def choice(self) -> TissueChoice:
        """What is chosen now."""
        from napari_batchfx.study.settings import TissueChoice

        return TissueChoice(
            threshold=None if self.automatic.isChecked() else self.threshold.value() * _STEP,
            smooth_um=self._session.study.settings.tissue.smooth_um,
            min_area_um2=self.specks.value(),
            fill_holes_um2=self.holes.value(),
            exclude=[kind for kind, box in self.leave_out.items() if box.isChecked()],
        )

    def _changed(self, *_: Any) -> None:
        if self._filling:
            return
        self.threshold.setEnabled(not self.automatic.isChecked())
        choice = self.choice()
        if choice != self._session.study.settings.tissue:
            self._session.study.settings.tissue = choice
            # which tiles count is another now; the features of a tile are not
            self._session.features_changed.emit("")
        self._settle.start()

    def _on_study(self) -> None:
        self._previews.clear()
        self._text.clear()
        self._load()
        self._settle.start()

    # ------------------------------------------------------------------ what is seen

    def refresh(self) -> None:
        """Follow the slides: buttons that can work, maps for slides that came."""
        shown = self._session.shown_slides()
        for button in (self.draw_tissue, self.draw_none, self.shown):
            button.setEnabled(bool(shown))
        for entry in shown:
            known = self._previews.get(entry.fingerprint)
            if known is not None and known[0] != self._state(entry):
                self._text.pop(entry.fingerprint, None)  # found in other colours or another pixel size
        if self.shown.isChecked() and any(
            self._session.layer(entry, "tissue") is None
            and not self._session.is_dismissed(entry, "tissue")
            and entry.fingerprint not in self._text
            for entry in shown
        ):
            self._settle.start()

    def _state(self, entry: SlideEntry) -> tuple[Any, ...] | None:
        """What a preview holds for: an open slide in its colours and pixel size."""
        try:
            slide = self._session.study.open_slide(entry)
        except BatchfxError:
            return None
        return (id(slide), slide.mpp, slide.colour_key)

    def _on_shown(self, on: bool) -> None:
        if on:
            self._session.allow_overlays("tissue")
            self._session.allow_overlays("artefacts")
            self._settle.start()
            return
        self._job.cancel()
        self._text.clear()
        self._session.drop_all("tissue", "artefacts")
        self.numbers.setText("")

    def _on_regions(self) -> None:
        """A region drawn as tissue or no tissue counts at once."""
        if self.shown.isChecked():
            self._settle.start()

    def _draw(self, class_name: str) -> None:
        entry = self._session.active_slide()
        if entry is None:
            return
        self.shown.setChecked(True)
        regions.start_drawing(self._session, entry, class_name)
        self._dock.card.say(
            f"Draw {class_name} on {entry.name}.",
            "Click the corners of a polygon; a double click ends it. It overrides the mask and is no label.",
        )

    def _find(self) -> None:
        if not self.shown.isChecked() or self._session.is_closed:
            return
        regions.pull(self._session)
        entries = [entry for entry in self._session.shown_slides() if entry in self._session.ready_slides()]
        if entries:
            self._job.start(self._maps_job(entries, self.choice()), "Finding tissue")

    def _maps_job(self, entries: list[SlideEntry], choice: TissueChoice) -> Job[None]:
        """Tissue first on every slide, then with the artefacts: the first answer comes at once."""
        from napari_batchfx.study.tissue_maps import tissue_preview
        from napari_batchfx.study.tissue_regions import tissue_regions

        study = self._session.study
        ticker = Ticker(2 * len(entries), "finding tissue", "steps")
        kinds = tuple(kind for kind, _, _ in _KINDS)
        annotations = list(study.annotations)
        yield ticker.tick(0)
        for wanted in ((), kinds):
            for entry in entries:
                try:
                    holds = self._state(entry)
                    known = self._previews.get(entry.fingerprint)
                    if known is None or known[0] != holds:
                        known = self._previews[entry.fingerprint] = (holds, tissue_preview(study, entry))
                    include, exclude = tissue_regions(annotations, entry.name)
                    found = known[1].show(choice, include, exclude, wanted)
                except BatchfxError as error:
                    study.report_problem(entry.name, error)
                    yield ticker.tick()
                    continue
                yield ticker.tick(partial=(entry, found))

    def _on_progress(self, progress: Any) -> None:
        if progress.partial is None or not self.shown.isChecked():
            return
        from napari_batchfx.study.tissue_maps import TISSUE_COLOUR

        entry, found = progress.partial
        if entry not in self._session.study.slides:
            return
        self._show(entry, "tissue", found.tissue, found, (TISSUE_COLOUR,), "tissue")
        if found.artefacts is not None:
            self._show(entry, "artefacts", found.artefacts, found, found.colours, "artefacts")
        self._text[entry.fingerprint] = (entry.name, found)
        self._say()

    def _show(
        self,
        entry: SlideEntry,
        kind: str,
        labels: Any,
        found: TissueMap,
        colours: tuple[str, ...],
        title: str,
    ) -> None:
        if self._session.is_dismissed(entry, kind) or self._session.layer(entry, "slide") is None:
            return
        layer = self._session.layer(entry, kind)
        if layer is not None and not batchfx_layers.tag(layer).get("placeholder"):
            batchfx_layers.update_mask(layer, labels, colours, found.mpp)
            return
        layer = batchfx_layers.mask_layer(
            labels, colours, found.mpp, name=f"{entry.name} · {title}", affine_um=entry.affine_um
        )
        self._session.add_layer(entry, kind, layer)

    def _say(self) -> None:
        shown = {entry.fingerprint for entry in self._session.shown_slides()}
        lines = []
        for fingerprint, (name, found) in self._text.items():
            if fingerprint in shown:
                lines.append(f"<b>{html.escape(name)}</b>: {html.escape(found.sentence())}")
        if lines:
            lines.append(_legend())
        self.numbers.setText("<br>".join(lines))


def _legend() -> str:
    from napari_batchfx.study.tissue_maps import ARTEFACT_COLOURS, TISSUE_COLOUR

    named = [("tissue", TISSUE_COLOUR), *((word, ARTEFACT_COLOURS[kind]) for kind, word, _ in _KINDS)]
    return " ".join(f'<span style="color:{colour}">■</span> {word}' for word, colour in named)
