"""``embed`` slides: into a table, into a study, here or on a cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_batchfx.cli._app import command, count, drive, finish, note, open_or_create
from napari_batchfx.cli._summary import Stopwatch, encode_facts, encode_summary
from napari_batchfx.cli.clusters import Local, Scheduler, on_cluster
from napari_batchfx.cli.probing import register as register_probe
from napari_batchfx.cli.staining import stain_method
from napari_batchfx.cli.studies import add_job, is_sheet
from napari_batchfx.cli.tissue import Icc, LeaveOut, tissue_choice
from napari_batchfx.errors import BatchfxError, StudyError

if TYPE_CHECKING:
    from napari_batchfx.study import SlideEntry

__all__ = ["register"]

Meta = Annotated[list[str] | None, typer.Option(help="One for all slides, or one a slide, in their order.")]


def register(app: typer.Typer) -> None:
    """Add the commands: this one, and ``probe`` after it."""
    command(app)(embed)
    register_probe(app)


def embed(
    slides: Annotated[
        list[Path],
        typer.Argument(
            help="Slide files, a CSV of slides (path, patient, site, ...), or a study (.batchfx)."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Table to write (.h5ad); not needed with a study.")
    ] = None,
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
    label: Meta = None,
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
    normalizer: Annotated[
        str | None, typer.Option(help="Stain method (macenko, reinhard, ...; see the docs); none otherwise.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Slide whose stain is the target; a built-in reference otherwise.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    batch_size: Annotated[int | None, typer.Option(help="Tiles a batch.", min=1)] = None,
    scheduler: Scheduler = None,
    local: Local = None,
    as_json: Annotated[bool, typer.Option("--json", help="The summary as JSON.")] = False,
) -> None:
    """Turn the tissue tiles of slides into vectors: a table (.h5ad) with a row a tile, or kept in a study."""
    from pydantic import ValidationError

    from napari_batchfx.features import write_h5ad
    from napari_batchfx.features.tables_io import check_writable
    from napari_batchfx.study import EncodeSettings
    from napari_batchfx.study.autosave import autosaving

    of_study = len(slides) == 1 and slides[0].suffix == ".batchfx"
    if of_study and study is not None:
        raise typer.BadParameter("the study is given already", param_hint="--study")
    if of_study:
        study, slides = slides[0], []
    if out is None and study is None:
        raise typer.BadParameter(
            "give a table to write, or a study that keeps the features", param_hint="--out"
        )
    if scheduler is not None and study is None:
        raise typer.BadParameter("the workers write into a study; give one", param_hint="--study")

    normalizer = stain_method(normalizer)
    meta = {"site": site, "scanner": scanner, "stain": stain, "patient": patient, "label": label}
    sheets = any(is_sheet(path) for path in slides)
    for key, values in meta.items():
        if values and (sheets or not slides):
            raise typer.BadParameter(f"the table of slides has a column {key}", param_hint=f"--{key}")
        if values and len(values) not in (1, len(slides)):
            raise typer.BadParameter(
                f"give one for all, or one for each of the {len(slides)} slides", param_hint=f"--{key}"
            )
    if out is not None:
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
            normalizer=None if normalizer == "none" else normalizer,
            batch_size=batch_size,
        )
    except ValidationError as error:
        raise typer.BadParameter(error.errors()[0]["msg"]) from error
    asked = tissue_threshold is not None or leave_out
    selection = tissue_choice(tissue_threshold, leave_out) if asked else None
    problems: list[str] = []
    watch = Stopwatch()
    facts: dict[str, Any] = {}
    if of_study and study is not None and not study.exists():
        raise StudyError(f"{study.name}: there is no such study; `add` slides to make one.")
    with open_or_create(study) as work:
        if study is not None:
            work.claim()
        entries: list[SlideEntry] = list(work.slides) if of_study else []
        if sheets:
            before = len(work.slides)
            added = drive(autosaving(work, add_job(work, slides, mpp=mpp, icc=icc)))
            problems += added.problems
            entries = [work.slide(name) for name in added.said]
            note(f"{count(len(entries), 'slide')}, {len(work.slides) - before:,} of them new")
            slides = []
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
                work.tidy(entry)
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
        n_asked = len(entries) + len(problems)
        if entries:
            with on_cluster(work, scheduler, local):
                done = drive(autosaving(work, work.encode_job(None if of_study else entries)))
            problems += [str(problem) for problem in done.problems]
            for said in done.damage_said():
                note(said)
            facts = encode_facts(done, watch.seconds)
            if done.slides and out is not None:
                table = work.table("tissue", done.slides)
                write_h5ad(table, out)
                kept = f" ({done.kept:,} of them were there already)" if done.kept else ""
                size = ", ".join(
                    map(count, (table.n_obs, len(done.slides), table.n_vars), ("tile", "slide", "feature"))
                )
                note(f"{out}: {size}{kept}")
                facts["table"] = str(out)
            if study is not None:
                work.save()
            if done.slides:
                note(encode_summary(done, watch.seconds))
            encoder_used = work.loaded_encoder()
            for warning in encoder_used.warnings if encoder_used is not None else ():
                note(f"Mind: {warning}")
    if as_json:
        print(json.dumps(facts | {"problems": problems}, ensure_ascii=False, indent=2))
    finish(problems, n_asked)
