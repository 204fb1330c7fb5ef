"""What a study looks into its probe with, as jobs whose findings are kept and written down as steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from napari_batchfx.jobs import Job, Progress
from napari_batchfx.study.findings import AfterOutcome, ComponentsOutcome, Finding, RobustnessOutcome
from napari_batchfx.study.settings import EncodeSettings, ProbeSettings, Settings
from napari_batchfx.study.stain_bench import StainBench

if TYPE_CHECKING:
    from napari_batchfx.study.bench import Bench
    from napari_batchfx.study.probed import ProbeOutcome

__all__ = ["ProbeBench"]

F = TypeVar("F", bound=Finding)

#: Kept sizes are those that were used, where the settings may say "the encoder's own".
_SIZES = ("size_px", "mpp", "stride_px")


class ProbeBench(StainBench):
    """The part of a :class:`~napari_batchfx.study.bench.Bench` that looks into probes.

    Each job takes the probe that the present settings ask for, and runs it first where it is not there; or
    the one that is given.
    """

    def components_job(
        self, outcome: ProbeOutcome | None = None, *, colour: bool = True
    ) -> Job[ComponentsOutcome]:
        """What carries the batch: which components, how many, how much is colour; kept and written down.

        Parameters
        ----------
        outcome : ProbeOutcome, optional
            The probe of the present settings otherwise.
        colour : bool
            Whether ``colour-statistics`` of the same tiles are compared with.

        Returns
        -------
        Job
            Returns a :class:`~napari_batchfx.study.findings.ComponentsOutcome`; its ``result`` is that of
            :func:`napari_batchfx.study.carried.carried_job`.

        Raises
        ------
        StudyError, ProbeError
            As there.
        """
        from napari_batchfx.study.carried import carried_job

        def look(probe: ProbeOutcome, origin: dict[str, Any]) -> Job[ComponentsOutcome]:
            return ComponentsOutcome(origin, (yield from carried_job(self._bench, probe, colour=colour)))

        return _found_job(
            self._bench, ComponentsOutcome.kind, look, outcome, {} if colour else {"colour": False}
        )

    def robustness_job(self, outcome: ProbeOutcome | None = None) -> Job[RobustnessOutcome]:
        """Robustness metrics of the tiles behind a probe; kept and written down.

        Parameters
        ----------
        outcome : ProbeOutcome, optional
            The probe of the present settings otherwise.

        Returns
        -------
        Job
            Returns a :class:`~napari_batchfx.study.findings.RobustnessOutcome`; its ``metrics`` are those of
            :func:`napari_batchfx.study.robustness.robustness_job`.

        Raises
        ------
        StudyError, ProbeError
            As there.
        """
        from napari_batchfx.study.robustness import robustness_job

        def look(probe: ProbeOutcome, origin: dict[str, Any]) -> Job[RobustnessOutcome]:
            return RobustnessOutcome(origin, (yield from robustness_job(self._bench, probe)))

        return _found_job(self._bench, RobustnessOutcome.kind, look, outcome, {})

    def probe_after_job(self, after: str, outcome: ProbeOutcome | None = None) -> Job[AfterOutcome]:
        """The same probe on stain-normalised or corrected features of its tiles; kept and written down.

        Parameters
        ----------
        after : str
            Id of a stain method or of a correction.
        outcome : ProbeOutcome, optional
            What to compare with: the probe of the present settings otherwise.

        Returns
        -------
        Job
            Returns a :class:`~napari_batchfx.study.findings.AfterOutcome`; its ``found`` is that of
            :func:`napari_batchfx.study.probe_after.probe_after_job`.

        Raises
        ------
        StudyError, ProbeError, AdaptError, StainError, EncoderError
            As there.
        """
        from napari_batchfx.study.probe_after import probe_after_job

        def look(probe: ProbeOutcome, origin: dict[str, Any]) -> Job[AfterOutcome]:
            return AfterOutcome(origin, (yield from probe_after_job(self._bench, after, probe)))

        return _found_job(self._bench, AfterOutcome.kind, look, outcome, {"after": after})


def _found_job(
    study: Bench,
    kind: str,
    look: Callable[[ProbeOutcome, dict[str, Any]], Job[F]],
    outcome: ProbeOutcome | None,
    options: dict[str, Any],
) -> Job[F]:
    """Look into a probe, keep what is found, and write it down with the settings of the probe."""
    return study._writing(_found(study, kind, look, outcome, options))


def _found(
    study: Bench,
    kind: str,
    look: Callable[[ProbeOutcome, dict[str, Any]], Job[F]],
    outcome: ProbeOutcome | None,
    options: dict[str, Any],
) -> Job[F]:
    from napari_batchfx.study.recording import add_step, made_step
    from napari_batchfx.study.steps import keep_results
    from napari_batchfx.study.tables import material_digest

    probe = outcome or (yield from _asked_probe(study))
    settings = _settings_of(study, probe)
    origin = probe.computed_from | {"asked": options, "drawn": material_digest(study)}
    found = yield from look(probe, origin)
    study.results.keep(found)
    if not study.is_repeating:
        add_step(study, made_step(study, kind, found, settings, options))
    keep_results(study)
    return found


def _asked_probe(study: Bench) -> Job[ProbeOutcome]:
    """The probe that the present settings and tiles ask for; run where it is not there."""
    from napari_batchfx.study.recipe import Recipe
    from napari_batchfx.study.recording import recorded
    from napari_batchfx.study.steps import probe_job
    from napari_batchfx.study.tables import computed_from, make_study_table

    yield Progress(0, 0, "reading features")
    if study.results.probes:
        recipe = yield from Recipe.job(study)
        table = make_study_table(recipe, "tissue", list(study.slides))
        origin = computed_from(recipe, table, study.settings.probe.said(), regions=False)
        for one in reversed(study.results.probes):
            if one.computed_from == origin:
                return one
    return (yield from recorded(study, "probe", probe_job(study)))


def _settings_of(study: Bench, probe: ProbeOutcome) -> Settings:
    """The settings that a probe was run with: those of the study, or of a step, where they say the same."""
    encode, choice = probe.computed_from["encode"], probe.computed_from["settings"]
    sizes = {name: encode[name] for name in _SIZES}
    steps = [step.chosen_settings() for step in reversed(study.steps) if step.kind == "probe"]
    for one in (study.settings, *steps):
        said = one.encode.model_dump()
        is_own = all(said[name] in (None, size) for name, size in sizes.items())
        if is_own and said | sizes == encode and one.probe.said() == choice:
            encode = said
            break
    used = study.settings.model_copy(deep=True)
    used.encode, used.probe = EncodeSettings(**encode), ProbeSettings(**choice)
    return used
