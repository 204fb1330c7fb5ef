"""``stain-effect``: what normalisation does to a study's signature, and what it costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from napari_batchfx.cli._app import command, count, drive, out

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "stain-effect")(stain_effect)


def stain_effect(
    study: Annotated[Path, typer.Argument(help="A study (.batchfx).")],
    method: Annotated[
        str | None, typer.Option(help="Stain method: macenko, reinhard, ...; the study's otherwise.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="Slide of the study whose stain is the target, or reference; the study's otherwise."
        ),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(help="What to recognise: site, scanner, stain or slide; the study's otherwise."),
    ] = None,
    slide: Annotated[
        list[str] | None, typer.Option(help="Only this slide (several times for several); all otherwise.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    names: Annotated[
        bool, typer.Option("--names", help="Also names of slides, in JSON: they can name a patient.")
    ] = False,
) -> None:
    """Encode a study's tiles as scanned and normalised, probe both and compare; both stay in its store."""
    from pydantic import ValidationError

    from napari_batchfx.study import StainSettings, Study

    with Study.open(study) as work:
        given = {} if method is None else {"method": method}
        try:
            choice = StainSettings.model_validate(work.settings.stain.model_dump() | given)
        except ValidationError as error:
            raise typer.BadParameter(error.errors()[0]["msg"], param_hint="--method") from error
        if target is not None:
            choice.target = None if target == "reference" else work.slide(target).name
        work.settings.stain = choice
        found = drive(work.stain_effect_job(slide or None, batch=batch))
    if as_json:
        print(json.dumps(found.to_dict(with_names=names), ensure_ascii=False, indent=2))
        return
    console = out()
    console.print(f"{found.sentence} {found.meaning}", markup=False)
    for measure in found.comparison.measures:
        console.print(f"{measure.name}: {measure.text()}", markup=False)
    tiles, slides = count(found.comparison.tiles, "tile"), count(len(found.slides), "slide")
    console.print(
        f"{found.method} towards {found.target}, {found.encoder}; {tiles} of {slides}", markup=False
    )
    console.print(found.literature, markup=False)
    for warning in found.warnings:
        console.print(f"Mind: {warning}", markup=False)
