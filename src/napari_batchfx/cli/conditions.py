"""``stain-conditions``: how stable a study's features and calls are under another laboratory's stain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from napari_batchfx.cli._app import command, drive, out

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "stain-conditions")(stain_conditions)


def stain_conditions(
    study: Annotated[Path, typer.Argument(help="A study (.batchfx).")],
    condition: Annotated[
        list[str] | None,
        typer.Option(help="Only this condition (several times for several); all otherwise."),
    ] = None,
    conditions_from: Annotated[
        Path | None,
        typer.Option(
            "--from", help="Conditions to use: a JSON file, or the folder of the published library."
        ),
    ] = None,
    head: Annotated[
        Path | None, typer.Option(help="A saved model whose predictions are looked at as well.")
    ] = None,
    slide: Annotated[
        list[str] | None, typer.Option(help="Only this slide (several times for several); all otherwise.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Encode a study's tiles under simulated staining conditions and say how much they move."""
    from napari_batchfx.adapt import ERMHead, load_head
    from napari_batchfx.stain import CONDITIONS, load_conditions
    from napari_batchfx.study import Study

    known = CONDITIONS if conditions_from is None else load_conditions(conditions_from)
    names = [one.id for one in known]
    for name in condition or []:
        if name not in names:
            raise typer.BadParameter(
                f"there is no condition {name!r}; choose of {', '.join(names)}", param_hint="--condition"
            )
    chosen = [one for one in known if not condition or one.id in condition]
    model = None if head is None else load_head(head)
    if model is not None and not isinstance(model, ERMHead):
        raise typer.BadParameter("this model takes no single tiles", param_hint="--head")
    with Study.open(study) as work:
        found = drive(work.stain_conditions_job(slide or None, conditions=chosen, head=model))
    if as_json:
        print(json.dumps(found.to_dict(), ensure_ascii=False, indent=2))
        return
    console = out()
    console.print(found.sentence, markup=False)
    for name in found.conditions[1:]:
        auc = "" if found.auc is None else f" AUC {found.auc.auc[name]:.3f};"
        console.print(f"{name}:{auc} from {found.origins[name]}", markup=False)
    for warning in found.warnings:
        console.print(f"Mind: {warning}", markup=False)
