"""What a study found, put into the words and pictures of a report."""

from __future__ import annotations

import dataclasses
import datetime
import re
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_batchfx.errors import BatchfxError, StudyError
from napari_batchfx.study import files
from napari_batchfx.study.maps import adapt_maps, probe_maps
from napari_batchfx.study.report_findings import after_sections, components_section, robustness_section
from napari_batchfx.study.report_rows import (
    adaptation_rows,
    control_section,
    former_names,
    probe_sections,
    stain_label,
)

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from napari_batchfx.report import (
        DesignTable,
        Overlay,
        SlideRow,
        StainRow,
    )
    from napari_batchfx.slides import Slide
    from napari_batchfx.study.adapted import AdaptOutcome
    from napari_batchfx.study.bench import Bench
    from napari_batchfx.study.entries import SlideEntry
    from napari_batchfx.study.results import ProbeOutcome
    from napari_batchfx.tiles import TileMap

__all__ = ["report_data", "write_study_report"]

_PACKAGES = ("napari-batchfx", "numpy", "scikit-learn", "anndata", "zarr", "tifffile", "torch", "timm")
_THUMBNAIL = 900
_TITLE = "Batch-effect report"


def write_study_report(study: Bench, path: Path, *, with_identifiers: bool = False) -> Path:
    """Write the report of a study (see :meth:`Study.report`)."""
    from napari_batchfx.report import write_report

    path = path.expanduser().absolute()
    if not path.parent.is_dir():
        raise StudyError(f"{path.name}: there is no folder {path.parent.name} to write to; make it first.")
    try:
        write_report(path, report_data(study, with_identifiers=with_identifiers))
    except OSError as error:
        raise StudyError(
            f"{path.name}: the report can't be written ({error.strerror}); choose another place."
        ) from error
    return path


def report_data(study: Bench, *, with_identifiers: bool = False) -> Any:
    """Everything a report of this study holds, as a :class:`napari_batchfx.report.ReportData`.

    Slides that can't be opened are left out of the pictures and named among the problems.
    """
    from napari_batchfx.report import ReportData

    try:
        table: AnnData | None = study.table("tissue")
    except StudyError:
        table = None
    thumbnails = {
        entry.fingerprint: found for entry in study.slides if (found := _thumbnail(study, entry)) is not None
    }
    return ReportData(
        title=study.name if with_identifiers else _TITLE,
        created=datetime.date.today().isoformat(),
        versions={name: version for name in _PACKAGES if (version := _version(name))},
        slides=[_slide_row(study, entry, table) for entry in study.slides],
        design=None if table is None else _design(study, table),
        probes=probe_sections(study),
        overlays=_overlays(study, thumbnails),
        stains=_stains(study, thumbnails),
        adaptations=adaptation_rows(study),
        controls=control_section(study),
        components=components_section(study),
        robustness=robustness_section(study),
        comparisons=after_sections(study),
        problems=_problems(study, with_identifiers) + _outdated(study),
        methods=_methods(study),
        steps=_steps(study, study.folder.name if with_identifiers else f"STUDY{files.SUFFIX}"),
        settings=study.settings.model_dump(),
        with_identifiers=with_identifiers,
        former_names=former_names(study),
    )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _thumbnail(study: Bench, entry: SlideEntry) -> NDArray[np.uint8] | None:
    try:
        return study.open_slide(entry).thumbnail(_THUMBNAIL)
    except (BatchfxError, OSError) as error:
        study.report_problem(entry.name, error)
        return None


def _slide_row(study: Bench, entry: SlideEntry, table: AnnData | None) -> SlideRow:
    from napari_batchfx.report import SlideRow

    mpp, note = entry.mpp_given, "the file can't be opened"
    try:
        slide = study.open_slide(entry)
        mpp, note = slide.mpp, _slide_note(entry, slide)
    except (BatchfxError, OSError) as error:
        study.report_problem(entry.name, error)
    tiles = 0 if table is None else int((table.obs["slide"] == entry.name).sum())
    return SlideRow(
        entry.name, entry.site, entry.scanner, entry.stain, mpp, tiles, entry.patient, entry.path.name, note
    )


def _slide_note(entry: SlideEntry, slide: Slide) -> str:
    """What a reader of the report must know of a slide beside its numbers; no names but the reference's."""
    notes = []
    if slide.mpp_source != "file":
        notes.append(f"pixel size: {slide.mpp_source}")
    if slide.colour_key:
        notes.append("colours converted to sRGB by the file's profile")
    elif slide.icc_name is not None:
        notes.append("colour profile in the file not applied")
    if slide.modality != "brightfield":
        notes.append(slide.modality)
    if entry.alignment is not None:
        left = entry.alignment.residual_um
        notes.append(
            f"aligned ({entry.alignment.verdict}" + (f", {left:.1f} µm left)" if left is not None else ")")
        )
    if slide.damage:
        # of the file, found so far: how many tiles of the grid they cost is not kept
        n = len(slide.damage)
        notes.append(
            f"pixels damaged in the file: {n:,} {'place' if n == 1 else 'places'} found; tiles on them are "
            "left out"
        )
    return "; ".join(notes)


