"""Drawn regions: napari Shapes layers on one side, the study's annotations on the other.

Every shape carries a class name; the class ``control`` marks control samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_batchfx.errors import StudyError
from napari_batchfx.report.figures import CLASS_COLOURS
from napari_batchfx.study.tissue_maps import TISSUE_COLOUR
from napari_batchfx.study.tissue_regions import is_tissue_class
from napari_batchfx.viewer import seam
from napari_batchfx.viewer.layers import KEY, tag

if TYPE_CHECKING:
    from napari.layers import Shapes

    from napari_batchfx.study import Annotation, SlideEntry
    from napari_batchfx.viewer.session import Session

__all__ = [
    "CONTROL",
    "class_names",
    "colour",
    "copy_regions",
    "pull",
    "push",
    "region_layer",
    "selected_polygons",
    "set_visible",
    "start_drawing",
    "take_over",
]

CONTROL = "control"
_CONTROLS = (CONTROL, "controls")
_COLUMN = "class"
_ELLIPSE_POINTS = 64
_MAX_NAMED = 12
_CONTROL_COLOUR = "#FFFFFF"
_NO_TISSUE_COLOUR = "#808080"


def region_layer(session: Session, entry: SlideEntry) -> Shapes:
    """The regions layer of a slide; made if it isn't there."""
    layer = session.layer(entry, "regions")
    if layer is not None and not tag(layer).get("placeholder"):
        return layer
    from napari.layers import Shapes

    layer = Shapes(
        ndim=2,
        name=f"{entry.name} · regions",
        features={_COLUMN: np.empty(0, dtype=object)},
        feature_defaults={_COLUMN: CONTROL},
        text={"string": "{class}", "color": "black", "size": 10, "anchor": "center"},
        edge_width=2,
        opacity=0.5,
        affine=np.asarray(entry.affine_um),
        units=("um", "um"),
    )
    session.add_layer(entry, "regions", layer)
    layer.events.data.connect(lambda event: _after_edit(session, layer, event))
    layer.events.features.connect(lambda *_: _recolour(session))
    return layer


def start_drawing(session: Session, entry: SlideEntry, class_name: str) -> Shapes:
    """Make the slide's regions layer ready to draw polygons of a class."""
    layer = region_layer(session, entry)
    layer.visible = True
    layer.feature_defaults = {_COLUMN: class_name}
    layer.current_face_color = colour(session, class_name)
    layer.current_edge_color = colour(session, class_name)
    session.viewer.layers.selection.active = layer
    layer.mode = "add_polygon"
    return layer


def add_region(session: Session, entry: SlideEntry, class_name: str, polygon_um: Any) -> None:
    """Add one polygon, in the slide's own micrometres (y, x), as if it had been drawn."""
    layer = region_layer(session, entry)
    layer.feature_defaults = {_COLUMN: class_name}
    layer.add(np.asarray(polygon_um, dtype=float), shape_type="polygon")


def copy_regions(session: Session, source: SlideEntry) -> int:
    """Copy a slide's regions to every other slide of the same, aligned tissue; returns how many were copied."""
    pull(session)
    own = [annotation for annotation in session.study.annotations if annotation.slide == source.name]
    forward = np.asarray(source.affine_um)
    copied = 0
    for entry in session.shown_slides():
        if entry is source:
            continue
        for annotation in own:
            points = np.c_[annotation.polygon_um, np.ones(len(annotation.polygon_um))] @ forward.T
            polygon = session.to_slide_um(entry, points[:, :2])
            add_region(
                session, entry, CONTROL if annotation.is_control else str(annotation.class_name), polygon
            )
            copied += 1
    return copied


def pull(session: Session) -> list[Annotation]:
    """Write the shapes of every slide's regions layer into ``study.annotations`` and return them.

    Layers that this package did not make are never read; :func:`take_over` turns their shapes into regions.
    """
    from napari_batchfx.study import Annotation

    if session.holds_regions:
        return session.study.annotations
    annotations: list[Annotation] = []
    read: set[str] = set()
    layers: dict[str, Any] = {}  # once: a study may have a thousand slides
    for layer in session.viewer.layers:
        if tag(layer).get("kind") == "regions":
            layers.setdefault(tag(layer)["slide"], layer)
    for entry in session.study.slides:
        layer = layers.get(entry.fingerprint)
        if not is_regions(layer):
            if session.is_dismissed(entry, "regions"):
                read.add(entry.name)
            continue
        read.add(entry.name)
        for world, class_name in _polygons(layer):
            name = class_name.strip()
            if not name:
                continue
            try:
                polygon = session.to_slide_um(entry, world)
                is_control = name.lower() in _CONTROLS
                annotations.append(Annotation(entry.name, None if is_control else name, is_control, polygon))
            except StudyError:  # a click that made no area
                continue
    # Regions that have no layer now (their slide's layers are gone, or not made yet) are kept as they were.
    kept = [annotation for annotation in session.study.annotations if annotation.slide not in read]
    session.study.annotations = kept + annotations
    return session.study.annotations


def take_over(session: Session, layer: Any, entry: SlideEntry, class_name: str) -> int:
    """Copy the shapes of any Shapes layer into a slide's regions; returns how many were copied.

    A shape keeps the class of the layer's ``class`` column where it has one; the others get ``class_name``. Lines have no
    inside and are left out.
    """
    copied = 0
    for (world, own), kind in zip(_polygons(layer), layer.shape_type, strict=True):
        if kind in ("line", "path"):
            continue
        name = own.strip() if _COLUMN in layer.features else ""
        add_region(session, entry, name or class_name, session.to_slide_um(entry, world))
        copied += 1
    return copied


