"""Control samples of a study: suggested, judged, put in and taken out, exported and imported."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_batchfx.errors import StudyError
from napari_batchfx.study import files
from napari_batchfx.study.bench import Bench
from napari_batchfx.study.entries import SlideEntry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_batchfx.adapt import ControlDiagnostics
    from napari_batchfx.jobs import Job
    from napari_batchfx.study.control_tiles import ControlTile
    from napari_batchfx.study.suggesting import ControlSuggestion

__all__ = ["ControlBench"]


class ControlBench(Bench):
    """A bench with a basket of control samples."""

    def put_controls(self, tiles: Iterable[ControlTile]) -> None:
        """Put tiles into the basket of control samples, or take them out (``is_taken=False``).

        What is said of a tile here stands above the control regions drawn; the last word holds.

        Raises
        ------
        StudyError
            If the study has no such slide.
        """
        from napari_batchfx.study.control_tiles import put

        tiles = list(tiles)
        for name in {tile.slide for tile in tiles}:
            self.slide(name)
        self.controls = put(self.controls, tiles)

    def control_cells(self, entry: SlideEntry | str) -> NDArray[np.int64]:
        """The tiles of a slide that are control samples, by regions and basket, int (n, 2)."""
        import numpy as np

        from napari_batchfx.study.annotations import tile_labels
        from napari_batchfx.study.control_tiles import mark_controls

        entry = self.slide(entry)
        grid = self.grid(entry)
        drawn = tile_labels(list(self.annotations), entry.name, grid).control
        return np.argwhere(mark_controls(self.controls, entry.name, grid, drawn)).astype(np.int64)

    def put_control_cells(
        self, entry: SlideEntry | str, cells: NDArray[np.integer[Any]], *, is_taken: bool = True
    ) -> None:
        """Make tiles of a slide's grid control samples by hand, or no longer (a click in the basket)."""
        from napari_batchfx.study.control_tiles import ControlTile

        entry = self.slide(entry)
        grid = self.grid(entry)
        self.put_controls(
            ControlTile(entry.name, float(y), float(x), grid.size_um, is_taken=is_taken)
            for y, x in grid.center_um(cells)
        )

    def suggest_controls_job(
        self,
        *,
        per_slide: int = 50,
        tissue_class: str | None = None,
        pairs: bool = False,
        seed: int = 0,
    ) -> Job[ControlSuggestion]:
        """Suggest control samples for ``settings.adapt.batch``, each with its reason.

        Tiles of every slide are looked at, at most 400 a slide, apart from their colour and without features
        (see :func:`napari_batchfx.adapt.controls.suggest`). Nothing is changed: :meth:`take_suggestion` takes
        what was suggested, :meth:`put_controls` a part of it.

        Parameters
        ----------
        per_slide : int
            Most tiles a slide.
        tissue_class : str, optional
            Only tiles drawn as that class.
        pairs : bool
            Only tiles that show the same tissue on every batch (aligned rescans).
        seed : int

        Returns
        -------
        Job
            Returns a :class:`ControlSuggestion`. A slide that can't be read is reported and left out.
        """
        from napari_batchfx.study.suggesting import suggest_controls_job

        return self._watched(
            suggest_controls_job(self, per_slide=per_slide, tissue_class=tissue_class, pairs=pairs, seed=seed)
        )

    def suggest_controls(
        self, *, per_slide: int = 50, tissue_class: str | None = None, pairs: bool = False, seed: int = 0
    ) -> ControlSuggestion:
        """Drive :meth:`suggest_controls_job` to its end."""
        from napari_batchfx.jobs import run

        return run(
            self.suggest_controls_job(per_slide=per_slide, tissue_class=tissue_class, pairs=pairs, seed=seed)
        )

    def take_suggestion(self, found: ControlSuggestion) -> None:
        """Put suggested tiles into the basket, and write the suggestion down as a step of the study."""
        from napari_batchfx.study.recording import add_step, made_step

        self.put_controls(found.tiles)
        if not self.is_repeating:
            settings = self.settings.model_copy(deep=True)
            add_step(self, made_step(self, "suggest-controls", found, settings, found.asked))

    def fill_basket_job(
        self,
        *,
        per_slide: int = 50,
        tissue_class: str | None = None,
        pairs: bool = False,
        seed: int = 0,
    ) -> Job[ControlSuggestion]:
        """Suggest control samples and take them, where a study has none.

        Control regions that are drawn, and a basket that tiles were put into or taken out of, are what a
        person chose: they are kept. That is what makes a recorded suggestion safe to do again.

        Parameters
        ----------
        per_slide, tissue_class, pairs, seed
            As :meth:`suggest_controls_job` takes them.

        Returns
        -------
        Job
            Returns a :class:`ControlSuggestion`, of the tiles that are in the basket then.
        """
        asked = {"per_slide": per_slide, "tissue_class": tissue_class, "pairs": pairs, "seed": seed}
        return self._watched(self._fill_basket(asked))

    def _fill_basket(self, asked: dict[str, Any]) -> Job[ControlSuggestion]:
        from napari_batchfx.jobs import Progress
        from napari_batchfx.study.steps import has_controls
        from napari_batchfx.study.suggesting import ControlSuggestion, suggest_controls_job

        yield Progress(0, 0, "looking at tissue")
        if self.controls or has_controls(self):
            tiles = tuple(tile for tile in self.controls if tile.is_taken)
            return ControlSuggestion(
                tiles, f"{len(tiles):,} control tiles in the basket, as they were chosen.", (), asked
            )
        found = yield from suggest_controls_job(self, **asked)
        self.take_suggestion(found)
        return found

    def diagnose_controls_job(self) -> Job[ControlDiagnostics]:
        """Judge the control samples with the correction of the settings, before anything is corrected."""
        from napari_batchfx.study.recording import recorded
        from napari_batchfx.study.steps import diagnose_controls_job

        return self._watched(recorded(self, "judge-controls", diagnose_controls_job(self)))

    def export_controls(self, path: Path | str, *, with_identifiers: bool = False) -> Path:
        """Write the basket as CSV or, by the file's suffix, GeoJSON; slides by name only if asked.

        Raises
        ------
        StudyError
            If the basket is empty, the suffix is neither, or the file can't be written.
        """
        from napari_batchfx.study.control_tiles import to_csv, to_geojson

        path = Path(path)
        if not self.controls:
            raise StudyError(f"{self.name}: the basket of control samples is empty; suggest or click some.")
        write = {".csv": to_csv, ".geojson": to_geojson}.get(path.suffix.lower())
        if write is None:
            raise StudyError(f"{path.name}: control samples are written as .csv or .geojson; choose one.")
        try:
            files.write_text(path, write(self.controls, self.slides, with_identifiers=with_identifiers))
        except OSError as error:
            raise StudyError(f"{path.name}: it can't be written ({error.strerror}).") from error
        return path

    def import_controls(self, path: Path | str) -> list[str]:
        """Put the tiles of a file into the basket; what was left out is said.

        The file is one that :meth:`export_controls` wrote.

        Raises
        ------
        StudyError
            If the file can't be read or is something else.
        """
        from napari_batchfx.study.control_tiles import read_file

        tiles, left = read_file(Path(path), self.slides)
        self.put_controls(tiles)
        return left
