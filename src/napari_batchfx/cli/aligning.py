"""``align``: lay slides of a study, or two files, on each other."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_batchfx.cli._app import command, drive, finish, note, out
from napari_batchfx.errors import StudyError

if TYPE_CHECKING:
    from napari_batchfx.slides import Alignment
    from napari_batchfx.study import Study

__all__ = ["register"]


class Model(StrEnum):
    """What is fitted."""

    similarity = "similarity"
    translation = "translation"
    affine = "affine"


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app)
    def align(
        target: Annotated[Path, typer.Argument(help="A study (.batchfx), or the slide to lay another on.")],
        moved: Annotated[Path | None, typer.Argument(help="The other slide, where the first is one.")] = None,
        reference: Annotated[
            str | None, typer.Option(help="Study: the slide that the others are laid on; else its first.")
        ] = None,
        slide: Annotated[
            list[str] | None, typer.Option(help="Study: only this slide; can be given again.")
        ] = None,
        model: Annotated[Model, typer.Option(help="What is fitted.")] = Model.similarity,
        mirror: Annotated[
            bool, typer.Option("--mirror/--no-mirror", help="Whether a slide may lie upside down.")
        ] = True,
        from_file: Annotated[
            Path | None,
            typer.Option("--from", help="Read it (own JSON, matrix, elastix, VALIS) instead of finding it."),
        ] = None,
        save: Annotated[Path | None, typer.Option(help="Two slides: write what was found as JSON.")] = None,
        undo: Annotated[bool, typer.Option("--undo", help="Study: take the last alignment back.")] = False,
        as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    ) -> None:
        """Find how slides of the same tissue lie on each other: any turn, mirrored, scaled up to 10 %."""
        if moved is not None:
            if undo or reference or slide:
                raise typer.BadParameter("--reference, --slide and --undo belong to a study.")
            _two(target, moved, model.value, mirror, from_file, save, as_json)
        elif save is not None:
            raise typer.BadParameter("--save belongs to two slides; a study keeps its alignments.")
        else:
            _study(target, reference, slide, model.value, mirror, from_file, undo, as_json)


def _two(
    first: Path,
    second: Path,
    model: str,
    mirror: bool,
    from_file: Path | None,
    save: Path | None,
    as_json: bool,
) -> None:
    from napari_batchfx.slides import open_slide, read_alignment, register_job, write_alignment

    with open_slide(first) as a, open_slide(second) as b:
        if from_file is not None:
            found = read_alignment(from_file, a, b)
        else:
            found = drive(register_job(a, b, model=model, mirror=mirror))  # type: ignore[arg-type]
        name = b.name
    if save is not None:
        if found.verdict == "failed":
            _say({name: found}, as_json)
            finish([f"{save.name}: not written, no alignment was found."], 1)
        write_alignment(save, found)
    _say({name: found}, as_json)
    finish([] if found.verdict != "failed" else [f"{name}: not aligned."], 1)


def _study(
    path: Path,
    reference: str | None,
    slides: list[str] | None,
    model: str,
    mirror: bool,
    from_file: Path | None,
    undo: bool,
    as_json: bool,
) -> None:
    from napari_batchfx.slides import read_alignment
    from napari_batchfx.study import Study
    from napari_batchfx.study.alignment import align_job, set_alignment

    with Study.open(path) as work:
        if undo:
            _undo(work, slides)
            return
        if len(work.slides) < 2:
            raise StudyError(f"{work.name}: two slides or more are needed to align.")
        base = work.slide(reference) if reference else work.slides[0]
        asked = list(dict.fromkeys(slides or [entry.name for entry in work.slides if entry is not base]))
        if from_file is not None:
            if not slides or len(slides) != 1:
                raise typer.BadParameter("--from is about one slide; name it with --slide.")
            entry = work.slide(slides[0])
            found = {entry.name: read_alignment(from_file, work.open_slide(base), work.open_slide(entry))}
            set_alignment(work, base, entry, found[entry.name])
        else:
            found = drive(align_job(work, base, slides or None, model, mirror=mirror))  # type: ignore[arg-type]
        work.save()
        _say(found, as_json)
        left_out = set(asked) - set(found) - {base.name}
        said = {problem.subject: str(problem) for problem in work.problems if problem.subject in left_out}
        problems = list(said.values())
        problems += [f"{name}: not aligned." for name, one in found.items() if one.verdict == "failed"]
    finish(problems, len(found) + len(left_out))


def _undo(work: Study, slides: list[str] | None) -> None:
    from napari_batchfx.study.alignment import undo_alignments

    entries = [work.slide(name) for name in dict.fromkeys(slides)] if slides else list(work.slides)
    undone, refused = undo_alignments(work, entries)
    work.save()
    if not undone and not refused:
        note(f"{work.name}: there is no alignment to take back.")
    for entry in undone:
        out().print(f"{entry.name}: as before its last alignment", markup=False)
    finish([str(error) for error in refused], len(undone) + len(refused))


def _say(found: dict[str, Alignment], as_json: bool) -> None:
    if as_json:
        plain = {
            name: one.to_dict()
            | {
                "sentence": one.sentence(),
                "rotation_deg": one.rotation_deg,
                "scale": one.scale,
                "is_mirrored": one.is_mirrored,
            }
            for name, one in found.items()
        }
        print(json.dumps(plain, ensure_ascii=False, indent=2))
        return
    for name, one in found.items():
        out().print(f"{name}: {one.sentence()}", markup=False)
