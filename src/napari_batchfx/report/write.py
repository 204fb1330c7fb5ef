"""Write the report: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_batchfx.errors import StudyError
from napari_batchfx.report import figures
from napari_batchfx.report.adaptations import STALE, adaptation_table
from napari_batchfx.report.citations import citations_for
from napari_batchfx.report.compared import compared_table
from napari_batchfx.report.component_figure import component_figure
from napari_batchfx.report.data import Estimate, Overlay, ProbeSection, ReportData, StainRow
from napari_batchfx.report.findings import after_table, robustness_table
from napari_batchfx.report.identifiers import Masker
from napari_batchfx.report.methods_text import asked, classifiers, methods_paragraph
from napari_batchfx.report.numbers import estimate_parts, estimate_text, number, p_text, whisker_svg

__all__ = ["render_report", "write_report"]

PLAIN = "#1c5a96"


def write_report(path: Path | str, data: ReportData) -> Path:
    """Write a report as one self-contained HTML file.

    Parameters
    ----------
    path : path
        The file; it is replaced whole, or not at all.
    data : ReportData
        What it says.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    StudyError
        If the file can't be written.

    Examples
    --------
    >>> write_report("report.html", ReportData("Two scanners", "2026-01-31")).name
    'report.html'
    """
    target = Path(path)
    text = render_report(data)
    draft = target.with_name(f".{target.name}.part")
    try:
        draft.write_text(text, encoding="utf-8", newline="\n")
        os.replace(draft, target)
    except OSError as error:
        if draft.parent.is_dir():
            draft.unlink(missing_ok=True)
        raise StudyError(
            f"{target.name}: the report can't be written there ({error.strerror}); choose another place."
        ) from error
    return target


def render_report(data: ReportData) -> str:
    """Return the report as the text of an HTML file; the same data give the same text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("napari_batchfx.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(_context(data))


def _context(data: ReportData) -> dict[str, Any]:
    masker = Masker.of(data)
    text = masker.text
    used, related = citations_for(data)
    return {
        "title": text(data.title),
        "created": data.created,
        "with_identifiers": data.with_identifiers,
        "slides": _slides(data, masker),
        "n_tiles": sum(slide.tiles for slide in data.slides),
        "design": _design(data, masker),
        "probes": [_probe(section, masker) for section in data.probes],
        "overlays": [_overlay(overlay, masker) for overlay in data.overlays],
        "stains": [_stain(row, masker) for row in data.stains],
        "adaptation": adaptation_table(data.adaptations, masker),
        "asked": [text(question) for question in asked(data)],
        "compared": compared_table(data, masker),
        "controls": _controls(data, masker),
        "components": _components(data, masker),
        "stale": STALE,
        "robustness": robustness_table(data.robustness, masker),
        "comparisons": [after_table(one, masker) for one in data.comparisons],
        "classifiers": classifiers(data),
        "paragraph": text(methods_paragraph(data)),
        "problems": [text(problem) for problem in data.problems],
        "methods": [text(method) for method in data.methods],
        "steps": [text(step) for step in data.steps],
        "settings": {str(key): text(_plain(value)) for key, value in data.settings.items()},
        "versions": dict(data.versions),
        "citations": used,
        "related": related,
    }


def _controls(data: ReportData, masker: Masker) -> dict[str, Any] | None:
    found = data.controls
    if found is None:
        return None
    return {
        "batch": found.batch,
        "verdict": found.verdict,
        "correction": masker.text(found.correction),
        "reasons": [masker.text(str(reason)) for reason in found.reasons],
        "counts": [(masker.name(str(name)), f"{n:,}", f"{of:,}") for name, (n, of) in found.counts.items()],
        "measures": list(found.measures),
    }


def _components(data: ReportData, masker: Masker) -> dict[str, Any] | None:
    found = data.components
    if found is None or not found.explained_variance:
        return None
    masked = {masker.text(str(name)): values for name, values in found.auroc.items()}
    figure = component_figure(dataclasses.replace(found, auroc=masked))
    best = max(
        (max(values), i + 1, name) for name, values in masked.items() for i in [int(np.argmax(values))]
    )
    return {
        "batch": found.batch,
        "encoder": masker.text(found.encoder),
        "stain": masker.text(found.stain),
        "tiles": f"{found.tiles:,}",
        "figure": figures.to_svg(figure, f"How well each principal component tells each {found.batch} apart"),
        "best": (number(best[0]), best[1], best[2]),
        "share": f"{100 * found.explained_variance[best[1] - 1]:.0f} %",
        "chance": number(found.chance),
        "has_level": any(np.isfinite(value) for value in found.level),
        "first": [(n, *estimate_parts(score)) for n, score in found.first],
        "is_current": found.is_current,
    }


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_plain(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_plain(one) for one in value)
    if value is None:
        return "not set"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _slides(data: ReportData, masker: Masker) -> list[dict[str, Any]]:
    rows = []
    for slide in data.slides:
        mpp = slide.mpp
        if mpp is None:
            size = "not known"
        elif isinstance(mpp, int | float):
            size = f"{mpp:.4g}"
        else:
            size = (
                f"{mpp[1]:.4g}"
                if math.isclose(mpp[0], mpp[1], rel_tol=1e-3)
                else f"{mpp[1]:.4g} × {mpp[0]:.4g}"
            )
        rows.append(
            {
                "name": masker.name(slide.name),
                "site": masker.text(slide.site),
                "scanner": masker.text(slide.scanner),
                "stain": masker.text(slide.stain),
                "mpp": size,
                "tiles": f"{slide.tiles:,}",
                "patient": slide.patient if data.with_identifiers else "",
                "file": slide.file if data.with_identifiers else "",
                "note": masker.text(slide.note),
            }
        )
    return rows


def _design(data: ReportData, masker: Masker) -> dict[str, Any] | None:
    design = data.design
    if design is None:
        return None
    counts = np.asarray(design.counts)
    return {
        "batch": design.batch,
        "batches": [masker.name(str(name)) for name in design.batches],
        "rows": [
            (masker.text(str(name)), [f"{int(n):,}" for n in row], bool((row == 0).any()))
            for name, row in zip(design.classes, counts, strict=True)
        ],
        "cramers_v": None if design.cramers_v is None else number(design.cramers_v),
        "note": masker.text(design.note),
    }


def _probe(section: ProbeSection, masker: Masker) -> dict[str, Any]:
    result = section.result
    names = [masker.name(str(name)) for name in result.batches]
    score = Estimate(float(result.balanced_accuracy), _interval(result.ci))
    description = f"Balanced accuracy {estimate_text(score)}; guessing gets {number(float(result.chance))}"
    figure = figures.confusion_figure(result.confusion, names, what=section.batch)
    support = result.support or {}
    per_batch = support.get("batches", {})
    n = int(np.asarray(result.confusion).sum())
    grouped = str(getattr(result, "grouped_by", "") or support.get("grouped_by", ""))
    return {
        "batch": section.batch,
        "encoder": masker.text(section.encoder),
        "stain": masker.text(section.stain),
        "tiles": section.tiles,
        "is_current": section.is_current,
        "n": f"{n:,}" if n else "",
        "parts": estimate_parts(score),
        "verdict": masker.text(result.verdict),
        "score": estimate_text(score),
        "chance": number(float(result.chance)),
        "p": p_text(None if result.permutation_p is None else float(result.permutation_p)),
        "permutations": getattr(result, "settings", {}).get("permutations"),
        "grouped_by": grouped,
        "whisker": whisker_svg([(score, PLAIN)], float(result.chance), html.escape(description, quote=True)),
        "confusion": figures.to_svg(
            figure, f"Which {section.batch} the tiles of each {section.batch} were taken for"
        ),
        "warnings": ([] if section.is_current else [STALE])
        + [masker.text(str(warning)) for warning in result.warnings],
        "support": _support(per_batch, masker),
        "support_other": [
            f"{str(key).replace('_', ' ')}: {masker.text(text)}"
            for key, value in support.items()
            if key not in ("batches", "grouped_by", "tiles")
            and (text := _plain(_counted(value))) not in ("", "0")
        ],
        "by_class": [
            (masker.text(str(name)), number(float(values["value"])), f"{int(values.get('n', 0)):,}")
            for name, values in (getattr(result, "by_class", None) or {}).items()
            if values.get("value") is not None
        ],
    }


def _counted(value: Any) -> Any:
    """Without the counts of nothing."""
    if isinstance(value, Mapping):
        return {str(key).replace("_", " "): one for key, one in value.items() if one}
    return value


def _interval(ci: Any) -> tuple[float, float] | None:
    if ci is None:
        return None
    low, high = (float("nan") if v is None else float(v) for v in ci)
    return (low, high)


def _support(per_batch: Any, masker: Masker) -> dict[str, Any] | None:
    if not isinstance(per_batch, Mapping) or not all(isinstance(v, Mapping) for v in per_batch.values()):
        return None
    columns = list(dict.fromkeys(str(key) for values in per_batch.values() for key in values))
    rows = [
        (masker.name(str(name)), [_plain(values.get(column, "")) for column in columns])
        for name, values in per_batch.items()
    ]
    return {"columns": columns, "rows": rows} if rows else None


def _overlay(overlay: Overlay, masker: Masker) -> dict[str, Any]:
    slide, tiles = masker.name(overlay.slide), overlay.tiles
    categories = [masker.name(str(name)) for name in overlay.categories]
    figure = figures.overlay_figure(
        overlay.thumbnail,
        overlay.thumbnail_um,
        tiles,
        categories=categories,
        scale_bar_um=overlay.scale_bar_um,
    )
    return {
        "slide": slide,
        "name": masker.text(tiles.name),
        "description": masker.text(tiles.description),
        "n": f"{tiles.n_computed:,}",
        "size": f"{tiles.size_um:.3g}",
        "picture": _data_uri(figures.to_jpeg(figure), "jpeg"),
    }


def _stain(row: StainRow, masker: Masker) -> dict[str, Any]:
    stains = None
    if row.matrix is not None and row.max_concentration is not None:
        stains = [
            {
                "name": name,
                "vector": ", ".join(f"{v:.2f}" for v in vector),
                "colour": "#{:02x}{:02x}{:02x}".format(*_swatch(vector)),
                "most": number(float(most)),
            }
            for name, vector, most in zip(
                ("haematoxylin", "eosin"),
                np.asarray(row.matrix),
                np.asarray(row.max_concentration),
                strict=True,
            )
        ]
    return {
        "slide": masker.name(row.slide),
        "method": row.method,
        "n_pixels": f"{row.n_pixels:,}" if row.n_pixels else "",
        "stains": stains,
        "before": _image_uri(row.before),
        "after": _image_uri(row.after),
        "warnings": [masker.text(str(warning)) for warning in row.warnings],
    }


def _swatch(vector: npt.NDArray[np.float64]) -> list[int]:
    """The colour of a stain at an optical density of one."""
    return [int(v) for v in np.clip(np.rint(255 * np.exp(-vector)), 0, 255)]


def _data_uri(picture: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode('ascii')}"


def _image_uri(image: npt.NDArray[np.uint8] | None, largest: int = 700) -> str:
    if image is None:
        return ""
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(image[..., :3]))
    picture.thumbnail((largest, largest), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88, subsampling=0)
    return _data_uri(buffer.getvalue(), "jpeg")
