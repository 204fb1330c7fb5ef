"""The robustness metrics of the tiles behind a probe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_batchfx.jobs import Job
from napari_batchfx.study.probe_table import probe_table_job
from napari_batchfx.study.scatter import last_probe

if TYPE_CHECKING:
    from napari_batchfx.probe.metrics import MetricResult
    from napari_batchfx.study.bench import Bench
    from napari_batchfx.study.probed import ProbeOutcome

__all__ = ["robustness_job"]


def robustness_job(study: Bench, outcome: ProbeOutcome | None = None) -> Job[dict[str, MetricResult]]:
    """Measure how batch and biology lie in the features of a probe.

    See :func:`napari_batchfx.probe.metrics.measure`. Neighbours of the same slide are left out. Without
    classes only mixing is measured.

    Parameters
    ----------
    study : Study
    outcome : ProbeOutcome, optional
        The probe run last otherwise.

    Returns
    -------
    Job
        Returns results by name.

    Raises
    ------
    StudyError
        If no probe was run, or its features are gone.
    """
    from napari_batchfx.probe.columns import has_values
    from napari_batchfx.probe.metrics import measure_job

    outcome = outcome or last_probe(study)
    settings = outcome.computed_from["settings"]
    table, _ = yield from probe_table_job(study, outcome)
    label = "label" if has_values(table, "label") else None
    return (
        yield from measure_job(table, label, settings["batch"], "slide", seed=int(settings.get("seed", 0)))
    )
