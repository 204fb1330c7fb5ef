"""Stain dock: normalisation fitted once a slide, previewed lazily beside the original."""

from __future__ import annotations

import html
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QCheckBox, QLabel, QSlider

from napari_batchfx.errors import BatchfxError, StainError
from napari_batchfx.jobs import Job, Ticker
from napari_batchfx.viewer import layers as batchfx_layers
from napari_batchfx.viewer.docks.common import Dock, RunRow, choice, fill, form_row, hint

if TYPE_CHECKING:
    import napari

__all__ = ["StainDock"]


class StainDock(Dock):
    """Choose method, target and strength; preview on the slides."""

    title = "stain"

    def __init__(self, napari_viewer: napari.Viewer | None = None) -> None:
        super().__init__(napari_viewer)
        form = self.add_form()
        self.method = choice([("Macenko", "macenko"), ("Reinhard", "reinhard")])
        form_row(
            form,
            "Method",
            self.method,
            "Macenko separates haematoxylin and eosin; Reinhard matches mean and spread of colour.",
        )
        self.target = choice()
        form_row(
            form,
            "Towards",
            self.target,
            "The slide (or built-in reference) whose stain the others are given.",
        )
        self.strength = QSlider(Qt.Orientation.Horizontal)
        self.strength.setRange(0, 100)
        self.strength.setValue(100)
        form_row(form, "Strength", self.strength, "Left: the slide as it is. Right: fully normalised.")
        self.row = RunRow(
            "Preview", "Estimate the stain of every slide and show it normalised beside the original."
        )
        self.visible = QCheckBox("Show the preview")
        self.visible.setToolTip("Switch between the normalised and the original slide.")
        self.numbers = QLabel()
        self.numbers.setWordWrap(True)
        self.add(
            self.row,
            self.visible,
            self.numbers,
            hint(
                "Normalisation changes colour. Published probes still recognise the hospital after it (Kömen 2024): measure it with the site probe, choosing 'Normalise stain' under Encode, More."
            ),
        )
        self.finish()
        self._declined: list[str] = []
        self._settle = QTimer(self)
        self._settle.setSingleShot(True)
        self._settle.setInterval(60)
        self._settle.timeout.connect(self._restrength)
        self.job = self.make_job(self.row, self._on_done, self.refresh, stopped="Stopped.")
        self.row.run.connect(self.start)
        self.visible.toggled.connect(self._on_visible)
        self.strength.valueChanged.connect(lambda *_: self._settle.start())
        self.method.activated.connect(lambda *_: self.refresh())
        for signal in (self.session.slides_changed, self.session.layers_changed):
            signal.connect(self.refresh)
        self.session.study_changed.connect(self._on_study)
        self.refresh()

    def start(self) -> None:
        """Estimate stain (once a slide) and show the previews."""
        settings = self.session.study.settings.stain
        settings.method, settings.target = self.method.currentData(), self.target.currentData()
        settings.strength = self.strength.value() / 100
        self.session.allow_overlays("preview")
        self.job.start(self._fit_job(), "Estimating stain")
        self.row.set_running(True)

    def _fit_job(self) -> Job[dict[str, Any]]:
        study = self.session.study
        entries = self.session.shown_slides()
        ticker = Ticker(len(entries), "estimating stain", "slides")
        yield ticker.tick(0)
        transforms: dict[str, Any] = {}
        self._declined = []
        for entry in entries:
            try:
                transforms[entry.fingerprint] = study.stain_transform(entry)
            except BatchfxError as error:  # fluorescence, a blank slide: the others are shown
                self._declined.append(str(error))
            yield ticker.tick()
        if not transforms and self._declined:
            raise StainError(self._declined[0])
        return transforms

    def refresh(self) -> None:
        """Say what is missing and keep the choices in step with the slides."""
        self.row.set_running(self.job.is_running)
        slides = self.session.study.slides
        reference = [("built-in reference", None)] if self.method.currentData() == "macenko" else []
        fill(self.target, reference + [(entry.name, entry.name) for entry in slides])
        shown = self.session.shown_slides()
        self.row.allow(bool(shown), "Open a slide first.")
        previews = [layer for entry in shown if (layer := self.session.layer(entry, "preview")) is not None]
        self.visible.setEnabled(bool(previews))
        blocked = self.visible.blockSignals(True)
        self.visible.setChecked(any(layer.visible for layer in previews))
        self.visible.blockSignals(blocked)
        if not slides:
            self.card.say("No slide to normalise yet.", links={"Open Slides": "dock:slides"})
        elif self.card.text == "" or self.card.text.startswith("No slide"):
            self.card.say("Ready: preview the normalised slides.")

    def _on_study(self) -> None:
        settings = self.session.study.settings.stain
        self.method.setCurrentIndex(max(0, self.method.findData(settings.method)))
        blocked = self.strength.blockSignals(True)
        self.strength.setValue(round(100 * settings.strength))
        self.strength.blockSignals(blocked)
        self.numbers.setText("")
        self.card.say("")
        self.refresh()

    def _on_done(self, transforms: dict[str, Any]) -> None:
        from napari_batchfx.viewer.texts import stain_numbers

        lines, warnings = [], []
        for entry in self.session.shown_slides():
            transform = transforms.get(entry.fingerprint)
            if transform is None:
                continue
            self._show(entry, transform)
            text, own = stain_numbers(transform)
            lines.append(f"<b>{html.escape(entry.name)}</b>: {html.escape(text)}")
            warnings += [f"{entry.name}: {warning}" for warning in own]
        self.numbers.setText("<br>".join(lines))
        method = self.method.currentText()
        target = self.target.currentText()
        warnings += self._declined
        self.card.say(
            f"{method} towards {target}, {len(lines)} {'slide' if len(lines) == 1 else 'slides'} estimated.",
            "\n".join(warnings),
            kind="warn" if warnings else "good",
        )
        self.session.show_only("preview")
        self.refresh()

    def _show(self, entry: Any, transform: Any) -> None:
        from napari.layers import Image

        from napari_batchfx.stain import preview

        slide = self.session.study.open_slide(entry)
        if self.session.is_dismissed(entry, "preview"):
            return
        pyramid = preview(slide, transform, pending="blank")
        _data, options, _ = batchfx_layers.slide_layer_data(
            slide, f"{entry.name} · {self.method.currentText()} preview"
        )
        layer = self.session.layer(entry, "preview")
        if layer is not None and not batchfx_layers.tag(layer).get("placeholder"):
            layer.data = pyramid if len(pyramid) > 1 else pyramid[0]
            layer.name = options["name"]
            return
        options.pop("metadata")
        affine = batchfx_layers.affine_to_napari(entry.affine_um)
        self.session.add_layer(
            entry, "preview", Image(pyramid if len(pyramid) > 1 else pyramid[0], affine=affine, **options)
        )

    def _restrength(self) -> None:
        """Follow the strength slider without estimating again."""
        study = self.session.study
        study.settings.stain.strength = self.strength.value() / 100
        for entry in self.session.shown_slides():
            layer = self.session.layer(entry, "preview")
            if layer is not None and not batchfx_layers.tag(layer).get("placeholder"):
                self.guarded(partial(self._restain, entry))

    def _restain(self, entry: Any) -> None:
        self._show(entry, self.session.study.stain_transform(entry))

    def _on_visible(self, on: bool) -> None:
        self.session.show_only("preview" if on else None)
