"""The part of the Stain dock that simulates another laboratory's stain: a preview, and how stable the calls are under it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_batchfx.jobs import Progress
from napari_batchfx.viewer.docks.common import More, RunRow, choice, fill, form_row, tool_button
from napari_batchfx.viewer.seen import looks

if TYPE_CHECKING:
    from napari_batchfx.jobs import Job
    from napari_batchfx.stain import SimulatedStain, StainingCondition
    from napari_batchfx.study.stain_conditions import StainStability
    from napari_batchfx.viewer.docks.stain import StainDock

__all__ = ["ConditionsBox"]

_TITLES = {"features": "features under other stains", "predictions": "call under other stains"}
_NOTES = {"features": "bright: the features move", "predictions": "bright: the call is not stable"}


class ConditionsBox(QWidget):
    """Choose a condition to see the slides in it; one button says how much features and calls move under all of them."""

    def __init__(self, dock: StainDock) -> None:
        from napari_batchfx.stain import CONDITIONS

        super().__init__()
        self._dock = dock
        self.conditions: tuple[StainingCondition, ...] = CONDITIONS
        self.found: StainStability | None = None
        self.simulated: dict[str, SimulatedStain] = {}
        self.more = More("Another laboratory's stain")
        self.condition = choice()
        form_row(
            self.more.form,
            "Show as",
            self.condition,
            "See the slides as if stained there (simulated by the staining-robustness protocol, tile by tile).",
        )
        self.load = tool_button(
            "Conditions from a file...",
            "A JSON of conditions of your own, or a file of the published library.",
            self.ask_for_file,
        )
        self.more.form.addRow("", self.load)
        self.row = RunRow(
            "How stable is it under these?",
            "Encode the visible tiles under every condition and say how much their features, and the calls of the trained head, move.",
        )
        for button in (self.row.button, self.load):
            button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.more.form.addRow(self.row)
        self.overlay = choice()
        form_row(self.more.form, "Overlay", self.overlay, "What is drawn over the slides.")
        self.said = QLabel()
        self.said.setWordWrap(True)
        self.said.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.more.form.addRow(self.said)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.more)
        self.job = dock.make_job(
            self.row, self._on_done, self.refresh, stopped="Stopped. Tiles that are encoded are kept."
        )
        self._estimating = dock.session.new_job()
        self._estimating.succeeded.connect(self._on_simulated)
        self._estimating.failed.connect(dock.card.fail)
        self.row.run.connect(self.start)
        self.condition.activated.connect(lambda *_: self.preview())
        self.overlay.activated.connect(lambda *_: self.paint())
        self._fill()
        self.clear()

    def start(self) -> None:
        """Encode what is seen under every condition."""
        session = self._dock.session
        session.allow_overlays("stability")
        boxes = {look.entry.name: look.box_um for look in looks(session)}
        job = session.study.stain_conditions_job(conditions=self.conditions, boxes_um=boxes)
        self.job.start(job, "Under another stain")
        self.row.set_running(True)

    def preview(self) -> None:
        """Show the slides under the chosen condition; "as scanned" shows the slides."""
        chosen = self._chosen()
        if chosen is None:
            self._estimating.cancel()
            self._dock.look("off")
            return
        self._dock.session.allow_overlays("preview")
        self._dock.card.say(f"Estimating the slides' own stain, to show them as: {chosen.label} ...")
        self._estimating.start(_simulated_job(self._dock, chosen), "Estimating stain")

    def refresh(self) -> None:
        """Follow the slides."""
        self.row.set_running(self.job.is_running)
        ready = bool(self._dock.session.ready_slides())
        self.row.allow(ready, "Open a slide that has a pixel size first.")
        self.condition.setEnabled(ready)

    def clear(self) -> None:
        """Show no result: slides or their colours are others now."""
        self.found = None
        self.simulated = {}
        fill(self.overlay, [])
        for widget in (self.said, self.overlay):
            widget.hide()
        label = self.more.form.labelForField(self.overlay)
        if label is not None:
            label.hide()
        self.reset()

    def reset(self) -> None:
        """Something else is shown on the canvas now."""
        blocked = self.condition.blockSignals(True)
        self.condition.setCurrentIndex(0)
        self.condition.blockSignals(blocked)

    def ask_for_file(self) -> None:
        """Ask for conditions."""
        path, _ = QFileDialog.getOpenFileName(
            self, "Staining conditions", "", "Conditions (*.json *.csv);;All files (*)"
        )
        if path:
            self.use_file(Path(path))

    def use_file(self, path: Path) -> None:
        """Use the conditions of a file from now on."""
        from napari_batchfx.stain import load_conditions

        found = self._dock.guarded(lambda: load_conditions(path))
        if found:
            self.conditions = tuple(found)
            self._fill()
            self._dock.card.say(f"{len(found)} staining conditions of {path.name}.")

    def paint(self) -> None:
        """Draw the chosen overlay over every slide."""
        found, what = self.found, self.overlay.currentData()
        if found is None or what is None:
            return
        session = self._dock.session
        for entry in session.study.slides:
            tile_map = found.maps.get(entry.fingerprint, {}).get(what)
            if tile_map is not None:
                session.show_map(entry, "stability", tile_map, _TITLES[what])
        session.show_only("stability", _NOTES[what])

    def _chosen(self) -> StainingCondition | None:
        wanted = self.condition.currentData()
        return next((one for one in self.conditions if one.id == wanted), None)

    def _fill(self) -> None:
        fill(self.condition, [("as scanned", None), *((one.label, one.id) for one in self.conditions)])
        for k, one in enumerate(self.conditions):
            self.condition.setItemData(k + 1, f"From {one.origin}.", Qt.ItemDataRole.ToolTipRole)

    def _on_simulated(self, found: dict[str, Any]) -> None:
        chosen = self._chosen()
        if chosen is None:
            return
        self.simulated = found["stains"]
        self._dock.show_simulated(self.simulated, chosen.label)
        self.condition.setCurrentIndex(self.condition.findData(chosen.id))
        self._dock.card.say(
            f"Shown as: {chosen.label} (simulated).",
            "\n".join([f"From {chosen.origin}.", *found["problems"]]),
            kind="warn" if found["problems"] else "info",
        )

    def _on_done(self, found: StainStability) -> None:
        self.found = found
        kinds = [kind for kind in _TITLES if any(kind in maps for maps in found.maps.values())]
        fill(self.overlay, [(_TITLES[kind], kind) for kind in reversed(kinds)])
        self.overlay.setCurrentIndex(0)
        self.said.setText(
            "\n".join([found.sentence, *(f"Mind: {warning}" for warning in found.warnings[:3])])
        )
        for widget in (self.said, self.overlay, self.more.form.labelForField(self.overlay)):
            if widget is not None:
                widget.show()
        self._dock.card.say(
            found.sentence,
            "" if found.changed is not None else "Train a head in Adapt to see the calls, too.",
        )
        for entry in self._dock.session.study.slides:
            self._dock.session.features_changed.emit(entry.fingerprint)
        self.paint()
        self.refresh()


def _simulated_job(dock: StainDock, condition: StainingCondition) -> Job[dict[str, Any]]:
    """The condition for every slide shown, by fingerprint; estimates what the simulation starts from."""
    from napari_batchfx.errors import BatchfxError
    from napari_batchfx.stain import SimulatedStain, StainEstimate

    study, entries = dock.session.study, dock.session.shown_slides()
    stains: dict[str, Any] = {}
    problems: list[str] = []
    for k, entry in enumerate(entries):
        yield Progress(k, len(entries), "estimating stain", "slides")
        try:
            source = study.stain_estimate(entry, "density")
            assert isinstance(source, StainEstimate)
            stains[entry.fingerprint] = SimulatedStain(condition, source)
        except BatchfxError as error:
            problems.append(str(error))
    return {"stains": stains, "problems": problems}
