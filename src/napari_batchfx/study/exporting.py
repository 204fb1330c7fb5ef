"""Write what a study holds in the formats that other programs open."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from napari_batchfx.errors import BatchfxError, StudyError
from napari_batchfx.jobs import Job, Ticker
from napari_batchfx.study.problems import Problem
from napari_batchfx.study.result_table import result_table
from napari_batchfx.study.tissue_regions import is_tissue_class

if TYPE_CHECKING:
    from anndata import AnnData

    from napari_batchfx.report.exports import QuPathRegion
    from napari_batchfx.study.bench import Bench
    from napari_batchfx.study.entries import SlideEntry
    from napari_batchfx.tiles import TileMap

__all__ = ["EXPORTS", "ExportOutcome", "export_job"]

#: What can be exported, and what it is, in words for the user.
EXPORTS: Final[Mapping[str, str]] = {
    "geojson": "tiles and regions with their values for QuPath, a file a slide",
    "csv": "a line a tile, without features",
    "h5ad": "features and values for scanpy, squidpy and scib, one file",
    "h5": "features as TRIDENT and CLAM write them, a file a slide",
    "spatialdata": "tiles as shapes with their table, one zarr folder",
    "png": "overlays with legend and scale bar, a picture each",
    "ome-tiff": "overlays as numbers, a file each",
    "ome-zarr": "overlays as numbers, a folder each",
}
_MEASURES = {
    "probe_confidence": "site probe: confidence",
    "probe_margin": "site probe: margin",
    "probe_entropy": "site probe: entropy",
    "prediction_before_probability": "prediction before: probability",
    "prediction_after_probability": "prediction after: probability",
    "prediction_changed": "prediction changed",
    "control": "control sample",
    "tissue": "tissue share",
}
_PICTURE = 1400


@dataclass(frozen=True)
class ExportOutcome:
    """What an export wrote.

    Parameters
    ----------
    folder : Path
    files : tuple of Path
        In the order they were written.
    slides : dict of str to str
        What each slide (by its name in the study) is called in the files.
    problems : tuple of Problem
        What could not be written; the rest was.
    """

    folder: Path
    files: tuple[Path, ...]
    slides: dict[str, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


def export_job(
    study: Bench, folder: Path | str, kinds: Sequence[str], *, with_identifiers: bool = False
) -> Job[ExportOutcome]:
    """Write tiles, values and overlays of a study into a folder (see :meth:`Study.export_job`)."""
    unknown = [kind for kind in kinds if kind not in EXPORTS]
    if unknown or not kinds:
        raise StudyError(
            f"{unknown[0] if unknown else 'Nothing'}: there is no such export; choose of "
            f"{', '.join(EXPORTS)}."
        )
    target = Path(folder).expanduser().absolute()
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(
            f"{target.name}: the folder can't be made ({error.strerror}); choose another place."
        ) from error
    work = _Export(study, target, with_identifiers)
    asked = list(dict.fromkeys(kinds))
    ticker = Ticker(0, "reading features", "files")
    yield ticker.tick(0)
    work.read()
    steps = work.steps(asked)
    ticker = Ticker(len(steps), "exporting", "files")
    yield ticker.tick(0)
    for what, write in steps:
        try:
            found = write()
            if found is not None:
                work.files.append(found)
        except (BatchfxError, OSError) as error:
            work.problems.append(Problem(what, str(error)))
        yield ticker.tick()
    try:
        work.files.append(work.write_provenance(asked))
    except OSError as error:
        said = f"export.json: it can't be written ({error.strerror}); free some room and export again."
        work.problems.append(Problem("export.json", said))
    return ExportOutcome(target, tuple(work.files), dict(work.slides), tuple(work.problems))


class _Export:
    """One export while it is written."""

    def __init__(self, study: Bench, folder: Path, with_identifiers: bool) -> None:
        self.study, self.folder, self.named = study, folder, with_identifiers
        self.files: list[Path] = []
        self.problems: list[Problem] = []
        patients = dict.fromkeys(entry.patient for entry in study.slides if entry.patient)
        self.patients = {name: f"patient-{i}" for i, name in enumerate(patients, 1)}
        if with_identifiers:
            self.slides = {entry.name: entry.name for entry in study.slides}
        else:
            self.slides = {entry.name: f"slide-{i}" for i, entry in enumerate(study.slides, 1)}
        self._stems = _file_stems(self.slides)
        self._make_mask()

    def read(self) -> None:
        from napari_batchfx.report.exports import mask_table

        table = result_table(self.study)
        self.table: AnnData = table if self.named else mask_table(table, self.slides, self.patients)
        self.origin: dict[str, Any] = self.table.uns["batchfx"]
        if "results" in self.origin:
            self.origin["results"] = self._masked(self.origin["results"])
        self.present = set(self.table.obs["slide"].astype(str))

    def steps(self, kinds: Sequence[str]) -> list[tuple[str, Any]]:
        """What is written, a file each."""
        steps: list[tuple[str, Any]] = []
        for kind in kinds:
            if kind == "csv":
                steps.append(("tiles.csv", self._csv))
            elif kind == "h5ad":
                steps.append(("tiles.h5ad", self._h5ad))
            elif kind == "spatialdata":
                steps.append(("tiles.zarr", self._spatialdata))
            elif kind in ("geojson", "h5"):
                write = self._geojson if kind == "geojson" else self._h5
                for entry in self.study.slides:
                    if self.slides[entry.name] in self.present:
                        steps.append((self.slides[entry.name], lambda e=entry, w=write: w(e)))
            else:
                for entry, name, tiles in self._maps():
                    steps.append(
                        (
                            f"{self.slides[entry.name]} {name}",
                            lambda e=entry, n=name, t=tiles, k=kind: self._overlay(e, n, t, k),
                        )
                    )
        return steps

    def _path(self, entry: SlideEntry, ending: str) -> Path:
        """A file of a slide."""
        return self.folder / f"{self._stems[entry.name]}{ending}"

    def _csv(self) -> Path:
        from napari_batchfx.report.tables import csv_text

        path = self.folder / "tiles.csv"
        obs = self.table.obs
        rows = [
            [name, *(None if _missing(value) else value for value in row)]
            for name, row in zip(obs.index, obs.itertuples(index=False, name=None), strict=True)
        ]
        draft = path.with_name(f".{path.name}.part")
        try:
            draft.write_text(csv_text(["tile", *map(str, obs.columns)], rows), encoding="utf-8", newline="")
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        return path

    def _h5ad(self) -> Path:
        from napari_batchfx.features import write_h5ad

        return write_h5ad(self.table, self.folder / "tiles.h5ad")

    def _spatialdata(self) -> Path:
        from napari_batchfx.report.exports import write_spatialdata

        return write_spatialdata(self.table, self.folder / "tiles.zarr")

    def _h5(self, entry: SlideEntry) -> Path:
        from napari_batchfx.features import write_trident_h5

        return write_trident_h5(self.table, self._path(entry, ".h5"), self.slides[entry.name])

    def _geojson(self, entry: SlideEntry) -> Path:
        from napari_batchfx.features import tile_place
        from napari_batchfx.report.exports import QuPathTiles, write_geojson

        slide = self.slides[entry.name]
        place = tile_place(self.table, slide)
        obs = self.table.obs[(self.table.obs["slide"].astype(str) == slide).to_numpy()]
        measures = {
            name: obs[column].to_numpy(dtype=np.float64)
            for column, name in _MEASURES.items()
            if column in obs
        }
        shown = next((c for c in ("prediction_after", "label") if c in obs and obs[c].notna().any()), None)
        classes: list[str | None] = (
            [] if shown is None else [None if _missing(v) else str(v) for v in obs[shown]]
        )
        about = {key: value for key, value in self.origin.items() if key != "slides"}
        about["slide"] = self.origin["slides"][slide]
        about["classes_are"] = shown or "none"
        return write_geojson(
            self._path(entry, ".geojson"),
            QuPathTiles(place.corners, place.side, measures, classes),
            self._regions(entry, place.mpp, obs, measures),
            provenance=about,
            identity=entry.fingerprint,
        )

    def _regions(
        self, entry: SlideEntry, mpp: tuple[float, float], obs: Any, measures: Mapping[str, Any]
    ) -> list[QuPathRegion]:
        """Drawn regions with the means of the tiles whose centres they hold."""
        import shapely

        from napari_batchfx.report.exports import QuPathRegion

        regions = []
        points = shapely.points(obs["x_um"].to_numpy(), obs["y_um"].to_numpy())
        for one in self.study.annotations:
            if one.slide != entry.name:
                continue
            xy = np.asarray(one.polygon_um)[:, ::-1]
            values: dict[str, float] = {}
            if not is_tissue_class(one.class_name):
                inside = shapely.contains_xy(
                    shapely.Polygon(xy).buffer(0), shapely.get_x(points), shapely.get_y(points)
                )
                values["tiles"] = float(inside.sum())
                for name, column in measures.items():
                    known = column[inside & np.isfinite(column)]
                    if len(known):
                        values[f"mean {name}"] = float(known.mean())
            regions.append(
                QuPathRegion(
                    xy / [mpp[1], mpp[0]],
                    "control" if one.is_control and not one.class_name else one.class_name,
                    values,
                )
            )
        return regions

    def _maps(self) -> list[tuple[SlideEntry, str, TileMap]]:
        from napari_batchfx.study.maps import adapt_maps, probe_maps

        probe, adapt = probe_maps(self.study), adapt_maps(self.study)
        found = []
        for entry in self.study.slides:
            maps = {"site-probe": probe[entry.fingerprint]} if entry.fingerprint in probe else {}
            predictions = adapt.get(entry.fingerprint, {})
            if predictions and predictions["before"].n_computed:
                maps |= {
                    f"prediction-{kind}" if kind != "changed" else "changed": one
                    for kind, one in predictions.items()
                }
            found += [(entry, name, tiles) for name, tiles in maps.items()]
        return found

    def _overlay(self, entry: SlideEntry, name: str, tiles: TileMap, kind: str) -> Path:
        from napari_batchfx.report import exports

        about = {key: value for key, value in self.origin.items() if key != "slides"}
        if kind == "png":
            slide = self.study.open_slide(entry)
            thumbnail = slide.thumbnail(_PICTURE)
            height, width = slide.extent_um
            step = (height / thumbnail.shape[0], width / thumbnail.shape[1])
            return exports.write_overlay_png(
                self._path(entry, f"-{name}.png"), thumbnail, step, tiles, categories=tiles.labels
            )
        if kind == "ome-tiff":
            return exports.write_overlay_ome_tiff(
                self._path(entry, f"-{name}.ome.tif"), tiles, provenance=about
            )
        return exports.write_overlay_ome_zarr(self._path(entry, f"-{name}.ome.zarr"), tiles, provenance=about)

    def write_provenance(self, kinds: Sequence[str]) -> Path:
        """What the files are, and what is needed to make them again."""
        from napari_batchfx.features.table import plain
        from napari_batchfx.study import files

        said = {
            "what": {kind: EXPORTS[kind] for kind in kinds},
            "files": [path.name for path in self.files],
            "measurements": {name: column for column, name in _MEASURES.items()},
            "problems": [self._masked(str(problem)) for problem in self.problems],
            "settings": self._masked(self.study.settings.model_dump(mode="json")),
            "study": plain(self.origin),
        }
        text = json.dumps(said, ensure_ascii=False, indent=1, sort_keys=True)
        path = self.folder / "export.json"
        files.write_text(path, text + "\n")
        return path

    def _masked(self, value: Any) -> Any:
        """Plain values with the names of slides, their files and patients replaced in every text."""
        if self.named:
            return value
        if isinstance(value, Mapping):
            return {self._masked(str(key)): self._masked(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self._masked(one) for one in value]
        if not isinstance(value, str) or self._names is None:
            return value
        return self._names.sub(lambda match: self._called[match[0]], value)

    def _make_mask(self) -> None:
        called = {**self.patients, **self.slides}
        called |= {entry.path.name: self.slides[entry.name] for entry in self.study.slides}
        called |= {entry.path.stem: self.slides[entry.name] for entry in self.study.slides}
        # One letter alone names nobody, and would be replaced all over the text.
        names = sorted((name for name in called if len(name) > 1), key=len, reverse=True)
        self._called = called
        self._names = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, names))})(?!\w)") if names else None


def _file_stems(names: Mapping[str, str]) -> dict[str, str]:
    """Names as files may have them on any system, each once."""
    stems: dict[str, str] = {}
    for i, (key, name) in enumerate(names.items(), 1):
        stem = re.sub(r"[^\w.\- ]", "_", name).strip(". ")[:120] or f"slide-{i}"
        taken = {one.lower() for one in stems.values()}
        stems[key] = stem if stem.lower() not in taken else f"{stem}-{i}"
    return stems


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)
