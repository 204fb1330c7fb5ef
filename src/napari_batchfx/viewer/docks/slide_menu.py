"""The right-click menu of a slide's row: pictures that may show names, only when asked for."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QDialog, QLabel, QMenu, QVBoxLayout

from napari_batchfx.errors import BatchfxError
from napari_batchfx.viewer.docks.slide_table import COLOUR_MODES

if TYPE_CHECKING:
    from napari_batchfx.slides import Slide
    from napari_batchfx.viewer.docks.slides import SlidesDock

__all__ = ["show_slide_menu", "slide_menu"]

_LONGEST_PX = 700


def slide_menu(dock: SlidesDock) -> QMenu | None:
    """The menu for the selected slides; ``None`` where none is selected."""
    entries = dock.selected()
    if not entries:
        return None
    menu = QMenu(dock)
    menu.addAction("Show").triggered.connect(lambda *_: dock.show_selected())
    colours = menu.addMenu("Colours")
    for text, mode in COLOUR_MODES:
        action = colours.addAction(text)
        action.setCheckable(True)
        action.setChecked(entries[0].icc == mode)
        action.triggered.connect(partial(lambda mode, *_: dock.set_colours(mode), mode))
    if len(entries) == 1:
        try:
            slide = dock.session.study.open_slide(entries[0])
        except BatchfxError:
            slide = None
        for name in () if slide is None else slide.associated:
            action = menu.addAction(f"Show {name} picture (may show names) ...")
            action.triggered.connect(partial(_show_picture, dock, slide, name))
    menu.addSeparator()
    menu.addAction("Remove").triggered.connect(lambda *_: dock.remove_selected())
    return menu


def show_slide_menu(dock: SlidesDock, position: Any) -> None:
    """Open the menu at a place on the screen."""
    menu = slide_menu(dock)
    if menu is not None:
        menu.exec(position)


def _show_picture(dock: SlidesDock, slide: Slide | None, name: str, *_: Any) -> None:
    """A label or overview picture in a window of its own: it never becomes a layer, nor part of a screenshot."""
    if slide is None:
        return
    try:
        pixels = slide.associated_image(name)
    except BatchfxError as error:
        dock.card.fail(error)
        return
    height, width = pixels.shape[:2]
    image = QImage(pixels.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
    pixmap = QPixmap.fromImage(image)
    if max(height, width) > _LONGEST_PX:
        pixmap = pixmap.scaled(
            _LONGEST_PX,
            _LONGEST_PX,
            Qt.AspectRatioMode.KeepAspectRatio,
            Qt.TransformationMode.SmoothTransformation,
        )
    window = QDialog(dock)
    window.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    window.setWindowTitle(f"{slide.name}: {name}")
    picture = QLabel()
    picture.setPixmap(pixmap)
    picture.setAccessibleName(f"{name} picture of {slide.name}")
    layout = QVBoxLayout(window)
    layout.addWidget(QLabel("This picture may show a patient's name. It is not kept, exported or reported."))
    layout.addWidget(picture)
    window.show()
