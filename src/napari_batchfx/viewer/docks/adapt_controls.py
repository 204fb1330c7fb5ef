"""Adapt, step 2: control samples - suggested, clicked, kept in a basket, judged before anything is corrected."""

from __future__ import annotations

import html
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtWidgets import QFileDialog, QSpinBox

from napari_batchfx.errors import BatchfxError
from napari_batchfx.study.control_tiles import ControlTile
from napari_batchfx.study.steps import has_controls, has_pairs
from napari_batchfx.viewer import regions
from napari_batchfx.viewer.docks.adapt_basket import Basket
from napari_batchfx.viewer.docks.adapt_steps import AdaptPart, button_line, wrapping
from napari_batchfx.viewer.docks.common import More, RunRow, choice, fill, form_row, tool_button
from napari_batchfx.viewer.texts import html_table
from napari_batchfx.viewer.tile_clicks import TileClicks
from napari_batchfx.viewer.tile_frame import TileFrame

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_batchfx.adapt import ControlDiagnostics
    from napari_batchfx.jobs import Progress
    from napari_batchfx.study import SlideEntry
    from napari_batchfx.study.suggesting import ControlSuggestion
    from napari_batchfx.viewer.docks.common import Dock

__all__ = ["ControlsPart"]

_COLOURS = {"usable": "#4f9d69", "weak": "#d99000", "not usable": "#c8442f"}
_FILES = "Control samples (*.csv *.geojson)"
_ANY, _PAIRS = "", "pairs:"


