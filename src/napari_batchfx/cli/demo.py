"""``demo``: the whole story on the phantom, with or without a window."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_batchfx.cli._app import PARTIAL, PROBLEM, AsJson, command, drive, fail, note, print_json
from napari_batchfx.cli._app import out as console

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app)
    def demo(
        out: Annotated[
            Path, typer.Option("--out", "-o", help="Folder for the report, the study and the pictures.")
        ] = Path("demo-out"),
        headless: Annotated[
            bool | None,
            typer.Option(
                "--headless/--window", help="Without a window, or with one; as the screen allows otherwise."
            ),
        ] = None,
        as_json: AsJson = False,
    ) -> None:
        """Show what batch effects are, on one tissue scanned by two scanners; needs no network."""
        from napari_batchfx.viewer.demo import has_display, show
        from napari_batchfx.viewer.sample_data import demo_slides_job

        if not has_display():
            raise fail(
                "There is no display: run it in a virtual one, for example: xvfb-run -a napari-batchfx demo "
                "--headless"
            )
        folder = out.expanduser().absolute()
        folder.mkdir(parents=True, exist_ok=True)
        say = note if as_json else lambda text: console().print(text, markup=False)
        say("Making one tissue on two scanners ...")
        told = show(drive(demo_slides_job("two_scanners")), folder, bool(headless), say)
        if as_json:
            print_json(told.to_dict())
        for problem in told.problems:
            note(problem)
        if told.problems or not told.is_whole:
            raise typer.Exit(PARTIAL if told.is_whole else PROBLEM)
