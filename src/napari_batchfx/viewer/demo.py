"""The main job on one tissue and two scanners, told in steps: with a window to watch, or without, leaving pictures and a report."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import napari

    from napari_batchfx.samples import DemoSlide
    from napari_batchfx.viewer.session import Session
    from napari_batchfx.viewer.workbench import Workbench

__all__ = ["Story", "Told", "has_display", "show"]

_TILE_PX, _MPP = 112, 0.5
_STUDY, _REPORT = "one-tissue-two-scanners.batchfx", "report.html"


@dataclass(frozen=True)
class Step:
    """One step of the story.

    Parameters
    ----------
    key : str
        Names its picture.
    dock : str
        The dock it happens in.
    act : callable
        Starts it.
    say : callable
        What is seen then, in a sentence or two.
    """

    key: str
    dock: str
    act: Callable[[], Any]
    say: Callable[[], str]


class Story:
    """Drives the docks as a person would: open, encode, probe, preview, learn on A, adapt to B, report.

    Parameters
    ----------
    bench : Workbench
        The docks of the viewer.
    slides : tuple of DemoSlide
        The phantom on two scanners.
    out : Path or None
        Where the study and the report go; ``None`` writes neither.
    """

    def __init__(self, bench: Workbench, slides: tuple[DemoSlide, ...], out: Path | None) -> None:
        self.bench, self.slides, self.out = bench, slides, out
        self.session: Session = bench.docks["slides"].session
        self.lines: list[str] = []
        self.errors: list[str] = []

    def steps(self) -> Iterator[Step]:
        """The steps, in order."""
        docks = self.bench.docks
        yield Step(
            "1-slides",
            "slides",
            self._open,
            lambda: "One tissue, two scanners, side by side in micrometres: only the colours differ.",
        )
        yield Step("2-encode", "encode", self._encode, lambda: docks["encode"].card.text)
        yield Step("3-probe", "probe", docks["probe"].start, lambda: self._probe_text("As scanned"))
        yield Step(
            "4-stain",
            "stain",
            docks["stain"].start,
            lambda: "Macenko gives both slides one colour. Is the scanner still recognised?",
        )
        yield Step(
            "5-probe-after-macenko",
            "probe",
            self._probe_normalised,
            lambda: self._probe_text("After Macenko"),
        )
        yield Step(
            "6-regions",
            "adapt",
            self._draw,
            lambda: "Tissue classes and control samples; the phantom knows the truth.",
        )
        yield Step("7-adapt-tvn", "adapt", lambda: self._adapt("tvn"), self._adapt_text)
        yield Step("8-adapt-standardise", "adapt", lambda: self._adapt("standardize"), self._adapt_text)
        yield Step("9-report", "report", self._report, lambda: docks["report"].card.text)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return not any(job.is_running for job in self.session._jobs)

    # ------------------------------------------------------------------ the steps

    def _open(self) -> None:
        from napari_batchfx.viewer.sample_data import lay_on

        entries = [
            self.session.add_slide(
                known.path, site=known.site, scanner=known.scanner, stain=known.stain, patient=known.patient
            )
            for known in self.slides
        ]
        for entry, known in zip(entries, self.slides, strict=True):
            lay_on(self.session.study, entries[0], entry, known.affine_um)
        self.session.place_slides()
        self.bench.docks["slides"].compare.choose("grid")

    def _encode(self) -> None:
        settings = self.session.study.settings.encode
        settings.encoder, settings.size_px, settings.mpp = "colour-statistics", _TILE_PX, _MPP
        encode = self.bench.docks["encode"]
        encode.show_settings()
        encode.where.button(2).setChecked(True)
        encode.start()

    def _probe_normalised(self) -> None:
        """Encode again with normalised tiles and probe those; then the settings go back."""
        from napari_batchfx.jobs import Job

        study, probe = self.session.study, self.bench.docks["probe"]

        def job() -> Job[Any]:
            study.settings.encode.normalizer = "macenko"
            try:
                yield from study.encode_job()
                return (yield from study.probe_job())
            finally:
                study.settings.encode.normalizer = None

        self.session.allow_overlays("probe")
        probe.job.start(job(), "Probing normalised tiles")

    def _draw(self) -> None:
        from napari_batchfx.study.truth import truth_annotations
        from napari_batchfx.viewer import regions

        study = self.session.study
        study.annotations = [
            annotation
            for entry, known in zip(study.slides, self.slides, strict=True)
            for annotation in truth_annotations(study, entry, known)
        ]
        regions.push(self.session)
        self.session.show_only(None)
        self.bench.docks["adapt"].refresh()

    def _adapt(self, method: str) -> None:
        adapt = self.bench.docks["adapt"]
        adapt.method.setCurrentIndex(adapt.method.findData(method))
        adapt.train_on.setCurrentIndex(adapt.train_on.findData(self.slides[0].scanner))
        adapt.start()

    def _report(self) -> None:
        from napari_batchfx.viewer import regions

        regions.set_visible(self.session, False)
        report = self.bench.docks["report"]
        if self.out is None:
            report.refresh()
            return
        folder = self.out / _STUDY
        self.session.study.save_as(folder, overwrite=True)
        report.identifiers.setChecked(True)  # the phantom's names are nobody's
        report.write_to(self.out / _REPORT)

    # ------------------------------------------------------------------ what is seen

    def _probe_text(self, what: str) -> str:
        outcome = self.session.study.results.probe
        return f"{what}: {self._card('probe')}" if outcome is None else f"{what}: {outcome.result.verdict}"

    def _adapt_text(self) -> str:
        outcome = self.session.study.results.adapt
        return self._card("adapt") if outcome is None else outcome.sentence

    def _card(self, key: str) -> str:
        card = self.bench.docks[key].card
        if card.kind == "error":
            self.errors.append(card.text)
        return card.text

    def check(self, step: Step) -> None:
        """Remember what a step said; an error on its card fails the demo."""
        card = self.bench.docks[step.dock].card
        if card.kind == "error":
            self.errors.append(f"{step.key}: {card.text}")
        self.lines.append(step.say())


@dataclass
class Told:
    """What a demo left behind.

    Attributes
    ----------
    folder : Path
        Where it is.
    steps : list of dict
        Each with ``key``, ``said`` and ``picture``.
    problems : list of str
        What went wrong, in sentences.
    is_whole : bool
        Whether the story came to its end; not where somebody closed the window before.
    """

    folder: Path
    steps: list[dict[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    is_whole: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As plain values; files by their paths."""
        there = {name: self.folder / file for name, file in (("report", _REPORT), ("study", _STUDY))}
        return {
            "folder": str(self.folder),
            **{name: str(path) if path.exists() else None for name, path in there.items()},
            "steps": self.steps,
            "problems": self.problems,
        }


