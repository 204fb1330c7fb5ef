"""One state of the encode settings, held while a job runs, however the user changes them meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from napari_batchfx.jobs import Job, run
from napari_batchfx.study.entries import SlideEntry
from napari_batchfx.study.selection import Selection
from napari_batchfx.study.settings import EncodeSettings, TissueChoice

if TYPE_CHECKING:
    from napari_batchfx.encoders import Encoder
    from napari_batchfx.features import FeatureArray
    from napari_batchfx.stain import StainTransform
    from napari_batchfx.study.bench import Bench
    from napari_batchfx.tiles import TileGrid

__all__ = ["Place", "Recipe"]


@dataclass(frozen=True)
class Place:
    """A slide's tiles, the stain transform before the encoder, and where its features are kept."""

    grid: TileGrid
    transform: StainTransform | None
    array: FeatureArray

    @property
    def stain_key(self) -> str:
        """Key of the stain variant, ``"none"`` for tiles as scanned."""
        return "none" if self.transform is None else self.transform.key


@dataclass(frozen=True)
class Recipe:
    """Encode settings as they were when it was made, with their encoder.

    Parameters
    ----------
    study : Study
    settings : EncodeSettings
        A copy.
    encoder : Encoder
    tissue : TissueChoice
        A copy.
    selection : Selection
        Slides and tiles that the study's work is limited to.
    """

    study: Bench
    settings: EncodeSettings
    encoder: Encoder
    tissue: TissueChoice
    selection: Selection = field(default_factory=Selection)
    #: Tiles that a table was made of, as text, for slides of which not all tissue was encoded.
    parts: dict[str, str] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, study: Bench) -> Self:
        """The present settings; loads the encoder."""
        return run(cls.job(study))

    @classmethod
    def job(cls, study: Bench) -> Job[Self]:
        """:meth:`of` as a job: progress in bytes where the encoder's weights have to be downloaded."""
        settings = study.settings.encode.model_copy(deep=True)
        tissue = study.settings.tissue.model_copy(deep=True)
        selection = study.selection
        encoder = yield from study.instruments.encoder_job(settings)
        return cls(study, settings, encoder, tissue, selection)

    def grid(self, entry: SlideEntry) -> TileGrid:
        """The tiles of a slide."""
        return self.study.instruments.grid(entry, self.settings, self.encoder, self.tissue)

    def place(self, entry: SlideEntry) -> Place:
        """Everything about one slide."""
        grid = self.grid(entry)
        before = grid.check_slide()
        transform = self.study.instruments.encode_transform(entry, self.settings)
        # the transform was estimated on the same colours as the tiles will have
        grid.check_slide(before)
        key = "none" if transform is None else transform.key
        encoder = self.encoder
        array = self.study.store().array(entry.fingerprint, encoder.key, grid.key, key, dim=encoder.dim)
        return Place(grid, transform, array)
