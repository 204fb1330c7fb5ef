"""The ways napari itself leads in: the reader, samples, the Plugins menu, Preferences."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from tests.viewer.conftest import tissue

from napari_batchfx.slides import tile_cache
from napari_batchfx.viewer.reader import get_reader, read_slides
from napari_batchfx.viewer.session import session_for


def test_the_reader_takes_slides_and_declines_the_rest_without_raising(tmp_path, make_slide):
    slide = make_slide("a.tif", tissue(300, 300))
    assert get_reader(str(slide)) is not None
    assert get_reader([str(slide), str(make_slide("b.svs", tissue(300, 300), flavour="svs"))]) is not None
    (tmp_path / "text.svs").write_text("no slide at all")
    (tmp_path / "empty.tif").write_bytes(b"")
    Image.fromarray(tissue(64, 64)).save(
        tmp_path / "plain.tif"
    )  # a picture: no pixel size, napari's own reader fits better
    Image.fromarray(tissue(64, 64)[..., 0].astype(np.uint16)).save(tmp_path / "deep.tif")
    for name in ("text.svs", "empty.tif", "plain.tif", "deep.tif", "nowhere.svs"):
        assert get_reader(str(tmp_path / name)) is None, name
    assert get_reader(str(tmp_path)) is None
    assert get_reader([str(slide), str(tmp_path / "text.svs")]) is None
    assert get_reader([]) is None


def test_layer_data_without_a_window(make_slide):
    ((data, options, kind),) = read_slides(str(make_slide("a.tif", tissue(700, 900))))
    assert kind == "image"
    assert options["rgb"]
    assert options["scale"] == (0.5, 0.5)
    assert options["cache"] is False
    level = data[0] if options["multiscale"] else data
    np.testing.assert_array_equal(np.asarray(level[:50, :60]), tissue(700, 900)[:50, :60])


def test_opening_through_napari_joins_the_study(viewer, make_slide):
    path = make_slide("a.svs", tissue(400, 400), flavour="svs", scanner="CS2")
    (layer,) = viewer.open(path, plugin="napari-batchfx")
    session = session_for(viewer)
    (entry,) = session.study.slides
    assert session.layer(entry, "slide") is layer
    assert entry.scanner == "CS2"
    assert viewer.canvas.overlays.scale_bar.visible
    session.close()


def test_a_layer_that_was_there_before_the_workbench_is_adopted(viewer, make_slide):
    from napari.layers import Image as ImageLayer

    ((data, options, _),) = read_slides_outside(make_slide("a.tif", tissue(400, 400)))
    viewer.add_layer(ImageLayer(data, **options))
    session = session_for(viewer)
    assert [entry.name for entry in session.study.slides] == ["a"]
    session.close()


def read_slides_outside(path):
    from napari_batchfx import open_slide
    from napari_batchfx.viewer.layers import slide_layer_data

    return [slide_layer_data(open_slide(path))]


@pytest.mark.parametrize("key", ["two_scanners", "immunohistochemistry"])
def test_samples_open_from_the_file_menu(viewer, wait, key, monkeypatch):
    from napari_batchfx.viewer import sample_data

    monkeypatch.setattr(sample_data, "_PAIR_UM", 300.0)
    viewer.open_sample("napari-batchfx", key)
    session = session_for(viewer)
    expected = 2 if key == "two_scanners" else 1
    wait(lambda: len(session.study.slides) == expected, 90)
    assert len(viewer.layers) == expected
    if key == "two_scanners":
        assert {entry.scanner for entry in session.study.slides} == {"Aperio CS2", "NanoZoomer S210"}
        assert session.study.slides[1].is_aligned
    session.close()


def test_a_sample_that_can_not_be_fetched_is_one_sentence(bench, wait, monkeypatch, tmp_path):
    from napari_batchfx.samples import catalogue

    monkeypatch.setenv("BATCHFX_DATA", str(tmp_path))
    gone = "http://127.0.0.1:9/gone.svs"  # nothing listens there
    sample = catalogue.CATALOGUE["CMU-1-Small-Region.svs"]
    broken = type(sample)(
        sample.name,
        sample.title,
        sample.licence,
        tuple(type(f)(f.name, gone, f.sha256, f.size) for f in sample.files),
    )
    monkeypatch.setitem(catalogue.CATALOGUE, "CMU-1-Small-Region.svs", broken)
    slides = bench.docks["slides"]
    slides.open_sample("cmu_1_small_region")
    wait(lambda: slides.card.kind == "error")
    assert "CMU-1-Small-Region" in slides.card.text
    assert not slides.session.study.slides


@pytest.mark.parametrize(
    "name", ["Batchfx workbench", "Slides", "Encode", "Site probe", "Stain", "Adapt", "Study and report"]
)
def test_every_dock_opens_from_the_plugins_menu_on_an_empty_viewer(viewer, name, qtbot):
    _dock, widget = viewer.window.add_plugin_dock_widget("napari-batchfx", name)
    qtbot.wait(30)
    cards = [widget] if hasattr(widget, "card") else list(widget.docks.values())
    for dock in cards:
        assert dock.card.text, dock.title  # says what it needs
        assert dock.minimumSizeHint().width() <= 330
    session_for(viewer).close()


def test_every_control_says_what_it_is(bench):
    """Tooltips and names for screen readers; nothing without either."""
    from qtpy.QtWidgets import (
        QAbstractButton,
        QAbstractSlider,
        QAbstractSpinBox,
        QComboBox,
        QScrollBar,
        QTableWidget,
    )

    for dock in bench.docks.values():
        for kind in (QAbstractButton, QComboBox, QAbstractSpinBox, QAbstractSlider):
            for widget in dock.findChildren(kind):
                if (
                    isinstance(widget, QScrollBar)
                    or widget.objectName().startswith("qt_")
                    or not widget.isVisibleTo(dock)
                ):
                    continue
                if widget.parent().__class__.__name__ in ("QTabBar", "More", "QScrollArea"):
                    continue
                if isinstance(widget.parent(), QTableWidget):  # its corner
                    continue
                assert widget.toolTip(), (
                    dock.title,
                    widget.__class__.__name__,
                    getattr(widget, "text", lambda: "")(),
                )


def test_links_on_cards_lead_to_docks(bench):
    bench.show_dock("probe")
    bench.docks["probe"].card.link.emit("dock:slides")
    assert bench.tabs.currentWidget() is bench.docks["slides"]


def test_preferences_reach_the_cache(viewer, monkeypatch):
    from napari_batchfx.viewer import preferences

    before = tile_cache().max_bytes
    monkeypatch.setattr(
        preferences, "preference", lambda name: {"tile_cache_mb": 77, "hub_offline": False}[name]
    )
    preferences.apply_preferences()
    assert tile_cache().max_bytes == 77 * 1024 * 1024
    monkeypatch.undo()
    assert preferences.preference("default_encoder") == "colour-statistics"
    from napari_batchfx.slides import set_cache_bytes

    set_cache_bytes(before)


def test_the_menu_lists_every_sample_the_dock_has():
    """The manifest and the dock's Samples menu are two lists of the same things."""
    from pathlib import Path

    import npe2

    import napari_batchfx
    from napari_batchfx.viewer import sample_data

    manifest = npe2.PluginManifest.from_file(Path(napari_batchfx.__file__).parent / "napari.yaml")
    listed = {sample.key: sample.display_name for sample in manifest.contributions.sample_data}
    assert listed == {key: title for key, title, _ in sample_data.SAMPLES}
    for command in manifest.contributions.commands:
        module, _, name = command.python_name.partition(":")
        assert callable(getattr(__import__(str(module), fromlist=[name]), name)), command.id
