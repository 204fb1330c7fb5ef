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
        every: Annotated[
            bool, typer.Option("--all", help="Every correction and classifier side by side, as in the dock.")
        ] = False,
        load: Annotated[
            Path | None,
            typer.Option(help="Apply a saved classifier that adapts by itself, instead of training one."),
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

        from napari_batchfx.adapt import OFFERED_HEADS
        from napari_batchfx.study import Study

        if load is not None and every:
            raise typer.BadParameter("a saved classifier is one; leave out --all", param_hint="--load")
        # --method all: every correction; --all: the classifiers that adapt by themselves, too
        asked, every = every, every or method == "all"
        given = {
            "method": None if method == "all" else method,
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
                heads = list(OFFERED_HEADS) if asked else []
                if load is not None:
                    outcomes = [drive(work.apply_head_job(load))]
                elif every:
                    outcomes = drive(work.adapt_all_job(heads=heads))
                else:
                    outcomes = [drive(work.adapt_job())]
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
    head = settings.get("head")
    return str(head if head and head != "linear" else settings["method"])


def _facts(outcome: AdaptOutcome) -> dict[str, Any]:
    return {"sentence": outcome.sentence, "warnings": outcome.warnings, **outcome.numbers}


def _side_by_side(outcomes: list[AdaptOutcome]) -> Table:
    """One line a correction: accuracy where classes are known, and what it costs in biology."""
    from rich.table import Table

    table = Table(
        "method",
        "accuracy in",
        "out before",
        "out after",
        "AUC",
        "ECE",
        "probe left",
        "class structure",
        "changed",
        "controls",
        caption="Balanced accuracy: every class counts the same. In: held-out tiles of the slides it learns "
        "from; out: the other slides. AUC and ECE are those on the other slides, before to after.",
    )
    for one in outcomes:
        comparison, controls = one.numbers["comparison"], one.numbers["diagnostics"]
        kept = [one.numbers[f"retention_{when}"]["value"] for when in ("before", "after")]
        table.add_row(
            _method(one),
            _estimate(comparison.get("inside_after")),
            _estimate(comparison["balanced_accuracy_before"]),
            _estimate(comparison["balanced_accuracy_after"]),
            *(
                _pair([comparison.get(f"{key}_{when}") for when in ("before", "after")])
                for key in ("auc", "ece")
            ),
            _pair([controls.get("probe_after")]),
            _pair(kept),
            f"{comparison['n_changed']:,} of {comparison['n']:,}",
            controls["verdict"],
        )
    return table


def _pair(values: list[float | None]) -> str:
    return " to ".join("-" if value is None else f"{value:.2f}" for value in values)


def _estimate(found: dict[str, Any] | None) -> str:
    if found is None or found["value"] is None:
        return "-"
    low, high = found["ci"]
    interval = "" if low is None or high is None else f" ({low:.2f}-{high:.2f})"
    return f"{found['value']:.2f}{interval}"