class ControlsPart(AdaptPart):
    """The basket and what it is worth."""

    def __init__(self, dock: Dock) -> None:
        super().__init__(dock, "2  Control samples")
        form = self.add_form()
        self.source = choice([("ordinary tissue", _ANY)])
        form_row(
            form,
            "Suggest from",
            self.source,
            "Any tissue, one class that is drawn, or the same tissue on aligned rescans.",
        )
        self.per_slide = QSpinBox()
        self.per_slide.setRange(4, 400)
        self.per_slide.setValue(50)
        form_row(form, "Tiles a slide", self.per_slide, "At most so many on each slide.")
        self.suggest_row = RunRow(
            "Suggest 50 a slide",
            "Tiles that look alike in structure on every slide, apart from colour; each with its reason.",
        )
        self.said = wrapping()
        self.basket = Basket()
        self.click_button = tool_button(
            "Click tiles",
            "While this is on, a click on a slide makes its tile a control sample, or no longer.",
            self._on_click_mode,
            checkable=True,
        )
        self.back_button = tool_button("Put back", "Undo the last change of the basket.", self.put_back)
        self.empty_button = tool_button("Empty", "Take all tiles out of the basket.", self.empty)
        self.export_button = tool_button(
            "Export ...", "Write the basket as CSV or GeoJSON, without names of slides.", self.ask_export
        )
        self.import_button = tool_button(
            "Import ...", "Put the tiles of a CSV or GeoJSON file into the basket.", self.ask_import
        )
        self.judge_row = RunRow(
            "Judge the controls",
            "Are they enough, do they carry the difference, and what would a correction on them cost?",
        )
        self.verdict = wrapping()
        self.verdict.setAccessibleName("What the control samples are worth")
        self.numbers = wrapping()
        self.more = More("Every number")
        self.more.addWidget(self.numbers)
        self.add(
            self.suggest_row,
            self.said,
            self.basket,
            button_line(
                self.click_button,
                self.back_button,
                self.empty_button,
                self.export_button,
                self.import_button,
            ),
            self.judge_row,
            self.verdict,
            self.more,
        )
        self._hide_verdict()
        self._before: list[list[ControlTile]] = []
        self._frame = TileFrame(self.session)
        self._clicks = TileClicks(self.session, self)
        self._clicks.clicked.connect(self.toggle)
        self.basket.clicked.connect(self.take_out)
        self.basket.pointed.connect(self._point)
        self.suggest_job = dock.make_job(
            self.suggest_row, self._on_suggested, self.refresh, "Stopped. The basket is as it was."
        )
        self.judge_job = dock.make_job(self.judge_row, self._on_judged, self.refresh)
        self.picture_job = self.session.new_job()
        self.picture_job.progressed.connect(self._on_pictures)
        self.picture_job.ended.connect(self._on_pictures_read)
        self.suggest_row.run.connect(self.suggest)
        self.judge_row.run.connect(self.judge)
        self.per_slide.valueChanged.connect(lambda *_: self._name_button())
        self._tried: set[ControlTile] = set()
        self.session.slide_altered.connect(lambda *_: self._forget())

    # ------------------------------------------------------------------ choose

    @property
    def tiles(self) -> list[ControlTile]:
        """What is in the basket."""
        return [tile for tile in self.session.study.controls if tile.is_taken]

    def suggest(self) -> None:
        """Look for tiles that could be controls."""
        regions.pull(self.session)
        source = str(self.source.currentData() or "")
        job = self.session.study.suggest_controls_job(
            per_slide=self.per_slide.value(),
            tissue_class=source if source and source != _PAIRS else None,
            pairs=source == _PAIRS,
        )
        self.suggest_job.start(job, "Suggesting controls")
        self.suggest_row.set_running(True)

    def toggle(self, entry: SlideEntry, place_um: tuple[float, float]) -> None:
        """Make the tile at a place of a slide a control sample, or no longer."""
        self.dock.guarded(lambda: self._toggle(entry, place_um))

    def take_out(self, tile: ControlTile) -> None:
        """Take one tile out; it is not suggested again."""
        self._change(lambda: self.session.study.put_controls([replace(tile, is_taken=False)]))

    def empty(self) -> None:
        """Take all tiles out."""
        self._change(lambda: setattr(self.session.study, "controls", []))

    def put_back(self) -> None:
        """Undo the last change of the basket."""
        if self._before:
            self.session.study.controls = self._before.pop()
            self._changed()

    def ask_export(self) -> None:
        """Ask where, and write the basket."""
        path, _ = QFileDialog.getSaveFileName(self, "Export control samples", "controls.csv", _FILES)
        if path:
            self.export_to(path)

    def export_to(self, path: str) -> None:
        """Write the basket as CSV or GeoJSON, as the name says."""
        written = self.dock.guarded(lambda: self.session.study.export_controls(path))
        if written is not None:
            self.card.say(f"{len(self.tiles):,} control samples are in {written.name}.", kind="good")

    def ask_import(self) -> None:
        """Ask for a file, and put its tiles into the basket."""
        path, _ = QFileDialog.getOpenFileName(self, "Import control samples", "", _FILES)
        if path:
            self.import_from(path)

    def import_from(self, path: str) -> None:
        """Put the tiles of a file into the basket."""
        left: list[str] = []
        known = len(self.tiles)
        if self._change(lambda: left.extend(self.session.study.import_controls(path))):
            self.card.say(
                f"{len(self.tiles) - known:,} control samples more in the basket.",
                "\n".join(left),
                kind="warn" if left else "good",
            )

    # ------------------------------------------------------------------ judge

    def judge(self) -> None:
        """Work out what the controls can do before anything is corrected."""
        regions.pull(self.session)
        self.judge_job.start(self.session.study.diagnose_controls_job(), "Judging controls")
        self.judge_row.set_running(True)

    def show_verdict(self, found: ControlDiagnostics) -> None:
        """Usable, weak or not usable, why, and every number of it."""
        colour = _COLOURS.get(found.verdict, "#888888")
        reasons = "".join(f"<br>· {html.escape(reason)}" for reason in found.reasons)
        self.verdict.setText(
            f'<span style="color:{colour}">■</span> <b>{html.escape(found.verdict.capitalize())}</b>{reasons}'
            + "".join(f"<br>{html.escape(note)}" for note in found.notes)
        )
        self.numbers.setText(html_table(["", ""], [list(row) for row in found.rows()]))
        for widget in (self.verdict, self.more):
            widget.show()

    # ------------------------------------------------------------------ state

    def refresh(self) -> None:
        """Offer what there is, and show the basket."""
        study = self.session.study
        items = [("ordinary tissue", _ANY)]
        items += [(f"class {name}", name) for name in regions.class_names(self.session)]
        if has_pairs(study):
            items.append(("same tissue on rescans", _PAIRS))
        fill(self.source, items)
        self._name_button()
        tiles = self.tiles
        self.suggest_row.set_running(self.suggest_job.is_running)
        self.suggest_row.allow(bool(study.slides), "Open slides first.")
        self.judge_row.set_running(self.judge_job.is_running)
        self.judge_row.allow(
            has_controls(study), "There is no control sample yet: suggest, click or draw some."
        )
        self.judge_row.setVisible(has_controls(study))
        self.back_button.setEnabled(bool(self._before))
        for button in (self.empty_button, self.export_button):
            button.setEnabled(bool(tiles))
        drawn = sum(one.is_control for one in study.annotations)
        slides = len({tile.slide for tile in tiles})
        parts = []
        if tiles:
            parts.append(
                f'<span style="color:#00c8c8">■</span> {len(tiles):,} tiles on {slides} '
                f"{'slide' if slides == 1 else 'slides'}; click one to take it out."
            )
        if drawn:
            parts.append(
                f"{'Besides' if tiles else 'From'} {drawn} drawn {'region' if drawn == 1 else 'regions'}."
            )
        self.said.setText(
            " ".join(parts)
            or "None yet. Ordinary tissue of the same kind on every slide: what differs there is the scanner."
        )
        self._read(self.basket.show_tiles(tiles))

    def reset(self) -> None:
        """Another study."""
        self._before.clear()
        self._forget()
        self._hide_verdict()
        self.click_button.setChecked(False)
        self._on_click_mode()
        self._frame.hide()

    def paint(self) -> None:
        """Show the basket's tiles on their slides."""
        from napari_batchfx.tiles import TileMap

        empty = []
        for entry in self.session.shown_slides():
            own = [tile for tile in self.tiles if tile.slide == entry.name]
            grid = self.dock.guarded(partial(self.session.study.grid, entry)) if own else None
            cells = [] if grid is None else [grid.cell_at(tile.y_um, tile.x_um) for tile in own]
            cells = [cell for cell in cells if cell is not None]
            if grid is None or not cells:
                empty.append(entry)
                continue
            tile_map = TileMap.from_cells(
                grid,
                np.asarray(cells),
                np.ones(len(cells)),
                name="control samples",
                vmin=0.0,
                vmax=1.0,
                colormap="cyan",
                description="Control samples of the basket.",
                labels=("", "control sample"),
            )
            self.session.show_map(entry, "controls", tile_map, "control samples")
        self.session.drop_all("controls", of=empty)

    def hideEvent(self, event: Any) -> None:
        """Clicks on slides are another dock's again."""
        super().hideEvent(event)
        self.click_button.setChecked(False)
        self._on_click_mode()
        self._frame.hide()

    def _change(self, action: Any) -> bool:
        """Change the basket so that it can be put back; whether it worked."""
        before = list(self.session.study.controls)
        try:
            action()
        except BatchfxError as error:
            self.card.fail(error)
            return False
        self._before.append(before)
        self._changed()
        return True

    def _changed(self) -> None:
        self._hide_verdict()  # it was about other tiles
        self.session.allow_overlays("controls")
        self.refresh()
        self.paint()
        self.session.show_only(None)  # controls are chosen by what the tissue looks like
        for entry in self.session.shown_slides():
            layer: Any = self.session.layer(entry, "controls")
            if layer is not None:
                layer.visible = True
        self.session.regions_changed.emit()

    def _toggle(self, entry: SlideEntry, place_um: tuple[float, float]) -> None:
        study = self.session.study
        cell = study.grid(entry).cell_at(*place_um)
        if cell is None:
            return
        is_in = bool((study.control_cells(entry) == np.asarray(cell)).all(axis=1).any())
        self._change(lambda: study.put_control_cells(entry, np.asarray([cell]), is_taken=not is_in))
        word = "no control sample any more" if is_in else "a control sample"
        self.card.say(f"{entry.name}: the tile in row {cell[0]}, column {cell[1]} is {word}.")

    def _hide_verdict(self) -> None:
        for widget in (self.verdict, self.more):
            widget.hide()

    def _name_button(self) -> None:
        text = f"Suggest {self.per_slide.value()} a slide"
        self.suggest_row.button.setText(text)
        self.suggest_row.button.setAccessibleName(text)

    def _on_click_mode(self) -> None:
        on = self.click_button.isChecked()
        self._clicks.set_on(on)
        if on:
            self.card.say("Click tiles on the slides.", "A second click on a tile takes it out.")

    def _on_suggested(self, found: ControlSuggestion) -> None:
        if self._change(lambda: self.session.study.take_suggestion(found)):
            self.card.say(
                found.sentence, "\n".join(found.warnings), kind="warn" if found.warnings else "good"
            )

    def _on_judged(self, found: ControlDiagnostics) -> None:
        self.show_verdict(found)
        kind = {"usable": "good", "not usable": "error"}.get(found.verdict, "warn")
        self.card.say(f"The control samples are {found.verdict}.", "Why is said in step 2.", kind=kind)

    def _read(self, tiles: Iterable[ControlTile]) -> None:
        from napari_batchfx.study.control_pictures import control_pictures_job

        # what could not be read is not asked for again
        tiles = [tile for tile in tiles if tile not in self._tried]
        if tiles and not self.picture_job.is_running:
            self._tried.update(tiles)
            self.picture_job.start(control_pictures_job(self.session.study, tiles), bar=False)

    def _forget(self) -> None:
        self._tried.clear()
        self.basket.forget()

    def _on_pictures(self, progress: Progress) -> None:
        for picture in progress.partial or ():
            self.basket.set_pixels(picture.tile, picture.pixels)

    def _on_pictures_read(self) -> None:
        self._read(self.basket.show_tiles(self.tiles))  # what came into the basket meanwhile

    def _point(self, tile: ControlTile | None) -> None:
        entry = next(
            (one for one in self.session.shown_slides() if tile is not None and one.name == tile.slide), None
        )
        if tile is None or entry is None:
            self._frame.hide()
            return
        half = tile.size_um / 2
        self._frame.show(entry, (tile.y_um - half, tile.x_um - half, tile.y_um + half, tile.x_um + half))
