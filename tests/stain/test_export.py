"""A slide written with its stain normalised: the pixels, what is kept, what is not, stopping, memory."""

from __future__ import annotations

import json
import time
import tracemalloc

import numpy as np
import pytest
import tifffile

from napari_batchfx.errors import StainError
from napari_batchfx.jobs import run
from napari_batchfx.slides import open_slide, tile_cache, write_pyramid
from napari_batchfx.slides.halving import box_half
from napari_batchfx.stain import REFERENCE, MacenkoNormalizer, ReinhardNormalizer, StainTransform
from napari_batchfx.stain.export import export_job, provenance

from .stain_paint import paint


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """700 x 900 px, edges in the middle of tiles, with scanner and pixel size, and a name one must not find."""
    rng = np.random.default_rng(3)
    image = paint(rng.gamma(1.5, 0.4, (700, 900, 2)))
    path = tmp_path_factory.mktemp("slides") / "Smith-John-1961.ome.tif"
    return write_pyramid(
        path, image, (0.25, 0.26), tile=240, compression="deflate", flavour="ome", vendor="Aperio",
        scanner="CS2", scanner_serial="SS1234", objective_power=40,
    )  # fmt: skip


@pytest.fixture
def slide(path):
    with open_slide(path) as slide:
        yield slide


@pytest.fixture(scope="module")
def transform(path):
    with open_slide(path) as slide:
        return MacenkoNormalizer().for_slide(slide).with_strength(0.8)


@pytest.mark.parametrize("name", ["whole.ome.tif", "whole.ome.zarr"])
def test_opens_again_pixel_exact_with_what_is_known(slide, transform, tmp_path, name):
    done = run(export_job(slide, transform, tmp_path / name, target="built-in reference"))
    expected = transform.transform(slide.read(0, 0, 0, *slide.shape))
    with open_slide(done.path) as again:
        assert again.shape == slide.shape == done.shape
        assert again.mpp == pytest.approx(slide.mpp)
        assert again.mpp_source == "file"
        np.testing.assert_array_equal(again.read(0, 0, 0, *again.shape), expected)
        assert again.associated == ()
        if name.endswith(".tif"):
            assert (again.vendor, again.scanner, again.objective_power) == ("aperio", "CS2", 40)
    assert done.n_bytes > 0
    about = provenance(done.path)
    assert about == done.provenance
    assert StainTransform.from_dict(json.loads(about["stain transform"])) == transform
    assert about["stain strength"] == "0.8"
    assert about["source fingerprint"] == slide.fingerprint
    assert "napari-batchfx" in about["made by"]


def test_other_programs_open_it(slide, transform, tmp_path):
    import zarr

    expected = transform.transform(slide.read(0, 0, 0, *slide.shape))
    run(export_job(slide, transform, tmp_path / "a.ome.tif"))
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        assert tif.is_ome
        series = tif.series[0]
        np.testing.assert_array_equal(series.levels[0].asarray(), expected)
        facts = tifffile.xml2dict(tif.ome_metadata)["OME"]
        assert facts["Image"]["Pixels"]["PhysicalSizeX"] == pytest.approx(0.26)
        assert facts["StructuredAnnotations"]["MapAnnotation"]["ID"] == facts["Image"]["AnnotationRef"]["ID"]
    run(export_job(slide, transform, tmp_path / "a.ome.zarr"))
    group = zarr.open_group(str(tmp_path / "a.ome.zarr"), mode="r")
    scales = group.attrs["multiscales"][0]
    np.testing.assert_array_equal(np.moveaxis(group[scales["datasets"][0]["path"]][:], 0, -1), expected)
    steps = scales["datasets"][0]["coordinateTransformations"]
    assert steps[0]["scale"] == pytest.approx([1, 0.25, 0.26])


@pytest.mark.parametrize("name", ["deep.ome.tif", "deep.ome.zarr"])
def test_smaller_levels_are_means_of_the_normalised_pixels(transform, tmp_path, name):
    rng = np.random.default_rng(4)
    image = paint(rng.gamma(1.5, 0.4, (1101, 1301, 2)))
    write_pyramid(tmp_path / "s.tif", image, 0.5, compression="deflate", tile=240)
    with open_slide(tmp_path / "s.tif") as slide:
        run(export_job(slide, transform, tmp_path / name))
        done = run(export_job(slide, transform, tmp_path / f"half-{name}", level=1))
        with open_slide(done.path) as half:
            assert half.mpp == pytest.approx((1, 1))
            expected = transform.transform(slide.read(1, 0, 0, *done.shape))
            np.testing.assert_array_equal(half.read(0, 0, 0, *done.shape), expected)
    with open_slide(tmp_path / name) as again:
        assert [(level.shape, level.stored) for level in again.levels] == [
            ((1101, 1301), True),
            ((551, 651), True),
        ]
        whole = transform.transform(image)
        np.testing.assert_array_equal(again.read(0, 0, 0, 1101, 1301), whole)
        np.testing.assert_array_equal(again.read(1, 0, 0, 551, 651), box_half(whole))


@pytest.mark.parametrize("name", ["part.ome.tif", "part.ome.zarr"])
def test_nothing_of_the_person_is_in_it(slide, transform, tmp_path, name):
    run(export_job(slide, transform, tmp_path / name))
    files = [tmp_path / name] if name.endswith(".tif") else (tmp_path / name).rglob("*")
    said = b"".join(one.read_bytes() for one in files if one.is_file())
    for word in (b"Smith", b"John", b"1961", b"SS1234", str(tmp_path).encode()):
        assert word not in said


