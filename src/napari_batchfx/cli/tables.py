"""``embed`` slides into a table, ``probe`` a table or a study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from napari_batchfx.cli._app import command, count, drive, finish, note, open_or_create, out
from napari_batchfx.cli.tissue import Icc, LeaveOut, tissue_choice
from napari_batchfx.errors import BatchfxError, ProbeError, StudyError

if TYPE_CHECKING:
    from napari_batchfx.probe import SiteProbeResult

__all__ = ["register"]

Meta = Annotated[list[str] | None, typer.Option(help="One for all slides, or one a slide, in their order.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app)(embed)
    command(app)(probe)


def embed(
    slides: Annotated[list[Path], typer.Argument(help="Slide files.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Table to write (.h5ad).")],
    encoder: Annotated[
        str, typer.Option(help="Encoder; `napari-batchfx doctor` lists them.")
    ] = "colour-statistics",
    study: Annotated[
        Path | None,
        typer.Option(help="Study that keeps the features; an interrupted run goes on from there."),
    ] = None,
    site: Meta = None,
    scanner: Meta = None,
    stain: Meta = None,
    patient: Meta = None,
    mpp: Annotated[
        float | None,
        typer.Option(help="Micrometres a pixel of the slides, where files have none.", min=0.001),
    ] = None,
    icc: Icc = None,
    tile_px: Annotated[
        int | None, typer.Option(help="Tile side in pixels; the encoder's own otherwise.", min=16)
    ] = None,
    tile_mpp: Annotated[
        float | None,
        typer.Option(help="Micrometres a pixel of tiles; the encoder's own otherwise.", min=0.01),
    ] = None,
    min_tissue: Annotated[float, typer.Option(help="Least share of tissue in a tile.", min=0, max=1)] = 0.25,
    tissue_threshold: Annotated[
        float | None, typer.Option(help="Optical density of tissue; found for each slide otherwise.")
    ] = None,
    leave_out: LeaveOut = None,
    normalizer: Annotated[str | None, typer.Option(help="macenko or reinhard; none otherwise.")] = None,
    target: Annotated[
        str | None, typer.Option(help="Slide whose stain is the target; a built-in reference otherwise.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    batch_size: Annotated[int | None, typer.Option(help="Tiles a batch.", min=1)] = None,
) -> None:
    """Turn the tissue tiles of slides into vectors, one row a tile, and write them as a table (.h5ad)."""
    from pydantic import ValidationError

    from napari_batchfx.features import write_h5ad
    from napari_batchfx.features.tables_io import check_writable
    from napari_batchfx.study import EncodeSettings

    if normalizer not in (None, "none", "macenko", "reinhard"):
        raise typer.BadParameter("choose macenko, reinhard or none", param_hint="--normalizer")
    meta = {"site": site, "scanner": scanner, "stain": stain, "patient": patient}
    for key, values in meta.items():
        if values and len(values) not in (1, len(slides)):
            raise typer.BadParameter(
                f"give one for all, or one for each of the {len(slides)} slides", param_hint=f"--{key}"
            )
    if not out.absolute().parent.is_dir():
        raise StudyError(
            f"{out}: there is no folder {out.absolute().parent.name} to write to; make it first."
        )
    if out.suffix.lower() != ".h5ad":
        raise typer.BadParameter("the table is an .h5ad file; end its name so", param_hint="--out")
    check_writable(out)  # hours of encoding should not end in a table that can't be written
    try:
        choice = EncodeSettings(
            encoder=encoder,
            device=device,
            size_px=tile_px,
            mpp=tile_mpp,
            min_tissue=min_tissue,
            normalizer=None
            if normalizer == "none"
            else cast("Literal['macenko', 'reinhard'] | None", normalizer),
            batch_size=batch_size,
        )
    except ValidationError as error:
        raise typer.BadParameter(error.errors()[0]["msg"]) from error
    asked = tissue_threshold is not None or leave_out
    selection = tissue_choice(tissue_threshold, leave_out) if asked else None
    problems: list[str] = []
    with open_or_create(study) as work:
        entries = []
        for number, path in enumerate(slides):
            own: dict[str, Any] = {
                key: values[number if len(values) > 1 else 0] for key, values in meta.items() if values
            }
            try:
                entry = work.add_slide(path, mpp=mpp, icc=icc or "off")
                if entry in entries:
                    note(f"{path.name} is the same slide as {entry.name}; it is encoded once.")
                    continue
                if mpp is not None and entry.mpp_given != (mpp, mpp):
                    own["mpp"] = mpp
                if icc is not None and entry.icc != icc:
                    own["icc"] = icc
                entries.append(work.update_slide(entry, **own))
            except BatchfxError as error:
                problems.append(str(error))
        if target is not None:
            aims = [entry for entry in entries if entry.path == Path(target).absolute()]
            choice.target = aims[0].name if aims else target
        work.settings.encode = choice
        if selection is not None:
            work.settings.tissue = selection
        if study is not None:
            work.save()
        if entries:
            done = drive(work.encode_job(entries))
            problems += [str(problem) for problem in done.problems]
            for said in done.damage_said():
                note(said)
            if done.slides:
                table = work.table("tissue", done.slides)
                write_h5ad(table, out)
                kept = f" ({done.kept:,} of them were there already)" if done.kept else ""
                size = ", ".join(
                    map(count, (table.n_obs, len(done.slides), table.n_vars), ("tile", "slide", "feature"))
                )
                note(f"{out}: {size}{kept}")
            for warning in work.encoder().warnings:
                note(f"Mind: {warning}")
    finish(problems, len(slides))


def probe(
    source: Annotated[Path, typer.Argument(help="A table (.h5ad) or a study (.batchfx).")],
    batch: Annotated[
        str | None, typer.Option(help="What to recognise: site, scanner, stain, slide; scanner otherwise.")
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="What must not be split: patient, slide; patient otherwise.")
    ] = None,
    permutations: Annotated[
        int | None, typer.Option(help="Permutation baselines; 19 otherwise.", min=0)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed; 0 otherwise.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Say how well a simple classifier recognises the scanner (or site) from one tile."""
    given: dict[str, Any] = {"batch": batch, "group": group, "permutations": permutations, "seed": seed}
    given = {key: value for key, value in given.items() if value is not None}
    if source.suffix == ".batchfx" or (not source.is_file() and source.suffix != ".h5ad"):
        result = _probe_study(source, given)
    else:
        from napari_batchfx.features import read_h5ad
        from napari_batchfx.probe import site_probe_job

        table = read_h5ad(source)
        for key in ("batch", "group"):
            if key in given and given[key] not in table.obs:
                texts = table.obs.select_dtypes(exclude=["number", "bool"])
                columns = texts.columns.drop("pair", errors="ignore")
                raise ProbeError(
                    f"{source.name}: has no column {given[key]}; give --{key} one of "
                    f"{', '.join(map(str, columns))}."
                )
        result = drive(site_probe_job(table, **{"batch": "scanner", **given}))
    facts = probe_facts(result)
    if as_json:
        print(json.dumps(facts, ensure_ascii=False, indent=2))
    else:
        _print_probe(facts)


