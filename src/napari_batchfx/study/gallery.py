"""The strongest and weakest tiles of each batch of a probe: what gives it away, and what doesn't."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import BatchfxError, StudyError
from napari_batchfx.jobs import Job, Progress
from napari_batchfx.study.scatter import last_probe
from napari_batchfx.study.settings import EncodeSettings

if TYPE_CHECKING:
    from napari_batchfx.study.bench import Bench
    from napari_batchfx.study.probed import ProbeOutcome

__all__ = ["GalleryTile", "choose_tiles", "gallery_job", "save_sheet"]

PX = 96
_A_SLIDE = 0.5
_GAP, _LINE, _BACK, _INK = 6, 16, (255, 255, 255), (30, 36, 41)


@dataclass(frozen=True, eq=False)
class GalleryTile:
    """One tile of the gallery.

    Parameters
    ----------
    batch : str
        Its own site, scanner or whatever was recognised.
    side : {"strongest", "weakest"}
        Of the highest or the lowest confidence.
    fingerprint : str
        The slide.
    cell : (int, int)
    confidence : float
        Out of fold.
    taken_for : str
        The batch it was taken for.
    pixels : uint8 (96, 96, 3) or None
        What the encoder was given, smaller; ``None`` before it is read.
    """

    batch: str
    side: Literal["strongest", "weakest"]
    fingerprint: str
    cell: tuple[int, int]
    confidence: float
    taken_for: str
    pixels: NDArray[np.uint8] | None = None

    @property
    def words(self) -> str:
        """What a person reads of it."""
        said = "recognised" if self.taken_for == self.batch else f"taken for {self.taken_for}"
        row, col = self.cell
        return f"{self.batch}: {said}, confidence {self.confidence:.3g}; row {row}, column {col}"


def choose_tiles(outcome: ProbeOutcome, n: int = 6) -> list[GalleryTile]:
    """The ``n`` tiles of the highest and of the lowest confidence of each batch.

    No slide gives more than half of them where others have some: one odd slide would else fill them all.
    Where confidences are all 1 to the last digit, what is left for the other batches decides. No tile is on
    both sides.

    Parameters
    ----------
    outcome : ProbeOutcome
    n : int
        Tiles a batch and side.

    Returns
    -------
    list of GalleryTile
        Batch by batch, the strongest first and then the weakest, weakest first; without pixels.
    """
    result, tiles = outcome.result, outcome.tiles
    scored = np.flatnonzero(np.isfinite(result.confidence))
    own = _own_batch(outcome, scored)
    found = []
    for b, batch in enumerate(result.batches):
        rows = scored[own == b]
        left = np.delete(result.proba[rows], b, axis=1).sum(axis=1)  # 1 - p, where 1 - p rounds to 0
        up = rows[np.lexsort((left, -result.confidence[rows]))]
        half = min(n, len(rows) // 2)
        strongest = _spread(up, tiles.slide, half)
        down = up[::-1][~np.isin(up[::-1], strongest)]
        sides: tuple[tuple[Literal["strongest", "weakest"], list[int]], ...] = (
            ("strongest", strongest),
            ("weakest", _spread(down, tiles.slide, half)),
        )
        for side, chosen in sides:
            for row in chosen:
                found.append(
                    GalleryTile(
                        batch,
                        side,
                        tiles.fingerprints[int(tiles.slide[row])],
                        (int(tiles.cells[row, 0]), int(tiles.cells[row, 1])),
                        float(result.confidence[row]),
                        result.batches[int(np.argmax(result.proba[row]))],
                    )
                )
    return found


def _own_batch(outcome: ProbeOutcome, rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Number of each tile's own batch: the column of the probabilities that its slide's confidence is."""
    result, slide = outcome.result, outcome.tiles.slide
    own = np.full(len(rows), -1, dtype=np.intp)
    same = np.abs(result.proba[rows] - result.confidence[rows, None]) < 1e-12
    for s in np.unique(slide[rows]):
        mine = slide[rows] == s
        own[mine] = int(np.argmax(same[mine].sum(axis=0)))
    return own


