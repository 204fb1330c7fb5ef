"""``run`` what was recorded in a study again, here or on a cluster; ``steps`` lists it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_batchfx.cli._app import PARTIAL, PROBLEM, command, drive, note, out
from napari_batchfx.cli._summary import Stopwatch, encode_facts, encode_summary
from napari_batchfx.cli.clusters import Local, Scheduler, on_cluster
from napari_batchfx.errors import StudyError

if TYPE_CHECKING:
    from rich.console import Console

    from napari_batchfx.study import RunOutcome, Step, Study

__all__ = ["register"]

StudyPath = Annotated[Path, typer.Argument(help="A study (.batchfx).")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app)(run)
    command(app)(steps)


def run(
    study: StudyPath,
    report: Annotated[Path | None, typer.Option(help="Also write the report (.html).")] = None,
    identifiers: Annotated[
        bool, typer.Option("--identifiers", help="Names of slides and patients in the report.")
    ] = False,
    step: Annotated[
        list[int] | None, typer.Option(help="Only this step, by its number in `steps`.", min=1)
    ] = None,
    do: Annotated[
        str | None, typer.Option(help="One step that isn't recorded yet: encode, probe, adapt, ...")
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option("--set", help="With --do: SECTION.KEY=VALUE, such as probe.batch=site; else defaults."),
    ] = None,
    slide: Annotated[list[str] | None, typer.Option(help="With --do: only this slide, by its name.")] = None,
    tiles: Annotated[
        list[str] | None, typer.Option(help="With --do: NAME=ROW:FIRST-LAST, tiles of a slide.")
    ] = None,
    scheduler: Scheduler = None,
    local: Local = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Do again what was done in the viewer: every recorded step, then what the settings ask for beyond it."""
    from napari_batchfx.study import Study
    from napari_batchfx.study.autosave import autosaving

    if do is None and (given or slide or tiles):
        raise typer.BadParameter("only with --do", param_hint="--set, --slide, --tiles")
    if do is not None and step:
        raise typer.BadParameter("choose --step or --do")
    console, watch = out(), Stopwatch()
    with Study.open(study) as work:
        problems = [str(problem) for problem in work.problems]
        asked = _asked(work, step, do, given, slide, tiles)
        with on_cluster(work, scheduler, local):
            done = drive(autosaving(work, work.run_job(asked)))
        problems += [str(problem) for problem in done.problems]
        if as_json:
            print(json.dumps(_facts(done, watch.seconds, problems), ensure_ascii=False, indent=2))
        else:
            _print(console, work, done, watch.seconds)
        is_kept = True
        # After the results: what was computed is said even where it can't be kept.
        try:
            work.save()
        except StudyError as error:
            problems.append(str(error))
            is_kept = False
        if report is not None:
            written = work.report(report, with_identifiers=identifiers)
            if not as_json:
                console.print(f"report: {written}", markup=False)
        problems += [str(problem) for problem in work.problems]
    for problem in dict.fromkeys(problems):
        note(problem)
    if problems:
        # a report of what was there before, or the choice of controls read again, is nothing that was done
        achieved = any(
            outcome.slides if one.kind == "encode" else one.kind not in ("controls", "report", "export")
            for one, outcome in done.done
        )
        raise typer.Exit(PARTIAL if achieved and is_kept else PROBLEM)


