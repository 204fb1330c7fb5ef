"""Remake the pictures of docs/screenshots: the README's walk in the real window, and a real slide.

    tools/with-display.sh .venv/bin/python tools/screenshots.py [--out FOLDER] [--only real|probe|walk]

The walk uses what a person uses: File > Open Sample, the Plugins menu's workbench, the docks' buttons, and
mouse clicks on the canvas for the regions. It stops with the card's text where a step doesn't work. The real
slide (CMU-1-Small-Region) is taken from the folder of BATCHFX_DATA, from the cache or downloaded; without any
of these its pictures are left as they are. What the walk found is printed, for the pages that quote it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs" / "screenshots"
SIZE = (1400, 900)
MAX_BYTES = 250_000

# What a person would outline on the sample's first slide, in micrometres (y, x) of the tissue.
STROMA = [
    (390, 180),
    (370, 800),
    (470, 880),
    (620, 900),
    (780, 850),
    (680, 650),
    (650, 470),
    (730, 380),
    (700, 150),
]
REGIONS = (
    ("tumour", [(950, 860), (990, 1330), (1200, 1290), (1340, 1100), (1310, 930), (1180, 830)]),
    ("gland", [(720, 500), (800, 640), (850, 830), (1140, 780), (1180, 400), (960, 410), (880, 480)]),
    ("lymphoid", [(170, 480), (140, 700), (130, 860), (200, 1050), (320, 1270), (390, 1250), (390, 900),
                  (310, 520)]),
    ("fat", [(790, 140), (780, 420), (870, 420), (1010, 350), (1120, 330), (1100, 140)]),
    ("stroma", STROMA),
    ("control", STROMA),
    ("control", [(1320, 910), (1420, 920), (1400, 1050), (1370, 1180), (1390, 1080), (1330, 990)]),
)  # fmt: skip


class Walk:
    """One window with the workbench, and what a person does in it."""

    def __init__(self, out: Path) -> None:
        import napari
        from qtpy.QtWidgets import QApplication

        self.out = out
        self.viewer = napari.Viewer(title="napari")
        self.app = QApplication.instance()
        self.viewer.window.resize(*SIZE)
        self.pause(0.5)
        self.bench: Any = None

    def pause(self, seconds: float) -> None:
        """Let the window work."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.app.processEvents()
            time.sleep(0.005)

    def wait(self, until: Callable[[], object], seconds: float = 240) -> None:
        """Let the window work until something holds."""
        end = time.monotonic() + seconds
        while not until():
            if time.monotonic() > end:
                raise SystemExit(f"Nothing came of it after {seconds:g} s.")
            self.pause(0.05)

    def open_workbench(self) -> None:
        """Plugins > Batchfx workbench."""
        _, self.bench = self.viewer.window.add_plugin_dock_widget("napari-batchfx", "Batchfx workbench")
        self.session = self.bench.docks["slides"].session
        self.pause(0.3)

    def dock(self, key: str) -> Any:
        """Click on a tab."""
        dock = self.bench.show_dock(key)
        self.pause(0.2)
        return dock

    def click(self, button: Any) -> None:
        """Click on a button that can be clicked."""
        from qtpy.QtCore import QPoint, Qt
        from qtpy.QtTest import QTest
        from qtpy.QtWidgets import QCheckBox

        if not button.isEnabled() or not button.isVisible():
            raise SystemExit(f"The button {button.text()!r} can't be clicked: {button.toolTip()}")
        # a check box fills its row, but only the box and its text take clicks
        place = QPoint(10, button.height() // 2) if isinstance(button, QCheckBox) else button.rect().center()
        QTest.mouseClick(button, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, place)
        self.pause(0.1)

    def choose(self, box: Any, value: Any) -> None:
        """Pick an item of a list by its value, as a person does."""
        index = box.findData(value)
        if index < 0:
            raise SystemExit(f"There is no {value!r} in {box.accessibleName()!r}.")
        box.setCurrentIndex(index)
        box.activated.emit(index)
        self.pause(0.1)

    def finish(self, dock: Any) -> None:
        """Wait for the jobs; an error on the card ends the walk."""
        self.wait(lambda: not any(job.is_running for job in self.session._jobs))
        self.pause(0.6)
        text = dock.card.text
        print(f"- {dock.title}: {text}", flush=True)
        if dock.card.kind == "error":
            raise SystemExit(1)

    def draw(self, polygon_um: list[tuple[float, float]]) -> None:
        """Click the corners of a polygon on the canvas (first cell of the grid), then Esc."""
        from qtpy.QtCore import QPoint, Qt
        from qtpy.QtTest import QTest

        from napari_batchfx.viewer import seam

        canvas = self.viewer.window._qt_viewer.canvas.native
        y0, x0, y1, x1 = seam.view_box_um(self.viewer)
        settings = seam.grid(self.viewer)
        rows, columns = settings.actual_shape(self.viewer.layers) if settings.enabled else (1, 1)
        height, width = canvas.height() / rows, canvas.width() / columns
        for y, x in polygon_um:
            point = QPoint(round((x - x0) / (x1 - x0) * width), round((y - y0) / (y1 - y0) * height))
            QTest.mouseMove(canvas, point)
            self.pause(0.03)
            QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, point)
            self.pause(0.35)  # two clicks in quick succession would be a double-click
        QTest.keyClick(canvas, Qt.Key.Key_Escape)
        self.pause(0.2)

    def look_at(self, y: float, x: float) -> Any:
        """Open "What the model saw" and click on a place of the tissue (first cell of the grid)."""
        from qtpy.QtCore import QPoint, Qt
        from qtpy.QtTest import QTest

        from napari_batchfx.viewer import seam
        from napari_batchfx.viewer.workbench import show_dock

        show_dock(self.viewer, "tile")
        _, panel = self.viewer.window.add_plugin_dock_widget("napari-batchfx", "What the model saw")
        self.pause(0.5)
        canvas = seam.canvas_widget(self.viewer)
        y0, x0, y1, x1 = seam.view_box_um(self.viewer)
        settings = seam.grid(self.viewer)
        rows, columns = settings.actual_shape(self.viewer.layers) if settings.enabled else (1, 1)
        point = QPoint(
            round((x - x0) / (x1 - x0) * canvas.width() / columns),
            round((y - y0) / (y1 - y0) * canvas.height() / rows),
        )
        QTest.mouseMove(canvas, point)
        self.pause(0.1)
        QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, point)
        self.wait(lambda: panel.view.tile is not None and panel.view.tile.context is not None, 60)
        return panel

    def drag(self, widget: Any, path: list[tuple[float, float]]) -> None:
        """Drag over a widget, through places given as shares of its width and height."""
        from qtpy.QtCore import QPoint, Qt
        from qtpy.QtTest import QTest

        left, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
        spots = [QPoint(round(x * widget.width()), round(y * widget.height())) for x, y in path]
        QTest.mousePress(widget, left, none, spots[0])
        for start, end in pairwise(spots):
            for part in (0.25, 0.5, 0.75, 1.0):
                QTest.mouseMove(widget, start + (end - start) * part)
                self.pause(0.03)
        QTest.mouseRelease(widget, left, none, spots[-1])
        self.pause(0.3)

    def picture(self, name: str) -> None:
        """Save the window as a small PNG."""
        self.viewer.window._qt_window.statusBar().clearMessage()
        self.pause(0.8)
        shot = Image.fromarray(self.viewer.screenshot(canvas_only=False, flash=False)[..., :3])
        path = self.out / f"{name}.png"
        for colours in (256, 192, 128, 96, 64):
            _reduced(shot, colours).save(path, optimize=True)
            if path.stat().st_size <= MAX_BYTES:
                break
        print(f"  {path.name}: {path.stat().st_size / 1000:.0f} kB, {colours} colours", flush=True)

    def close(self) -> None:
        """Close the window without questions."""
        self.viewer.close()
        self.pause(0.3)


