"""What the site probe is asked: what to recognise, what to keep together, which classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QSpinBox, QVBoxLayout, QWidget

from napari_batchfx.viewer.docks.common import More, choice, fill, form_row, hint

if TYPE_CHECKING:
    from napari_batchfx.study import ProbeSettings, Study

__all__ = ["BATCHES", "CLASSIFIERS", "ProbeInputs", "values_of"]

BATCHES = ("scanner", "site", "stain", "slide", "patient")
_GROUPS = ("patient", "slide", "site", "scanner", "stain")
CLASSIFIERS = (
    ("Logistic regression", "logistic"),
    ("Nearest centroid", "centroid"),
    ("Nearest neighbours", "knn"),
    ("The paper's linear layer", "linear"),
)
_ABOUT = {
    "logistic": "The usual one: quick, and the strongest of what is quick.",
    "centroid": "The simplest: which mean is nearest. It misses what lies in combinations.",
    "knn": "Votes of the five nearest tiles. It sees what lies close together, whatever its shape.",
    "linear": "One layer trained by Adam as in Kömen et al. 2024. Slower; needs torch.",
}


def values_of(study: Study, column: str) -> list[str]:
    """The different values that the slides have in a column."""
    named = {entry.name if column == "slide" else str(getattr(entry, column)) for entry in study.slides}
    return sorted(named - {""})


class ProbeInputs(QWidget):
    """The choices of a probe; :meth:`take` writes them into settings, :meth:`show_settings` reads them."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.batch = choice([(name, name) for name in BATCHES])
        form_row(form, "Recognise", self.batch, "What the classifier has to tell from a single tile.")
        self.group = choice([(name, name) for name in _GROUPS])
        form_row(
            form,
            "Keep together",
            self.group,
            "Tiles of one patient (or slide) are never split between training and test.",
        )
        self.more = More()
        self.classifier = choice(list(CLASSIFIERS))
        form_row(self.more.form, "Classifier", self.classifier, "How the tiles are told apart.")
        self._about = hint(_ABOUT["logistic"])
        self.more.form.addRow(self._about)
        self.permutations = QSpinBox()
        self.permutations.setRange(0, 999)
        form_row(
            self.more.form,
            "Permutations",
            self.permutations,
            "How often the labels are shuffled to see what chance alone reaches.",
        )
        self.seed = QSpinBox()
        self.seed.setRange(0, 9999)
        form_row(self.more.form, "Seed", self.seed, "Random seed of folds and shuffles.")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(form)
        column.addWidget(self.more)
        self.classifier.currentIndexChanged.connect(self._on_classifier)
        self.batch.currentIndexChanged.connect(lambda *_: self.changed.emit())

    def take(self, settings: ProbeSettings) -> None:
        """Write the choices into settings."""
        settings.batch, settings.group = self.batch.currentData(), self.group.currentData()
        settings.probe = self.classifier.currentData()
        settings.permutations, settings.seed = self.permutations.value(), self.seed.value()

    def show_settings(self, settings: ProbeSettings) -> None:
        """Show the choices of settings."""
        for box, value in (
            (self.batch, settings.batch),
            (self.group, settings.group),
            (self.classifier, settings.probe),
        ):
            box.setCurrentIndex(max(0, box.findData(value)))
        self.permutations.setValue(settings.permutations)
        self.seed.setValue(settings.seed)

    def name_columns(self, study: Study) -> None:
        """Say beside each column how many different values the slides have in it."""
        items = []
        for name in BATCHES:
            n = len(values_of(study, name))
            items.append((name if n == 0 else f"{name} ({n})", name))
        fill(self.batch, items)

    def _on_classifier(self, _index: int) -> None:
        self._about.setText(_ABOUT[self.classifier.currentData()])
