"""Adapt dock: labels and controls from drawn regions, a head trained on one scanner, predictions before and after."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QButtonGroup, QGridLayout, QLabel, QPushButton, QSizePolicy, QWidget

from napari_batchfx.adapt.methods import REGISTRY
from napari_batchfx.errors import BatchfxError
from napari_batchfx.report.figures import CLASS_COLOURS
from napari_batchfx.study.steps import has_controls
from napari_batchfx.study.tissue_regions import is_tissue_class
from napari_batchfx.viewer import regions
from napari_batchfx.viewer.docks.common import Dock, RunRow, choice, fill, form_row, hint, tool_button
from napari_batchfx.viewer.texts import METHODS, adapt_table, adaptations_table

if TYPE_CHECKING:
    import napari

    from napari_batchfx.study import SlideEntry

__all__ = ["AdaptDock"]

_VIEWS = (
    ("before", "Before", "Class predicted without correction."),
    ("after", "After", "Class predicted after correction on the control samples."),
    ("changed", "Changed", "Tiles whose predicted class changed with the correction."),
)


class AdaptDock(Dock):
    """Draw classes and controls, train, and compare predictions before and after the correction."""

    title = "adapt"

    def __init__(self, napari_viewer: napari.Viewer | None = None) -> None:
        super().__init__(napari_viewer)
        draw = self.add_form()
        self.slide = choice()
        form_row(draw, "1 Draw on", self.slide, "Slide that the next regions belong to.")
        self.class_name = choice([("control", "control")])
        self.class_name.setEditable(True)
        self.class_name.setInsertPolicy(self.class_name.InsertPolicy.NoInsert)
        form_row(
            draw,
            "Class",
            self.class_name,
            "Type a class, for example tumour; 'control' marks control samples.",
        )
        buttons = QWidget()
        grid = QGridLayout(buttons)
        grid.setContentsMargins(0, 0, 0, 0)
        self.draw_button = tool_button(
            "Draw a region", "Click corners on the slide, Esc or double-click to finish.", self.draw
        )
        self.copy_button = tool_button(
            "Copy to the others",
            "Copy this slide's regions to the other slides; only for aligned scans of the same tissue.",
            self.copy,
        )
        self.take_button = tool_button(
            "Use selected shapes",
            "Turn the shapes of the selected Shapes layer, drawn with napari's own tools, into regions of this class and slide.",
            self.take_over,
        )
        for index, button in enumerate((self.draw_button, self.copy_button, self.take_button)):
            button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            grid.addWidget(button, index // 2, index % 2)
        self.counts = QLabel()
        self.counts.setWordWrap(True)
        self.add(buttons, self.counts)

        method = self.add_form()
        self.batch = choice(
            [("scanner", "scanner"), ("site", "site"), ("stain", "stain"), ("slide", "slide")]
        )
        form_row(
            method, "2 Correct for", self.batch, "What differs between the slides and should not matter."
        )
        self.train_on = choice()
        form_row(
            method,
            "Learn from",
            self.train_on,
            "The classifier is trained on this scanner's (or site's) labelled tiles and applied to the others.",
        )
        self.method = choice([(text, key) for key, text in METHODS.items()])
        form_row(
            method,
            "Method",
            self.method,
            "\n".join(f"{one.label}: {one.sentence}" for one in REGISTRY.values()),
        )
        self.row = RunRow(
            "Train and adapt",
            "Train the classifier, correct the features on the controls, and compare the predictions.",
        )
        self.add(self.row)

        self.views = QButtonGroup(self)
        self.views.setExclusive(True)
        row = QWidget()
        line = QGridLayout(row)
        line.setContentsMargins(0, 0, 0, 0)
        for index, (key, text, tooltip) in enumerate(_VIEWS):
            button = QPushButton(text)
            button.setCheckable(True)
            button.setToolTip(tooltip)
            button.setProperty("key", key)
            self.views.addButton(button, index)
            line.addWidget(button, 0, index)
        self.legend = QLabel()
        self.legend.setWordWrap(True)
        self.table = QLabel()
        self.table.setWordWrap(True)
        self.table.setAccessibleName("Numbers before and after adaptation")
        self.all_runs = QLabel()
        self.all_runs.setWordWrap(True)
        self.all_runs.setAccessibleName("All adaptations run so far")
        self.all_runs.setToolTip(
            "Balanced accuracy before and after, for every method and choice tried in this study."
        )
        self.add(
            row,
            self.legend,
            self.table,
            self.all_runs,
            hint(
                "Predictions are research output, not a diagnosis. A change is no proof of improvement: look at the accuracy where you have labels, and at what it cost."
            ),
        )
        self.finish()

        self.job = self.make_job(self.row, self._on_done, self._refresh_buttons)
        self.row.run.connect(self.start)
        self.views.idClicked.connect(lambda *_: self.show_view())
        self.batch.activated.connect(lambda *_: self.refresh())
        self.method.activated.connect(lambda *_: self.refresh())
        for signal in (
            self.session.slides_changed,
            self.session.regions_changed,
            self.session.features_changed,
            self.session.layers_changed,
        ):
            signal.connect(lambda *_: self.refresh())
        self.session.study_changed.connect(self._on_study)
        self._on_study()

    # ------------------------------------------------------------------ regions

    def draw(self) -> None:
        """Make the slide's regions layer ready for the next polygon of the chosen class."""
        entry = self._slide()
        name = self.class_name.currentText().strip()
        if entry is None or not name:
            self.card.say("Open a slide and type a class first.", kind="warn")
            return
        regions.start_drawing(self.session, entry, name)
        self.refresh()
        self.card.say(
            f"Click the corners of a {name} region on {entry.name}.",
            "Esc or a double-click finishes it. Shapes can be moved and deleted with napari's own tools.",
        )

    def take_over(self) -> None:
        """Turn the shapes of the selected layer into regions of the chosen class and slide."""
        entry, layer = self._slide(), self.session.viewer.layers.selection.active
        name = self.class_name.currentText().strip()
        if entry is None or not name:
            self.card.say("Open a slide and type a class first.", kind="warn")
        elif (
            layer is None
            or layer.__class__.__name__ != "Shapes"
            or regions.is_regions(layer)
            or not len(layer.data)
        ):
            self.card.say(
                "Select a Shapes layer of your own, with shapes on it, in the layer list first.", kind="warn"
            )
        else:
            n = regions.take_over(self.session, layer, entry, name)
            self.refresh()
            self.card.say(
                f"{n} shapes of {layer.name} are now regions on {entry.name}.",
                "The layer itself is left as it is.",
            )

    def copy(self) -> None:
        """Copy the regions of the chosen slide to the other slides."""
        entry = self._slide()
        if entry is not None:
            n = regions.copy_regions(self.session, entry)
            self.refresh()
            self.card.say(
                f"{n} regions copied.",
                "This is right only where the slides show the same tissue and are aligned.",
            )

    # ------------------------------------------------------------------ the work

    def start(self) -> None:
        """Train, correct and compare."""
        self.pull()
        settings = self.session.study.settings.adapt
        settings.batch, settings.method = self.batch.currentData(), self.method.currentData()
        settings.train_on = [self.train_on.currentData()] if self.train_on.currentData() else []
        for kind in ("before", "after", "changed"):
            self.session.allow_overlays(kind)
        self.job.start(self.session.study.adapt_job(), "Adapting")
        self.row.set_running(True)

    def pull(self) -> None:
        """Take the regions drawn so far into the study."""
        regions.pull(self.session)

    def refresh(self) -> None:
        """Say what is missing and count what is drawn."""
        slides = self.session.shown_slides()
        fill(self.slide, [(entry.name, entry.name) for entry in slides])
        names = list(regions.class_names(self.session))
        typed = self.class_name.currentText()
        fill(self.class_name, [(name, name) for name in [*names, regions.CONTROL]])
        self.class_name.setEditText(typed)
        values = list(dict.fromkeys(self._value(entry) for entry in self.session.study.slides))
        fill(self.train_on, [("first with labels", None)] + [(value, value) for value in values if value])
        self._refresh_buttons()
        if self.job.is_running:
            return
        self._count()
        missing = self._missing()
        outcome = self.session.study.results.adapt
        if outcome is not None:
            self._say_result(outcome)
        elif missing:
            self.card.say(*missing[:1], links=missing[1])
        else:
            self.card.say("Ready: train and adapt.")

    def _missing(self) -> tuple[str, dict[str, str]] | None:
        study = self.session.study
        if len(study.slides) < 2:
            return "Adapting needs at least two slides.", {"Open Slides": "dock:slides"}
        if len({self._value(entry) for entry in study.slides} - {""}) < 2:
            return f"Give the slides different values of {self.batch.currentText()}.", {
                "Open Slides": "dock:slides"
            }
        store = self.guarded(study.store)
        if store is None or not store.holds_any():
            return "No tiles are encoded yet.", {"Open Encode": "dock:encode"}
        if len(regions.class_names(self.session)) < 2:
            return "Draw regions of at least two classes on the slide the model learns from.", {}
        needs_controls = REGISTRY[self.method.currentData()].needs == "controls"
        if needs_controls and not has_controls(study):
            return "Draw control regions on every slide: ordinary tissue of the same kind on each.", {}
        return None

    def _count(self) -> None:
        self.pull()
        counts: dict[str, dict[str, int]] = {}
        for annotation in self.session.study.annotations:
            if is_tissue_class(annotation.class_name):
                continue
            name = regions.CONTROL if annotation.is_control else str(annotation.class_name)
            row = counts.setdefault(name, {})
            row[annotation.slide] = row.get(annotation.slide, 0) + 1
        lines, tips = [], []
        for name, row in counts.items():
            total, slides = sum(row.values()), len(row)
            lines.append(
                f'<span style="color:{regions.colour(self.session, name)}">■</span> <b>{html.escape(name)}</b>: '
                f"{total} on {slides} {'slide' if slides == 1 else 'slides'}"
            )
            tips.append(f"{name}: " + ", ".join(f"{n} on {slide}" for slide, n in row.items()))
        self.counts.setText("<br>".join(lines) if lines else "No regions yet.")
        self.counts.setToolTip("\n".join(tips))

    def _refresh_buttons(self) -> None:
        self.row.set_running(self.job.is_running)
        missing = self._missing()
        self.row.allow(missing is None, missing[0] if missing else "")
        self.draw_button.setEnabled(bool(self.session.shown_slides()))
        self.copy_button.setEnabled(len(self.session.shown_slides()) > 1)
        has_result = self.session.study.results.adapt is not None
        for button in self.views.buttons():
            button.setEnabled(has_result)

    # ------------------------------------------------------------------ results

    def _on_done(self, outcome: Any) -> None:
        self._say_result(outcome)
        self.paint()
        self.views.button(1).setChecked(True)
        self.show_view()
        self.session.results_changed.emit()

    def paint(self) -> None:
        """Draw the predictions of the last adaptation over every slide."""
        from napari_batchfx.study.maps import adapt_maps

        maps = adapt_maps(self.session.study)
        for entry in self.session.study.slides:
            for kind, tile_map in maps.get(entry.fingerprint, {}).items():
                title = {
                    "before": "prediction before",
                    "after": "prediction after",
                    "changed": "prediction changed",
                }[kind]
                self.session.show_map(entry, kind, tile_map, title)

    def show_view(self) -> None:
        """Show before, after or changed."""
        button = self.views.checkedButton()
        if button is None:
            return
        kind = button.property("key")
        if any(self.session.layer(entry, kind) is None for entry in self.session.shown_slides()):
            self.session.allow_overlays(kind)
            self.paint()
        regions.set_visible(self.session, False)  # predictions are compared without what was drawn over them
        outcome = self.session.study.results.adapt
        learned = ", ".join(outcome.computed_from["settings"]["train_on"]) if outcome is not None else ""
        self.session.show_only(kind, f"learnt from {learned}" if learned else "")

    def _say_result(self, outcome: Any) -> None:
        headline, _, rest = outcome.sentence.partition(". ")
        diagnostics = outcome.numbers["diagnostics"]
        verdict = str(diagnostics["verdict"])
        reasons = diagnostics.get("reasons") or []
        # Why the controls are judged so stands in the table below; once is enough.
        warnings = [text for text in outcome.warnings if not any(reason in text for reason in reasons)]
        lines = [rest, f"The control samples are {verdict}; why is said below.", *warnings]
        good = verdict == "usable" and not warnings
        self.card.say(
            headline.rstrip(".") + ".",
            "\n".join(line for line in lines if line),
            kind="good" if good else "warn",
        )
        names = [str(name) for name in outcome.before.classes]
        self.legend.setText(
            "  ".join(
                f'<span style="color:{CLASS_COLOURS[i % len(CLASS_COLOURS)]}">■</span> {html.escape(name)}'
                for i, name in enumerate(names)
            )
        )
        self.table.setText(adapt_table(outcome))
        outcomes = self.session.study.results.adaptations
        self.all_runs.setText("<b>All runs</b>" + adaptations_table(outcomes) if len(outcomes) > 1 else "")

    def _on_study(self) -> None:
        settings = self.session.study.settings.adapt
        self.batch.setCurrentIndex(max(0, self.batch.findData(settings.batch)))
        self.method.setCurrentIndex(max(0, self.method.findData(settings.method)))
        self.legend.setText("")
        self.table.setText("")
        self.all_runs.setText("")
        self.refresh()
        self.paint()

    def _slide(self) -> SlideEntry | None:
        name = self.slide.currentData()
        try:
            return self.session.study.slide(name) if name else None
        except BatchfxError:
            return None

    def _value(self, entry: SlideEntry) -> str:
        key = self.batch.currentData()
        return str(entry.name if key == "slide" else getattr(entry, key))
