"""``tile``: what the model saw of one tile, its values and where it comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_batchfx.cli._app import command, drive, note, out
from napari_batchfx.cli.staining import stain_method
from napari_batchfx.cli.tissue import Icc
from napari_batchfx.errors import StudyError

if TYPE_CHECKING:
    from napari_batchfx.study import SlideEntry, Study

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app)(tile)


def tile(
    source: Annotated[Path, typer.Argument(help="A study (.batchfx), or a slide file.")],
    row: Annotated[int, typer.Argument(help="Row of the tile in the slide's grid, from 0.", min=0)],
    col: Annotated[int, typer.Argument(help="Column, from 0.", min=0)],
    slide: Annotated[str | None, typer.Option(help="Name of the slide, where the study has several.")] = None,
    encoder: Annotated[
        str | None, typer.Option(help="Another encoder than the study's; colour-statistics for a file.")
    ] = None,
    normalizer: Annotated[
        str | None, typer.Option(help="Stain method: macenko, reinhard, ... or none.")
    ] = None,
    tile_px: Annotated[int | None, typer.Option(help="Tile side in pixels.", min=16, max=8192)] = None,
    tile_mpp: Annotated[
        float | None, typer.Option(help="Micrometres a pixel of tiles.", min=0.01, max=100)
    ] = None,
    mpp: Annotated[
        float | None, typer.Option(help="Micrometres a pixel of a slide file that has none.", min=0.001)
    ] = None,
    icc: Icc = None,
    png: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="PNG of the stages; values and provenance are in it as text."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    names: Annotated[
        bool, typer.Option("--names", help="Also names of slides: they can name a patient.")
    ] = False,
) -> None:
    """Say what the model saw of one tile, after colour, stain and resize: its values and provenance."""
    from pydantic import ValidationError

    from napari_batchfx.study.inspection import saw_job

    normalizer = stain_method(normalizer)
    given = {"encoder": encoder, "size_px": tile_px, "mpp": tile_mpp, "normalizer": normalizer}
    with _opened(source, slide, mpp, icc) as (study, entry):
        choice = study.settings.encode
        try:
            for key, value in given.items():
                if value is not None:
                    setattr(choice, key, None if value == "none" else value)
        except ValidationError as error:
            raise typer.BadParameter(error.errors()[0]["msg"]) from error
        seen = drive(saw_job(study, entry, (row, col)))
    if as_json:
        print(json.dumps(seen.to_dict(with_names=names), ensure_ascii=False, indent=2))
    else:
        out().print(seen.text(with_names=names), markup=False)
    if png is not None:
        note(str(seen.save(png, with_names=names)))


@contextmanager
def _opened(
    source: Path, slide: str | None, mpp: float | None, icc: str | None
) -> Iterator[tuple[Study, SlideEntry]]:
    """The study and the slide meant: of a study, or a slide file in a study of its own."""
    from napari_batchfx.study import Study, study_folder

    folder = source.parent if source.name == "study.json" else source
    if any((one / "study.json").is_file() for one in (folder, study_folder(folder))):
        with Study.open(source) as study:
            yield study, _entry(study, slide)
        return
    with Study.create() as study:
        yield study, study.add_slide(source, mpp=mpp, icc=icc or "off")


def _entry(study: Study, name: str | None) -> SlideEntry:
    if name is not None:
        return study.slide(name)
    if len(study.slides) == 1:
        return study.slides[0]
    if not study.slides:
        raise StudyError(f"{study.name}: the study has no slide.")
    listed = ", ".join(entry.name for entry in study.slides[:8])
    more = ", ..." if len(study.slides) > 8 else ""
    raise StudyError(f"{study.name}: choose a slide with --slide; there are {listed}{more}.")
