"""A slide's new name, everywhere it is referred to."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_batchfx.study.alignment import rename_reference
from napari_batchfx.study.annotations import Annotation
from napari_batchfx.study.problems import Problem

if TYPE_CHECKING:
    from napari_batchfx.study.shelf import Shelf

__all__ = ["rename_slide"]


def rename_slide(study: Shelf, old: str, new: str) -> None:
    """Let regions, settings, alignments and steps that refer to a slide by its name follow it."""
    study.annotations = [
        Annotation(new, a.class_name, a.is_control, a.polygon_um) if a.slide == old else a
        for a in study.annotations
    ]
    study.controls = [replace(tile, slide=new) if tile.slide == old else tile for tile in study.controls]
    study.problems = [
        Problem(new, problem.text) if problem.subject == old else problem for problem in study.problems
    ]
    for choice in (study.settings.encode, study.settings.stain):
        if choice.target == old:
            choice.target = new
    regions = study.settings.stain.regions
    study.settings.stain.regions = {new if name == old else name: regions[name] for name in regions}
    study.settings.adapt.train_on = [new if name == old else name for name in study.settings.adapt.train_on]
    for entry in study.slides:
        rename_reference(entry, old, new)
    for step in study.steps:
        step.rename_slide(old, new)
