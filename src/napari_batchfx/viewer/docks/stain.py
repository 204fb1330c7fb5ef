"""Stain dock: normalisation previewed on the canvas, one stain alone, every slide's numbers, what it does, export."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
)

from napari_batchfx.viewer import compare
from napari_batchfx.viewer.docks.common import Dock, RunRow, choice, fill, form_row, tool_button
from napari_batchfx.viewer.docks.stain_conditions import ConditionsBox
from napari_batchfx.viewer.docks.stain_export import ExportBox
from napari_batchfx.viewer.docks.stain_numbers import NumbersBox
from napari_batchfx.viewer.docks.stain_parts import SHOW, ShowRow, StrengthRow, drawn_polygons
from napari_batchfx.viewer.docks.stain_signature import SignatureBox
from napari_batchfx.viewer.docks.stain_tile import TileBox
from napari_batchfx.viewer.stain_curtain import StainCurtain
from napari_batchfx.viewer.stain_layers import StainLayers

if TYPE_CHECKING:
    import napari

    from napari_batchfx.study import SeenTile, SlideEntry
    from napari_batchfx.study.stain_overview import StainOverview

__all__ = ["StainDock"]

_REFERENCE, _COHORT, _SLIDE = "reference:", "cohort:", "slide:"
_MOST_WARNINGS = 5


class StainDock(Dock):
    """Choose method, target and strength; see it on the slides, in numbers, and in the signature."""

    title = "stain"

    def __init__(self, napari_viewer: napari.Viewer | None = None) -> None:
        from napari_batchfx.stain import methods

        super().__init__(napari_viewer)
        self.overview: StainOverview | None = None
        self.layers = StainLayers(self.session)
        self.curtain = StainCurtain(self.session, self.layers)
        self._wanted = "off"
        form = self.add_form()
        self.method = choice([(one.label, one.id) for one in methods()])
        form_row(form, "Method", self.method, "How the stain is found and matched to the target.")
        for k, one in enumerate(methods()):
            self.method.setItemData(k, one.sentence, Qt.ItemDataRole.ToolTipRole)
        self.target = choice()
        form_row(
            form,
            "Target",
            self.target,
            "Whose stain the slides are given: a built-in look, the average of all, or one slide.",
        )
        self.region = tool_button(
            "Target from a drawn region",
            "Take the look of the shapes that are selected: the slide's stain is then estimated there only. Again: all of its tissue.",
            self._on_region,
            checkable=True,
        )
        form.addRow("", self.region)
        tooltip = "Left: the slide as it is. Right: fully normalised."
        self.strength_row = StrengthRow(tooltip)
        self.strength, self.percent = self.strength_row.slider, self.strength_row.percent
        form_row(form, "Strength", self.strength_row, tooltip)
        self.shows = ShowRow()
        self.show_group = self.shows.group
        form_row(form, "Show", self.shows, "What is on the canvas.")
        self.split = QCheckBox("Before and after under a curtain")
        self.split.setToolTip("Left of an edge that you drag the slide as scanned, right of it the preview.")
        self.row = RunRow(
            "Estimate and preview", "Estimate the stain of every slide (once) and show it normalised."
        )
        self.numbers = NumbersBox(self)
        self.signature = SignatureBox(self)
        self.tile = TileBox(self)
        self.conditions = ConditionsBox(self)
        self.export = ExportBox(self)
        self.add(self.split, self.row, self.numbers, self.signature, self.tile, self.conditions, self.export)
        self.finish()
        self.job = self.make_job(self.row, self._on_done, self.refresh, stopped="Stopped.")
        self._connect()
        self._on_study()

    def _connect(self) -> None:
        self.row.run.connect(self.start)
        self.show_group.idClicked.connect(lambda k: self.look(SHOW[k][0]))
        self.split.toggled.connect(self._on_split)
        self.curtain.changed.connect(self.refresh)
        self.strength.valueChanged.connect(self._on_strength)
        self.layers.strength_changed.connect(self._follow_strength)
        self.method.activated.connect(lambda *_: self._on_choice())
        self.target.activated.connect(lambda *_: self._on_choice())
        self.numbers.picked.connect(self._pick)
        for signal in (self.session.slides_changed, self.session.layers_changed):
            signal.connect(self._on_slides)
        self.session.slide_altered.connect(self._on_altered)
        self.session.study_changed.connect(self._on_study)
        compare.comparison_of(self.session).changed.connect(self._on_compare)
        self.viewer.layers.selection.events.active.connect(self._on_active)

    # ------------------------------------------------------------------ what the user does

    def start(self) -> None:
        """Estimate stain (once a slide) and show the previews."""
        self.look("preview" if self._wanted == "off" else self._wanted, again=True)

    def look(self, what: str, *, again: bool = False) -> None:
        """Show "off", "preview", "first" or "second" (one stain alone) on the slides; estimates what is missing first."""
        self._wanted = what
        self.conditions.reset()
        if what == "off":
            self._apply()
            return
        self.session.allow_overlays("preview")
        if again or not self._is_current():
            self._estimate()
        else:
            self._apply()

    def write_settings(self) -> None:
        """Put the choices into the study's stain settings."""
        settings = self.session.study.settings.stain
        settings.method = self.method.currentData()
        aim = str(self.target.currentData() or _REFERENCE)
        settings.cohort = aim == _COHORT
        settings.target = aim.removeprefix(_SLIDE) if aim.startswith(_SLIDE) else None
        settings.strength = self.strength.value() / 100

    def normalised(self, tile: SeenTile) -> tuple[Any, Any] | None:
        """What the model gets of a tile as scanned and normalised; ``None`` where that is not known yet."""
        from napari_batchfx.study.inspection import as_normalised

        encoder = self.session.study.loaded_encoder()
        if self.is_simulated:
            found: Any = self.conditions.simulated.get(tile.fingerprint)
        else:
            found = None if self.overview is None else self.overview.transforms.get(tile.fingerprint)
            found = None if found is None else found.with_strength(self.strength.value() / 100)
        return None if encoder is None or found is None else as_normalised(tile, found, encoder)

    @property
    def is_simulated(self) -> bool:
        """Whether a simulated staining condition is shown."""
        return self._wanted == "condition"

    def show_simulated(self, stains: dict[str, Any], label: str) -> None:
        """Show slides (by fingerprint) under a simulated staining condition."""
        self._wanted = "condition"
        self.layers.strength = self.strength.value() / 100
        for entry in self.session.shown_slides():
            if entry.fingerprint in stains:
                self.guarded(
                    partial(
                        self.layers.show,
                        entry,
                        stains[entry.fingerprint],
                        f"{label} (simulated)",
                        blends=True,
                    )
                )
            else:
                self.session.drop(entry, "preview")
        self.session.show_only("preview")
        self.refresh()
        self.tile.refresh()

    def _estimate(self) -> None:
        self.write_settings()
        self.job.start(self.session.study.stain_overview_job(), "Estimating stain")
        self.row.set_running(True)

    def _on_choice(self) -> None:
        """Another method or target: what is shown follows."""
        self.write_settings()
        self.signature.clear()
        has = self._has_vectors()
        if not has and self._wanted in ("first", "second"):
            self._wanted = "preview"
        self.refresh()
        if self._wanted != "off" or self.overview is not None:
            self._estimate()

    def _on_strength(self, value: int) -> None:
        self.session.study.settings.stain.strength = value / 100
        self.layers.set_strength(value / 100)
        self.tile.refresh()

    def _follow_strength(self, strength: float) -> None:
        """The opacity of a preview was moved in napari's own controls."""
        self.strength.setValue(round(100 * strength))

    def _on_split(self, on: bool) -> None:
        if on and self._wanted == "off":
            self.look("preview")
        if on and compare.mode_of(self.session) != "overlay":
            compare.set_mode(self.session, "overlay")
        if self.curtain.switch(on) != on:
            self.card.say("The curtain can't be drawn with this version of napari.", kind="warn")

    def _on_compare(self) -> None:
        """The slides are compared in another way: one curtain at a time."""
        if self.curtain.is_on and compare.mode_of(self.session) != "overlay":
            self.curtain.switch(False)

    def _on_region(self) -> None:
        """Estimate the target in the selected shapes, or again over all of its tissue."""
        study = self.session.study
        settings = study.settings.stain
        entry = self._target_slide() or self.session.active_slide()
        if entry is None:
            self.refresh()
            return
        kept = dict(settings.regions)
        if kept.pop(entry.name, None) is None:
            found = self.guarded(partial(drawn_polygons, self.session, entry))
            if not found:
                self.region.setChecked(False)
                self.card.say(
                    "Draw a region around typical tissue first, with a Shapes layer or the regions of Adapt, and select it.",
                    kind="warn",
                )
                return
            kept[entry.name] = found
        settings.regions = kept
        self.refresh()
        self.target.setCurrentIndex(self.target.findData(_SLIDE + entry.name))
        self._on_choice()

    def _pick(self, fingerprint: str) -> None:
        """Select a slide's layer."""
        entry = next((one for one in self.session.study.slides if one.fingerprint == fingerprint), None)
        layer = None if entry is None else self.session.layer(entry, "slide")
        if layer is not None:
            self.viewer.layers.selection.active = layer
        self.numbers.choose(fingerprint)

    # ------------------------------------------------------------------ what the user sees

    def refresh(self) -> None:
        """Keep buttons and choices in step with slides and layers."""
        self.row.set_running(self.job.is_running)
        study = self.session.study
        aims = [("Built-in reference", _REFERENCE), ("Average of all slides", _COHORT)]
        aims += [(self._aim_text(entry), _SLIDE + entry.name) for entry in study.slides]
        fill(self.target, aims)
        if self.target.currentIndex() < 0:
            self.target.setCurrentIndex(0)
        shown = self.session.shown_slides()
        self.row.allow(bool(shown), "Open a slide first.")
        # once there are estimates, Show does it all
        self.row.button.setVisible(not self.job.is_running and self.overview is None)
        self.shows.allow(bool(shown), self._has_vectors())
        visible = [layer for layer in self.layers.shown() if layer.visible]
        now = self._wanted if self._wanted != "off" else "preview"
        self.shows.check("off" if not visible else None if self.is_simulated else now)
        self.split.setEnabled(bool(shown))
        blocked = self.split.blockSignals(True)
        self.split.setChecked(self.curtain.is_on)
        self.split.blockSignals(blocked)
        entry = self._target_slide() or self.session.active_slide()
        self.region.setEnabled(entry is not None)
        self.region.setChecked(entry is not None and entry.name in study.settings.stain.regions)
        self.signature.refresh()
        self.conditions.refresh()
        self.export.refresh()
        if not study.slides:
            self.card.say("No slide to normalise yet.", links={"Open Slides": "dock:slides"})
        elif self.card.text == "" or self.card.text.startswith("No slide"):
            self.card.say("Ready: preview the normalised slides.")

    def _aim_text(self, entry: SlideEntry) -> str:
        drawn = entry.name in self.session.study.settings.stain.regions
        return f"{entry.name} (drawn region)" if drawn else entry.name

    def _target_slide(self) -> SlideEntry | None:
        aim = str(self.target.currentData() or "")
        name = aim.removeprefix(_SLIDE) if aim.startswith(_SLIDE) else None
        return next((one for one in self.session.study.slides if one.name == name), None)

    def _has_vectors(self) -> bool:
        from napari_batchfx.stain import method

        return method(self.method.currentData()).has_vectors

    def _is_current(self) -> bool:
        """Whether there are estimates of every slide shown, for the choices as they are."""
        found = self.overview
        if found is None:
            return False
        known = {row.fingerprint for row in found.rows}
        return all(entry.fingerprint in known for entry in self.session.shown_slides())

    def _apply(self) -> None:
        """Show what is wanted with the estimates there are; nothing is estimated or read here."""
        if self._wanted == "off" or self.overview is None:
            if self.curtain.is_on:
                self.curtain.switch(False)
            self.session.show_only(None)
            self.refresh()
            return
        self.layers.strength = self.strength.value() / 100
        for entry in self.session.shown_slides():
            found = self.overview.transforms.get(entry.fingerprint)
            if found is None:
                self.session.drop(entry, "preview")
            else:
                self.guarded(partial(self._show_one, entry, found))
        self.session.show_only("preview")
        self.refresh()

    def _show_one(self, entry: SlideEntry, transform: Any) -> None:
        from napari_batchfx.stain import StainChannel

        if self._wanted == "preview":
            self.layers.show(entry, transform, f"{self.method.currentText()} preview", blends=True)
            return
        stain = transform.source.stains[0 if self._wanted == "first" else 1]
        self.layers.show(entry, StainChannel(transform.source, stain), f"{stain} alone", blends=False)

    def _on_done(self, overview: StainOverview) -> None:
        self.overview = overview
        self.numbers.show_overview(overview)
        self._apply()
        n = len(overview.transforms)
        apart = [row.slide for row in overview.rows if row.apart]
        lines = [f"Stands apart: {', '.join(apart)}."] if apart else []
        lines += overview.warnings[:_MOST_WARNINGS]
        if len(overview.warnings) > _MOST_WARNINGS:
            lines.append(f"... and {len(overview.warnings) - _MOST_WARNINGS} more; see Numbers.")
        self.card.say(
            f"{self.method.currentText()} towards {overview.target}, {n} {'slide' if n == 1 else 'slides'} estimated.",
            "\n".join(lines),
            kind="warn" if lines else "good",
        )
        self.tile.refresh()

    # ------------------------------------------------------------------ what changes elsewhere

    def _on_slides(self) -> None:
        """Slides came or went: new ones get their preview, too."""
        if (
            self._wanted not in ("off", "condition")
            and self.session.shown_slides()
            and not self._is_current()
        ):
            if not self.job.is_running:
                self._estimate()
        elif self.overview is not None and not self.session.study.slides:
            self._forget()
        self.refresh()

    def _on_altered(self, fingerprint: str) -> None:
        """A slide is read in other colours: its estimate was of the old ones, and is made again off this thread."""
        wanted = self._wanted
        self._forget()
        if wanted not in ("off", "condition") and any(
            entry.fingerprint == fingerprint for entry in self.session.shown_slides()
        ):
            self.look(wanted)

    def _on_active(self, _event: object = None) -> None:
        entry = self.session.entry_of(self.viewer.layers.selection.active)
        if entry is not None and not self.session.is_closed:
            self.numbers.choose(entry.fingerprint)

    def _forget(self) -> None:
        self.overview = None
        self._wanted = "off"
        self.numbers.show_overview(None)
        self.signature.clear()
        self.conditions.clear()
        if self.curtain.is_on:
            self.curtain.switch(False)

    def _on_study(self) -> None:
        settings = self.session.study.settings.stain
        self._forget()
        self.method.setCurrentIndex(max(0, self.method.findData(settings.method)))
        self.refresh()
        aim = (
            _COHORT
            if settings.cohort
            else _REFERENCE
            if settings.target is None
            else _SLIDE + settings.target
        )
        self.target.setCurrentIndex(max(0, self.target.findData(aim)))
        self.strength_row.put(round(100 * settings.strength))
        self.layers.strength = settings.strength
        self.card.say("")
        self.refresh()
