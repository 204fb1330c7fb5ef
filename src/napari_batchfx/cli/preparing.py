"""``prepare``: the small levels of slides whose file has none, made ahead of the first look."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_batchfx.cli._app import AsJson, command, drive, finish, note, out, print_json
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
        as_json: AsJson = False,
    ) -> None:
        """Make the small levels that slides lack and keep them on disk; or say how much they take."""
        from napari_batchfx.slides import clear_prepared, open_slide, prepare_pyramid_job, prepared_bytes

        say = note if as_json else lambda text: out().print(text, markup=False)
        deleted = clear_prepared() if clear else 0
        if clear:
            say(f"deleted: {deleted / 1e6:,.1f} MB")
        problems = []
        done: dict[str, str] = {}
        for path in slides or []:
            try:
                with open_slide(path) as slide:
                    if not slide.needs_pyramid:
                        done[slide.name] = "has its own small levels"
                    else:
                        drive(prepare_pyramid_job(slide))
                        done[slide.name] = "prepared"
                    say(f"{slide.name}: {done[slide.name]}")
            except BatchfxError as error:
                problems.append(str(error))
        kept = prepared_bytes()
        say(f"prepared in all: {kept / 1e6:,.1f} MB")
        if as_json:
            print_json({"slides": done, "deleted_bytes": deleted, "kept_bytes": kept, "problems": problems})
        finish(problems, len(slides or []))
