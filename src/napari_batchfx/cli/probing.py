"""``probe``: how well a simple classifier recognises a batch, of a table, a study, or features and a CSV."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_batchfx.cli._app import command, drive, note, out
from napari_batchfx.cli._columns import check_columns, usual_batch
from napari_batchfx.errors import ProbeError

if TYPE_CHECKING:
    from anndata import AnnData

    from napari_batchfx.probe import SiteProbeResult

__all__ = ["probe_facts", "register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app)(probe)


def probe(
    source: Annotated[
        Path, typer.Argument(help="A table (.h5ad), a study (.batchfx), or features (.npy, .npz, .csv, .h5).")
    ],
    columns: Annotated[
        Path | None,
        typer.Argument(help="With features: a CSV with a row for each, in their order."),
    ] = None,
    batch: Annotated[
        str | None, typer.Option(help="What to recognise: any column; scanner, site or stain otherwise.")
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="What must not be split: patient or slide; patient otherwise.")
    ] = None,
    classifier: Annotated[
        str | None, typer.Option(help="logistic, centroid, knn or linear; logistic otherwise.")
    ] = None,
    permutations: Annotated[
        int | None, typer.Option(help="Permutation baselines; 19 otherwise.", min=0)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed; 0 otherwise.")] = None,
    signature: Annotated[
        bool, typer.Option("--signature", help="Also what carries it: components, distances.")
    ] = False,
    colour: Annotated[
        Path | None,
        typer.Option(help="With --signature: colour-statistics of the same tiles (.h5ad or features)."),
    ] = None,
    tiles: Annotated[
        Path | None, typer.Option(help="Write a CSV with a row a tile: confidence, margin, entropy.")
    ] = None,
    fitted: Annotated[
        Path | None, typer.Option(help="Write the classifiers, to score further tiles (.safetensors).")
    ] = None,
    device: Annotated[
        str, typer.Option(help="Where the fits of the logistic regression run: auto, cpu, cuda, mps.")
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="As CSV, a row a measure.")] = False,
) -> None:
    """Say how well a simple classifier recognises the scanner (or site) from one tile."""
    if as_json and as_csv:
        raise typer.BadParameter("choose --json or --csv")
    from napari_batchfx.probe.devices import allow_gpu

    allow_gpu(device)  # before anything imports scipy
    if colour is not None and not signature:
        raise typer.BadParameter("only with --signature", param_hint="--colour")
    for path in (tiles, fitted):
        if path is not None and not path.absolute().parent.is_dir():
            raise ProbeError(
                f"{path}: there is no folder {path.absolute().parent.name} to write to; make it first."
            )
    given: dict[str, Any] = {"batch": batch, "group": group, "permutations": permutations, "seed": seed}
    given |= {"probe": classifier}
    given = {key: value for key, value in given.items() if value is not None}
    of_study = columns is None and (
        source.suffix == ".batchfx" or (not source.is_file() and source.suffix != ".h5ad")
    )
    if of_study:
        probed = _probed_study(source, given, signature or tiles is not None, device)
    else:
        probed = _probed_table(source, columns, given, device)
    with probed as (result, table, asked):
        facts = probe_facts(result)
        if signature and table is not None:
            from napari_batchfx.probe import signature_job

            shared = {
                key: asked[key] for key in ("batch", "group", "seed", "probe", "n_splits") if key in asked
            }
            numbers = None if colour is None else _colour(colour)
            facts["signature"] = drive(signature_job(table, **shared, colour=numbers)).to_dict()
        if tiles is not None and table is not None:
            _write_tiles(tiles, table, result)
            note(f"{tiles}: a row for each of {table.n_obs:,} tiles")
        if fitted is not None and result.fitted is not None:
            note(f"{result.fitted.save(fitted)}: {len(result.fitted.scorers)} classifiers, one a fold")
        if as_json:
            print(json.dumps(facts, ensure_ascii=False, indent=2))
        elif as_csv:
            _write_csv(facts)
        else:
            _print(facts)


@contextmanager
def _probed_table(
    source: Path, columns: Path | None, given: dict[str, Any], device: str
) -> Iterator[tuple[SiteProbeResult, AnnData, dict[str, Any]]]:
    """The result; the table; what was asked."""
    from napari_batchfx.probe import site_probe_job

    table = _read(source, columns)
    named = source.name if columns is None else columns.name
    check_columns(table, named, {key: given.get(key) for key in ("batch", "group")})
    asked = dict(given)
    if "batch" not in asked:
        asked["batch"] = usual_batch(table, named, ("scanner", "site", "stain"))
    yield drive(site_probe_job(table, **asked, device=device)), table, asked


def _read(source: Path, columns: Path | None) -> AnnData:
    from napari_batchfx.cli._feature_files import FEATURE_FILES, read_features_with_columns

    if columns is not None:
        return read_features_with_columns(source, columns)
    if source.suffix.lower() in FEATURE_FILES and source.is_file():
        raise ProbeError(f"{source.name}: give the CSV with batch, slide and patient of its rows after it.")
    from napari_batchfx.features import read_h5ad

    return read_h5ad(source)


def _colour(path: Path) -> Any:
    from napari_batchfx.cli._feature_files import FEATURE_FILES, read_feature_rows

    if path.suffix.lower() in FEATURE_FILES:
        return read_feature_rows(path)
    from napari_batchfx.features import read_h5ad

    return read_h5ad(path)


@contextmanager
def _probed_study(
    path: Path, given: dict[str, Any], want_table: bool, device: str
) -> Iterator[tuple[SiteProbeResult, AnnData | None, dict[str, Any]]]:
    """The result; its table; the settings. At the end the study is saved, with the probe as a step."""
    from pydantic import ValidationError

    from napari_batchfx.study import Study

    with Study.open(path) as study:
        for key, value in given.items():
            try:
                setattr(study.settings.probe, key, value)
            except ValidationError as error:
                hint = "--classifier" if key == "probe" else f"--{key}"
                raise typer.BadParameter(error.errors()[0]["msg"], param_hint=hint) from error
        asked = study.settings.probe.model_dump()
        try:
            result = drive(study.probe_job(device=device)).result
            try:
                yield result, study.table("tissue") if want_table else None, asked
            finally:
                # After the results: what was computed is said even where it can't be kept.
                study.save()
        finally:
            for problem in study.problems:
                note(str(problem))


def probe_facts(result: SiteProbeResult) -> dict[str, Any]:
    """What a probe found, without its one value a tile."""
    per_tile = ("confidence", "proba", "folds")
    facts = {key: value for key, value in result.to_dict().items() if key not in per_tile}
    return {"verdict": result.verdict, **facts}


def _write_tiles(path: Path, table: AnnData, result: SiteProbeResult) -> None:
    margin, entropy = result.margin, result.entropy
    names = [key for key in ("slide", "row", "col", result.batch) if key in table.obs]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        probabilities = [f"p_{name}" for name in result.batches]
        writer.writerow(
            ["tile", *dict.fromkeys(names), "fold", "confidence", "margin", "entropy", *probabilities]
        )
        columns = [table.obs[key].astype(str).to_numpy() for key in dict.fromkeys(names)]
        for i, name in enumerate(table.obs_names):
            numbers = [result.confidence[i], margin[i], entropy[i], *result.proba[i]]
            known = result.folds[i] >= 0
            own = [f"{value:.6g}" if known else "" for value in numbers]
            writer.writerow(
                [name, *(column[i] for column in columns), result.folds[i] if known else "", *own]
            )


def _write_csv(facts: dict[str, Any]) -> None:
    """A row a measure: what, of what, value, low, high, tiles."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["measure", "of", "value", "low", "high", "tiles"])

    def row(what: str, of: str, value: Any, low: Any = None, high: Any = None, tiles: Any = None) -> None:
        numbers = ["" if v is None else f"{v:.6g}" for v in (value, low, high)]
        writer.writerow([what, of, *numbers, "" if tiles is None else tiles])

    total = facts["support"].get("tiles")
    low, high = facts["ci"]
    row("balanced accuracy", facts["batch"], facts["balanced_accuracy"], low, high, total)
    row("balanced accuracy, slides the same", facts["batch"], facts["slide_balanced_accuracy"])
    row("chance", facts["batch"], facts["chance"])
    row("permutation p", facts["batch"], facts["permutation_p"])
    row("expected calibration error", facts["batch"], facts["calibration"].get("ece"))
    row("Cramér's V with class", facts["batch"], facts["association"])
    for name, value in zip(facts["batches"], facts["recall"], strict=True):
        row("recall", name, value, tiles=facts["support"]["batches"][name]["tiles"])
    for name, one in facts["by_class"].items():
        row("balanced accuracy inside class", name, one["value"], tiles=one["n"])
    for name, counts in zip(facts["batches"], facts["confusion"], strict=True):
        for other, number in zip(facts["batches"], counts, strict=True):
            row("taken for", f"{name} > {other}", None, tiles=number)
    found = facts.get("signature")
    if not found:
        return
    for i, variance in enumerate(found["explained_variance"]):
        row("explained variance", f"component {i + 1}", variance)
        for pair, areas in found["auroc"].items():
            row("auroc", f"component {i + 1}, {pair}", areas[i])
    for one in found["first"]:
        of = f"first {one['components']} components"
        row("balanced accuracy", of, one["balanced_accuracy"], one["low"], one["high"], found["tiles"])
    for name in ("features", "colour", "without_colour"):
        if name in found["colour"]:
            one = found["colour"][name]
            row("balanced accuracy", name, one["balanced_accuracy"], one["low"], one["high"], found["tiles"])
    for one in found["distances"]:
        row("distance", f"{one['relation']}, {one['classes']} class", one["median"], one["low"], one["high"])


