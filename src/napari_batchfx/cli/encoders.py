"""``encoders``: which models there are, what is known of one, and how to get its weights."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from napari_batchfx.cli._app import AsJson, command, drive, out, print_json

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add ``encoders list``, ``encoders show`` and ``encoders get``; ``encoders`` alone lists."""
    group = typer.Typer(help="Models that turn tiles into vectors.", pretty_exceptions_enable=False)

    @group.callback(invoke_without_command=True)
    def _alone(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            list_encoders(as_json=False)

    @command(group, "list")
    def list_encoders(
        as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    ) -> None:
        """List the encoders: vector, tiles, licence, terms to accept, size, and what is on this machine."""
        from napari_batchfx.encoders import available, describe

        cards = [describe(str(name)) for name in available()["name"]]
        if as_json:
            print(json.dumps([card.to_dict() for card in cards], ensure_ascii=False, indent=2))
            return
        for card in cards:
            _say(card.name)
            _say(f"{card.title}; {card.text()}", "")

    @command(group, "show")
    def show(
        name: Annotated[str, typer.Argument(help="An encoder, as `embed` takes it.")],
        hub: Annotated[
            bool, typer.Option("--hub", help="Ask the hub for size, licence and terms as they are now.")
        ] = False,
        as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    ) -> None:
        """Say what is known of an encoder, without loading it."""
        from napari_batchfx.encoders import describe

        card = describe(name, ask_hub=hub)
        if as_json:
            print(json.dumps(card.to_dict(), ensure_ascii=False, indent=2))
            return
        facts: dict[str, Any] = {
            "name": card.name,
            "title": card.title,
            "from": ", ".join(part for part in (card.publisher, card.source) if part),
            "vector": f"{card.dim:,} numbers ({card.assembly or 'pooled'})" if card.dim else "",
            "also": ", ".join(f"{way}: {dim:,} numbers" for way, dim in card.other_assemblies.items()),
            "tiles": f"{card.input_px} px" + (f" at {card.mpp:g} µm/px" if card.mpp else "")
            if card.input_px
            else "",
            "licence": f"{card.licence}; {card.licence_url}" if card.licence_url else card.licence,
            "terms": "to accept on its page before the download" if card.gated else "",
            "size": card.size_text,
            "here": "yes" if card.cached else "no",
            "needs": card.needs,
            "loads": "" if card.loadable else "no",
            "note": card.note,
            "paper": card.citation,
        }
        for key, value in facts.items():
            if value:
                _say(str(value), key, 8)

    @command(group, "get")
    def get(
        name: Annotated[str, typer.Argument(help="An encoder, as `embed` takes it.")],
        as_json: AsJson = False,
    ) -> None:
        """Download an encoder's weights; a download that was stopped goes on from there."""
        from napari_batchfx.encoders import download

        path = drive(download(name))
        if as_json:
            print_json({"encoder": name, "file": str(path), "bytes": path.stat().st_size})
            return
        out().print(f"{name}: {path.stat().st_size / 1e6:,.1f} MB are on this machine", markup=False)

    # the words that others use for the same
    group.command("describe", hidden=True)(show)
    group.command("download", hidden=True)(get)
    app.add_typer(group, name="encoders")


def _say(text: str, label: str | None = None, width: int = 1) -> None:
    """A line; on a terminal what doesn't fit goes on below itself, elsewhere a line stays a line."""
    console = out()
    start = "" if label is None else f"{label:<{width}} "
    if console.soft_wrap:
        console.print(start + text, markup=False)
        return
    columns = Table.grid()
    columns.add_column(no_wrap=True, width=len(start))
    columns.add_column(overflow="fold")
    columns.add_row(Text(start), Text(text))
    console.print(columns)
