"""Paths of all sorts: folders of other things, links and loops, read-only folders, odd names."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from napari_batchfx.errors import SlideError
from napari_batchfx.slides import can_open, open_slide, write_pyramid


@pytest.fixture
def image():
    rng = np.random.default_rng(3)
    small = rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((803, 611), Image.Resampling.BICUBIC))


def test_folders_of_other_things_are_one_sentence(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "things").mkdir()
    (tmp_path / "things" / "notes.txt").write_text("x")
    (tmp_path / "things" / "sub.dcm").mkdir()
    (tmp_path / "named.zarr").mkdir()
    for name in ("empty", "things", "named.zarr"):
        assert not can_open(tmp_path / name)
        with pytest.raises(SlideError, match="it is a folder, not a slide file") as caught:
            open_slide(tmp_path / name)
        assert str(caught.value).startswith(name)
        for backend in ("tifffile", "zarr", "dicom", "openslide", "image"):
            with pytest.raises(SlideError, match="folder"):
                open_slide(tmp_path / name, backend=backend)


def test_symlinks_are_followed_and_loops_said(tmp_path, image):
    path = write_pyramid(tmp_path / "präparat 1 (copy).tif", image, 0.5)
    (tmp_path / "link.tif").symlink_to(path)
    with open_slide(tmp_path / "link.tif") as link, open_slide(path) as slide:
        assert link.fingerprint == slide.fingerprint
        assert slide.name == "präparat 1 (copy)"
    (tmp_path / "loop.tif").symlink_to(tmp_path / "loop2.tif")
    (tmp_path / "loop2.tif").symlink_to(tmp_path / "loop.tif")
    (tmp_path / "dangling.tif").symlink_to(tmp_path / "nothing.tif")
    for name, words in (("loop.tif", "can't be read"), ("dangling.tif", "no such file")):
        assert not can_open(tmp_path / name)
        with pytest.raises(SlideError, match=words) as caught:
            open_slide(tmp_path / name)
        assert str(caught.value).startswith(name)


def test_a_read_only_folder_is_no_obstacle(tmp_path, image):
    folder = tmp_path / "archive"
    folder.mkdir()
    path = write_pyramid(folder / "a.tif", image, 0.5, compression="deflate")
    before = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
    folder.chmod(0o555)
    try:
        with open_slide(path) as slide:
            assert np.array_equal(slide.read(0, 0, 0, 611, 803), image)
        # an open slide leaves nothing beside the file, whoever may write there
        assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir()} == before
    finally:
        folder.chmod(0o755)


def test_icc_is_passed_on(tmp_path, image):
    path = write_pyramid(tmp_path / "a.tif", image, 0.5)
    with open_slide(path, icc="auto") as slide:
        assert slide.icc == "auto"
    for icc, words in (("on", "no colour profile|has none"), ("maybe", "maybe")):
        with pytest.raises(SlideError, match=words):
            open_slide(path, icc=icc)
    path.unlink()


@pytest.mark.parametrize("name", ["a\0b.tif", "", ".", "..", "/"])
def test_odd_paths_never_raise_anything_else(name):
    assert can_open(name) in (True, False)
    with pytest.raises(SlideError):
        open_slide(name)
