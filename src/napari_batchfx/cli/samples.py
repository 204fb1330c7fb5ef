"""``samples``: slides to try the plugin on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_batchfx.cli._app import AsJson, command, drive, out, print_json

if TYPE_CHECKING:
    from napari_batchfx.samples import Sample

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands ``samples list`` and ``samples get``; ``samples`` alone lists."""
    group = typer.Typer(help="Slides to try the plugin on.", pretty_exceptions_enable=False)

    @group.callback(invoke_without_command=True)
    def _alone(context: typer.Context, as_json: AsJson = False) -> None:
        if context.invoked_subcommand is None:
            list_samples(as_json)

    @command(group, "list")
    def list_samples(as_json: AsJson = False) -> None:
        """List the samples."""
        from napari_batchfx import samples

        if as_json:
            rows = [_facts(samples.CATALOGUE[name]) for name in samples.names()]
            print_json({"samples": rows})
            return
        for name in samples.names():
            sample = samples.CATALOGUE[name]
            size = f"{sample.size / 1e6:,.1f} MB" if sample.size else "made here"
            out().print(f"{name}\n  {sample.title}; {size}; {sample.licence}", markup=False)

    @command(group)
    def get(
        name: Annotated[str, typer.Argument(help="Name of a sample, as listed.")],
        folder: Annotated[
            Path | None, typer.Option("--out", "-o", help="Folder to put it in; the cache otherwise.")
        ] = None,
        as_json: AsJson = False,
    ) -> None:
        """Make or download a sample and say where its files are."""
        from napari_batchfx import samples

        paths = drive(samples.fetch_job(name, folder))
        if as_json:
            print_json({"name": name, "files": [str(path) for path in paths]})
            return
        for path in paths:
            out().print(str(path), markup=False)

    app.add_typer(group, name="samples")


def _facts(sample: Sample) -> dict[str, Any]:
    """What is known of a sample, as plain values."""
    return {
        "name": sample.name,
        "title": sample.title,
        "bytes": sample.size or None,  # none where it is made here
        "licence": sample.licence,
        "files": [file.name for file in sample.files],
    }
