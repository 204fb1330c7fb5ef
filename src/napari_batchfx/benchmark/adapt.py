"""The benchmark of the adaptation, piece by piece, so that it goes on where it stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from napari_batchfx.encoders.built_in import mini_version
from napari_batchfx.errors import SampleError
from napari_batchfx.jobs import Job, Progress

__all__ = ["PARTS", "adapt_benchmark_job", "load_pieces", "piece_folder"]

PARTS = (
    "mitoses-features",
    "mitoses-network",
    "pair",
    "simulated",
    "simulated-colour",
    "two-scanners",
    "two-scanners-colour",
    "scangen",
    "scangen-colour",
)
#: Those on features of batchfx-mini: what was measured with other weights of it isn't taken for theirs.
_OF_MINI = ("mitoses-features", "pair", "simulated", "two-scanners", "scangen")
Piece = tuple[str, Callable[[], Job[Any]]]


def adapt_benchmark_job(
    data: Path, work: Path, *, seeds: int = 5, parts: Sequence[str] = PARTS
) -> Job[dict[str, dict[str, Any]]]:
    """Run what isn't in ``work`` yet; seeds in turn, so that stopped early every scanner has the same number.

    Parameters
    ----------
    data : Path
        Folder of the real tiles.
    work : Path
        Where pieces (JSON) and features are kept.
    seeds : int
    parts : sequence of str
        Of :data:`PARTS`.

    Returns
    -------
    dict
        ``{part: {piece: result}}`` of everything in ``work``.

    Raises
    ------
    SampleError
        If a part isn't known, or the data aren't there.
    """
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise SampleError(f"There is no part {unknown[0]!r}; there are {', '.join(PARTS)}.")
    for part in parts:
        pieces = yield from _PIECES[part](data, work, seeds)
        for k, (name, start) in enumerate(pieces):
            file = piece_folder(work, part) / f"{name}.json"
            if file.is_file():
                continue
            job = start()
            try:
                while True:
                    at = next(job)
                    what = f"{part} {k + 1} of {len(pieces)} ({name}): {at.what}"
                    yield Progress(at.done, at.total, what, at.unit, at.rate)
            except StopIteration as stop:
                result = stop.value
            finally:
                job.close()
            file.parent.mkdir(parents=True, exist_ok=True)
            waiting = file.with_suffix(".part")
            waiting.write_text(json.dumps(result), encoding="utf-8")
            os.replace(waiting, file)
    return load_pieces(work)


def piece_folder(work: Path, part: str) -> Path:
    """Where a part's pieces are kept; batchfx-mini's by the version of its weights.

    Examples
    --------
    >>> piece_folder(Path("work"), "mitoses-network").name
    'mitoses-network'
    """
    return work / (f"{part}-mini-{mini_version()}" if part in _OF_MINI else part)


def load_pieces(work: Path) -> dict[str, dict[str, Any]]:
    """Every piece that is done, by part and name.

    Examples
    --------
    >>> load_pieces(Path("nothing-there"))["pair"]
    {}
    """
    return {
        part: {
            file.stem: json.loads(file.read_text("utf-8"))
            for file in sorted(piece_folder(work, part).glob("*.json"), key=lambda f: f.stem)
        }
        for part in PARTS
    }


def _mitoses_network(data: Path, work: Path, seeds: int) -> Generator[Progress, None, list[Piece]]:
    from napari_batchfx.benchmark.mitoses_data import load_mitoses, split
    from napari_batchfx.benchmark.mitoses_network import middle, run_network

    mitoses = load_mitoses(data)
    tiles = middle(mitoses.tiles)
    yield Progress(0, 0, "reading the mitoses")
    return [
        (f"{name}__{seed}", lambda s=name, k=seed: run_network(mitoses, split(mitoses, s, k), tiles))  # type: ignore[misc]
        for seed in range(seeds)
        for name in sorted(set(mitoses.scanner))
    ]


def _mitoses_features(data: Path, work: Path, seeds: int) -> Generator[Progress, None, list[Piece]]:
    from napari_batchfx.benchmark.mitoses import mitoses_features, run_features
    from napari_batchfx.benchmark.mitoses_data import load_mitoses, split

    mitoses = load_mitoses(data)
    features = yield from mitoses_features(mitoses, work)
    return [
        (f"{name}__{seed}", lambda s=name, k=seed: run_features(mitoses, split(mitoses, s, k), features))  # type: ignore[misc]
        for seed in range(seeds)
        for name in sorted(set(mitoses.scanner))
    ]


def _pair(data: Path, work: Path, seeds: int) -> Generator[Progress, None, list[Piece]]:
    from napari_batchfx.benchmark.pair import load_pair, run_pair

    pair = load_pair(data)
    yield Progress(0, 0, "encoding the pair")
    return [
        (f"{way}__{seed}", lambda d=way, k=seed: run_pair(pair, k, d))  # type: ignore[misc]
        for seed in range(seeds)
        for way in (0, 1)
    ]


def _simulated(
    data: Path, work: Path, seeds: int, encoder: str = "batchfx-mini"
) -> Generator[Progress, None, list[Piece]]:
    from napari_batchfx.benchmark.simulated import run_simulated
    from napari_batchfx.benchmark.simulated_data import simulated_features

    found = yield from simulated_features(data, work, encoder)
    return [
        (f"{p}__{seed}", lambda p=p, k=seed: run_simulated(found, k, p))  # type: ignore[misc]
        for seed in range(seeds)
        for p in range(len(found.scanners) // 2)
    ]


def _two_scanners(
    data: Path, work: Path, seeds: int, encoder: str = "batchfx-mini"
) -> Generator[Progress, None, list[Piece]]:
    from napari_batchfx.benchmark.simulated import run_simulated
    from napari_batchfx.benchmark.simulated_data import simulated_features

    found = yield from simulated_features(data, work, encoder)
    return [
        (f"{p}__{seed}", lambda p=p, k=seed: run_simulated(found, k, p, only_pair=True))  # type: ignore[misc]
        for seed in range(seeds)
        for p in range(2)
    ]


def _scangen(
    data: Path, work: Path, seeds: int, encoder: str = "batchfx-mini"
) -> Generator[Progress, None, list[Piece]]:
    from napari_batchfx.benchmark.simulated import run_scangen
    from napari_batchfx.benchmark.simulated_data import simulated_features

    found = yield from simulated_features(data, work, encoder)
    return [(f"{seed}", lambda k=seed: run_scangen(found, k)) for seed in range(seeds)]  # type: ignore[misc]


_PIECES: dict[str, Callable[[Path, Path, int], Generator[Progress, None, list[Piece]]]] = {
    "mitoses-network": _mitoses_network,
    "mitoses-features": _mitoses_features,
    "pair": _pair,
    "simulated": _simulated,
    "simulated-colour": partial(_simulated, encoder="colour-statistics"),
    "two-scanners": _two_scanners,
    "two-scanners-colour": partial(_two_scanners, encoder="colour-statistics"),
    "scangen": _scangen,
    "scangen-colour": partial(_scangen, encoder="colour-statistics"),
}
