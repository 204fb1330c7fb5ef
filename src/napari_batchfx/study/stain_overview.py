"""The stain of every slide side by side: estimates, transforms, who stands apart; as rows and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_batchfx.errors import BatchfxError, StainError, StudyError
from napari_batchfx.jobs import Job, Ticker
from napari_batchfx.study import files
from napari_batchfx.study.entries import SlideEntry

if TYPE_CHECKING:
    from napari_batchfx.stain import LabStatistics, StainEstimate, StainTransform
    from napari_batchfx.study.bench import Bench

__all__ = ["StainOverview", "StainRow", "stain_overview_job"]

#: Fewer slides say nothing about which of them stands apart.
LEAST_SLIDES = 4
_MADS = 3.5
#: What two ordinary slides of one laboratory may differ by: an angle in degrees, an intensity as a share.
_ANGLE_DEG, _SHARE, _LAB = 4.0, 0.25, 6.0


@dataclass(frozen=True, eq=False)
class StainRow:
    """One slide.

    Parameters
    ----------
    slide, fingerprint : str
    estimate : StainEstimate or LabStatistics or None
        ``None`` where it was declined.
    declined : str
        Why there is no estimate.
    apart : tuple of str
        In what it differs from the other slides, in words; empty where it is like them.
    """

    slide: str
    fingerprint: str
    estimate: StainEstimate | LabStatistics | None
    declined: str = ""
    apart: tuple[str, ...] = ()

    @property
    def dots(self) -> tuple[tuple[str, float, float], ...]:
        """What is drawn: (stain, direction in degrees, intensity) a stain, or ("tissue", hue, lightness)."""
        from napari_batchfx.stain import StainEstimate

        found = self.estimate
        if found is None:
            return ()
        if isinstance(found, StainEstimate):
            return tuple(
                (name, float(direction), float(strongest))
                for name, (direction, _), strongest in zip(
                    found.stains, found.directions_deg, found.max_concentration, strict=True
                )
            )
        light, a, b = (float(v) for v in found.mean)
        return (("tissue", float(np.degrees(np.arctan2(b, a))), light),)

    def numbers(self) -> dict[str, Any]:
        """Plain values for a table or a CSV."""
        from napari_batchfx.stain import StainEstimate

        found = self.estimate
        values: dict[str, Any] = {"method": "" if found is None else found.method}
        if isinstance(found, StainEstimate):
            values["stains"] = found.kind
            for k, name in enumerate(("haematoxylin", "second stain")):
                row = found.matrix[k]
                values |= {
                    f"{name} {c}": float(v) for c, v in zip(("red", "green", "blue"), row, strict=True)
                }
                values[f"{name} direction, degrees"] = float(found.directions_deg[k, 0])
                values[f"{name} intensity"] = float(found.max_concentration[k])
            values["degrees between"] = found.angle_deg
        elif found is not None:
            for axis, mean, std in zip("Lab", found.mean, found.std, strict=True):
                values |= {f"mean {axis}": float(mean), f"spread {axis}": float(std)}
        if found is not None:
            values |= {"pixels": found.n_pixels, "quality": found.quality}
        else:
            values["quality"] = "declined"
        said = [self.declined] if self.declined else list(dict.fromkeys(found.doubts if found else ()))
        values["notes"] = " ".join([*said, *(f"Stands apart: {what}." for what in self.apart)])
        return values


@dataclass(frozen=True, eq=False)
class StainOverview:
    """What :func:`stain_overview_job` found.

    Parameters
    ----------
    method : str
        Id of the stain method.
    target : str
        What is aimed at, in words.
    rows : tuple of StainRow
        A slide each, in the study's order.
    transforms : dict of str to StainTransform
        By the slide's fingerprint, at full strength; only slides whose stain could be estimated.
    warnings : tuple of str
        What could mislead, with the slide's name.
    """

    method: str
    target: str
    rows: tuple[StainRow, ...]
    transforms: dict[str, StainTransform]
    warnings: tuple[str, ...] = ()

    @property
    def has_vectors(self) -> bool:
        """Whether the method separates stains."""
        from napari_batchfx import stain

        return stain.method(self.method).has_vectors

    def csv(self, *, with_names: bool = False) -> str:
        """One line a slide; names of slides only where asked for, else a number and the fingerprint."""
        lines = [self._line(k, row, with_names) for k, row in enumerate(self.rows)]
        columns = list(dict.fromkeys(key for line in lines for key in line))
        columns = [*[c for c in columns if c != "notes"], *(["notes"] if "notes" in columns else [])]
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        return text.getvalue()

    def write_csv(self, path: Path | str, *, with_names: bool = False) -> Path:
        """Write :meth:`csv`.

        Raises
        ------
        StudyError
            If it can't be written.
        """
        path = Path(path)
        try:
            files.write_text(path, self.csv(with_names=with_names))
        except OSError as error:
            raise StudyError(
                f"{path.name}: the estimates can't be written ({error.strerror or error}); choose another "
                "place."
            ) from error
        return path

    def _line(self, k: int, row: StainRow, with_names: bool) -> dict[str, Any]:
        name = row.slide if with_names else f"slide {k + 1}"
        line = {"slide": name, "fingerprint": row.fingerprint, **row.numbers()}
        if not with_names:  # a reason names the slide it is about
            line["notes"] = str(line["notes"]).replace(f"{row.slide}: ", "").replace(row.slide, name)
        return line


def stain_overview_job(study: Bench, slides: Sequence[SlideEntry | str] | None = None) -> Job[StainOverview]:
    """Estimate the stain of slides and lay them side by side.

    Parameters
    ----------
    study : Study
        ``settings.stain`` says method, target and regions.
    slides : sequence of SlideEntry or str, optional
        Only these; all otherwise.

    Yields
    ------
    Progress
        Slides. Estimates stay with the study: what is there is not computed again.

    Returns
    -------
    StainOverview

    Raises
    ------
    StainError
        If no slide's stain can be estimated, or the target's can't.

    Examples
    --------
    >>> from napari_batchfx.jobs import run
    >>> from napari_batchfx.samples import demo_pair
    >>> from napari_batchfx.study import Study
    >>> demo = run(demo_pair("demo", size_um=150))
    >>> with Study.create() as study:
    ...     for one in demo:
    ...         _ = study.add_slide(one.path)
    ...     found = run(stain_overview_job(study))
    >>> len(found.rows), found.rows[0].estimate.quality
    (2, 'good')
    """
    choice = study.settings.stain.model_copy(deep=True)
    entries = [study.slide(one) for one in (study.slides if slides is None else slides)]
    ticker = Ticker(len(entries), "estimating stain", "slides")
    yield ticker.tick(0)
    rows: list[StainRow] = []
    for entry in entries:
        try:
            rows.append(StainRow(entry.name, entry.fingerprint, study.stain_estimate(entry, choice.method)))
        except BatchfxError as error:  # fluorescence, a blank slide: the others are shown
            rows.append(StainRow(entry.name, entry.fingerprint, None, str(error)))
        yield ticker.tick()
    if rows and all(row.estimate is None for row in rows):
        raise StainError(rows[0].declined)
    transforms: dict[str, StainTransform] = {}
    warnings = [row.declined for row in rows if row.declined]
    last: BatchfxError | None = None
    for k, (entry, row) in enumerate(zip(entries, rows, strict=True)):
        if row.estimate is None:
            continue
        try:
            made = study.instruments.transform(entry, choice.method, choice.target, choice.cohort)
        except BatchfxError as error:  # H-DAB towards an H&E target
            last = error
            rows[k] = replace(row, declined=str(error))
            warnings.append(f"{entry.name}: {error}")
            continue
        transforms[entry.fingerprint] = made
        warnings += [f"{entry.name}: {warning}" for warning in dict.fromkeys(made.warnings)]
        yield ticker.tick(0)
    if not transforms and last is not None:
        raise last
    return StainOverview(
        choice.method, target_name(choice), tuple(_compared(rows)), transforms, tuple(warnings)
    )


def target_name(choice: Any) -> str:
    """What stain settings aim at, in words for their user."""
    if choice.cohort:
        return "the average of all slides"
    return "the built-in reference" if choice.target is None else str(choice.target)


def _compared(rows: Sequence[StainRow]) -> list[StainRow]:
    """The rows with what makes each of them stand apart from the others."""
    from napari_batchfx.stain import StainEstimate

    known = [row for row in rows if row.estimate is not None]
    if len(known) < LEAST_SLIDES:
        return list(rows)
    facts: dict[str, tuple[list[float], float]] = {}
    estimates: list[Any] = [row.estimate for row in known]
    if all(isinstance(one, StainEstimate) for one in estimates):
        for k, name in enumerate(("haematoxylin", "second stain")):
            for axis in (0, 1):
                values = [float(one.directions_deg[k, axis]) for one in estimates]
                facts[f"colour of {name}" + " " * axis] = (values, _ANGLE_DEG)
            values = [float(one.max_concentration[k]) for one in estimates]
            facts[f"intensity of {name}"] = (values, _SHARE * float(np.median(values)))
    else:
        for k, name in enumerate(("lightness", "red-green", "yellow-blue")):
            facts[f"mean {name}"] = ([float(one.mean[k]) for one in estimates], _LAB)
    said: list[list[str]] = [[] for _ in known]
    for name, (values, least) in facts.items():
        middle = float(np.median(values))
        spread = 1.4826 * float(np.median(np.abs(np.array(values) - middle)))
        for own, value in zip(said, values, strict=True):
            if abs(value - middle) > max(_MADS * spread, least):
                own.append(name.strip())
    apart = {row.fingerprint: tuple(dict.fromkeys(own)) for row, own in zip(known, said, strict=True) if own}
    if 2 * len(apart) > len(known):  # then there is no group to stand apart from
        return list(rows)
    return [replace(row, apart=apart.get(row.fingerprint, ())) for row in rows]
