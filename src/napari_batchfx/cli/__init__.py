"""The command line: the same study without a screen."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from napari_batchfx.cli import (
    adapting,
    aligning,
    benchmark,
    conditions,
    controlling,
    demo,
    diagnosis,
    encoders,
    exporting,
    importing,
    metrics,
    normalizing,
    preparing,
    probe_views,
    repeating,
    samples,
    slides,
    stain_effect,
    staining,
    store,
    studies,
    tables,
    tile,
    tissue,
)
from napari_batchfx.cli._app import app, set_debug

__all__ = ["app", "main"]


def _show_version(on: bool) -> None:
    if on:
        from napari_batchfx import __version__

        print(f"napari-batchfx {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """See, measure and remove batch effects in whole-slide pathology images."""
    if debug:
        set_debug(True)


for _room in (
    slides,
    preparing,
    tables,
    importing,
    studies,
    repeating,
    store,
    aligning,
    benchmark,
    adapting,
    controlling,
    staining,
    encoders,
    exporting,
    samples,
    diagnosis,
    demo,
    tissue,
    tile,
    metrics,
    probe_views,
    normalizing,
    stain_effect,
    conditions,
):
    _room.register(app)


def main() -> None:
    """Run the command line; ``--debug`` may stand anywhere."""
    arguments = sys.argv[1:]
    if "--debug" in arguments:
        set_debug(True)
        arguments = [argument for argument in arguments if argument != "--debug"]
    app(arguments, prog_name="napari-batchfx")