def _probe_study(path: Path, given: dict[str, Any]) -> SiteProbeResult:
    from pydantic import ValidationError

    from napari_batchfx.study import Study

    with Study.open(path) as study:
        for key, value in given.items():
            try:
                setattr(study.settings.probe, key, value)
            except ValidationError as error:
                raise typer.BadParameter(error.errors()[0]["msg"], param_hint=f"--{key}") from error
        try:
            return drive(study.probe_job()).result
        finally:
            for problem in study.problems:
                note(str(problem))


def probe_facts(result: SiteProbeResult) -> dict[str, Any]:
    """What a probe found, without its one value a tile."""
    per_tile = ("confidence", "proba", "folds")
    facts = {key: value for key, value in result.to_dict().items() if key not in per_tile}
    return {"verdict": result.verdict, **facts}


def _print_probe(facts: dict[str, Any]) -> None:
    from rich.table import Table

    console = out()
    console.print(facts["verdict"], markup=False)
    low, high = facts["ci"]
    p = facts["permutation_p"]
    numbers = f"balanced accuracy {_number(facts['balanced_accuracy'])} ({_number(low)}-{_number(high)})"
    numbers += f", chance {_number(facts['chance'])}"
    numbers += f", permutation p {_number(p)}" if p is not None else ""
    console.print(f"{numbers}, grouped by {facts['grouped_by']}", markup=False)
    table = Table(title=f"true {facts['batch']} (rows) taken for (columns), tiles")
    table.add_column("")
    for name in facts["batches"]:
        table.add_column(str(name), justify="right")
    for name, row in zip(facts["batches"], facts["confusion"], strict=True):
        table.add_row(str(name), *(f"{count:,}" for count in row))
    console.print(table)
    for warning in facts["warnings"]:
        console.print(f"Mind: {warning}", markup=False)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
