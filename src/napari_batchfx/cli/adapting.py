"""``adapt`` a study's predictions with its control samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_batchfx.cli._app import command, drive, note, out

if TYPE_CHECKING:
    from rich.table import Table

    from napari_batchfx.study import AdaptOutcome

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @command(app)
    def adapt(
        study: Annotated[
            Path, typer.Argument(help="A study (.batchfx) with encoded tiles, classes and controls.")
        ],
        method: Annotated[
            str | None,
            typer.Option(help="A correction (`methods` lists them), or all of them side by side."),
        ] = None,
        head: Annotated[
            str | None,
            typer.Option(
                help="linear, or a classifier that adapts by itself: mlp, dann, adabn, armbn, csarmbn."
            ),
        ] = None,
        batch: Annotated[
            str | None, typer.Option(help="What to correct for; as in the study otherwise.")
        ] = None,
        train_on: Annotated[
            list[str] | None, typer.Option(help="Slides, or values of the batch, that the model learns from.")
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
        _list: Annotated[
            bool,
            typer.Option(
                "--list", help="Say which corrections there are.", callback=_show_methods, is_eager=True
            ),
        ] = False,
    ) -> None:
        """Correct a study's predictions on its control samples and say what changes."""
        from pydantic import ValidationError

        from napari_batchfx.study import Study

        every = method == "all"
        given = {
            "method": None if every else method,
            "head": head,
            "batch": batch,
            "train_on": train_on or None,
        }
        with Study.open(study) as work:
            for key, value in given.items():
                try:
                    if value is not None:
                        setattr(work.settings.adapt, key, value)
                except ValidationError as error:
                    option = f"--{key.replace('_', '-')}"
                    raise typer.BadParameter(error.errors()[0]["msg"], param_hint=option) from error
            try:
                outcomes = drive(work.adapt_all_job()) if every else [drive(work.adapt_job())]
                _print_outcomes(outcomes, every=every, as_json=as_json)
                # After the results: what was computed is said even where it can't be kept.
                work.save()
            finally:
                for problem in work.problems:
                    note(str(problem))


def _show_methods(on: bool) -> None:
    if not on:
        return
    from rich.table import Table

    from napari_batchfx.adapt.methods import REGISTRY

    table = Table("method", "needs", "what it does")
    for one in REGISTRY.values():
        needs = f"{one.needs}; baseline, offline" if one.is_offline else one.needs
        table.add_row(one.id, needs, one.sentence)
    out().print(table)
    raise typer.Exit


def _print_outcomes(outcomes: list[AdaptOutcome], *, every: bool, as_json: bool) -> None:
    outcome, console = outcomes[-1], out()
    if as_json:
        facts = {_method(one): _facts(one) for one in outcomes} if every else _facts(outcome)
        print(json.dumps(facts, ensure_ascii=False, indent=2))
        return
    if every:
        console.print(_side_by_side(outcomes))
        console.print(f"{_method(outcome)}: ", markup=False, end="")
    console.print(outcome.sentence, markup=False)
    for warning in outcome.warnings:
        console.print(f"Mind: {warning}", markup=False)


def _method(outcome: AdaptOutcome) -> str:
    settings = outcome.computed_from["settings"]
    return str(settings.get("head") or settings["method"])


def _facts(outcome: AdaptOutcome) -> dict[str, Any]:
    return {"sentence": outcome.sentence, "warnings": outcome.warnings, **outcome.numbers}


def _side_by_side(outcomes: list[AdaptOutcome]) -> Table:
    """One line a correction: accuracy where classes are known, and what it costs in biology."""
    from rich.table import Table

    table = Table("method", "balanced accuracy before", "after", "changed", "class structure", "controls")
    for one in outcomes:
        comparison, controls = one.numbers["comparison"], one.numbers["diagnostics"]
        kept = [one.numbers[f"retention_{when}"]["value"] for when in ("before", "after")]
        table.add_row(
            _method(one),
            _estimate(comparison["balanced_accuracy_before"]),
            _estimate(comparison["balanced_accuracy_after"]),
            f"{comparison['n_changed']:,} of {comparison['n']:,}",
            " to ".join("-" if value is None else f"{value:.2f}" for value in kept),
            controls["verdict"],
        )
    return table


def _estimate(found: dict[str, Any] | None) -> str:
    if found is None or found["value"] is None:
        return "-"
    low, high = found["ci"]
    interval = "" if low is None or high is None else f" ({low:.2f}-{high:.2f})"
    return f"{found['value']:.2f}{interval}"
