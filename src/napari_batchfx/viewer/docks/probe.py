"""Site probe dock: how well a simple classifier recognises the scanner or site, where, and what gives it away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QSizePolicy, QWidget

from napari_batchfx.viewer.docks.common import Dock, RunRow, choice, fill, hint
from napari_batchfx.viewer.docks.probe_after import AfterPage
from napari_batchfx.viewer.docks.probe_components import ComponentsPage
from napari_batchfx.viewer.docks.probe_gallery import GalleryPage
from napari_batchfx.viewer.docks.probe_inputs import ProbeInputs, values_of
from napari_batchfx.viewer.docks.probe_numbers import CalibrationPage, ConfusionPage, NumbersPage
from napari_batchfx.viewer.docks.probe_pages import Pages
from napari_batchfx.viewer.docks.probe_robustness import RobustnessPage
from napari_batchfx.viewer.docks.probe_scatter import ScatterPage
from napari_batchfx.viewer.probe_meter import ProbeMeter
from napari_batchfx.viewer.probe_overlay import probe_overlay_for

if TYPE_CHECKING:
    import napari

    from napari_batchfx.study import ProbeOutcome

__all__ = ["ProbeDock"]

_SHOWN = [("confidence", "confidence"), ("margin", "margin"), ("entropy", "entropy")]
_ON_CARD = 2
_KINDS = {"recognised": "warn", "undecided": "info", "not recognised": "good"}


class ProbeDock(Dock):
    """Run the probe, read its verdict, see it on the slides, look into it page by page."""

    title = "probe"

    def __init__(self, napari_viewer: napari.Viewer | None = None) -> None:
        super().__init__(napari_viewer)
        self._shown: ProbeOutcome | None = None
        self.inputs = ProbeInputs()
        self.batch, self.group = self.inputs.batch, self.inputs.group
        self.permutations, self.seed = self.inputs.permutations, self.inputs.seed
        self.row = RunRow(
            "Run the probe",
            "Train and test the classifier; every tile is judged by one that never saw its patient.",
        )
        self.overlay = probe_overlay_for(self.session)
        self.show_map = QCheckBox("Show on the slides")
        self.show_map.setChecked(True)
        self.show_map.setToolTip(
            "Orange: recognised. Grey: no better than guessing. Blue: taken for another."
        )
        self.quantity = choice(_SHOWN)
        self.quantity.setToolTip(
            "Confidence: probability of the tile's own; margin: less that of the likeliest other; entropy: how undecided."
        )
        self.quantity.setAccessibleName("What is shown of the probe")
        self.quantity.setMinimumContentsLength(5)
        self.quantity.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.quantity.setMinimumWidth(90)
        shown = QWidget()
        line = QHBoxLayout(shown)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(self.show_map)
        line.addWidget(self.quantity, 1)
        self.live = QCheckBox("Paint new tiles")
        self.live.setChecked(self.overlay.is_live)
        self.live.setToolTip(
            "Tiles encoded from now on are scored at once, each by a classifier that never saw its patient."
        )
        self.meter = ProbeMeter(self.overlay)
        self.show_meter = QCheckBox("Meter")
        self.show_meter.setToolTip(
            "On the canvas: how many of the tiles in view are recognised, against guessing."
        )
        following = QWidget()
        line = QHBoxLayout(following)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(self.live)
        line.addWidget(self.show_meter, 1)
        self.live_note = hint("")
        self.pages = Pages()
        self._add_pages()
        self.pages.hide()
        self.add(
            self.inputs,
            self.row,
            shown,
            following,
            self.live_note,
            self.pages,
            hint("The probe sees what the encoder sees. It says nothing about diagnosis."),
        )
        self.finish()

        self.job = self.make_job(self.row, self._on_done, self._refresh_buttons)
        self.row.run.connect(self.start)
        self.show_map.toggled.connect(self._on_show)
        self.quantity.activated.connect(self._on_quantity)
        self.inputs.changed.connect(self.refresh)
        self.live.toggled.connect(self._on_live)
        self.show_meter.toggled.connect(self.meter.set_on)
        self.overlay.looked.connect(self._on_looked)
        for signal in (
            self.session.slides_changed,
            self.session.settings_changed,
            self.session.features_changed,
        ):
            signal.connect(lambda *_: self.refresh())
        self.session.study_changed.connect(self._on_study)
        self.session.results_changed.connect(self._on_results)
        self.card.link.connect(
            lambda target: self.pages.turn("Numbers") if target == "probe:numbers" else None
        )
        self._on_study()

    def _add_pages(self) -> None:
        self.pages.add("Numbers", "Every number of the verdict.", lambda: NumbersPage(self))
        self.pages.add("Confusion", "Which is taken for which.", lambda: ConfusionPage(self))
        self.pages.add(
            "Calibration", "Whether the confidence can be taken at its word.", lambda: CalibrationPage(self)
        )
        self.pages.add(
            "Components",
            "Along which components it lies, and how much is colour.",
            lambda: ComponentsPage(self),
        )
        self.pages.add("Scatter", "Every tile as a point, linked with the slides.", lambda: ScatterPage(self))
        self.pages.add(
            "Tiles", "The strongest and weakest tiles: what gives it away.", lambda: GalleryPage(self)
        )
        self.pages.add(
            "Robustness",
            "Robustness index, margins and mixing, with the classes beside.",
            lambda: RobustnessPage(self),
        )
        self.pages.add(
            "Before/after", "The same probe on normalised or corrected features.", lambda: AfterPage(self)
        )

    # ------------------------------------------------------------------ what the user does

    def start(self) -> None:
        """Run the probe on all encoded tiles."""
        self.inputs.take(self.session.study.settings.probe)
        self.session.allow_overlays("probe")
        self.job.start(self.session.study.probe_job(), "Site probe")
        self.row.set_running(True)

    def paint(self) -> None:
        """Draw the last probe over every slide."""
        self.overlay.paint()

    def _on_show(self, on: bool) -> None:
        if on:
            self.overlay.show()
        else:
            self.session.show_only(None)

    def _on_live(self, on: bool) -> None:
        self.overlay.set_live(on)
        self._say_live()

    def _on_looked(self, what: str) -> None:
        """Another page chose what is shown."""
        self.show_map.setChecked(True)
        fill(self.quantity, [*_SHOWN, *((name, name) for name in self.overlay.others)], keep=what)

    def _on_quantity(self, _index: int) -> None:
        self.overlay.what = self.quantity.currentData()
        if self.show_map.isChecked():
            self.overlay.show()
        else:
            self.overlay.paint()

    # ------------------------------------------------------------------ what the user sees

    def refresh(self) -> None:
        """Say what is missing, or what the last probe found."""
        self.inputs.name_columns(self.session.study)
        self._refresh_buttons()
        self._say_live()
        study = self.session.study
        if self.job.is_running:
            return
        if study.results.probe is not None:
            self._say_result(study.results.probe, stale=not study.is_current("probe"))
        elif len(study.slides) < 2:
            self.card.say(
                "The probe compares slides; there are not two yet.", links={"Open Slides": "dock:slides"}
            )
        elif len(values_of(study, self.batch.currentData())) < 2:
            key = self.batch.currentData()
            self.card.say(
                f"Give at least two slides a different {key}.", links={"Open Slides": "dock:slides"}
            )
        elif not self._has_features():
            self.card.say("No tiles are encoded yet.", links={"Open Encode": "dock:encode"})
        else:
            self.card.say("Ready: run the probe on the encoded tiles.")

    def _refresh_buttons(self) -> None:
        self.row.set_running(self.job.is_running)
        ready = len(self.session.study.slides) >= 2 and self._has_features()
        self.row.allow(ready, "Open at least two slides and encode their tiles first.")

    def _has_features(self) -> bool:
        store = self.guarded(self.session.study.store)
        return bool(store is not None and store.holds_any())

    def _on_done(self, outcome: ProbeOutcome) -> None:
        self._say_result(outcome)
        self._take(outcome)
        if self.show_map.isChecked():
            self.overlay.show()
        self.session.results_changed.emit()

    def _take(self, outcome: ProbeOutcome | None) -> None:
        """Another result: its overlay, and the pages."""
        self._shown = outcome
        if self.overlay.picture is None or self.overlay.picture.outcome is not outcome:
            self.overlay.use(outcome)
        fill(self.quantity, _SHOWN, keep=self.overlay.what)
        self.overlay.paint()
        self._say_live()
        self.pages.show_outcome(outcome)

    def _say_live(self) -> None:
        """Why new tiles can't be scored, where they can't."""
        outcome, picture = self.session.study.results.probe, self.overlay.picture
        note = ""
        if outcome is not None and picture is not None and self.live.isChecked():
            if outcome.result.fitted is None:
                note = "New tiles can't be scored: the classifiers of this result were not kept. Run the probe again."
            elif not picture.fits:
                note = "New tiles are not scored: the encoder or the stain is another one than the probe's."
        self.live_note.setText(note)
        self.live_note.setVisible(bool(note))

    def _say_result(self, outcome: ProbeOutcome, *, stale: bool = False) -> None:
        result: Any = outcome.result
        headline, _, caveat = result.verdict.partition(". ")
        warnings = [warning for warning in result.warnings if warning not in caveat]
        if "relabelling" in caveat:  # the same, in the verdict's words
            warnings = [warning for warning in warnings if not warning.startswith("Other ways to share out")]
        if caveat:
            warnings.insert(0, caveat)
        if stale:
            warnings.insert(0, "Slides or settings have changed since; run it again to update.")
        more = len(warnings) - _ON_CARD
        if more > 1:  # a card that fills the dock isn't read; the gravest come first, all stand under Numbers
            warnings, links = warnings[:_ON_CARD], {f"{more} more to mind": "probe:numbers"}
        else:
            links = {}
        self.card.say(
            headline.rstrip(".") + ".", "\n".join(warnings), kind=_KINDS[result.finding], links=links
        )

    def _on_results(self) -> None:
        """Another dock, or a second one of this kind, has run the probe."""
        outcome = self.session.study.results.probe
        if outcome is not self._shown and not self.job.is_running:
            self.refresh()
            self._take(outcome)

    def _on_study(self) -> None:
        self.inputs.show_settings(self.session.study.settings.probe)
        self.refresh()
        outcome = self.session.study.results.probe
        self._take(outcome)
        if outcome is not None and self.show_map.isChecked():
            self.overlay.show()