def push(session: Session) -> None:
    """Show the study's annotations as regions layers (after opening a study)."""
    annotations = list(session.study.annotations)
    session.holds_regions = True  # half-made layers must not be read back
    try:
        for entry in session.shown_slides():
            own = [annotation for annotation in annotations if annotation.slide == entry.name]
            if not own:
                continue
            session.drop(entry, "regions")
            layer = region_layer(session, entry)
            names = [CONTROL if annotation.is_control else str(annotation.class_name) for annotation in own]
            with layer.events.data.blocker(), layer.events.features.blocker():
                layer.add([np.array(annotation.polygon_um) for annotation in own], shape_type="polygon")
                layer.features = {_COLUMN: np.array(names, dtype=object)}
        _recolour(session)
    finally:
        session.holds_regions = False
    session.regions_changed.emit()


def set_visible(session: Session, visible: bool) -> None:
    """Show or hide the regions of all slides."""
    for layer in session.viewer.layers:
        if is_regions(layer):
            seam.set_visible(layer, visible)


def class_names(session: Session) -> list[str]:
    """Classes drawn so far, sorted, without the controls and without what only says where tissue is."""
    names = {
        name.strip() for layer in session.viewer.layers if is_regions(layer) for _, name in _polygons(layer)
    }
    return sorted(
        name for name in names if name and name.lower() not in _CONTROLS and not is_tissue_class(name)
    )


def selected_polygons(session: Session) -> list[np.ndarray]:
    """World polygons of the selected Shapes layer (its selected shapes, or all), else of all Shapes layers."""
    active = session.viewer.layers.selection.active
    shapes = [layer for layer in session.viewer.layers if layer.__class__.__name__ == "Shapes"]
    if active in shapes and len(active.data):
        chosen = active.selected_data or range(len(active.data))
        polygons = _polygons(active)
        return [polygons[i][0] for i in sorted(chosen)]
    return [world for layer in shapes for world, name in _polygons(layer) if not is_tissue_class(name)]


def _polygons(layer: Shapes) -> list[tuple[np.ndarray, str]]:
    """World vertices (k, 2) and class of every shape; lines have no inside and come as they are."""
    names = layer.features[_COLUMN].astype(object) if _COLUMN in layer.features else None
    found = []
    for index, (data, kind) in enumerate(zip(layer.data, layer.shape_type, strict=True)):
        points = np.asarray(data, dtype=float)[:, -2:]
        if kind == "ellipse":
            points = _ellipse(points)
        world = np.array([layer.data_to_world(point)[-2:] for point in points])
        name = layer.name if names is None else names.iloc[index]
        found.append((world, "" if name is None or name != name else str(name)))
    return found


def _ellipse(box: np.ndarray) -> np.ndarray:
    centre = box.mean(axis=0)
    half_a, half_b = (box[1] - box[0]) / 2, (box[3] - box[0]) / 2
    angle = np.linspace(0, 2 * np.pi, _ELLIPSE_POINTS, endpoint=False)[:, None]
    return centre + np.cos(angle) * half_a + np.sin(angle) * half_b


def colour(session: Session, class_name: str) -> str:
    """The colour of a class, the same on all slides; controls are white, tissue green, no tissue grey."""
    if class_name.lower() in _CONTROLS:
        return _CONTROL_COLOUR
    if is_tissue_class(class_name):
        return _NO_TISSUE_COLOUR if "no" in class_name.lower().split() else TISSUE_COLOUR
    names = sorted(
        {*class_names(session), class_name}
    )  # the order that predictions have, so the colours agree
    index = names.index(class_name)
    return CLASS_COLOURS[index % len(CLASS_COLOURS)]


def _after_edit(session: Session, layer: Shapes, event: Any) -> None:
    if getattr(event, "action", None) in (None, "added", "removed", "changed"):
        _recolour(session)
        session.regions_changed.emit()


def _recolour(session: Session) -> None:
    """Give every shape its class' colour, the same on all slides."""
    for layer in session.viewer.layers:
        if (
            tag(layer).get("kind") != "regions"
            or tag(layer).get("placeholder")
            or layer.__class__.__name__ != "Shapes"
        ):
            continue
        colours = [colour(session, name) for _, name in _polygons(layer)]
        if colours and len(colours) == len(layer.data):
            with layer.events.features.blocker():
                # Controls are outlines: a white film would change how their tissue looks.
                faces = [f"{c}18" if c == _CONTROL_COLOUR else c for c in colours]
                layer.face_color = faces
                layer.edge_color = colours
        # Names on a few regions help; on many they hide the tissue, and the dock lists the colours.
        layer.text.visible = len(layer.data) <= _MAX_NAMED
        # Controls are named by their white outline: their name would lie on that of the class they belong to.
        names = [name if name.lower() not in _CONTROLS else "" for _, name in _polygons(layer)]
        layer.text.string = {"array": names, "default": ""}


def is_regions(layer: Any) -> bool:
    """Whether a layer holds regions of this package."""
    if layer is None:
        return False
    return layer.metadata.get(KEY, {}).get("kind") == "regions" and layer.__class__.__name__ == "Shapes"
