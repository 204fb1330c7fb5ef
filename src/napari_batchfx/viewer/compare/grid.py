"""Slides side by side in napari's grid, in step, whatever layers each of them has.

napari fills the grid's cells by counting: the first *stride* layers share the first cell, and so on. So that a slide's layers stay in
the slide's cell they are kept next to each other, and slides with fewer layers than others get spaces: hidden layers of one pixel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_batchfx.viewer import seam
from napari_batchfx.viewer.layers import KEY, tag

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_batchfx.viewer.session import Session

__all__ = ["cells_of", "drop_spaces", "fit_slides", "keep_cells", "show_names"]


def cells_of(session: Session) -> list[list[Layer]]:
    """The layers of each cell, bottom to top; the cells in the order of the slides in the layer list.

    A layer that belongs to no slide (drawn or added by hand) goes with the slide under it in the layer list.
    """
    cells: dict[str, list[Layer]] = {}
    current = next((tag(layer)["slide"] for layer in session.viewer.layers if tag(layer)), None)
    if current is None:
        return []
    for layer in session.viewer.layers:
        current = tag(layer).get("slide", current)
        cells.setdefault(current, []).append(layer)
    return list(cells.values())


def _is_space(layer: Layer) -> bool:
    return bool(tag(layer).get("placeholder"))


def keep_cells(session: Session) -> None:
    """Put the layers of each slide next to each other and give every cell the same number of layers."""
    viewer, grid = session.viewer, seam.grid(session.viewer)
    cells = cells_of(session)
    if not grid.enabled or not cells:
        return
    stride = max(sum(not _is_space(layer) for layer in cell) for cell in cells)
    own_of = [[layer for layer in cell if not _is_space(layer)] for cell in cells]
    spaces_of = [[layer for layer in cell if _is_space(layer)] for cell in cells]
    wanted = [layer for own, spaces in zip(own_of, spaces_of, strict=True) for layer in (*own, *spaces)]
    is_even = all(
        len(own) + len(spaces) == stride and own for own, spaces in zip(own_of, spaces_of, strict=True)
    )
    if is_even and wanted == list(viewer.layers) and grid.stride == stride:
        return
    with viewer.layers.batched_update():  # napari lays the grid out once, not at every step
        wanted = []
        for own, spaces in zip(own_of, spaces_of, strict=True):
            missing = stride - len(own) if own else 0  # a slide that went takes its spaces along
            _remove(session, spaces[missing:])
            kept = spaces[:missing]
            wanted += own + kept + [_add_space(session, own[0]) for _ in range(missing - len(kept))]
        for index, layer in enumerate(wanted):
            at = viewer.layers.index(layer)
            if at != index:
                viewer.layers.move(at, index)
        grid.stride = stride


def _remove(session: Session, spaces: list[Layer]) -> None:
    for layer in spaces:
        session.viewer.layers.remove(layer)


def _add_space(session: Session, beside: Layer) -> Layer:
    from napari.layers import Image

    info = tag(beside)
    entry = session.entry_of(beside)
    name = entry.name if entry is not None else beside.name
    space = Image(
        np.full((1, 1), np.nan, dtype=np.float32),
        name=f"{name} · (keeps its place)",
        translate=beside.translate[-2:],
        scale=beside.scale[-2:],
        affine=np.asarray(beside.affine.affine_matrix)[-3:, -3:],
        units=beside.units[-2:],
        visible=False,
        contrast_limits=(0, 1),
    )
    space.metadata[KEY] = {"slide": info.get("slide"), "kind": "space", "placeholder": True}
    seam.insert_layer(session.viewer, len(session.viewer.layers), space, select=False)
    return space


def drop_spaces(session: Session) -> None:
    """Take the spaces away."""
    spaces = [layer for layer in session.viewer.layers if _is_space(layer)]
    if spaces:
        with session.viewer.layers.batched_update():
            _remove(session, spaces)


def fit_slides(session: Session) -> None:
    """Point the camera at all slides shown."""
    boxes = np.array(
        [session.box_um(entry) for entry in session.shown_slides() if session.study.open_slide(entry).mpp]
    )
    if len(boxes):
        low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
        seam.fit_to(session.viewer, (low[0], low[1], high[0], high[1]))


def show_names(session: Session, named: list[Any], on: bool) -> list[Any]:
    """Write the slide's name into each cell, or take those away that were ``named`` here; returns the layers named now."""
    wanted: list[Any] = []
    for cell in cells_of(session) if on else []:
        for layer in cell:
            overlay: Any = getattr(layer, "name_overlay", None)  # younger than the rest of the grid
            if tag(layer).get("kind") == "slide" and overlay is not None:
                if layer in named or not overlay.visible:
                    wanted.append(layer)
                break
    for layer in named:
        if layer not in wanted and layer in session.viewer.layers:
            layer.name_overlay.visible = False
    for layer in wanted:
        if not layer.name_overlay.visible:
            layer.name_overlay.box = True
            layer.name_overlay.visible = True
    return wanted
