"""``import``: a table from features that other programs computed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_batchfx.cli._app import AsJson, command, count, finish, note, print_json, wait
from napari_batchfx.errors import BatchfxError, FeatureError

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["register"]

Meta = Annotated[list[str] | None, typer.Option(help="One for all files, or one a file, in their order.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "import")(import_files)


def import_files(
    files: Annotated[
        list[Path], typer.Argument(help="Features of TRIDENT, CLAM or STAMP (.h5), or of others (.h5ad).")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Table to write (.h5ad).")],
    mpp: Annotated[
        float | None,
        typer.Option(
            help="Micrometres a level-0 pixel, where the slide isn't given or doesn't say.", min=0.001
        ),
    ] = None,
    slide: Annotated[
        list[Path] | None,
        typer.Option(help="Slide of a file, one a file in their order: gives pixel size and scanner."),
    ] = None,
    patches: Annotated[
        list[Path] | None,
        typer.Option(help="CLAM's file of patches, one a file in their order: has the size of tiles."),
    ] = None,
    site: Meta = None,
    scanner: Meta = None,
    stain: Meta = None,
    patient: Meta = None,
    encoder: Annotated[str, typer.Option(help="Name of the encoder, where the files don't say.")] = "",
    tile_px: Annotated[
        float | None,
        typer.Option(help="Side of a tile in level-0 pixels, where the files don't say.", min=1),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a table (.h5ad) of features that another program computed, to `probe` it or adapt it."""
    from napari_batchfx.features import SlideMeta, concat, import_features, write_h5ad
    from napari_batchfx.features.tables_io import check_writable

    meta = {"site": site, "scanner": scanner, "stain": stain, "patient": patient}
    for key, values in meta.items():
        if values and len(values) not in (1, len(files)):
            raise typer.BadParameter(
                f"give one for all, or one for each of the {count(len(files), 'file')}", param_hint=f"--{key}"
            )
    for key, paths in (("slide", slide), ("patches", patches)):
        if paths and len(paths) != len(files):
            raise typer.BadParameter(
                f"give one for each of the {count(len(files), 'file')}", param_hint=f"--{key}"
            )
    if not out.absolute().parent.is_dir():
        raise FeatureError(
            f"{out}: there is no folder {out.absolute().parent.name} to write to; make it first."
        )
    check_writable(out)
    problems: list[str] = []
    tables: list[AnnData] = []
    with wait("reading features"):
        for number, path in enumerate(files):
            own: dict[str, Any] = {
                key: values[number if len(values) > 1 else 0] for key, values in meta.items() if values
            }
            try:
                table = import_features(
                    path,
                    slide=slide[number] if slide else None,
                    mpp=mpp,
                    meta=SlideMeta("", **own),
                    encoder=encoder,
                    tile_px=tile_px,
                    patches=patches[number] if patches else None,
                )
            except BatchfxError as error:
                problems.append(str(error))
                continue
            tables.append(table)
            for name, about in table.uns["batchfx"]["slides"].items():
                for text in about["imported"]["notes"]:
                    note(f"Mind: {name}: {text}")
        if tables:
            stacked = concat(tables)
            write_h5ad(stacked, out)
    facts: dict[str, Any] = {"table": str(out) if tables else None, "problems": problems}
    if tables:
        slides = stacked.obs["slide"].nunique()
        sizes = (stacked.n_obs, slides, stacked.n_vars)
        note(f"{out}: {', '.join(map(count, sizes, ('tile', 'slide', 'feature')))}")
        facts |= dict(zip(("tiles", "slides", "features"), sizes, strict=True))
    if as_json:
        print_json(facts)
    finish(problems, len(files))
