"""Encode dock: which encoder, where, and how far it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QDoubleSpinBox,
    QGridLayout,
    QLabel,
    QPushButton,
    QRadioButton,
    QSpinBox,
    QWidget,
)

from napari_batchfx.viewer.docks.common import Dock, More, RunRow, choice, fill, form_row, tool_button
from napari_batchfx.viewer.docks.encoder_picker import EncoderPicker, breakable
from napari_batchfx.viewer.encoding import Encoding

if TYPE_CHECKING:
    import napari

__all__ = ["EncodeDock", "encoding_for"]


def encoding_for(session: Any) -> Encoding:
    """The session's encoding controller; every Encode dock of a viewer drives the same one."""
    found = session.findChild(Encoding)
    return found if found is not None else Encoding(session)


class EncodeDock(Dock):
    """Turn tiles into feature vectors: on the visible region (once or live), in drawn shapes, or on whole slides."""

    title = "encode"

    def __init__(self, napari_viewer: napari.Viewer | None = None) -> None:
        super().__init__(napari_viewer)
        self.encoding = encoding_for(self.session)
        self._last_rate = ""
        self._idle_text = ""
        self._is_downloading = self._has_downloaded = self._is_busy = False
        self._in_view = 0
        form = self.add_form()
        self.picker = EncoderPicker(self.session.new_job(), self)
        self.encoder = self.picker.box
        form_row(
            form,
            "Encoder",
            self.encoder,
            "The model that turns a tile into numbers; type any timm name, hf-hub:org/name or the path of a file or folder.",
        )
        form.addRow(self.picker.card)

        self.where = QButtonGroup(self)
        rows = QWidget()
        grid = QGridLayout(rows)
        grid.setContentsMargins(0, 0, 0, 0)
        self.live = QCheckBox("live")
        self.live.setToolTip(
            "Follow the view: stored tiles show at once, and whenever it rests the others are encoded from its centre out."
        )
        for index, (key, text, tooltip) in enumerate(
            (
                ("view", "Visible region", "The tissue on the canvas, from its centre out."),
                (
                    "shapes",
                    "Drawn shapes",
                    "Tiles inside the shapes of the selected Shapes layer (all Shapes layers if none is selected).",
                ),
                ("slides", "Whole slides", "All tissue of all slides."),
            )
        ):
            button = QRadioButton(text)
            button.setToolTip(tooltip)
            button.setProperty("key", key)
            self.where.addButton(button, index)
            grid.addWidget(button, index, 0)
        grid.addWidget(self.live, 0, 1)
        self.where.button(0).setChecked(True)
        form_row(form, "Where", rows, "Which tiles are encoded.")

        self.more = More()
        self.size_px = QSpinBox()
        self.size_px.setRange(0, 4096)
        self.size_px.setSpecialValueText("encoder's")
        self.size_px.setSuffix(" px")
        self.mpp = QDoubleSpinBox()
        self.mpp.setRange(0.0, 10.0)
        self.mpp.setDecimals(3)
        self.mpp.setSingleStep(0.05)
        self.mpp.setSpecialValueText("encoder's")
        self.mpp.setSuffix(" µm/px")
        self.tissue = QDoubleSpinBox()
        self.tissue.setRange(0.0, 1.0)
        self.tissue.setSingleStep(0.05)
        self.normalizer = choice([("none", None), ("Macenko", "macenko"), ("Reinhard", "reinhard")])
        self.target = choice()
        self.device = choice(
            [("auto", "auto"), ("CPU", "cpu"), ("GPU (CUDA)", "cuda"), ("GPU (Apple)", "mps")]
        )
        for text, widget, tooltip in (
            ("Tile", self.size_px, "Side of a tile in pixels at the size below."),
            (
                "At",
                self.mpp,
                "Pixel size the tiles are resampled to; encoders are trained at one, mostly 0.5.",
            ),
            ("Least tissue", self.tissue, "Tiles with a smaller share of tissue are left out (0 to 1)."),
            (
                "Normalise stain",
                self.normalizer,
                "Stain normalisation before the encoder; features are kept apart from those without.",
            ),
            ("towards", self.target, "Slide whose stain is the target."),
            ("Device", self.device, "Where the model runs."),
        ):
            form_row(self.more.form, text, widget, tooltip)
        self.add(self.more)

        self.row = RunRow("Encode", "Encode the tiles chosen above.")
        self.kept = QLabel()
        self.kept.setWordWrap(True)
        self.clear = QPushButton("Clear")
        self.clear.setToolTip("Delete the features kept in this study.")
        bottom = QWidget()
        line = QGridLayout(bottom)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(self.kept, 0, 0)
        line.addWidget(self.clear, 0, 1)
        line.setColumnStretch(0, 1)
        self.inspect = tool_button(
            "What the model saw",
            "Click a tile: its exact pixels stage by stage, its value, and where it comes from (W does it, too).",
            lambda: self._follow("dock:tile"),
        )
        line.addWidget(self.inspect, 1, 0, 1, 2)
        self.add(self.row, bottom)
        self.finish()

        self.show_settings()
        self.picker.chosen.connect(self._apply)
        self.where.idToggled.connect(lambda *_: self.refresh())
        self.live.toggled.connect(self._on_live)
        for spin in (self.size_px, self.mpp, self.tissue):
            spin.editingFinished.connect(self._apply)
        for box in (self.normalizer, self.target, self.device):
            box.activated.connect(self._apply)
        self.row.run.connect(self.start)
        self.row.cancel.connect(self.stop)
        self.clear.clicked.connect(self._clear)
        job = self.encoding.job
        job.progressed.connect(self._on_progress)
        job.succeeded.connect(self._on_done)
        job.failed.connect(self.card.fail)
        job.cancelled.connect(self._on_cancelled)
        job.ended.connect(self._on_ended)
        self.encoding.changed.connect(self.refresh)
        for signal in (
            self.session.slides_changed,
            self.session.layers_changed,
            self.session.features_changed,
        ):
            signal.connect(lambda *_: self.refresh())
        self.session.study_changed.connect(self._on_study)
        self.refresh()

    # ------------------------------------------------------------------ what the user does

    def start(self) -> None:
        """Encode what is chosen; says on the card why if there is nothing to encode."""
        self._apply()
        where = self.where.checkedButton().property("key")
        if where == "view":
            started = self.encoding.encode_view()
            why = "No slide is on the canvas; move the view over one."
        elif where == "shapes":
            started = self.encoding.encode_shapes()
            why = "There is no shape yet; draw one on a Shapes layer over the tissue."
        else:
            started = self.encoding.encode_slides(self.session.study.slides)
            why = "There is no slide with a known pixel size."
        if not started:
            self.card.say(why, kind="warn")

    def stop(self) -> None:
        """Cancel, and stop following the view."""
        self.live.setChecked(False)
        self.encoding.cancel()

    # ------------------------------------------------------------------ what the user sees

    def refresh(self) -> None:
        """Enable what can work now and say what is missing."""
        running = self.encoding.job.is_running
        ready = bool(self.session.ready_slides())
        if self._is_busy != self.encoding.is_busy:  # the line under the button says what a job told last
            self._is_busy = self.encoding.is_busy
            self.row.set_running(self._is_busy)
        self.row.allow(ready, "Add a slide with a known pixel size first.")
        self.live.setEnabled(self.where.checkedId() == 0 and ready)
        if not ready and self.encoding.live:
            self.encoding.set_live(False)
        if self.live.isChecked() != self.encoding.live:
            self.live.setChecked(self.encoding.live)
        fill(
            self.target,
            [("built-in", None)] + [(e.name, e.name) for e in self.session.study.slides],
            self.session.study.settings.encode.target,
        )
        self._show_kept()
        if not self.session.study.slides:
            self._say_idle("No slide to encode yet.")
        elif not ready:
            self._say_idle("The slide has no pixel size yet.")
        elif not running and not self._is_busy and self.card.text in ("", self._idle_text):
            self._say_idle()

    def _say_idle(self, missing: str = "") -> None:
        """What is true while nothing happens; a later message of a job is not overwritten by it."""
        links = {"Open Slides": "dock:slides"} if missing else {}
        self.card.say(missing or self._headline(), links=links)
        self._idle_text = self.card.text

    def _headline(self) -> str:
        name = self.session.study.settings.encode.encoder
        return f"{breakable(name)}{self._last_rate}"

    def _on_progress(self, progress: Any) -> None:
        self.row.show_progress(progress)
        self._is_downloading = progress.unit == "bytes" and bool(progress.total)
        self._has_downloaded |= self._is_downloading
        if progress.unit == "tiles":
            self._in_view = progress.total
        if progress.rate and progress.unit == "tiles":
            self._last_rate = f" · {progress.rate:,.0f} tiles/s"
        if self.card.text != self._idle_text:
            self._say_idle()

    def _on_done(self, encoded: Any) -> None:
        outcome = encoded.outcome
        said = [*outcome.lost_said(), *self.session.study.store().damage_said()]
        warnings = [*said, *self._encoder_warnings()]
        if self.encoding.live and not outcome.problems:
            self.picker.warn(warnings)  # the card above says what becomes of the view
            self._say_rest(outcome)
            return
        if outcome.problems:
            self.card.say(
                str(outcome.problems[0]),
                "\n".join(str(problem) for problem in outcome.problems[1:]),
                kind="error",
            )
        elif not outcome.tiles and not outcome.kept and not outcome.damaged:
            self.card.say(
                "There is no tissue in what you chose, so nothing was encoded.",
                "Move the view over tissue, or lower the least tissue of a tile under More.",
                kind="warn",
            )
        else:
            kept = f"; {outcome.kept:,} were there already" if outcome.kept else ""
            if outcome.damaged:
                warnings.insert(0, f"{outcome.damaged:,} tiles are damaged in the file and were left out.")
            self.card.say(
                f"{outcome.tiles:,} tiles encoded{kept}.",
                "\n".join([f"{self._headline()}", *warnings]),
                kind="warn" if warnings else "good",
            )

    def _say_rest(self, outcome: Any) -> None:
        """In live mode the line under the button says what became of the view; the card stays as it is."""
        n = self._in_view
        text = f"Live: all {n:,} tiles of this view are encoded." if n else "Live: no tissue in this view."
        if outcome.damaged:
            text += f" {outcome.damaged:,} are damaged in the file and left out."
        self.row.bar.setRange(0, 1)
        self.row.bar.setValue(1)
        self.row.line.setText(text)
        if warnings := self._encoder_warnings():
            self.card.say(self._headline(), "\n".join(warnings), kind="warn")
        elif self.card.text != self._headline():
            self._say_idle()

    def _encoder_warnings(self) -> list[str]:
        encoder = self.session.study.loaded_encoder()
        return [] if encoder is None else [str(warning) for warning in encoder.warnings]

    def _on_cancelled(self) -> None:
        if self._is_downloading:
            self.card.say("Stopped; what was downloaded is kept, and the next time it goes on from there.")
        elif not self.encoding.live:
            self.card.say("Stopped; the tiles that were done are kept.")
        self._is_downloading = False

    def _on_ended(self) -> None:
        if self._has_downloaded:
            self._has_downloaded = False
            self.picker.refresh()

    def _show_kept(self) -> None:
        store = self.guarded(self.session.study.store)
        n_bytes = store.nbytes if store is not None else 0
        self.kept.setText(f"Kept: {_size(n_bytes)} in the study" if n_bytes else "Nothing kept yet.")
        self.clear.setEnabled(bool(n_bytes))

    def _clear(self) -> None:
        self.encoding.cancel()

        def delete() -> bool:
            self.session.study.store().clear()
            return True

        deleted = self.guarded(delete)
        self.session.settings_changed.emit()
        if deleted:
            self.card.say("Features deleted.")
        self.refresh()

    # ------------------------------------------------------------------ settings

    def _apply(self, *_: Any) -> None:
        settings = self.session.study.settings.encode
        values = {
            "encoder": self.picker.name or settings.encoder,
            "device": self.device.currentData(),
            "size_px": self.size_px.value() if self.size_px.value() >= 16 else None,
            "mpp": self.mpp.value() or None,
            "min_tissue": self.tissue.value(),
            "normalizer": self.normalizer.currentData(),
            "target": self.target.currentData(),
        }
        changed = {key: value for key, value in values.items() if getattr(settings, key) != value}
        for key, value in changed.items():
            setattr(settings, key, value)
        self.picker.show_name(settings.encoder)
        if changed:
            self._last_rate = ""
            self.session.settings_changed.emit()
            self.refresh()

    def show_settings(self) -> None:
        """Take the choices over from the study."""
        settings = self.session.study.settings.encode
        self.picker.show_name(settings.encoder)
        self.size_px.setValue(settings.size_px or 0)
        self.mpp.setValue(settings.mpp or 0.0)
        self.tissue.setValue(settings.min_tissue)
        fill(
            self.normalizer,
            [(self.normalizer.itemText(i), self.normalizer.itemData(i)) for i in range(3)],
            settings.normalizer,
        )
        self.device.setCurrentIndex(max(0, self.device.findData(settings.device)))

    def _on_live(self, on: bool) -> None:
        if on != self.encoding.live:
            self.encoding.set_live(on)

    def _on_study(self) -> None:
        self._idle_text = ""
        self.card.say("")
        self._last_rate = ""
        self.show_settings()  # the refresh comes with the slides


def _size(n_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"
