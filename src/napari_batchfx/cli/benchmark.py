"""``benchmark adapt``: what the adaptation reaches, measured on the real and simulated scanners."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_batchfx.cli._app import AsJson, command, drive, out, print_json
from napari_batchfx.cli.measuring import register as register_speed

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        help="Measure what the methods reach, and write the pages of results.", no_args_is_help=True
    )
    app.add_typer(group, name="benchmark")
    register_speed(group)

    @command(group)
    def adapt(
        data: Annotated[
            Path | None,
            typer.Option(help="Folder of the real tiles; BATCHFX_TEST_DATA or ../shared/data otherwise."),
        ] = None,
        work: Annotated[
            Path, typer.Option(help="Where finished pieces are kept; a later call goes on from there.")
        ] = Path("adapt-benchmark"),
        results: Annotated[
            Path, typer.Option(help="Folder for the numbers (JSON) and, without --page, the page.")
        ] = Path("benchmarks/adapt/results"),
        page: Annotated[Path | None, typer.Option(help="File for the page of results (.md).")] = None,
        seeds: Annotated[int, typer.Option(help="Seeds of each part.", min=1)] = 5,
        part: Annotated[
            list[str] | None,
            typer.Option(
                help="mitoses-features, mitoses-network, pair, simulated, two-scanners or scangen, the last "
                "three also with -colour; all otherwise."
            ),
        ] = None,
        only_page: Annotated[bool, typer.Option("--only-page", help="Run nothing; write the page.")] = False,
        as_json: AsJson = False,
    ) -> None:
        """Leave one scanner out, adapt to it with every method, and say what each reaches. It takes hours."""
        import torch

        from napari_batchfx.benchmark.adapt import PARTS, adapt_benchmark_job, load_pieces
        from napari_batchfx.benchmark.page import results_of, results_page

        torch.set_num_threads(1)
        folder = data or Path(os.environ.get("BATCHFX_TEST_DATA", "../shared/data"))
        if not only_page:
            drive(adapt_benchmark_job(folder, work, seeds=seeds, parts=part or PARTS))
        found = results_of(load_pieces(work), folder)
        results.mkdir(parents=True, exist_ok=True)
        (results / "adapt.json").write_text(
            json.dumps(_plain(found), indent=1, allow_nan=False) + "\n", encoding="utf-8"
        )
        target = page or results / "adapt.md"
        target.write_text(results_page(found), encoding="utf-8")
        if as_json:
            print_json({"page": str(target), "numbers": str(results / "adapt.json")})
        else:
            out().print(str(target), markup=False)


def _plain(value: Any) -> Any:
    """The same with ``None`` for what isn't a number, which JSON doesn't know."""
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
