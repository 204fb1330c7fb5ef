"""``metrics``: how batch and biology lie in the features, of a table, a study, or features and a CSV."""

from __future__ import annotations

import csv
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_batchfx.cli._app import command, count, drive, note, out
from napari_batchfx.cli._columns import check_columns, usual_batch
from napari_batchfx.errors import ProbeError

if TYPE_CHECKING:
    from anndata import AnnData

    from napari_batchfx.probe.metrics import MetricResult

__all__ = ["register"]

# name of the function: how a person calls it, and what the ends of its scale mean
_SHOWN = {
    "robustness_index": ("robustness index", "0 batch, 1 biology"),
    "croma": ("margin (CRoMa)", "-1 batch, 1 biology"),
    "mari": ("weighted index (MaRI)", "0 batch, 1 biology"),
    "clustering_score": ("clustering score", "-1 batch, 1 biology"),
    "ilisi": ("mixing (iLISI)", "0 apart, 1 mixed"),
    "kbet": ("mixing (kBET)", "0 apart, 1 mixed"),
    "batch_asw": ("mixing (batch ASW)", "0 apart, 1 mixed"),
    "pcr": ("variance (PCR)", "0 none, 1 all of it"),
    "clisi": ("class apart (cLISI)", "0 mixed, 1 apart"),
    "graph_connectivity": ("class connected", "0 pieces, 1 whole"),
    "class_retention": ("class by vote", ""),
    "cramers_v": ("class with batch (V)", "0 free, 1 tied"),
}
_OF_CLASS = ("clisi", "graph_connectivity", "class_retention", "cramers_v")  # these need no second batch


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app)(metrics)