def has_display() -> bool:
    """Whether a window can be shown here."""
    return not sys.platform.startswith("linux") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )


def show(
    slides: tuple[DemoSlide, ...],
    out: Path,
    headless: bool = False,
    say: Callable[[str], Any] = print,
) -> Told:
    """Tell the story in a window; returns what came of it when the window is closed.

    Parameters
    ----------
    slides : tuple of DemoSlide
        The phantom on two scanners.
    out : Path
        Folder for pictures, study and report.
    headless : bool
        Whether the window closes at the end by itself.
    say : callable
        Takes each line that is told.
    """
    import napari
    from napari.utils.notifications import notification_manager
    from qtpy.QtCore import QTimer

    from napari_batchfx.viewer.workbench import Workbench

    viewer = napari.Viewer(title="Batchfx demo")
    viewer.window.resize(1500, 950)
    bench = Workbench(viewer)
    viewer.window.add_dock_widget(bench, name="Batchfx workbench", area="right")
    story, told = Story(bench, slides, out), Told(out)
    steps = story.steps()
    state: dict[str, Any] = {"step": None, "quiet": 0}

    def remember(notification: Any) -> None:
        if str(notification.severity) == "error":
            story.errors.append(str(notification.message))

    notification_manager.notification_ready.connect(remember)

    def advance() -> None:
        step: Step | None = state["step"]
        if step is not None:
            # Two quiet ticks: the last results have been painted.
            state["quiet"] = state["quiet"] + 1 if story.is_idle else 0
            if state["quiet"] < 3:
                return
            story.check(step)
            say(f"{step.key}: {story.lines[-1]}")
            picture(viewer, out / f"{step.key}.png")
            told.steps.append({"key": step.key, "said": story.lines[-1], "picture": f"{step.key}.png"})
        state["step"], state["quiet"] = next(steps, None), 0
        if state["step"] is None:
            timer.stop()
            told.is_whole = True
            say(f"Study, report and pictures are in {out.name}/ (open {out.name}/{_REPORT}).")
            if headless:
                viewer.close()
            return
        bench.show_dock(state["step"].dock)
        state["step"].act()

    timer = QTimer()
    timer.setInterval(200)
    timer.timeout.connect(advance)
    timer.start()
    napari.run()
    told.problems = list(dict.fromkeys(story.errors))
    return told


def picture(viewer: napari.Viewer, path: Path) -> None:
    """Save a picture of the whole window."""
    import imageio.v3 as imageio

    imageio.imwrite(path, viewer.screenshot(canvas_only=False, flash=False))