def steps(
    study: StudyPath,
    as_python: Annotated[bool, typer.Option("--python", help="As Python that does them.")] = False,
    commands: Annotated[bool, typer.Option("--commands", help="As command lines that do them.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List what was done on a study, step by step; what `run` would add to it is marked."""
    from napari_batchfx.study import Study

    if as_python + commands + as_json > 1:
        raise typer.BadParameter("choose --python, --commands or --json")
    console = out()
    with Study.open(study) as work:
        recorded = {step.question() for step in work.steps}
        planned = [*work.steps, *(step for step in work.plan() if step.question() not in recorded)]
        if as_json:
            rows = [one.model_dump(mode="json") for one in planned]
            print(json.dumps(rows, ensure_ascii=False, indent=2))
            return
        for number, one in enumerate(planned, start=1):
            if as_python:
                print(f"# {number}. {one.sentence()}".replace("\n", " "))
                print(one.as_python(work.folder))
            elif commands:
                print(one.as_command(work.folder))
            else:
                new = "" if one.question() in recorded else " (not done yet)"
                console.print(f"{number}. {one.sentence()}{new}", markup=False)
        if not planned:
            console.print(f"{work.name}: nothing was done yet.", markup=False)


def _asked(
    work: Study,
    numbers: Sequence[int] | None,
    do: str | None,
    given: Sequence[str] | None,
    slides: Sequence[str] | None,
    tiles: Sequence[str] | None,
) -> list[Step] | None:
    """The steps that the options name; None = all."""
    if numbers:
        missing = [number for number in numbers if number > len(work.steps)]
        if missing:
            raise StudyError(f"{work.name}: there is no step {missing[0]}; `steps` lists {len(work.steps)}.")
        return [work.steps[number - 1] for number in numbers]
    if do is None:
        return None
    from pydantic import ValidationError

    from napari_batchfx.study import Selection, Settings, Step
    from napari_batchfx.study.step import step_kind, step_kinds
    from napari_batchfx.study.step_text import value_of_text

    kind = step_kind(do)
    if kind is None:
        names = ", ".join(known.name for known in step_kinds())
        raise typer.BadParameter(f"choose of {names}", param_hint="--do")
    settings: dict[str, dict[str, Any]] = {section: {} for section in kind.sections}
    options: dict[str, Any] = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        section, dot, name = key.partition(".")
        if not equals or (dot and section not in settings):
            raise typer.BadParameter(
                f"{text[:60]!r}: write SECTION.KEY=VALUE with one of {', '.join(settings)}",
                param_hint="--set",
            )
        if dot:
            settings[section][name] = value_of_text(value)
        else:
            options[key] = value_of_text(value)
    parts = dict(text.split("=", 1) for text in tiles or () if "=" in text)
    if len(parts) < len(tiles or ()):
        raise typer.BadParameter("write NAME=ROW:FIRST-LAST", param_hint="--tiles")
    try:
        full = Settings.model_validate(settings).model_dump(mode="json", include=set(kind.sections))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise typer.BadParameter(f"{where}: {first['msg']}", param_hint="--set") from error
    selection = Selection(slides=sorted(slides or ()), tiles=parts)
    for name in parts:
        selection.cells(name)  # says what is wrong with it before anything is done
    return [Step(kind=do, settings=full, options=options, selection=selection)]


def _facts(done: RunOutcome, seconds: float, problems: Sequence[str]) -> dict[str, Any]:
    from napari_batchfx.cli.probing import probe_facts

    facts: dict[str, Any] = {
        "encode": encode_facts(done.encode, seconds),
        "probe": None if done.probe is None else probe_facts(done.probe.result),
        "adapt": None
        if done.adapt is None
        else {"sentence": done.adapt.sentence, "warnings": done.adapt.warnings, **done.adapt.numbers},
        "steps": [step.model_dump(mode="json", include={"kind", "found", "when"}) for step, _ in done.done],
        "left_out": list(done.skipped),
        "problems": list(dict.fromkeys(problems)),
        "seconds": round(seconds, 3),
    }
    return facts


def _print(console: Console, work: Study, done: RunOutcome, seconds: float) -> None:
    from napari_batchfx.study.step import step_kind

    console.print(encode_summary(done.encode, seconds), markup=False)
    for said in done.encode.damage_said():
        console.print(said, markup=False)
    for step, outcome in done.done:
        if step.kind == "probe":
            console.print(f"probe: {outcome.result.verdict}", markup=False)
            _mind(console, outcome.result.warnings)
        elif step.kind == "adapt":
            console.print(f"adapt: {outcome.sentence}", markup=False)
            console.print(f"controls: {outcome.numbers['diagnostics']['verdict']}", markup=False)
            _mind(console, outcome.warnings)
        elif step.kind != "encode":
            kind = step_kind(step.kind)
            said = "" if kind is None else kind.said(outcome)
            console.print(f"{step.title}: {said or 'done'}", markup=False)
    for what in done.skipped:
        console.print(f"left out: {what}", markup=False)
    encoder = work.loaded_encoder()
    _mind(console, encoder.warnings if encoder is not None else ())


def _mind(console: Console, warnings: Sequence[str]) -> None:
    for warning in warnings:
        console.print(f"  Mind: {warning}", markup=False)