def metrics(
    source: Annotated[
        Path, typer.Argument(help="A table (.h5ad), a study (.batchfx), or features (.npy, .npz, .csv, .h5).")
    ],
    columns: Annotated[
        Path | None,
        typer.Argument(help="With features: a CSV with a row for each, in their order."),
    ] = None,
    label: Annotated[str | None, typer.Option(help="Column of the class; label otherwise.")] = None,
    batch: Annotated[
        str | None,
        typer.Option(help="Column of the batch; site, scanner or stain otherwise, whichever has two values."),
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="Whose tiles are no neighbours of each other; slide otherwise.")
    ] = None,
    k: Annotated[
        int | None,
        typer.Option(help="Neighbours of the robustness index; the best for the class otherwise.", min=1),
    ] = None,
    m: Annotated[int, typer.Option(help="Tiles of each kind in the margin.", min=1)] = 5,
    perplexity: Annotated[float, typer.Option(help="Neighbourhood of LISI.", min=2)] = 30,
    slow: Annotated[bool, typer.Option("--slow", help="The clustering score too: minutes.")] = False,
    seed: Annotated[int, typer.Option(help="Random seed of intervals and draws.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="As CSV, a row a metric.")] = False,
) -> None:
    """Measure how much batch and how much biology lies in features: robustness, mixing, and what it costs."""
    from napari_batchfx.probe.columns import has_values
    from napari_batchfx.probe.metrics import measure_job

    if as_json and as_csv:
        raise typer.BadParameter("choose --json or --csv")
    table = _read(source, columns)
    named = source.name if columns is None else columns.name
    check_columns(table, named, {"label": label, "batch": batch, "group": group})
    batch = batch or usual_batch(table, named)
    if label is None and not has_values(table, "label"):
        note("Mind: there is no class (column label, or --label): only mixing is measured.")
    elif label is None:
        label = "label"
    if group is None and has_values(table, "slide"):
        group = "slide"
    elif group is None:
        note("Mind: there is no slide (column slide, or --group): neighbours may be of the same slide.")
    found = drive(
        measure_job(
            table, label, batch, group, k, m=m, perplexity=perplexity, slow=slow, seed=seed, device=device
        )
    )
    if all(math.isnan(one.value) for name, one in found.items() if name not in _OF_CLASS):
        raise ProbeError(next(one.reason for one in found.values() if one.reason))
    if as_json:
        facts = {name: one.to_dict() for name, one in found.items()}
        head = {"source": source.name, "label": label, "batch": batch, "group": group}
        print(json.dumps(head | {"metrics": facts}, ensure_ascii=False, indent=2))
    elif as_csv:
        _write_csv(found)
    else:
        _print(found, table, batch)


def _read(source: Path, columns: Path | None) -> AnnData:
    from napari_batchfx.cli._feature_files import FEATURE_FILES, read_features_with_columns

    if columns is not None:
        return read_features_with_columns(source, columns)
    if source.suffix.lower() in FEATURE_FILES:
        raise ProbeError(f"{source.name}: give the CSV with class, batch and slide of its rows after it.")
    if source.suffix == ".batchfx" or (not source.is_file() and source.suffix != ".h5ad"):
        from napari_batchfx.study import Study

        with Study.open(source) as study:
            try:
                return study.table("tissue")
            finally:
                for problem in study.problems:
                    note(str(problem))
    from napari_batchfx.features import read_h5ad

    return read_h5ad(source)


def _print(found: dict[str, MetricResult], table: AnnData, batch: str) -> None:
    from rich.table import Table

    console = out()
    first = max(found.values(), key=lambda one: len(one.support)).support
    console.print(
        f"{count(table.n_obs, 'tile')}, {table.n_vars:,} features, batch: {batch} "
        f"({first.get('batches', '-')}), {_scope(first)}",
        markup=False,
    )
    shown = Table(box=None, pad_edge=False, padding=(0, 1))
    for title in ("metric", "value", "95 %", "class"):
        shown.add_column(title, justify="left" if title == "metric" else "right", no_wrap=True)
    shown.add_column("scale", no_wrap=True)
    for name in sorted(found, key=list(_SHOWN).index):
        one = found[name]
        scale = _SHOWN[name][1]
        chance = one.support.get("chance")
        if name == "class_retention" and chance is not None:
            scale = f"{chance:.2f} chance, 1 all"
        beside = one.retention.value if one.retention is not None else math.nan
        shown.add_row(_SHOWN[name][0], _number(one.value), _range(one.interval), _number(beside), scale)
    console.print(shown)
    if any(one.retention is not None for one in found.values()):
        console.print(
            "class: how well neighbours vote for the class (balanced accuracy); a metric of\n"
            "batch is good only while that stays.",
            markup=False,
        )
    for text in _said(found):
        console.print(text, markup=False)


def _said(found: dict[str, MetricResult]) -> list[str]:
    """What is missing and why, then what to mind; each sentence once."""
    missing: dict[str, list[str]] = {}
    for name, one in found.items():
        if one.reason:
            missing.setdefault(one.reason, []).append(_SHOWN[name][0])
    said = [f"No {', '.join(names)}: {reason}" for reason, names in missing.items()]
    minded = [text for one in found.values() for text in one.warnings if not math.isnan(one.value)]
    return said + [f"Mind: {text}" for text in dict.fromkeys(minded)]


def _scope(support: dict[str, Any]) -> str:
    parts = []
    if "classes" in support:
        parts.append(f"{support['classes']} classes")
    if "groups" in support and support.get("grouped_by") != "tile":
        parts.append(f"{support['groups']:,} {support['grouped_by']}s")
    parts += [f"{key} {support[key]}" for key in ("k", "m") if key in support]
    return ", ".join(parts) or "no classes"


def _write_csv(found: dict[str, MetricResult]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["metric", "value", "low", "high", "class_by_vote", "tiles", "groups", "k", "reason"])
    for name, one in found.items():
        low, high = one.interval or (math.nan, math.nan)
        beside = one.retention.value if one.retention is not None else math.nan
        numbers = ["" if math.isnan(v) else f"{v:.6g}" for v in (one.value, low, high, beside)]
        facts = [one.support.get(key, "") for key in ("tiles", "groups", "k")]
        writer.writerow([name, *numbers, *facts, one.reason])


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _range(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"
