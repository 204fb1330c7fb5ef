"""``prepare``: the small levels of slides whose file has none, made ahead of the first look."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_batchfx.cli._app import command, drive, finish, out
from napari_batchfx.errors import BatchfxError

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app)
    def prepare(
        slides: Annotated[list[Path] | None, typer.Argument(help="Slide files.")] = None,
        clear: Annotated[
            bool, typer.Option("--clear", help="First delete what was prepared for all slides.")
        ] = False,
    ) -> None:
        """Make the small levels that slides lack and keep them on disk; or say how much they take."""
        from napari_batchfx.slides import clear_prepared, open_slide, prepare_pyramid_job, prepared_bytes

        if clear:
            out().print(f"deleted: {clear_prepared() / 1e6:,.1f} MB", markup=False)
        problems = []
        for path in slides or []:
            try:
                with open_slide(path) as slide:
                    if not slide.needs_pyramid:
                        out().print(f"{slide.name}: has its own small levels", markup=False)
                        continue
                    drive(prepare_pyramid_job(slide))
                    out().print(f"{slide.name}: prepared", markup=False)
            except BatchfxError as error:
                problems.append(str(error))
        out().print(f"prepared in all: {prepared_bytes() / 1e6:,.1f} MB", markup=False)
        finish(problems, len(slides or []))
