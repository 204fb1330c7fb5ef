"""Writing a slide of a study with its stain normalised as the stain settings say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_batchfx.jobs import Job, Progress
from napari_batchfx.study.entries import SlideEntry

if TYPE_CHECKING:
    from napari_batchfx.stain.export import ExportedSlide
    from napari_batchfx.study.bench import Bench

__all__ = ["export_stain_job"]


def export_stain_job(
    study: Bench,
    entry: SlideEntry | str,
    path: Path | str,
    *,
    region_um: tuple[float, float, float, float] | None = None,
    level: int = 0,
    compression: str = "deflate",
    quality: int = 90,
    overwrite: bool = False,
) -> Job[ExportedSlide]:
    """Write a slide of a study, normalised by ``settings.stain``, strength included.

    Parameters are those of :func:`napari_batchfx.stain.export.export_job`; the name of a target slide is not
    written.

    Raises
    ------
    StainError
        If a stain can't be estimated, or the file can't be written.
    """
    from napari_batchfx.stain.export import export_job

    entry = study.slide(entry)
    choice = study.settings.stain
    yield Progress(0, 0, "estimating stain")
    transform = study.stain_transform(entry)
    target = "built-in reference" if choice.target is None else "another slide"
    if choice.cohort:
        target = "average of several slides"
    elif choice.target == entry.name:
        target = "the slide itself"
    return (
        yield from export_job(
            study.open_slide(entry),
            transform,
            path,
            region_um=region_um,
            level=level,
            compression=compression,
            quality=quality,
            target=target,
            overwrite=overwrite,
        )
    )
