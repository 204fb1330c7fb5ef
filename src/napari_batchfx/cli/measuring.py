"""``benchmark speed``: how fast this machine reads, encodes and stores, and what a cohort would take."""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_batchfx.cli._app import command, drive, out, wait
from napari_batchfx.errors import StudyError
from napari_batchfx.jobs import Job, Ticker

if TYPE_CHECKING:
    from napari_batchfx.encoders import Encoder
    from napari_batchfx.tiles import TileGrid

__all__ = ["reckon", "register"]

_TILES = 512
_BLOCK = 128


def register(group: typer.Typer) -> None:
    """Add ``speed`` to the benchmarks."""
    command(group, "speed")(speed)


def speed(
    slide: Annotated[
        Path | None, typer.Argument(help="A slide to read from; tissue that is made here otherwise.")
    ] = None,
    encoder: Annotated[str, typer.Option(help="Encoder, as `embed` takes it.")] = "colour-statistics",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    tiles: Annotated[int, typer.Option(help="Tiles to measure with.", min=16, max=100_000)] = _TILES,
    mpp: Annotated[
        float | None,
        typer.Option(help="Micrometres a pixel of the slide, where the file has none.", min=0.001),
    ] = None,
    cohort_slides: Annotated[
        int, typer.Option("--slides", help="Slides of the cohort to reckon.", min=1)
    ] = 10_000,
    cohort_tiles: Annotated[
        int, typer.Option("--tiles-a-slide", help="Tiles of each of its slides.", min=1)
    ] = 20_000,
    workers: Annotated[int, typer.Option(help="Machines (or GPUs) that share the work.", min=1)] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Measure tiles a second on this machine, step by step, and reckon hours and gigabytes of a cohort."""
    from napari_batchfx.encoders import load
    from napari_batchfx.slides import open_slide
    from napari_batchfx.tiles import TileGrid

    with tempfile.TemporaryDirectory() as name:
        if slide is None:
            with wait("making tissue"):
                slide = _tissue(Path(name))
        with wait("loading the encoder"):
            model = load(encoder, device=device)
        with open_slide(slide, mpp=None if mpp is None else (mpp, mpp)) as opened:
            grid = TileGrid(opened, model.input_px or 224, model.mpp or 0.5)
            found = drive(_measure(grid, model, tiles, Path(name)))
    found |= {"encoder": model.key, "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
    found["cohort"] = reckon(found, cohort_slides, cohort_tiles, workers, model.dim)
    if as_json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
        return
    console = out()
    for what in ("reading", "encoding", "storing", "together"):
        console.print(f"{what}: {found[what]:,.0f} tiles/s", markup=False)
    cohort = found["cohort"]
    console.print(
        f"{cohort_slides:,} slides of {cohort_tiles:,} tiles on {workers:,} "
        f"{'machine' if workers == 1 else 'machines'} like this: {cohort['hours']:,.1f} h, "
        f"{cohort['gigabytes']:,.0f} GB of features; the slowest step is {cohort['slowest']}.",
        markup=False,
    )
    console.print(
        f"measured with {found['tiles']:,} tiles on {found['cores']} cores, load {found['load']:g}",
        markup=False,
    )


def reckon(rates: dict[str, Any], slides: int, tiles: int, workers: int, dim: int) -> dict[str, Any]:
    """Hours, gigabytes and the slowest step of a cohort.

    Parameters
    ----------
    rates : dict
        ``reading``, ``encoding``, ``storing``, ``together``: tiles a second of one machine.
    slides, tiles : int
        Of the cohort; tiles of one slide.
    workers : int
        Machines that share the slides.
    dim : int
        Numbers of a vector.

    Examples
    --------
    >>> rates = {"reading": 4000.0, "encoding": 200.0, "storing": 9000.0, "together": 190.0}
    >>> reckon(rates, 10_000, 20_000, 8, 1024)["slowest"]
    'encoding'
    """
    total = slides * tiles
    return {
        "slides": slides,
        "tiles_a_slide": tiles,
        "workers": workers,
        "hours": total / rates["together"] / workers / 3600,
        # float32 and a checksum a tile; the index is a thousandth of that
        "gigabytes": total * (4 * dim + 4) / 1e9,
        "slowest": min(("reading", "encoding", "storing"), key=lambda step: rates[step]),
    }


def _measure(grid: TileGrid, encoder: Encoder, n: int, folder: Path) -> Job[dict[str, Any]]:
    """Rates of each step alone on the same tiles, then of all together as ``embed`` does it."""
    import numpy as np

    from napari_batchfx.features import FeatureStore, embed_job
    from napari_batchfx.tiles import read_tiles

    cells = np.asarray(grid.cells(0.0)).reshape(-1, 2)[:n]
    if not len(cells):
        raise StudyError(f"{grid.slide.name}: it has less than one tile; give a larger slide.")
    ticker = Ticker(3 * len(cells), "measuring")
    blocks = [cells[start : start + _BLOCK] for start in range(0, len(cells), _BLOCK)]
    seconds = dict.fromkeys(("reading", "encoding", "storing"), 0.0)
    store = FeatureStore(folder / "alone.zarr")
    array = store.array("0" * 32, encoder.key, grid.key, dim=encoder.dim)
    encoder.embed(np.asarray(read_tiles(grid, cells[:4])))  # what is compiled or sent to the device once
    for block in blocks:
        marks = [time.perf_counter()]
        pixels = read_tiles(grid, block)
        marks.append(time.perf_counter())
        vectors = encoder.embed(np.asarray(pixels))
        marks.append(time.perf_counter())
        array.append(block, vectors)
        marks.append(time.perf_counter())
        for step, one, other in zip(seconds, marks, marks[1:], strict=False):
            seconds[step] += other - one
        yield ticker.tick(2 * len(block))
    # Once for what only the first call pays: threads, and the size of a batch.
    yield from embed_job(grid, encoder, cells=cells[:64], store=FeatureStore(folder / "first.zarr"))
    begun = time.perf_counter()
    yield from embed_job(grid, encoder, cells=cells, store=FeatureStore(folder / "together.zarr"))
    rates = {step: len(cells) / max(spent, 1e-9) for step, spent in seconds.items()}
    return rates | {"together": len(cells) / (time.perf_counter() - begun), "tiles": len(cells)}


def _tissue(folder: Path) -> Path:
    """A slide of noise in the colours of H&E, 24 x 24 tiles of 224 px, JPEG tiles as scanners write them."""
    import numpy as np

    from napari_batchfx.slides import write_pyramid

    rng = np.random.default_rng(0)
    small = rng.integers((150, 80, 140), (230, 180, 210), (672, 672, 3), dtype=np.uint8)
    pixels = np.kron(small, np.ones((8, 8, 1), np.uint8))
    return write_pyramid(folder / "made.tif", pixels, 0.5, compression="jpeg")