def _design(study: Bench, table: AnnData) -> DesignTable | None:
    """Tiles a class and batch, where there are classes."""
    import pandas as pd

    from napari_batchfx.errors import ProbeError
    from napari_batchfx.probe.metrics import cramers_v
    from napari_batchfx.report import DesignTable

    batch = study.settings.probe.batch
    labelled = table.obs[table.obs["label"].notna()]
    if labelled.empty:
        return None
    counts = pd.crosstab(labelled["label"].astype(str), labelled[batch].astype(str))
    association: float | None = None
    note = ""
    if min(counts.shape) > 1:
        try:
            association = float(getattr(found := cramers_v(table, "label", batch), "value", found))
        except ProbeError as error:
            note = str(error)
    else:
        only = "class" if counts.shape[0] < 2 else batch
        note = f"Only one {only} has labelled tiles."
    return DesignTable(
        [str(name) for name in counts.index],
        [str(name) for name in counts.columns],
        counts.to_numpy(dtype=np.int64),
        batch,
        association,
        note,
    )


def _overlays(study: Bench, thumbnails: dict[str, NDArray[np.uint8]]) -> list[Overlay]:
    from napari_batchfx.report import Overlay

    probe, adapt = probe_maps(study), adapt_maps(study)
    classes = (
        [] if study.results.adapt is None else [str(name) for name in study.results.adapt.before.classes]
    )
    overlays = []
    for entry in study.slides:
        thumbnail = thumbnails.get(entry.fingerprint)
        if thumbnail is None:
            continue
        none: list[str] = []
        maps = [(probe[entry.fingerprint], none)] if entry.fingerprint in probe else []
        maps += _predictions(adapt.get(entry.fingerprint, {}), classes)
        if not maps:
            continue
        height, width = study.open_slide(entry).extent_um
        step = (height / thumbnail.shape[0], width / thumbnail.shape[1])
        overlays += [Overlay(entry.name, thumbnail, step, tiles, names) for tiles, names in maps]
    return overlays


def _predictions(maps: dict[str, TileMap], classes: list[str]) -> list[tuple[TileMap, list[str]]]:
    """Maps of one slide that hold something, with the names of their values."""
    names = {
        "before": ("class predicted before correction", classes),
        "after": ("class predicted after correction", classes),
        "changed": ("what the correction changed", ["same", "changed"]),
    }
    if not maps or not maps["before"].n_computed:  # a slide that was learned from
        return []
    found = []
    for kind, tiles in maps.items():
        name, values = names[kind]
        known = np.where(np.isfinite(maps["before"].values), tiles.values, np.nan).astype(np.float32)
        found.append((dataclasses.replace(tiles, values=known, name=name, description=""), values))
    return found


def _stains(study: Bench, thumbnails: dict[str, NDArray[np.uint8]]) -> list[StainRow]:
    """The stain of every slide, where features were normalised."""
    from napari_batchfx.report import StainRow
    from napari_batchfx.stain import StainEstimate

    rows = []
    if study.settings.encode.normalizer is None:
        return []
    for entry in study.slides:
        thumbnail = thumbnails.get(entry.fingerprint)
        if thumbnail is None:
            continue
        try:
            transform = study.encode_transform(entry)
        except BatchfxError as error:
            study.report_problem(entry.name, error)
            continue
        if transform is None:
            continue
        source = transform.source
        vectors = source if isinstance(source, StainEstimate) else None
        rows.append(
            StainRow(
                entry.name,
                None if vectors is None else vectors.matrix,
                None if vectors is None else vectors.max_concentration,
                thumbnail,
                transform.transform(thumbnail),
                stain_label(transform.method),
                int(source.n_pixels),
                transform.warnings,
            )
        )
    return rows


def _methods(study: Bench) -> list[str]:
    """How the tiles of each encoding became vectors."""
    outcomes: list[ProbeOutcome | AdaptOutcome] = [*study.results.probes, *study.results.adaptations]
    texts = []
    for outcome in outcomes:
        encode = outcome.computed_from["encode"]
        size = encode["size_px"] * encode["mpp"]
        texts.append(
            f"Tiles of {encode['size_px']} px at {encode['mpp']:g} µm a pixel ({size:g} µm), at least "
            f"{encode['min_tissue']:.0%} tissue, were turned into vectors by "
            f"{outcome.computed_from['encoder']}."
        )
    return list(dict.fromkeys(texts))


def _problems(study: Bench, with_identifiers: bool) -> list[str]:
    """What went wrong; the study's own name may be a patient's, so it stays out as theirs do."""
    texts = [str(problem) for problem in study.problems]
    if with_identifiers:
        return texts
    # One letter alone names nobody, and would be replaced all over the text.
    own = [re.escape(name) for name in (study.folder.name, study.name) if len(name) > 1]
    return [re.sub(rf"(?<!\w)(?:{'|'.join(own)})(?!\w)", "the study", text) for text in texts]


def _steps(study: Bench, folder: str) -> list[str]:
    steps = [f"napari-batchfx run {folder}"]
    if len({one.computed_from["settings"]["method"] for one in study.results.adaptations}) > 1:
        steps.append(f"napari-batchfx adapt {folder} --method all")
    return steps


def _outdated(study: Bench) -> list[str]:
    """Results whose settings are not those of the study now; changed slides and regions are marked there."""
    last: list[tuple[Literal["probe", "adapt"], str, ProbeOutcome | AdaptOutcome | None]] = [
        ("probe", "site probe", study.results.probe),
        ("adapt", "adaptation", study.results.adapt),
    ]
    return [
        f"The settings changed after the {name} was computed; its numbers are of the settings before."
        for step, name, outcome in last
        if outcome is not None and study.still_holds(outcome) and not study.is_current(step)
    ]
