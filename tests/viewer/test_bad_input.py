"""Bad input gives one clear sentence on the card and leaves everything else as it was."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from tests.viewer.conftest import tissue

from napari_batchfx.viewer import regions, seam


def bad_files(tmp_path, make_slide):
    good = make_slide("good.tif", tissue(256, 256))
    files = {}
    files["missing"] = tmp_path / "nowhere.svs"
    files["text"] = tmp_path / "notes.svs"
    files["text"].write_text("this is a shopping list\n" * 20)
    files["empty"] = tmp_path / "empty.svs"
    files["empty"].write_bytes(b"")
    files["truncated"] = tmp_path / "cut.tif"
    files["truncated"].write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    files["16-bit"] = tmp_path / "deep.png"
    Image.fromarray(tissue(64, 64)[..., 0].astype(np.uint16) * 200).save(files["16-bit"])
    return files


@pytest.mark.parametrize("kind", ["missing", "text", "empty", "16-bit"])
def test_a_bad_file_is_one_sentence(bench, viewer, tmp_path, make_slide, kind):
    slides = bench.docks["slides"]
    files = bad_files(tmp_path, make_slide)
    slides.add_paths([make_slide("first.tif", tissue(300, 300, seed=3))])
    before = [(entry.name, entry.fingerprint) for entry in slides.session.study.slides], list(viewer.layers)
    slides.add_paths([files[kind]])
    assert slides.card.kind == "error"
    assert files[kind].name in slides.card.text
    assert "Traceback" not in slides.card.text
    assert slides.card.text.count("\n") == 0
    assert before == (
        [(entry.name, entry.fingerprint) for entry in slides.session.study.slides],
        list(viewer.layers),
    )


def test_a_file_cut_off_in_the_middle_shows_what_it_has_and_says_so(bench, tmp_path, make_slide):
    slides = bench.docks["slides"]
    path = bad_files(tmp_path, make_slide)["truncated"]
    slides.add_paths([path])
    assert slides.card.kind == "warn"
    assert path.name in slides.card.text
    assert "incomplete" in slides.card.text
    (entry,) = slides.session.study.slides
    slide = slides.session.study.open_slide(entry)
    assert 0.2 < slide.lost_share < 0.9
    pixels = slide.read(0, 0, 0, *slide.shape)
    grey = (pixels == 191).all(axis=2).mean()
    assert abs(grey - slide.lost_share) < 0.15
    assert len(slide.damage) > 0


def test_one_bad_file_among_good_ones(bench, tmp_path, make_slide):
    slides = bench.docks["slides"]
    bad = tmp_path / "bad.svs"
    bad.write_text("no slide")
    slides.add_paths(
        [make_slide("a.tif", tissue(300, 300)), bad, make_slide("b.tif", tissue(300, 300, seed=2))]
    )
    assert [entry.name for entry in slides.session.study.slides] == ["a", "b"]
    assert "bad.svs" in slides.card.text
    assert "2 of 3 opened" in slides.card.text


def test_no_pixel_size_is_asked_for(bench, viewer, tmp_path):
    slides, encode = bench.docks["slides"], bench.docks["encode"]
    path = tmp_path / "photo.png"
    Image.fromarray(tissue(400, 500)).save(path)
    slides.add_paths([path])
    assert "no pixel size" in slides.card.text
    assert not encode.row.button.isEnabled()
    slides.table.item(0, 4).setText("nonsense")
    assert "no pixel size" in slides.card.text
    assert slides.session.study.slides[0].mpp_given is None
    slides.table.item(0, 4).setText("0.5")
    entry = slides.session.study.slides[0]
    assert slides.session.study.open_slide(entry).mpp == (0.5, 0.5)
    np.testing.assert_allclose(slides.session.layer(entry, "slide").scale, 0.5)
    assert encode.row.button.isEnabled()


def test_rgba_and_grey_pictures(bench, tmp_path):
    """RGBA opens over white; an 8-bit grey picture opens as RGB or is declined in one sentence, never garbage."""
    slides = bench.docks["slides"]
    rgba = np.dstack([tissue(300, 300), np.zeros((300, 300), np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "alpha.png")
    Image.fromarray(tissue(300, 300)[..., 0]).save(tmp_path / "grey.png")
    slides.add_paths([tmp_path / "alpha.png"])
    slide = slides.session.study.open_slide(slides.session.study.slides[0])
    assert (slide.read(0, 0, 0, 300, 300) == 255).all()
    slides.add_paths([tmp_path / "grey.png"])
    if len(slides.session.study.slides) == 2:
        grey = slides.session.study.open_slide(slides.session.study.slides[1]).read(0, 0, 0, 300, 300)
        np.testing.assert_array_equal(grey[..., 1], tissue(300, 300)[..., 0])
    else:
        assert "grey.png" in slides.card.text


def test_no_tissue(bench, viewer, wait, make_slide):
    slides, encode = bench.docks["slides"], bench.docks["encode"]
    slides.add_paths([make_slide("glass.tif", np.full((600, 600, 3), 245, np.uint8))])
    encode.where.button(2).setChecked(True)
    encode.start()
    wait(lambda: not encode.encoding.job.is_running)
    assert encode.card.text.startswith("glass: no tile has 25% tissue")
    assert slides.session.layer(slides.session.study.slides[0], "probe") is None


def test_a_view_without_tissue_or_slide(bench, viewer, wait, qtbot, make_slide):
    slides, encode = bench.docks["slides"], bench.docks["encode"]
    image = np.full((1000, 1000, 3), 245, np.uint8)
    image[:400, :400] = tissue(400, 400)
    slides.add_paths([make_slide("corner.tif", image)])
    seam.fit_to(viewer, (350, 350, 480, 480))
    encode.start()
    wait(lambda: not encode.encoding.job.is_running)
    assert "no tissue" in encode.card.text
    seam.fit_to(viewer, (5000, 5000, 5100, 5100))
    encode.start()
    assert "No slide is on the canvas" in encode.card.text
    assert not encode.encoding.job.is_running


def test_shapes_missing(bench, make_slide):
    encode = bench.docks["encode"]
    bench.docks["slides"].add_paths([make_slide("a.tif", tissue(300, 300))])
    encode.where.button(1).setChecked(True)
    encode.start()
    assert "no shape" in encode.card.text


def _encoded(bench, wait, paths, scanners):
    slides, encode = bench.docks["slides"], bench.docks["encode"]
    slides.add_paths(paths)
    session = slides.session
    for entry, scanner in zip(session.study.slides, scanners, strict=True):
        session.update_slide(entry, scanner=scanner)
    session.study.settings.encode.size_px, session.study.settings.encode.mpp = 48, 0.5
    encode.encoding.encode_slides(session.study.slides)
    wait(lambda: not encode.encoding.job.is_running)
    return session


def test_one_site_only(bench, wait, make_slide):
    probe = bench.docks["probe"]
    session = _encoded(
        bench,
        wait,
        [make_slide("a.tif", tissue(400, 400)), make_slide("b.tif", tissue(400, 400, seed=2))],
        ["X", "X"],
    )
    probe.refresh()
    assert "different scanner" in probe.card.text
    probe.start()
    wait(lambda: not probe.job.is_running)
    assert probe.card.kind == "error"
    assert "X" in probe.card.text or "scanner" in probe.card.text
    assert session.study.results.probe is None


def test_one_class_only(bench, wait, make_slide):
    adapt = bench.docks["adapt"]
    session = _encoded(
        bench,
        wait,
        [make_slide("a.tif", tissue(400, 400)), make_slide("b.tif", tissue(400, 400, seed=2))],
        ["X", "Y"],
    )
    first = session.study.slides[0]
    regions.add_region(session, first, "tumour", [[0, 0], [0, 200], [200, 200], [200, 0]])
    adapt.refresh()
    assert "two classes" in adapt.card.text
    assert not adapt.row.button.isEnabled()
    adapt.start()  # even when called from a script
    wait(lambda: not adapt.job.is_running)
    assert adapt.card.kind == "error"
    assert session.study.results.adapt is None