def _print(facts: dict[str, Any]) -> None:
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
    for name, one in facts["by_class"].items():
        console.print(
            f"inside {name}: {_number(one['value'])}, chance {_number(one['chance'])}, {one['n']:,} tiles",
            markup=False,
        )
    ece = facts["calibration"].get("ece")
    if ece is not None:
        console.print(f"confidence is off by {ece:.3f} on average (ECE)", markup=False)
    if "signature" in facts:
        _print_signature(facts["signature"])
    for warning in facts["warnings"]:
        console.print(f"Mind: {warning}", markup=False)


def _print_signature(found: dict[str, Any]) -> None:
    console = out()
    for one in found["first"]:
        console.print(
            f"first {one['components']} components, {100 * one['variance']:.0f} % of the variance: "
            f"{_number(one['balanced_accuracy'])} ({_number(one['low'])}-{_number(one['high'])})",
            markup=False,
        )
    best = max(
        ((area, i, pair) for pair, areas in found["auroc"].items() for i, area in enumerate(areas) if area),
        default=None,
    )
    if best is not None:
        area, i, pair = best
        share = 100 * found["explained_variance"][i]
        level = found["auroc_level"][i]
        slides = "" if level is None else f"; slides alone reach {_number(level)}"
        console.print(
            f"strongest: component {i + 1} ({share:.1f} % of the variance) tells {pair} apart, AUROC "
            f"{_number(area)}{slides}",
            markup=False,
        )
    for name, text in (
        ("features", "features"),
        ("colour", "colour alone"),
        ("without_colour", "features, colour taken out"),
    ):
        if name in found["colour"]:
            one = found["colour"][name]
            value = f"{_number(one['balanced_accuracy'])} ({_number(one['low'])}-{_number(one['high'])})"
            console.print(f"{text}: {value}", markup=False)
    for one in found["distances"]:
        classes = "" if one["classes"] == "any" else f", {one['classes']} class"
        console.print(
            f"distance, {one['relation']}{classes}: {_number(one['median'])} ({_number(one['relative'])} of "
            "the median of all)",
            markup=False,
        )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