def _spread(order: NDArray[np.intp], slide: NDArray[np.int64], n: int) -> list[int]:
    """The first ``n`` of an order, no slide more than half of them as long as others have some."""
    most = max(1, int(np.ceil(n * _A_SLIDE)))
    taken: list[int] = []
    rest: list[int] = []
    counts: dict[int, int] = {}
    for row in order:
        if len(taken) == n:
            break
        s = int(slide[row])
        if counts.get(s, 0) < most:
            counts[s] = counts.get(s, 0) + 1
            taken.append(int(row))
        else:
            rest.append(int(row))
    return taken + rest[: n - len(taken)]


def gallery_job(study: Bench, outcome: ProbeOutcome | None = None, n: int = 6) -> Job[list[GalleryTile]]:
    """Read the strongest and the weakest tiles of each batch.

    Parameters
    ----------
    study : Study
    outcome : ProbeOutcome, optional
        The probe run last otherwise.
    n : int
        Tiles a batch and side.

    Returns
    -------
    Job
        Yields ``Progress(partial=GalleryTile)`` and returns all that could be read: the pixels that the
        encoder was given, after stain normalisation where there was one.

    Raises
    ------
    StudyError
        If no probe was run.
    """
    from PIL import Image

    from napari_batchfx.tiles import read_tiles

    outcome = outcome or last_probe(study)
    encode = EncodeSettings(**outcome.computed_from["encode"])
    chosen = choose_tiles(outcome, n)
    found: list[GalleryTile] = []
    failed: set[str] = set()
    for done, tile in enumerate(chosen):
        yield Progress(done, len(chosen), "reading tiles")
        entry = next((one for one in study.slides if one.fingerprint == tile.fingerprint), None)
        if entry is None or tile.fingerprint in failed:
            continue
        try:
            grid = study.grid_of(entry, encode)
            transform = study.instruments.encode_transform(entry, encode)
            pixels = read_tiles(grid, [tile.cell], workers=1)
            pixels = pixels if transform is None else np.asarray(transform.transform(pixels), dtype=np.uint8)
            small = Image.fromarray(pixels[0]).resize((PX, PX), Image.Resampling.LANCZOS)
            read = replace(tile, pixels=np.array(small))
        except (BatchfxError, OSError) as error:
            failed.add(tile.fingerprint)
            study.report_problem(entry.name, error)
            continue
        found.append(read)
        yield Progress(done + 1, len(chosen), "reading tiles", partial=read)
    return found


def save_sheet(tiles: Sequence[GalleryTile], path: Path | str) -> Path:
    """Write a gallery as one PNG: a row a batch and side. Names of slides are not in it.

    Raises
    ------
    StudyError
        If there is no tile, or the file can't be written.
    """
    from PIL import Image, ImageDraw, ImageFont

    path = Path(path)
    shown = [tile for tile in tiles if tile.pixels is not None]
    if not shown:
        raise StudyError(f"{path.name}: there is no tile to show.")
    rows: dict[tuple[str, str], list[GalleryTile]] = {}
    for tile in shown:
        rows.setdefault((tile.batch, tile.side), []).append(tile)
    font = ImageFont.load_default(12)
    across = max(map(len, rows.values()))
    step = PX + _GAP
    page = Image.new("RGB", (across * step + _GAP, len(rows) * (step + 2 * _LINE) + _GAP), _BACK)
    draw, top = ImageDraw.Draw(page), _GAP
    for (batch, side), own in rows.items():
        draw.text((_GAP, top), f"{batch}, {side}", _INK, font)
        for i, tile in enumerate(own):
            assert tile.pixels is not None
            page.paste(Image.fromarray(tile.pixels), (_GAP + i * step, top + _LINE))
            draw.text((_GAP + i * step, top + _LINE + PX + 1), f"{tile.confidence:.3g}", _INK, font)
        top += step + 2 * _LINE
    try:
        page.save(path, format="PNG", optimize=True)
    except OSError as error:
        raise StudyError(
            f"{path.name}: the picture can't be written ({error.strerror or error}); choose another place."
        ) from error
    return path
