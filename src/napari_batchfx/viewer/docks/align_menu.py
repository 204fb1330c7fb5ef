"""What the Align button offers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtGui import QAction, QActionGroup
from qtpy.QtWidgets import QMenu

if TYPE_CHECKING:
    from napari_batchfx.viewer.docks.compare_box import CompareBox

__all__ = ["align_menu"]

_MODELS = (
    ("Shift, turn and scale", "similarity"),
    ("Shift only", "translation"),
    ("Affine (also shear)", "affine"),
)


def align_menu(box: CompareBox) -> tuple[QMenu, QAction, QAction]:
    """The menu, and its entries for taking back and saving, which can't always work."""
    menu = QMenu(box)
    menu.setToolTipsVisible(True)

    def add(text: str, tooltip: str, action: Callable[[], object]) -> QAction:
        entry = menu.addAction(text)
        entry.setToolTip(tooltip)
        entry.triggered.connect(lambda *_: action())
        return entry

    add("Automatically", "By the tissue itself: any rotation, also mirrored.", box.align)
    add(
        "By hand, with three pairs of points ...",
        "Click the same spot on both slides, three times or more.",
        box.start_points,
    )
    add("From a file ...", "A transform of elastix or VALIS, or one saved here.", box.ask_for_transform)
    save = add(
        "Save to a file ...",
        "Keep the alignment of the slide beside the study, as JSON.",
        box.ask_where_to_save,
    )
    undo = add("Take back", "Put the slides back to where they were before.", box.take_back)
    menu.addSeparator()
    models = menu.addMenu("What may differ")
    group = QActionGroup(models)
    for text, key in _MODELS:
        action = models.addAction(text)
        action.setCheckable(True)
        action.setChecked(key == "similarity")
        action.triggered.connect(lambda *_, key=key: setattr(box, "model", key))
        group.addAction(action)
    return menu, undo, save
