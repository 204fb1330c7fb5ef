"""One tile as the model saw it: pixels stage by stage, values, where it comes from; as text, as PNG."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import StudyError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["PROVENANCE_CHUNK", "SeenTile"]

Rgb = NDArray[np.uint8]

#: What can name a person: left out of text and files unless asked for.
NAMES: Final = ("slide", "stain target")
#: Keyword of the PNG's text chunk that holds values and provenance as JSON.
PROVENANCE_CHUNK: Final = "batchfx:tile"

_GAP, _LINE, _BACK, _INK = 12, 16, (255, 255, 255), (30, 36, 41)


@dataclass(frozen=True, eq=False)
class SeenTile:
    """What an encoder was given for one tile, and where that comes from. Made by :func:`saw`.

    Parameters
    ----------
    slide : str
        Name in the study.
    fingerprint : str
        The slide's content.
    cell : (int, int)
        Row and column in the grid, from 0.
    bounds_um : (float, float, float, float)
        y0, x0, y1, x1 in micrometres from the slide's top left corner.
    as_read : uint8 (s, s, 3)
        The tile in its physical size, in the colours that are chosen for the slide.
    as_stained : uint8 (s, s, 3) or None
        After stain normalisation; ``None`` where none is set.
    as_seen : uint8 (p, p, 3)
        After the encoder's own resize: the pixels that the model's mean and std are taken from.
    stored : bool
        Whether the study has the tile's features.
    damaged : bool
        Whether pixels of it are damaged in the file: such a tile is left out of features.
    values : dict of str to float
        What the overlays show for it, by their name; classes by their number.
    words : dict of str to str
        The same as a person reads it, with unit and what guessing would give.
    provenance : dict of str to str
        Slide, place, level, pixel size, colours, stain, encoder, tissue and artefacts, in words.
    context : uint8 (h, w, 3) or None
        The surroundings, a few tiles wide, as scanned.
    frame_px : (float, float, float, float)
        The tile in ``context``: y0, x0, y1, x1 in its pixels.
    warnings : tuple of str
        What could mislead about this tile.

    Examples
    --------
    >>> white = np.full((8, 8, 3), 255, np.uint8)
    >>> tile = SeenTile("A", "0" * 32, (1, 2), (0.0, 0.0, 4.0, 4.0), white, None, white, stored=False,
    ...                 provenance={"slide": "A", "tile": "row 1, column 2"})
    >>> tile.text()
    'tile: row 1, column 2'
    """

    slide: str
    fingerprint: str
    cell: tuple[int, int]
    bounds_um: tuple[float, float, float, float]
    as_read: Rgb = field(repr=False)
    as_stained: Rgb | None = field(repr=False)
    as_seen: Rgb = field(repr=False)
    stored: bool
    damaged: bool = False
    values: dict[str, float] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    provenance: dict[str, str] = field(default_factory=dict, repr=False)
    context: Rgb | None = field(default=None, repr=False)
    frame_px: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    warnings: tuple[str, ...] = ()

    @property
    def stages(self) -> list[tuple[str, Rgb]]:
        """The pictures in their order, each with what it is: as scanned, after stain, what the model got."""
        found = [("as scanned", self.as_read)]
        if self.as_stained is not None:
            found.append(("after stain", self.as_stained))
        return [*found, ("what the model got", self.as_seen)]

    def facts(self, *, with_names: bool = False) -> dict[str, str]:
        """Provenance; names of slides are left out unless asked for, since they can name a patient."""
        return {key: text for key, text in self.provenance.items() if with_names or key not in NAMES}

    def text(self, *, with_names: bool = False) -> str:
        """Values, provenance and warnings, one a line."""
        lines = [f"{name}: {text}" for name, text in self.words.items()]
        lines += [f"{name}: {text}" for name, text in self.facts(with_names=with_names).items()]
        return "\n".join([*lines, *(f"note: {warning}" for warning in self.warnings)])

    def to_dict(self, *, with_names: bool = False) -> dict[str, Any]:
        """Everything but the pixels, as plain values for JSON."""
        return {
            "cell": list(self.cell),
            "bounds_um": list(self.bounds_um),
            "stored": self.stored,
            "damaged": self.damaged,
            "values": {name: value for name, value in self.values.items() if np.isfinite(value)},
            "words": self.words,
            "provenance": self.facts(with_names=with_names),
            "warnings": list(self.warnings),
        }

    def picture(self) -> Image:
        """The stages side by side, pixel for pixel, each with its name and size under it."""
        from PIL import Image, ImageDraw, ImageFont

        font = ImageFont.load_default(12)
        captions = [
            (name, f"{pixels.shape[1]} x {pixels.shape[0]} px", pixels) for name, pixels in self.stages
        ]
        widths = [
            max(pixels.shape[1], round(max(font.getlength(name), font.getlength(size))))
            for name, size, pixels in captions
        ]
        height = max(pixels.shape[0] for _, _, pixels in captions)
        page = Image.new(
            "RGB", (sum(widths) + _GAP * (len(widths) + 1), height + 2 * _GAP + 2 * _LINE), _BACK
        )
        draw, left = ImageDraw.Draw(page), _GAP
        for width, (name, size, pixels) in zip(widths, captions, strict=True):
            page.paste(Image.fromarray(np.ascontiguousarray(pixels)), (left, _GAP))
            draw.text((left, _GAP + height + 2), name, _INK, font)
            draw.text((left, _GAP + height + 2 + _LINE), size, _INK, font)
            left += width + _GAP
        return page

    def save(self, path: Path | str, *, with_names: bool = False) -> Path:
        """Write :meth:`picture` as PNG, with values and provenance in a text chunk.

        Parameters
        ----------
        path : path
            ``.png`` is added where it has no suffix.
        with_names : bool
            Whether the slide's name is in it.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        StudyError
            If it can't be written, or isn't to be a PNG.
        """
        from PIL.PngImagePlugin import PngInfo

        path = Path(path)
        path = path if path.suffix else path.with_suffix(".png")
        if path.suffix.lower() != ".png":
            raise StudyError(f"{path.name}: the picture is written as PNG; give it a name ending in .png.")
        info = PngInfo()
        info.add_itxt("Title", "What the model saw")
        info.add_itxt(PROVENANCE_CHUNK, json.dumps(self.to_dict(with_names=with_names), ensure_ascii=False))
        try:
            self.picture().save(path, pnginfo=info, optimize=True)
        except OSError as error:
            raise StudyError(
                f"{path.name}: the picture can't be written ({error.strerror or error}); "
                "choose another place."
            ) from error
        return path
