"""What a study does with stain: estimates, transforms, and the long work on them as jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from napari_batchfx.study.entries import SlideEntry
from napari_batchfx.study.shelf import Shelf

if TYPE_CHECKING:
    from napari_batchfx.adapt import ERMHead
    from napari_batchfx.jobs import Job
    from napari_batchfx.stain import LabStatistics, StainEstimate, StainingCondition, StainTransform
    from napari_batchfx.stain.export import ExportedSlide
    from napari_batchfx.study.bench import Bench
    from napari_batchfx.study.instruments import Instruments
    from napari_batchfx.study.stain_conditions import StainStability
    from napari_batchfx.study.stain_effect import StainEffect
    from napari_batchfx.study.stain_overview import StainOverview

__all__ = ["StainBench"]


class StainBench(Shelf):
    """The part of a :class:`~napari_batchfx.study.bench.Bench` that is about stain."""

    instruments: Instruments

    @property
    def _bench(self) -> Bench:
        return cast("Bench", self)

    def stain_transform(self, entry: SlideEntry | str) -> StainTransform:
        """The transform of the stain settings for a slide (the preview)."""
        choice = self.settings.stain
        transform = self.instruments.transform(self.slide(entry), choice.method, choice.target, choice.cohort)
        return transform.with_strength(choice.strength)

    def stain_estimate(
        self, entry: SlideEntry | str, method: str | None = None
    ) -> StainEstimate | LabStatistics:
        """The stain of a slide by the method of the stain settings, or another; estimated once and kept.

        Raises
        ------
        StainError
            If it can't be estimated: no tissue, pen, fluorescence, stains that are neither H&E nor H-DAB.
        """
        return self.instruments.stain.of(self.slide(entry), method or self.settings.stain.method)

    def stain_effect_job(
        self,
        slides: Sequence[SlideEntry | str] | None = None,
        *,
        boxes_um: Mapping[str, tuple[float, float, float, float]] | None = None,
        batch: str | None = None,
    ) -> Job[StainEffect]:
        """What the stain settings do to the signature: encode tiles twice, probe both, compare.

        Parameters and result are those of :func:`napari_batchfx.study.stain_effect.stain_effect_job`.
        """
        from napari_batchfx.study.recording import recorded
        from napari_batchfx.study.stain_effect import stain_effect_job

        options: dict[str, Any] = {
            "slides": None if slides is None else [self.slide(one).name for one in slides],
            "boxes_um": None if boxes_um is None else {name: list(box) for name, box in boxes_um.items()},
            "batch": batch,
        }
        options = {key: value for key, value in options.items() if value is not None}
        job = stain_effect_job(self._bench, slides, boxes_um=boxes_um, batch=batch)
        return self._bench._writing(recorded(self._bench, "stain-effect", job, options))

    def stain_conditions_job(
        self,
        slides: Sequence[SlideEntry | str] | None = None,
        *,
        conditions: Sequence[StainingCondition] | None = None,
        head: ERMHead | None = None,
        boxes_um: Mapping[str, tuple[float, float, float, float]] | None = None,
    ) -> Job[StainStability]:
        """How stable features and calls are under simulated staining conditions.

        Parameters and result are those of
        :func:`napari_batchfx.study.stain_conditions.stain_conditions_job`.
        """
        from napari_batchfx.study.stain_conditions import stain_conditions_job

        return self._bench._watched(
            stain_conditions_job(self._bench, slides, conditions=conditions, head=head, boxes_um=boxes_um)
        )

    def stain_overview_job(self, slides: Sequence[SlideEntry | str] | None = None) -> Job[StainOverview]:
        """The stain of slides side by side (``settings.stain``), with the transforms to the target."""
        from napari_batchfx.study.stain_overview import stain_overview_job

        return self._bench._watched(stain_overview_job(self._bench, slides))

    def export_stain_job(
        self,
        entry: SlideEntry | str,
        path: Path | str,
        *,
        region_um: tuple[float, float, float, float] | None = None,
        level: int = 0,
        compression: str = "deflate",
        quality: int = 90,
        overwrite: bool = False,
    ) -> Job[ExportedSlide]:
        """Write a slide normalised as ``settings.stain`` says.

        Parameters and result are those of :func:`napari_batchfx.stain.export.export_job`.
        """
        from napari_batchfx.study.stain_export import export_stain_job

        return self._bench._watched(
            export_stain_job(
                self._bench,
                entry,
                path,
                region_um=region_um,
                level=level,
                compression=compression,
                quality=quality,
                overwrite=overwrite,
            )
        )
