"""What can be done with the slides of a study: tiles, features, tables, and the long work as jobs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from napari_batchfx.study import files
from napari_batchfx.study.entries import SlideEntry
from napari_batchfx.study.instruments import Instruments
from napari_batchfx.study.probe_bench import ProbeBench
from napari_batchfx.study.results import Results
from napari_batchfx.study.selection import Selection
from napari_batchfx.study.settings import EncodeSettings, Settings
from napari_batchfx.study.shelf import KEPT_OPEN

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData
    from numpy.typing import NDArray

    from napari_batchfx.encoders import Encoder
    from napari_batchfx.features import FeatureStore
    from napari_batchfx.jobs import Job, Progress
    from napari_batchfx.stain import StainTransform
    from napari_batchfx.study.adapted import AdaptOutcome
    from napari_batchfx.study.cluster import Cluster
    from napari_batchfx.study.encoding import EncodeOutcome
    from napari_batchfx.study.exporting import ExportOutcome
    from napari_batchfx.study.findings import Finding
    from napari_batchfx.study.repeat import RunOutcome
    from napari_batchfx.study.results import ProbeOutcome
    from napari_batchfx.study.sheet import SheetOutcome
    from napari_batchfx.study.step import Step
    from napari_batchfx.tiles import TileGrid

__all__ = ["Bench"]

T = TypeVar("T")


class Bench(ProbeBench):
    """The slides of a study and the work on them; results and features go into ``folder``."""

    def __init__(self, name: str, slides: list[SlideEntry], settings: Settings, folder: Path) -> None:
        super().__init__(name, slides, settings)
        self.folder = folder
        self.results = Results()
        self.instruments = Instruments(self, lambda: self.folder)
        self._store: FeatureStore | None = None
        self._working = 0
        #: Slides and tiles that jobs and tables are limited to; everything unless it is set.
        self.selection = Selection()
        #: Whether a step is being done again, and so isn't written down as a new one.
        self.is_repeating = False
        #: A cluster that encodes (see :class:`napari_batchfx.study.Cluster`); None = this process.
        self.cluster: Cluster | None = None

    def encoder(self) -> Encoder:
        """The encoder of the settings, loaded when it is first asked for and kept."""
        return self.instruments.encoder(self.settings.encode)

    def encoder_job(self) -> Job[Encoder]:
        """:meth:`encoder` as a job: progress in bytes while its weights are downloaded, and a way to stop."""
        return self._watched(self.instruments.encoder_job(self.settings.encode.model_copy(deep=True)))

    def loaded_encoder(self) -> Encoder | None:
        """The encoder of the settings if it is loaded, else ``None``; never loads, never waits."""
        return self.instruments.loaded_encoder(self.settings.encode)

    def grid(self, entry: SlideEntry | str) -> TileGrid:
        """The tiles of a slide under the present encode settings."""
        return self.instruments.grid(self.slide(entry), self.settings.encode)

    def grid_of(self, entry: SlideEntry | str, settings: EncodeSettings) -> TileGrid:
        """The tiles of a slide under other encode settings, such as those a result was computed with."""
        return self.instruments.grid(self.slide(entry), settings)

    def store(self) -> FeatureStore:
        """The features computed so far, in ``features.zarr``."""
        from napari_batchfx.features import FeatureStore

        with self._lock:
            if self._store is None:
                self._store = FeatureStore(self.folder / files.FEATURES_FOLDER)
            return self._store

    def encode_transform(self, entry: SlideEntry | str) -> StainTransform | None:
        """The stain transform that a slide's tiles go through before the encoder, or ``None``."""
        return self.instruments.encode_transform(self.slide(entry), self.settings.encode)

    def table(
        self,
        cells: Literal["all", "tissue"] = "all",
        slides: Sequence[SlideEntry | str] | None = None,
    ) -> AnnData:
        """All tiles encoded so far under the present encode settings, with labels and controls.

        Parameters
        ----------
        cells : {"all", "tissue"}
            All encoded tiles, or those with at least ``settings.encode.min_tissue``.
        slides : sequence of SlideEntry or str, optional
            Only these; all otherwise.

        Returns
        -------
        AnnData
            One row a tile, slide by slide, row-major; columns as :func:`napari_batchfx.features.make_table`.

        Raises
        ------
        StudyError
            If no tile is encoded. A slide that can't be opened is left out and reported in :attr:`problems`.
        """
        from napari_batchfx.study.recipe import Recipe
        from napari_batchfx.study.tables import make_study_table

        return make_study_table(Recipe.of(self), cells, self._asked(slides))

    def encode_job(
        self,
        slides: Sequence[SlideEntry | str] | None = None,
        cells: Mapping[str, NDArray[np.integer[Any]]] | None = None,
    ) -> Job[EncodeOutcome]:
        """Encode tiles into the store; what is there already isn't done again.

        Parameters
        ----------
        slides : sequence of SlideEntry or str, optional
            Only these; all otherwise.
        cells : mapping of str to array (n, 2), optional
            Cells a slide (by its name), in the order wanted; what the store has of them is yielded first.
            All cells with enough tissue otherwise.

        Returns
        -------
        Job
            Yields ``Progress(partial=EncodedTiles)`` and returns an :class:`EncodeOutcome`. A slide that
            fails is reported in the outcome and in :attr:`problems`; the others go on.
        """
        from napari_batchfx.study.encoding import encode_job
        from napari_batchfx.study.recording import recorded_encoding

        entries = None if slides is None else self._asked(slides)
        job = encode_job(self, self._asked(slides), cells)
        return self._writing(recorded_encoding(self, job, entries, cells))

    def probe_job(self, *, device: str = "auto") -> Job[ProbeOutcome]:
        """Probe the encoded tiles (``settings.probe``); kept as ``results.probe`` and saved.

        Probes of other encodings, or of another batch, stay beside it in ``results.probes``. ``device`` says
        where it is fitted, as :func:`napari_batchfx.probe.site_probe` has it.
        """
        from napari_batchfx.study.recording import recorded
        from napari_batchfx.study.steps import probe_job

        return self._writing(recorded(self, "probe", probe_job(self, device)))

    def adapt_job(self, *, enough: Callable[[], bool] | None = None) -> Job[AdaptOutcome]:
        """Train, correct on controls, compare (``settings.adapt``); kept as ``results.adapt`` and saved.

        Adaptations of other encodings, slides to learn from, methods or heads stay beside it in
        ``results.adaptations``.

        Parameters
        ----------
        enough : callable, optional
            Asked while a head other than the linear one trains: True ends the training with the best weights
            so far, and the rest is done with those.
        """
        from napari_batchfx.study.steps import adapt_job

        return self._writing(adapt_job(self, enough))

    def apply_head_job(self, path: Path | str) -> Job[AdaptOutcome]:
        """Apply a saved classifier that adapts by itself to every encoded slide; kept as ``results.adapt``.

        The outcome's ``numbers["judgements"]`` say, for each scanner (or whatever is corrected for), what it
        is most like of the training: read that before any prediction is believed.

        Parameters
        ----------
        path : path
            As its ``save`` wrote it.

        Raises
        ------
        AdaptError
            If it was made for another encoder, is damaged or no classifier.
        StudyError
            If it doesn't adapt by itself.
        """
        from napari_batchfx.study.head_steps import loaded_head_job
        from napari_batchfx.study.recording import recorded

        asked = {"path": str(Path(path).resolve())}
        return self._writing(recorded(self, "apply-head", loaded_head_job(self, path), asked))

    def adapt_all_job(
        self, methods: Sequence[str] | None = None, heads: Sequence[str] = ()
    ) -> Job[list[AdaptOutcome]]:
        """:meth:`adapt_job` with one correction after another, to see them side by side.

        Parameters
        ----------
        methods : sequence of str, optional
            Ids of :data:`napari_batchfx.adapt.METHODS`; all that this study can be corrected with otherwise.
        heads : sequence of str
            Ids of :data:`napari_batchfx.adapt.HEADS`: classifiers that adapt by themselves, too.

        Returns
        -------
        Job
            Returns the outcomes; the last is that of the settings, which is always run and stays
            ``results.adapt``. Another one that can't be fitted is reported in :attr:`problems`.

        Raises
        ------
        StudyError
            If there is no such correction.
        """
        from napari_batchfx.study.steps import adapt_all_job

        return self._writing(adapt_all_job(self, methods, heads))

    def add_sheet(self, path: Path | str, *, icc: str = "off") -> SheetOutcome:
        """Add the slides of a CSV (see :func:`napari_batchfx.study.read_sheet`); wrong rows are listed.

        Raises
        ------
        StudyError
            If it is no table of slides.
        """
        from napari_batchfx.jobs import run
        from napari_batchfx.study.sheet import add_sheet_job

        return run(add_sheet_job(self, path, icc=icc))

    def leave_a_core_free(self) -> None:
        """From now on load encoders with one CPU core less than there are: a window is open beside it."""
        self.instruments.threads = "leave-one"

    def still_holds(self, outcome: ProbeOutcome | AdaptOutcome | Finding) -> bool:
        """Whether slides, and for all but a probe regions, are still what they were for a result.

        Settings don't count: a result carries its own (see :meth:`is_current` for those too).
        """
        from napari_batchfx.study.findings import Finding
        from napari_batchfx.study.results import ProbeOutcome
        from napari_batchfx.study.tables import material_digest

        if isinstance(outcome, Finding):
            return bool(outcome.computed_from["drawn"] == material_digest(self))
        then = outcome.computed_from.get("material")
        if then is not None:
            return bool(then == material_digest(self, regions=not isinstance(outcome, ProbeOutcome)))
        # Written before this was kept: all that can be known is whether nothing at all has changed.
        return (outcome is self.results.probe and self.is_current("probe")) or (
            outcome is self.results.adapt and self.is_current("adapt")
        )

    def is_current(self, step: Literal["probe", "adapt"]) -> bool:
        """Whether a step has a result, and slides, settings and (adapt) regions are as they were then."""
        from napari_batchfx.study.tables import inputs_digest

        outcome = self.results.probe if step == "probe" else self.results.adapt
        settings = self.settings.probe.said() if step == "probe" else self.settings.adapt.said()
        return outcome is not None and outcome.computed_from.get("inputs") == inputs_digest(
            self, self.settings.encode, settings, regions=step == "adapt"
        )

    def run_job(self, steps: Sequence[Step] | None = None) -> Job[RunOutcome]:
        """Do the recorded steps again, then what the present settings ask for beyond them.

        A study without steps is encoded, probed, and adapted where there are classes and controls. What the
        store has isn't encoded again.

        Parameters
        ----------
        steps : sequence of Step, optional
            These instead, such as ``study.steps``.
        """
        from napari_batchfx.study.repeat import run_job

        return self._writing(run_job(self, steps))

    def plan(self) -> list[Step]:
        """The steps that :meth:`run_job` would do."""
        from napari_batchfx.study.repeat import plan

        return plan(self)[0]

    @property
    def is_working(self) -> bool:
        """Whether a job of this study has begun and isn't done."""
        return self._working > 0

    def claim(self) -> None:
        """Make sure that nobody else writes the study; see :meth:`Study.claim`."""

    def _writing(self, job: Job[T]) -> Job[T]:
        self.claim()
        return (yield from self._watched(job))

    def _watched(self, job: Job[T]) -> Job[T]:
        self._working += 1
        try:
            return (yield from job)
        finally:
            self._working -= 1

    def run(self, on_progress: Callable[[Progress], None] | None = None) -> RunOutcome:
        """Drive :meth:`run_job` to its end."""
        from napari_batchfx.jobs import run

        return run(self.run_job(), on_progress)

    def report(self, path: Path | str, *, with_identifiers: bool = False) -> Path:
        """Write what was found as one self-contained HTML file.

        Parameters
        ----------
        path : path
            The file.
        with_identifiers : bool
            Whether slide and patient names are in it; otherwise slides are numbered.
        """
        from napari_batchfx.study.written import reported

        return reported(self, path, with_identifiers=with_identifiers)

    def export_job(
        self, folder: Path | str, kinds: Sequence[str], *, with_identifiers: bool = False
    ) -> Job[ExportOutcome]:
        """Write tiles, values and overlays for other programs into a folder.

        Parameters
        ----------
        folder : path
            Folder to write into; made where there is none. Files of an earlier export are replaced.
        kinds : sequence of str
            Of :data:`napari_batchfx.study.EXPORTS`: "geojson" (QuPath), "csv", "h5ad", "h5" (TRIDENT),
            "spatialdata", "png", "ome-tiff", "ome-zarr".
        with_identifiers : bool
            Whether slides and patients keep their names; otherwise they are numbered, and content
            fingerprints tell whoever has the slides which is which.

        Returns
        -------
        Job
            Returns an :class:`ExportOutcome`. ``export.json`` beside the files says what they are and how
            they were made. What can't be written is named in the outcome; the rest is.

        Raises
        ------
        StudyError
            If no tile is encoded, a kind is unknown, or the folder can't be made.
        """
        from napari_batchfx.study.written import exported_job

        return self._watched(exported_job(self, folder, kinds, with_identifiers=with_identifiers))

    def _asked(self, slides: Sequence[SlideEntry | str] | None) -> list[SlideEntry]:
        """The entries meant, each once; all where none are named."""
        entries = list(self.slides) if slides is None else [self.slide(one) for one in slides]
        return list({entry.fingerprint: entry for entry in entries}.values())

    @contextlib.contextmanager
    def visiting(self, entry: SlideEntry) -> Iterator[None]:
        """Work on a slide; where a study has many, one that wasn't open before is closed afterwards.

        So neither memory nor open files grow with the number of slides.
        """
        was_open = entry.fingerprint in self._open_slides
        try:
            yield
        finally:
            if not was_open and len(self._open_slides) > KEPT_OPEN:
                self.put_away(entry)

    def put_away(self, entry: SlideEntry) -> None:
        """Close a slide and drop what was made of it; it opens again when it is needed."""
        with self._lock:
            slide = self._open_slides.pop(entry.fingerprint, None)
            self.instruments.forget_slide(entry.fingerprint)
            if self._store is not None:
                self._store.put_away(entry.fingerprint)
        if slide is not None:
            slide.close()

    def _slide_changed(self, entry: SlideEntry) -> None:
        self.instruments.forget_slide(entry.fingerprint)
