"""``napari-batchfx tissue`` and the tissue options of ``embed``."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from napari_batchfx.cli import app
from napari_batchfx.slides import write_pyramid


@pytest.fixture
def slide(tmp_path):
    image = np.full((600, 800, 3), 242, np.uint8)
    image[100:500, 100:500] = 190, 110, 170
    image[150:350, 150:350] = 190, 22, 30
    return write_pyramid(tmp_path / "a.tif", image, 2.0, compression="deflate")


def _run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_says_tissue_and_pen_in_a_sentence(slide):
    result = _run("tissue", slide)
    assert result.exit_code == 0
    assert "of the slide is tissue" in result.stdout
    assert "lies under pen" in result.stdout


def test_json_and_picture(slide, tmp_path):
    result = _run("tissue", slide, "--json", "--png", tmp_path / "pictures")
    (facts,) = json.loads(result.stdout)
    assert facts["slide"] == "a"
    # 400 x 400 px of tissue on 600 x 800, 200 x 200 of them under pen and its rim
    assert 0.2 < facts["tissue"] < (400 * 400 - 200 * 200) / (600 * 800) + 0.03
    assert facts["artefacts"]["pen"] > 0.2
    assert facts["not_judged"] == ["blur"]
    picture = np.asarray(Image.open(tmp_path / "pictures" / "a-tissue.png"))
    assert picture.shape == (150, 200, 3)


def test_what_is_left_out_can_be_chosen(slide):
    with_pen = json.loads(_run("tissue", slide, "--json", "--leave-out", "none").stdout)[0]["tissue"]
    without = json.loads(_run("tissue", slide, "--json").stdout)[0]["tissue"]
    dense = json.loads(_run("tissue", slide, "--json", "--tissue-threshold", "2").stdout)[0]["tissue"]
    assert with_pen > without > dense == 0


def test_a_wrong_artefact_is_refused(slide):
    result = _run("tissue", slide, "--leave-out", "dust")
    assert result.exit_code == 2
    assert "--leave-out" in result.stderr


def test_a_slide_that_fails_does_not_stop_the_others(slide, tmp_path):
    broken = tmp_path / "b.tif"
    broken.write_bytes(b"no slide")
    result = _run("tissue", broken, slide)
    assert result.exit_code == 3  # some of it failed
    assert "a: " in result.stdout
    assert "b.tif" in result.stderr


def test_embed_takes_fewer_tiles_from_a_pen_stroke(slide, tmp_path):
    from napari_batchfx.features import read_h5ad

    sizes = []
    for number, leave_out in enumerate((["--leave-out", "none"], [])):
        table = tmp_path / f"{number}.h5ad"
        options = ["--tile-px", 32, "--tile-mpp", 2, "--min-tissue", 0.5]
        result = _run("embed", slide, "--out", table, *options, *leave_out)
        assert result.exit_code == 0, result.stderr
        sizes.append(read_h5ad(table).n_obs)
    assert sizes[0] > sizes[1] > 0


@pytest.fixture
def profiled(slide, tmp_path):
    import tifffile
    from tests.slides.profiles import matrix_profile

    return write_pyramid(
        tmp_path / "profiled.tif",
        tifffile.imread(slide),
        2.0,
        compression="deflate",
        icc_profile=matrix_profile(),
    )


def test_colours_can_be_chosen(slide, profiled, tmp_path):
    """--icc of ``tissue`` and ``embed`` is that of open_slide; a file without a profile is refused for "on"."""
    from napari_batchfx.features import read_h5ad

    def picture(*more):
        assert _run("tissue", profiled, "--png", tmp_path / "pictures", *more).exit_code == 0
        return np.asarray(Image.open(tmp_path / "pictures" / "profiled-tissue.png"))[30, 30].tolist()

    assert picture() == picture("--icc", "off") == [190, 110, 170]
    assert picture("--icc", "auto") == picture("--icc", "on") != [190, 110, 170]
    assert "no colour profile" in _run("tissue", slide, "--icc", "on").stderr

    def table(study, *more):
        out = tmp_path / "t.h5ad"
        result = _run(
            "embed", profiled, "-o", out, "--tile-px", 64, "--tile-mpp", 2, "--study", tmp_path / study, *more
        )
        assert result.exit_code == 0, result.stderr
        return read_h5ad(out).to_df()

    stored, srgb = table("s"), table("other", "--icc", "on")
    assert not np.array_equal(stored.to_numpy(), srgb.loc[stored.index].to_numpy())
    # the same study with other colours: of the slide it has already
    assert np.array_equal(table("s", "--icc", "auto").to_numpy(), srgb.to_numpy())
    assert "off, auto, on" in _run("embed", profiled, "-o", tmp_path / "u.h5ad", "--icc", "x").stderr
