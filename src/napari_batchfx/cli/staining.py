"""``stain``: one slide's stain in numbers and pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_batchfx.cli._app import command, note, out, wait
from napari_batchfx.errors import StainError, StudyError

if TYPE_CHECKING:
    from napari_batchfx.stain import LabStatistics, StainEstimate

__all__ = ["register", "stain_method"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app)(stain)


def stain_method(name: str | None, option: str = "--normalizer") -> str | None:
    """A stain method as an option gives it; ``None`` and "none" stay as they are."""
    from napari_batchfx.stain import method

    if name in (None, "none"):
        return name
    try:
        return method(str(name)).id
    except StainError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def stain(
    slide: Annotated[Path, typer.Argument(help="A slide file.")],
    out_file: Annotated[
        Path | None, typer.Option("--out", "-o", help="Picture to write (.png): the slide normalised.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="How stain is found and matched: macenko, vahadane, ... (see the docs).")
    ] = "macenko",
    target: Annotated[
        list[Path] | None,
        typer.Option(
            help="Slide whose stain is the target, several for their average; a built-in reference otherwise."
        ),
    ] = None,
    channel: Annotated[
        str | None, typer.Option(help="Show one stain alone instead: haematoxylin, eosin or DAB.")
    ] = None,
    strength: Annotated[float, typer.Option(help="0 leaves the slide as it is.", min=0, max=1)] = 1.0,
    size: Annotated[int, typer.Option(help="Longer side of the picture in pixels.", min=16, max=8192)] = 1024,
    as_json: Annotated[bool, typer.Option("--json", help="The estimate as JSON.")] = False,
) -> None:
    """Estimate a slide's stain, and write a small picture of it normalised or of one stain alone."""
    from napari_batchfx.slides import open_slide
    from napari_batchfx.stain import StainChannel, average, estimate_slide
    from napari_batchfx.stain import method as stain_method_of

    chosen = str(stain_method(method, "--method"))
    picture: Any = None
    with wait("estimating stain"), open_slide(slide) as opened:
        aims: list[Any] = []
        for path in target or []:
            with open_slide(path) as aim:
                aims.append(estimate_slide(aim, chosen))
        kind: Any = stain_method_of(chosen).normalizer
        normalizer = kind(average(aims) if aims else None, strength=strength)
        found: Any = estimate_slide(opened, chosen)
        if channel is not None:
            shown: Any = StainChannel(found, channel)
            warnings = found.warnings
        else:
            shown = normalizer.from_source(found)
            warnings = shown.warnings
        if out_file is not None:
            picture = shown.transform(opened.thumbnail(size))
    if picture is not None and out_file is not None:
        _save(picture, out_file)
    for warning in warnings:
        note(warning)
    if as_json:
        print(json.dumps(found.to_dict() | {"quality": found.quality}, ensure_ascii=False, indent=2))
        return
    if out_file is not None:
        out().print(str(out_file), markup=False)
    else:
        out().print(_numbers(found), markup=False)


def _save(picture: Any, path: Path) -> None:
    from PIL import Image

    try:
        Image.fromarray(picture).save(path)
    except (OSError, ValueError) as error:
        raise StudyError(
            f"{path}: the picture can't be written ({error}); choose another place, ending in .png."
        ) from error


def _numbers(found: StainEstimate | LabStatistics) -> str:
    """An estimate in a few lines."""
    from napari_batchfx.stain import StainEstimate

    if not isinstance(found, StainEstimate):
        mean, std = (", ".join(f"{v:.1f}" for v in values) for values in (found.mean, found.std))
        lines = [f"mean colour L, a, b: {mean}", f"spread: {std}"]
    else:
        lines = [
            f"{name}: red {row[0]:.3f}, green {row[1]:.3f}, blue {row[2]:.3f}; intensity {strongest:.2f}"
            for name, row, strongest in zip(found.stains, found.matrix, found.max_concentration, strict=True)
        ]
        lines.append(f"{found.kind}, {found.angle_deg:.0f} degrees between the stains")
    return "\n".join([*lines, f"{found.n_pixels:,} tissue pixels; {found.quality}"])
