"""The main job in the real window, on the real slides."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from napari_batchfx.viewer import regions, seam
from napari_batchfx.viewer.layers import tag

KI67 = "scanners/ki67-two-scanners/"


def idle(bench):
    return not any(dock.job.is_running for key, dock in bench.docks.items() if hasattr(dock, "job")) and not (
        bench.docks["encode"].encoding.job.is_running
    )


@pytest.mark.real_data
def test_the_real_svs_from_file_to_report(bench, viewer, wait, qtbot, real_data, tmp_path):
    """Open the real SVS and a rescan of it, encode a view, probe, preview Macenko, draw, adapt, save, reopen."""
    slides, encode, probe, stain, adapt, report = (
        bench.docks[key] for key in ("slides", "encode", "probe", "stain", "adapt", "report")
    )
    session = slides.session

    # 1. Slides: the real one through napari's own File > Open, and the same glass as another scanner sees it.
    path = real_data("slides/CMU-1-Small-Region.svs")
    viewer.open(path, plugin="napari-batchfx")
    rescan = _rescan(path, tmp_path / "rescan.svs")
    slides.add_paths([rescan])
    first, second = session.study.slides
    layer = session.layer(first, "slide")
    assert layer.multiscale
    assert layer.rgb
    np.testing.assert_allclose(layer.scale, 0.499)
    np.testing.assert_allclose(layer.translate, 0.499 / 2)
    assert [str(unit) for unit in layer.units] == ["micrometer", "micrometer"]
    assert session.study.open_slide(first).vendor == "aperio"
    slides.table.item(0, 2).setText("CS")
    slides.table.item(1, 2).setText("Other")
    assert [entry.scanner for entry in session.study.slides] == ["CS", "Other"]

    # 2. Encode: the visible region only.
    slides.table.selectRow(0)
    session.study.settings.encode.size_px, session.study.settings.encode.mpp = 96, 0.5
    encode.show_settings()
    seam.fit_to(viewer, (500, 300, 1100, 900))
    qtbot.mouseClick(encode.row.button, _left())
    wait(lambda: idle(bench))
    overlay = session.layer(first, "encoded")
    grid = session.study.grid(first)
    rows, cols = np.nonzero(np.isfinite(overlay.data))
    seen = grid.center_um(np.stack([rows, cols], axis=1))
    box = seam.view_box_um(viewer)
    assert len(seen) > 20
    assert (seen[:, 0] >= box[0]).all()
    assert (seen[:, 0] <= box[2]).all()
    assert (seen[:, 1] >= box[1]).all()
    assert (seen[:, 1] <= box[3]).all()
    assert (grid.tissue[rows, cols] >= 0.25).all()

    # the rest
    encode.where.button(2).setChecked(True)
    encode.start()
    wait(lambda: idle(bench))
    assert np.isfinite(session.layer(second, "encoded").data).sum() > len(seen)

    # 3. Probe.
    probe.permutations.setValue(3)
    probe.start()
    wait(lambda: idle(bench), 120)
    outcome = session.study.results.probe
    assert outcome.result.balanced_accuracy > 0.9, probe.card.text
    assert "guessing" in probe.card.text
    for entry in (first, second):
        map_layer = session.layer(entry, "probe")
        where, cells = outcome.tiles.on(entry.fingerprint)
        shown = map_layer.data[cells[:, 0], cells[:, 1]]
        np.testing.assert_allclose(shown, np.asarray(outcome.result.confidence, np.float32)[where])
        assert np.isnan(map_layer.data).sum() == map_layer.data.size - np.isfinite(shown).sum()

    # 4. Macenko preview: real pixels, lazily, for the level of the view.
    stain.start()
    wait(lambda: idle(bench))
    preview = session.layer(first, "preview")
    assert preview.multiscale
    assert preview.rgb
    original, normalised = np.asarray(layer.data[-1]), np.asarray(preview.data[-1])
    assert original.shape == normalised.shape
    transform = session.study.stain_transform(first)
    np.testing.assert_array_equal(normalised, transform.transform(original))
    assert np.abs(original.astype(int) - normalised).mean() > 3

    # 5. Regions: two classes and controls on the first slide, the same places on the second.
    height, _width = session.study.open_slide(first).extent_um
    drawn = {
        "upper": [[200, 200], [200, 800], [700, 800], [700, 200]],
        "lower": [[900, 300], [900, 1000], [height, 1000], [height, 300]],
        "control": [[300, 350], [300, 800], [1300, 800], [1300, 350]],
    }
    for name, polygon in drawn.items():
        regions.add_region(session, first, name, polygon)
    adapt.slide.setCurrentIndex(adapt.slide.findData(first.name))
    adapt.copy()
    assert {(a.slide, a.class_name, a.is_control) for a in session.study.annotations} == {
        (entry.name, None if name == "control" else name, name == "control")
        for entry in (first, second)
        for name in drawn
    }

    # 6. Adapt.
    adapt.batch.setCurrentIndex(adapt.batch.findData("scanner"))
    adapt.train_on.setCurrentIndex(adapt.train_on.findData("CS"))
    adapt.start()
    wait(lambda: idle(bench), 120)
    adapted = session.study.results.adapt
    assert adapted is not None, adapt.card.text
    where, cells = adapted.tiles.on(second.fingerprint)
    for kind, prediction in (("before", adapted.before), ("after", adapted.after)):
        shown = session.layer(second, kind).data[cells[:, 0], cells[:, 1]]
        np.testing.assert_array_equal(shown, np.asarray(prediction.proba)[where].argmax(axis=1))
    changed = session.layer(second, "changed").data[cells[:, 0], cells[:, 1]]
    np.testing.assert_array_equal(changed, adapted.changed[where])

    # 7. Save, report, reopen here and in a fresh process: the same numbers.
    report.save_to(tmp_path / "story.batchfx")
    assert "Saved" in report.card.text
    report.write_to(tmp_path / "story.html")
    wait(lambda: idle(bench))
    assert "Report written" in report.card.text
    page = (tmp_path / "story.html").read_text("utf-8")
    assert "Predictions before and after adaptation" in page
    assert f"{outcome.result.balanced_accuracy:.2f}" in page
    assert (
        f"{int(adapted.changed.sum())} of {int(np.isfinite(adapted.before.proba).all(axis=1).sum())}" in page
    )
    assert first.name not in page
    before = outcome.result.balanced_accuracy
    report.open_from(tmp_path / "story.batchfx")
    again = session.study.results
    assert again.probe.result.balanced_accuracy == before
    np.testing.assert_array_equal(
        session.layer(session.study.slides[1], "changed").data[cells[:, 0], cells[:, 1]], changed
    )
    assert len(session.layer(session.study.slides[0], "regions").data) == 3
    code = (
        "import json, sys, numpy as np\n"
        "from napari_batchfx import Study\n"
        "study = Study.open(sys.argv[1])\n"
        "study.settings.probe.permutations = 3\n"
        "out = study.run()\n"
        "print(json.dumps([study.results.probe.result.balanced_accuracy, int(study.results.adapt.changed.sum()), out.encode.tiles]))"
    )
    # The window has the study, so another program only reads it: the process works in a copy.
    shutil.copytree(
        tmp_path / "story.batchfx", tmp_path / "copy.batchfx", ignore=shutil.ignore_patterns(".locks")
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "copy.batchfx")],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    accuracy, n_changed, encoded_again = json.loads(done.stdout.splitlines()[-1])
    assert accuracy == pytest.approx(before, abs=1e-9)
    assert n_changed == int(adapted.changed.sum())
    assert encoded_again == 0


@pytest.mark.real_data
def test_two_scanners_side_by_side(bench, viewer, wait, real_data):
    """The Ki-67 pair: both open, aligned to within 2 um, in cells of their own whatever layers they have."""
    slides, encode = bench.docks["slides"], bench.docks["encode"]
    session = slides.session
    slides.add_paths([real_data(KI67 + "OS-2-ndpi.ome.tif"), real_data(KI67 + "OS-2-vsi.ome.tif")])
    slides.compare.align()
    wait(lambda: not slides.compare.is_aligning)
    assert "Aligned" in slides.card.text
    a, b = session.study.slides
    shift = np.asarray(b.affine_um)[:2, 2]
    assert np.hypot(*shift) < 2.0
    np.testing.assert_allclose(session.layer(b, "slide").affine.affine_matrix[:2, 2], shift)
    slides.compare.choose("grid")
    encode.encoding.encode_slides([a])  # only the first slide gets an overlay
    wait(lambda: idle(bench))
    grid = seam.grid(viewer)
    cells = {}
    for index, layer in enumerate(viewer.layers):
        cells.setdefault(tag(layer)["slide"], set()).add(grid.position(index, viewer.layers))
    assert cells[a.fingerprint] - {(-1, -1)} == {(0, 0)}
    assert cells[b.fingerprint] - {(-1, -1)} == {(0, 1)}
    slides.compare.choose("overlay")
    assert not any(tag(layer).get("placeholder") for layer in viewer.layers)


def _left():
    from qtpy.QtCore import Qt

    return Qt.MouseButton.LeftButton


def _rescan(path, out):
    """The same glass on another, made-up scanner: bluer, flatter, a little blurred, its own pixel size."""
    from PIL import Image, ImageFilter

    from napari_batchfx import open_slide
    from napari_batchfx.slides import write_pyramid

    with open_slide(path) as slide:
        image = Image.fromarray(slide.read(0, 0, 0, *slide.shape))
    small = image.filter(ImageFilter.GaussianBlur(0.7)).resize(
        (int(image.width / 1.1), int(image.height / 1.1))
    )
    colour = np.asarray(small, dtype=np.float32) / 255
    colour = 0.93 * colour ** np.array([1.15, 1.0, 0.85], dtype=np.float32) + np.array(
        [0.0, 0.01, 0.05], dtype=np.float32
    )
    write_pyramid(
        out, (np.clip(colour, 0, 1) * 255).astype(np.uint8), 0.499 * 1.1, flavour="svs", scanner="Made-up"
    )
    return out