def test_a_region(slide, transform, tmp_path):
    region = (50.1, 60.0, 150.0, 1e6)  # beyond the right edge
    done = run(export_job(slide, transform, tmp_path / "r.ome.tif", region_um=region))
    y, x = 200, 230  # 50.1 / 0.25 rounded down, 60 / 0.26
    assert done.shape == (600 - y, 900 - x)
    with open_slide(done.path) as again:
        expected = transform.transform(slide.read(0, y, x, *done.shape))
        np.testing.assert_array_equal(again.read(0, 0, 0, *done.shape), expected)


def test_jpeg_is_smaller_and_near(slide, tmp_path):
    transform = ReinhardNormalizer().for_slide(slide)
    exact = run(export_job(slide, transform, tmp_path / "a.ome.tif"))
    small = run(export_job(slide, transform, tmp_path / "b.ome.tif", compression="jpeg", quality=80))
    assert small.n_bytes < 0.5 * exact.n_bytes
    assert "JPEG" in small.provenance["compression"]


class Slow(StainTransform):
    """Takes its time, so that a job can be stopped in the middle."""

    def transform(self, image, workers=None):
        time.sleep(0.4)
        return super().transform(image, workers)


@pytest.mark.parametrize("name", ["stop.ome.tif", "stop.ome.zarr"])
def test_stopping_leaves_no_half_file_and_what_was_there(slide, transform, tmp_path, name):
    target = tmp_path / name
    first = run(export_job(slide, transform, target, region_um=(0, 0, 50, 50)))
    slow = Slow(transform.source, transform.target)
    job = export_job(slide, slow, target, overwrite=True)
    for _ in range(3):
        next(job)
    assert len(list(tmp_path.iterdir())) == 2  # it is being written, under another name
    job.close()
    assert [one.name for one in tmp_path.iterdir()] == [name]
    with open_slide(target) as again:
        assert again.shape == first.shape
    run(export_job(slide, transform, target, overwrite=True))
    with open_slide(target) as again:
        assert again.shape == slide.shape
    assert [one.name for one in tmp_path.iterdir()] == [name]


def test_memory_is_bounded_and_the_view_keeps_its_tiles(tmp_path):
    """A slide of 75 MB of pixels: a few rows of tiles are held, and the cache of the view stays as it is."""
    tile = paint(np.random.default_rng(0).gamma(1.5, 0.4, (256, 256, 2)))
    size = 5120
    path = write_pyramid(
        tmp_path / "big.tif", (tile for _ in range((size // 256) ** 2)), 0.5, shape=(size, size), tile=256
    )
    transform = MacenkoNormalizer().from_source(REFERENCE)
    transform.transform(tile)  # compiled outside of the count
    with open_slide(path) as slide:
        slide.read(0, 0, 0, 256, 256)
        before = tile_cache().nbytes
        tracemalloc.start()
        run(export_job(slide, transform, tmp_path / "big.ome.tif", compression="jpeg"))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert tile_cache().nbytes == before
    assert peak < 0.4 * size * size * 3


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("a.png", {}, "name ending in .ome.tif"),
        ("a.tif", {}, "name ending in .ome.tif"),
        (".ome.tif", {}, "name ending in .ome.tif"),
        ("a.ome.tif", {"region_um": (1e5, 0, 2e5, 10)}, "outside of the slide"),
        ("a.ome.tif", {"level": 99}, "there is no level 99"),
        ("a.ome.tif", {"compression": "lzw"}, "lossless"),
        ("missing/a.ome.tif", {}, "missing isn't there"),
        ("missing/a.ome.zarr", {}, "missing isn't there"),
    ],
)
def test_what_can_not_be_done_is_said(slide, transform, tmp_path, name, options, said):
    with pytest.raises(StainError, match=said):
        run(export_job(slide, transform, tmp_path / name, **options))
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_there_are_safe(slide, transform, tmp_path):
    with pytest.raises(StainError, match="that is the slide itself"):
        run(export_job(slide, transform, slide.path, overwrite=True))
    (tmp_path / "a.ome.tif").write_text("mine")
    with pytest.raises(StainError, match="there already"):
        run(export_job(slide, transform, tmp_path / "a.ome.tif"))
    assert (tmp_path / "a.ome.tif").read_text() == "mine"
    (tmp_path / "b.ome.zarr").mkdir()
    (tmp_path / "b.ome.zarr" / "notes.txt").write_text("mine")
    with pytest.raises(StainError, match="holds no OME-Zarr"):
        run(export_job(slide, transform, tmp_path / "b.ome.zarr", overwrite=True))
    assert provenance(tmp_path / "a.ome.tif") == {}


def test_command(path, tmp_path):
    from typer.testing import CliRunner

    from napari_batchfx.cli import app

    def normalize(*arguments):
        return CliRunner().invoke(app, ["normalize", str(path), *map(str, arguments)])

    done = normalize("--out", tmp_path / "n.ome.tif", "--region", "0,0,50,60", "--strength", "0.5")
    assert done.exit_code == 0, done.output
    assert "231 x 200 px" in done.stdout
    with open_slide(path) as slide, open_slide(tmp_path / "n.ome.tif") as again:
        expected = MacenkoNormalizer(strength=0.5).for_slide(slide).transform(slide.read(0, 0, 0, 200, 231))
        np.testing.assert_array_equal(again.read(0, 0, 0, 200, 231), expected)
    assert normalize("--out", tmp_path / "n.ome.tif").exit_code == 1
    assert normalize("--out", tmp_path / "m.ome.tif", "--region", "0,0,50").exit_code == 2
