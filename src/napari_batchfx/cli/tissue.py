"""``tissue``: how much of a slide is tissue, and how much lies under pen, folds, blur and edges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_batchfx.cli._app import command, finish, note, out, wait
from napari_batchfx.errors import BatchfxError

if TYPE_CHECKING:
    from napari_batchfx.study import TissueChoice
    from napari_batchfx.study.tissue_maps import TissueMap, TissuePreview

__all__ = ["Icc", "LeaveOut", "register", "tissue_choice"]

LeaveOut = Annotated[
    list[str] | None,
    typer.Option(help="Artefact that counts as no tissue: pen, edge, fold, blur or none; pen otherwise."),
]

Icc = Annotated[
    str | None,
    typer.Option(
        help="Colour profile: off (as stored), auto (to sRGB where there is one), on (else refuse)."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app)(tissue)


def tissue_choice(threshold: float | None, leave_out: list[str] | None, **more: Any) -> TissueChoice:
    """The tissue settings that options come to."""
    from pydantic import ValidationError

    from napari_batchfx.study import TissueChoice

    given = {key: value for key, value in {"threshold": threshold, **more}.items() if value is not None}
    if leave_out:
        given["exclude"] = [name.lower() for name in leave_out if name.lower() != "none"]
    try:
        return TissueChoice(**given)
    except ValidationError as error:
        first = error.errors()[0]
        hint = "--leave-out" if first["loc"][:1] == ("exclude",) else "--tissue-threshold"
        raise typer.BadParameter(first["msg"], param_hint=hint) from error


def tissue(
    slides: Annotated[list[Path], typer.Argument(help="Slide files, or folders of DICOM slides.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    png: Annotated[
        Path | None,
        typer.Option(help="Folder for a small picture of each slide with tissue and artefacts outlined."),
    ] = None,
    mpp: Annotated[
        float | None, typer.Option(help="Micrometres a pixel, where files have none.", min=0.001)
    ] = None,
    tissue_threshold: Annotated[
        float | None, typer.Option(help="Optical density of tissue; found for each slide otherwise.")
    ] = None,
    fill_holes: Annotated[
        float | None, typer.Option(help="Holes below this area (um2) are filled; none otherwise.", min=0)
    ] = None,
    leave_out: LeaveOut = None,
    icc: Icc = None,
) -> None:
    """Say how much of each slide is tissue, and how much of it is pen, edge, fold or blur."""
    from napari_batchfx.slides import open_slide
    from napari_batchfx.study.tissue_maps import TissuePreview
    from napari_batchfx.tiles import ARTEFACTS

    choice = tissue_choice(tissue_threshold, leave_out, fill_holes_um2=fill_holes)
    if png is not None:
        png.mkdir(parents=True, exist_ok=True)
    problems: list[str] = []
    rows = []
    for path in slides:
        try:
            with wait(f"looking at {path.name}"), open_slide(path, mpp=mpp, icc=icc or "off") as slide:
                preview = TissuePreview(slide)
                found = preview.show(choice, kinds=ARTEFACTS)
                name = slide.name
            rows.append(_facts(name, found))
            if not as_json:
                out().print(f"{name}: {found.sentence()}", markup=False)
            if png is not None:
                target = png / f"{name}-tissue.png"
                _picture(preview, found, target)
                note(str(target))
        except BatchfxError as error:
            problems.append(str(error))
    if as_json:
        print(json.dumps(rows, ensure_ascii=False, indent=2))
    finish(problems, len(slides))


def _facts(name: str, found: TissueMap) -> dict[str, Any]:
    return {
        "slide": name,
        "tissue": round(found.share, 6),
        "threshold": found.threshold,
        "threshold_is_automatic": found.is_automatic,
        "artefacts": {kind: round(share, 6) for kind, share in found.artefact_shares.items()},
        "not_judged": list(found.not_judged),
        "mpp": list(found.mpp),
    }


def _picture(preview: TissuePreview, found: TissueMap, path: Path) -> None:
    """The overview with the outline of the tissue and of each artefact."""
    import numpy as np
    from PIL import Image, ImageColor
    from scipy.ndimage import binary_erosion

    from napari_batchfx.study.tissue_maps import TISSUE_COLOUR

    picture = preview.image.copy()
    layers = [(found.tissue > 0, TISSUE_COLOUR)]
    if found.artefacts is not None:
        layers += [
            (found.artefacts == number, colour) for number, colour in enumerate(found.colours, start=1)
        ]
    for mask, colour in layers:
        picture[mask & ~binary_erosion(mask)] = ImageColor.getrgb(colour)
    image = Image.fromarray(np.ascontiguousarray(picture))
    image.thumbnail((1600, 1600))
    image.save(path)