def _reduced(shot: Image.Image, colours: int) -> Image.Image:
    """A palette picture: the flat colours of the window as they are, the tissue's by median cut."""
    pixels = np.asarray(shot).reshape(-1, 3)
    packed = (pixels.astype(np.int64) * (65536, 256, 1)).sum(axis=1)
    flat = _commonest(packed, colours // 8)
    # swatches and bars are small but have to keep their colour: what is vivid beside the canvas
    column = np.tile(np.arange(shot.width), shot.height)
    beside = (column < 0.25 * shot.width) | (column > 0.73 * shot.width)
    vivid = np.ptp(pixels.astype(int), axis=1) > 60
    flat = np.union1d(flat, _commonest(packed[beside & vivid], colours // 8))
    kept = np.stack([flat >> 16, flat >> 8 & 255, flat & 255], axis=1).astype(np.uint8)
    rest = Image.fromarray(pixels[~np.isin(packed, flat)][None])
    n = colours - len(kept)
    cut = np.array(
        rest.quantize(n, method=Image.Quantize.MEDIANCUT, kmeans=1).getpalette()[: 3 * n], np.uint8
    )
    palette = Image.new("P", (1, 1))
    palette.putpalette(bytes(np.r_[kept.ravel(), cut]))
    return shot.quantize(palette=palette, dither=Image.Dither.NONE)


def _commonest(packed: np.ndarray, n: int) -> np.ndarray:
    """The n most frequent values."""
    values, counts = np.unique(packed, return_counts=True)
    return values[np.argsort(-counts)[:n]]


def numbers(text: str) -> None:
    """Print a result."""
    print("  >", text, flush=True)


def walk_phantom(out: Path) -> None:
    """The README's five minutes."""
    walk = Walk(out)
    viewer = walk.viewer
    # File > Open Sample > Batchfx > One tissue, two scanners
    viewer.open_sample("napari-batchfx", "two_scanners")
    walk.open_workbench()
    walk.wait(lambda: len(walk.session.study.slides) == 2)
    slides = walk.dock("slides")
    walk.finish(slides)
    slides.compare.choose("grid")
    slides.table.selectRow(0)
    walk.picture("slides")
    slides.compare.choose("curtain")
    walk.pause(0.5)
    walk.picture("curtain")
    slides.compare.choose("checkerboard")
    walk.pause(0.5)
    walk.picture("checkerboard")
    slides.compare.choose("grid")
    slides.tissue.expand(animate=False)
    walk.click(slides.tissue.shown)
    walk.finish(slides)
    walk.picture("tissue")
    walk.click(slides.tissue.shown)
    slides.tissue.collapse(animate=False)

    encode = walk.dock("encode")
    encode.more.expand(animate=False)
    encode.size_px.setValue(112)
    encode.size_px.editingFinished.emit()
    walk.click(encode.where.button(2))
    walk.click(encode.row.button)
    walk.finish(encode)
    walk.picture("encode")
    encode.more.collapse(animate=False)

    probe = walk.dock("probe")
    walk.click(probe.row.button)
    walk.finish(probe)
    walk.picture("probe")
    numbers(probe.pages.page("Numbers").text.text())

    stain = walk.dock("stain")
    walk.click(stain.row.button)
    walk.finish(stain)
    walk.picture("stain")
    numbers(stain.card.text)
    walk.click(stain.signature.row.button)
    walk.finish(stain)
    numbers(stain.card.text)
    from qtpy.QtWidgets import QScrollArea

    bar = stain.findChild(QScrollArea).verticalScrollBar()
    bar.setValue(bar.maximum())
    walk.picture("stain-signature")
    bar.setValue(0)
    walk.pause(0.2)
    walk.click(stain.show_group.button(0))

    # Encode and probe again with normalised tiles, then go back to the tiles as scanned.
    for method in ("macenko", None):
        encode = walk.dock("encode")
        encode.more.expand(animate=False)
        walk.choose(encode.normalizer, method)
        walk.click(encode.row.button)
        walk.finish(encode)
        encode.more.collapse(animate=False)
        if method is not None:
            panel = walk.look_at(600, 640)
            walk.picture("tile")
            viewer.window.remove_dock_widget(panel)
        probe = walk.dock("probe")
        walk.click(probe.row.button)
        walk.finish(probe)
        numbers(probe.pages.page("Numbers").text.text())
    walk.click(probe.show_map)

    adapt = walk.dock("adapt")
    for name, polygon in REGIONS:
        adapt.class_name.setEditText(name)
        before = len(walk.session.study.annotations)
        walk.click(adapt.draw_button)
        walk.draw(polygon)
        adapt.pull()
        if len(walk.session.study.annotations) != before + 1:
            raise SystemExit(f"Drawing {name} made {len(walk.session.study.annotations) - before} regions.")
    walk.click(adapt.copy_button)
    walk.finish(adapt)
    walk.picture("regions")
    walk.choose(adapt.train_on, "Aperio CS2")
    walk.click(adapt.row.button)
    walk.finish(adapt)
    numbers(adapt.table.text())
    bar = adapt.findChild(QScrollArea).verticalScrollBar()
    bar.setValue(bar.maximum())  # the table of accuracies
    walk.pause(0.2)
    walk.picture("adapt")
    walk.click(adapt.views.button(0))
    walk.picture("adapt-before")
    walk.click(adapt.views.button(2))
    walk.picture("adapt-changed")
    walk.click(adapt.views.button(1))

    report = walk.dock("report")
    with tempfile.TemporaryDirectory() as folder:
        # The dialogs that ask for a file are the system's own; their answer is given here.
        report.save_to(Path(folder) / "two-scanners.batchfx")
        report.write_to(Path(folder) / "two-scanners.html")
        walk.finish(report)
        walk.picture("report")
        walk.close()


def walk_probe(out: Path) -> None:
    """The pages of the site probe, on six patients of two hospitals."""
    walk = Walk(out)
    viewer = walk.viewer
    viewer.open_sample("napari-batchfx", "two_hospitals")
    walk.open_workbench()
    walk.wait(lambda: len(walk.session.study.slides) == 6)
    slides = walk.dock("slides")
    walk.finish(slides)
    slides.compare.choose("grid")
    encode = walk.dock("encode")
    encode.more.expand(animate=False)
    encode.size_px.setValue(112)
    encode.size_px.editingFinished.emit()
    walk.click(encode.where.button(2))
    walk.click(encode.row.button)
    walk.finish(encode)
    encode.more.collapse(animate=False)
    probe = walk.dock("probe")
    walk.choose(probe.batch, "site")
    walk.click(probe.row.button)
    walk.finish(probe)

    from qtpy.QtWidgets import QScrollArea

    def page(name: str) -> Any:
        walk.click(probe.pages.buttons[name])
        walk.finish(probe)
        # as a person scrolls: the page's buttons to the top of the dock
        area = probe.findChild(QScrollArea)
        area.verticalScrollBar().setValue(probe.pages.y() - 6)
        walk.pause(0.3)
        return probe.pages.page(name)

    scatter = page("Scatter")
    walk.click(scatter.lasso)
    walk.drag(scatter.plot.viewport(), [(0.5, 0.3), (0.95, 0.3), (0.95, 0.9), (0.5, 0.9)])
    walk.picture("probe-scatter")
    walk.click(scatter.clear)
    tiles = page("Tiles")
    walk.click(tiles.buttons[-1])
    walk.picture("probe-tiles")
    viewer.reset_view()
    components = page("Components")
    walk.click(components.row.button)
    walk.finish(probe)
    page("Components")
    walk.picture("probe-components")
    after = page("Before/after")
    walk.choose(after.after, "reinhard")
    walk.click(after.row.button)
    walk.finish(probe)
    page("Before/after")
    walk.picture("probe-after")
    numbers(after.text.text())
    walk.close()


def show_real(out: Path) -> None:
    """The real slide: encoded tiles, and a Macenko preview."""
    from napari_batchfx import samples
    from napari_batchfx.errors import SampleError
    from napari_batchfx.viewer import seam

    try:
        path = samples.fetch("CMU-1-Small-Region.svs")
    except SampleError as error:
        print(f"The pictures of the real slide are left as they are. {error}")
        return
    walk = Walk(out)
    walk.viewer.open(path, plugin="napari-batchfx")
    walk.open_workbench()
    slides = walk.dock("slides")
    slides.table.selectRow(0)
    walk.viewer.reset_view()
    encode = walk.dock("encode")
    walk.click(encode.where.button(2))
    walk.click(encode.row.button)
    walk.finish(encode)
    walk.viewer.reset_view()
    walk.picture("real-encoded")
    stain = walk.dock("stain")
    walk.click(stain.row.button)
    walk.finish(stain)
    numbers(stain.card.text)
    seam.fit_to(walk.viewer, (420, 420, 640, 620))
    walk.pause(1.0)
    walk.picture("real-macenko")
    walk.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--only", choices=("walk", "probe", "real"))
    chosen = parser.parse_args()
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        sys.exit("There is no display: run it with tools/with-display.sh in front.")
    chosen.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        # Not the settings of whoever runs it: what a new user meets.
        os.environ["NAPARI_CONFIG"] = str(Path(home) / "napari.yaml")
        os.environ["BATCHFX_CONFIG"] = str(Path(home) / "batchfx")
        if chosen.only in (None, "walk"):
            walk_phantom(chosen.out)
        if chosen.only in (None, "probe"):
            walk_probe(chosen.out)
        if chosen.only in (None, "real"):
            show_real(chosen.out)


if __name__ == "__main__":
    main()
