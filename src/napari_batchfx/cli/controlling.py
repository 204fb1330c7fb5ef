"""``controls``: suggest a study's control samples, judge them, write and read them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_batchfx.cli._app import PARTIAL, PROBLEM, AsJson, command, count, drive, note, out, print_json

if TYPE_CHECKING:
    from napari_batchfx.adapt import ControlDiagnostics
    from napari_batchfx.study import Study

__all__ = ["register"]

StudyPath = Annotated[Path, typer.Argument(help="A study (.batchfx).")]
Batch = Annotated[str | None, typer.Option(help="What to correct for; as in the study otherwise.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Control samples: suggest, judge, export, import.", no_args_is_help=True)

    @command(group, "suggest")
    def suggest(
        study: StudyPath,
        per_slide: Annotated[int, typer.Option("--n", help="Most tiles a slide.", min=1, max=500)] = 50,
        tissue_class: Annotated[
            str | None, typer.Option("--class", help="Only tiles drawn as this class.")
        ] = None,
        pairs: Annotated[
            bool, typer.Option("--pairs", help="Only the same tissue on aligned rescans.")
        ] = False,
        batch: Batch = None,
        seed: Annotated[int, typer.Option(help="For slides with very many tiles.")] = 0,
        dry: Annotated[
            bool, typer.Option("--dry", help="Say what would be taken, and change nothing.")
        ] = False,
        as_json: AsJson = False,
    ) -> None:
        """Suggest tissue that is alike on every batch apart from its colour, with a reason a tile."""
        from napari_batchfx.study import Study
        from napari_batchfx.study.written import record_controls

        with Study.open(study) as work:
            _set_batch(work, batch)
            found = drive(
                work.suggest_controls_job(
                    per_slide=per_slide, tissue_class=tissue_class, pairs=pairs, seed=seed
                )
            )
            if not dry:
                work.take_suggestion(found)
                record_controls(work)
                work.save()
            if as_json:
                tiles = [vars(tile) for tile in found.tiles]
                facts = {"sentence": found.sentence, "warnings": found.warnings, "tiles": tiles}
                print(json.dumps(facts, ensure_ascii=False, indent=2))
            else:
                out().print(found.sentence, markup=False)
                for slide, n in Counter(tile.slide for tile in found.tiles).items():
                    example = next(tile.reason for tile in found.tiles if tile.slide == slide)
                    out().print(f"  {slide}: {count(n, 'tile')}, the first: {example}", markup=False)
                for warning in found.warnings:
                    out().print(f"Mind: {warning}", markup=False)
            _notes(work)

    @command(group, "judge")
    def judge(study: StudyPath, batch: Batch = None, as_json: AsJson = False) -> None:
        """Say whether a study's control samples can carry a correction, and why."""
        from napari_batchfx.study import Study

        with Study.open(study) as work:
            _set_batch(work, batch)
            found = drive(work.diagnose_controls_job())
            work.save()
            if as_json:
                print(json.dumps(found.to_dict(), ensure_ascii=False, indent=2))
            else:
                _print_judgement(found)
            _notes(work)

    @command(group, "export")
    def export(
        study: StudyPath,
        out_file: Annotated[Path, typer.Argument(help="File to write: .csv or .geojson.")],
        identifiers: Annotated[bool, typer.Option("--identifiers", help="With the names of slides.")] = False,
        as_json: AsJson = False,
    ) -> None:
        """Write the control tiles that were suggested or clicked; drawn regions are kept as regions."""
        from napari_batchfx.study import Study

        with Study.open(study) as work:
            written = work.export_controls(out_file, with_identifiers=identifiers)
            n = len(work.controls)
        if as_json:
            print_json({"file": str(written), "tiles": n})
        else:
            out().print(f"{written}: {count(n, 'tile')}", markup=False)

    @command(group, "import")
    def import_(
        study: StudyPath,
        file: Annotated[Path, typer.Argument(help="File that `controls export` wrote.")],
        as_json: AsJson = False,
    ) -> None:
        """Put the control tiles of a file into a study."""
        from napari_batchfx.study import Study
        from napari_batchfx.study.written import record_controls

        with Study.open(study) as work:
            before = len(work.controls)
            left = work.import_controls(file)
            record_controls(work)
            work.save()
            n = len(work.controls)
        if as_json:
            print_json({"tiles": n, "new": n - before, "problems": left})
        else:
            out().print(f"{count(n, 'control tile')}, {n - before:,} of them new", markup=False)
        for said in left:
            note(said)
        if left:
            raise typer.Exit(PARTIAL if n > before else PROBLEM)

    app.add_typer(group, name="controls")


def _set_batch(work: Study, batch: str | None) -> None:
    from pydantic import ValidationError

    try:
        if batch is not None:
            work.settings.adapt.batch = batch  # type: ignore[assignment]
    except ValidationError as error:
        raise typer.BadParameter(error.errors()[0]["msg"], param_hint="--batch") from error


def _notes(work: Study) -> None:
    for problem in work.problems:
        note(str(problem))


def _print_judgement(found: ControlDiagnostics) -> None:
    from rich.table import Table

    out().print(found.sentence, markup=False)
    table = Table("number", "value")
    for name, value in found.rows():
        table.add_row(name, value)
    out().print(table)
