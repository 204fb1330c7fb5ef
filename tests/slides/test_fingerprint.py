"""Fingerprints: of the content alone; those of single files never change, or every stored feature would be lost."""

from __future__ import annotations

import hashlib
import shutil

import numpy as np
import pytest
from tests.slides.dicom_writer import write_dicom

from napari_batchfx.errors import SlideError
from napari_batchfx.slides import fingerprint


@pytest.fixture
def folder(tmp_path):
    image = np.random.default_rng(1).integers(0, 255, (130, 190, 3), dtype=np.uint8)
    folder = tmp_path / "slide"
    folder.mkdir()
    for k in range(3):
        write_dicom(folder / f"{k}.dcm", image[:: 2**k, :: 2**k], instance=str(k + 1))
    return folder


def test_small_files_are_hashed_whole(tmp_path):
    path = tmp_path / "a.svs"
    path.write_bytes(b"the same content")
    expected = hashlib.blake2b((16).to_bytes(8, "little") + b"the same content", digest_size=16).hexdigest()
    # golden values of this file: computed with version 0.1.0, which knew single files only
    assert fingerprint(path) == expected == "c3b110e34c4a323796942aef0af19497"


def test_large_files_are_sampled(tmp_path):
    path = tmp_path / "a.svs"
    content = np.random.default_rng(7).integers(0, 256, 5 * 2**20 + 77, dtype=np.uint8)
    path.write_bytes(content.tobytes())
    assert fingerprint(path) == "3e59618a0f0a5ab2dc25af2c68a76b5b"


def test_a_real_slide(real_data):
    assert fingerprint(real_data("slides/CMU-1-Small-Region.svs")) == "fae59eb0e5906c8c7bfbf1b61fefb966"


def test_a_folder_is_known_whatever_it_and_its_files_are_called(folder, tmp_path):
    first = fingerprint(folder)
    assert all(fingerprint(path) == first for path in folder.iterdir())
    renamed = shutil.copytree(folder, tmp_path / "other name")
    for path in sorted(renamed.iterdir(), reverse=True):
        path.rename(renamed / f"x{9 - int(path.stem)}")
    assert fingerprint(renamed) == first
    (renamed / "readme.txt").write_text("not of the slide")
    assert fingerprint(renamed) == first


def test_another_level_is_another_slide(folder):
    first = fingerprint(folder)
    path = folder / "2.dcm"
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    second = fingerprint(folder)
    assert second != first
    path.unlink()
    assert fingerprint(folder) not in {first, second}


def test_one_file_alone_is_that_file(folder, tmp_path):
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(folder / "0.dcm", alone)
    assert fingerprint(alone) == fingerprint(alone / "0.dcm")


@pytest.mark.parametrize("name", ["missing.svs", "folder", "folder/a" + "b" * 300])
def test_what_is_no_slide_is_a_sentence(tmp_path, name):
    (tmp_path / "folder").mkdir()
    with pytest.raises(SlideError):
        fingerprint(tmp_path / name)
