"""``normalize``: a slide written with its stain normalised, as a pyramid that other programs open."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from napari_batchfx.cli._app import AsJson, command, drive, note, out, print_json, wait
from napari_batchfx.cli.staining import stain_method
from napari_batchfx.cli.tissue import Icc

__all__ = ["register"]

_TARGETS = ("built-in reference", "another slide", "average of several slides")


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app)(normalize)


def normalize(
    slide: Annotated[Path, typer.Argument(help="A slide file.")],
    out_file: Annotated[
        Path, typer.Option("--out", "-o", help="Slide to write: .ome.tif, .ome.tiff or .ome.zarr.")
    ],
    method: Annotated[
        str, typer.Option(help="How stain is found and matched: macenko, vahadane, ... (see the docs).")
    ] = "macenko",
    target: Annotated[
        list[Path] | None,
        typer.Option(
            help="Slide whose stain is the target, several for their average; a built-in reference otherwise."
        ),
    ] = None,
    strength: Annotated[
        float, typer.Option(help="0 = as it is, 1 = fully normalised.", min=0.0, max=1.0)
    ] = 1.0,
    region: Annotated[
        str | None,
        typer.Option(help="Part to write: y0,x0,y1,x1 in micrometres from the top left corner; all of it."),
    ] = None,
    level: Annotated[
        int, typer.Option(help="Level of the slide that becomes the full size of the new one.", min=0)
    ] = 0,
    jpeg: Annotated[
        int | None,
        typer.Option(help="JPEG of this quality (90 is usual) instead of lossless; smaller.", min=1, max=100),
    ] = None,
    mpp: Annotated[
        float | None, typer.Option(help="Micrometres a pixel, where the file has none.", min=0.001)
    ] = None,
    icc: Icc = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file of that name.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a slide, or a part of it, with its stain normalised; no label, no names."""
    from napari_batchfx.slides import open_slide
    from napari_batchfx.stain import average, estimate_slide
    from napari_batchfx.stain import method as method_of
    from napari_batchfx.stain.export import export_job

    chosen = str(stain_method(method, "--method"))
    box = None if region is None else _box(region)
    kind: Any = method_of(chosen).normalizer
    with open_slide(slide, mpp=mpp, icc=icc or "off") as opened:
        with wait("estimating stain"):
            aims: list[Any] = []
            for path in target or []:
                with open_slide(path, icc=icc or "off") as aim:
                    aims.append(estimate_slide(aim, chosen))
            transform = kind(average(aims) if aims else None, strength=strength).for_slide(opened)
        done = drive(
            export_job(
                opened,
                transform,
                out_file,
                region_um=box,
                level=level,
                compression="deflate" if jpeg is None else "jpeg",
                quality=jpeg or 90,
                target=_TARGETS[min(2, len(aims))],
                overwrite=overwrite,
            )
        )
    for warning in done.warnings:
        note(warning)
    height, width = done.shape
    if as_json:
        facts = {"slide": str(done.path), "height_px": height, "width_px": width, "bytes": done.n_bytes}
        print_json({**facts, "warnings": list(done.warnings)})
        return
    size = f"{width:,} x {height:,} px, {done.n_bytes / 1e6:,.1f} MB"
    out().print(f"{done.path}: {size}", markup=False)


def _box(text: str) -> tuple[float, float, float, float]:
    try:
        y0, x0, y1, x1 = (float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter("give y0,x0,y1,x1 in micrometres", param_hint="--region") from None
    return (y0, x0, y1, x1)
