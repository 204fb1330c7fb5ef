"""DICOM slides: real ones against OpenSlide and the SVS they come from, written ones against their arrays."""

from __future__ import annotations

import contextlib
import struct

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from tests.slides.dicom_writer import (
    HTJ2K,
    IMPLICIT,
    JPEG,
    JPEG2000,
    JPEG_LS,
    RAW,
    cut,
    element,
    encode,
    write_dicom,
)

from napari_batchfx.errors import SlideError
from napari_batchfx.slides import MISSING_RGB, can_open, fingerprint, open_slide
from napari_batchfx.slides._dicom_frames import jpeg_facts


@pytest.fixture
def image():
    rng = np.random.default_rng(5)
    small = rng.integers(0, 255, (12, 14, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((300, 200), Image.Resampling.BICUBIC))


def differences(a, b):
    found = np.abs(a.astype(int) - b.astype(int))
    return found.max(), found.mean()


def test_a_folder_is_one_slide_and_so_is_each_file_of_it(real_data):
    folder = real_data("slides/cmu-1-dicom-pyramid")
    with open_slide(folder) as whole, open_slide(folder / "level-7-frames-0-1.dcm") as part:
        assert can_open(folder)
        assert whole.name == part.name == "cmu-1-dicom-pyramid"
        assert whole.fingerprint == part.fingerprint == fingerprint(folder)
        assert whole.shape == part.shape == (2967, 2220)
        assert whole.mpp == (0.499, 0.499)
        assert whole.mpp_source == "file"
        # twelve levels down to one pixel: what no view needs is left out
        assert [level.shape for level in whole.levels] == [
            (2967, 2220), (1483, 1110), (741, 555), (370, 277), (185, 138),
        ]  # fmt: skip
        assert all(level.stored for level in whole.levels)


def test_a_jpeg_that_says_ycbcr_counts_more_than_a_header_that_says_rgb(real_data):
    """The files of this converter are shown in pink by a reader that believes their header."""
    with (
        open_slide(real_data("slides/cmu-1-dicom-pyramid")) as slide,
        open_slide(real_data("slides/CMU-1-Small-Region.svs")) as svs,
    ):
        mean = differences(slide.read(0, 0, 0, 2967, 2220), svs.read(0, 0, 0, 2967, 2220))[1]
        # encoded twice as JPEG: measured 114 and 3.44; false colours would be 66 on average
        assert mean < 4
        # each stored level is the one before made smaller, not shifted
        for level in (1, 2, 3):
            h, w = slide.levels[level].shape
            above = Image.fromarray(slide.read(level - 1, 0, 0, *slide.levels[level - 1].shape))
            above = np.asarray(above.resize((w, h), Image.Resampling.BOX))
            there = slide.read(level, 0, 0, h, w)
            assert differences(above, there)[1] < differences(above[1:], there[:-1])[1] < 20


def test_pixels_and_facts_are_those_of_openslide(real_data):
    pytest.importorskip("openslide")
    folder = real_data("slides/cmu-1-small-region-dicom")
    with open_slide(folder) as ours, open_slide(folder, backend="openslide") as theirs:
        assert np.array_equal(ours.read(0, 0, 0, *ours.shape), theirs.read(0, 0, 0, *theirs.shape))
        assert ours.associated == theirs.associated == ("label", "macro", "thumbnail")
        for name in ours.associated:
            assert np.array_equal(ours.associated_image(name), theirs.associated_image(name))
        assert ours.icc_profile == theirs.icc_profile
        assert len(ours.icc_profile) == 588
        assert ours.mpp == theirs.mpp
        assert ours.scan_date == theirs.scan_date == "2009-12-29T09:59:15"
        with pytest.raises(SlideError, match="no image called 'barcode'"):
            ours.associated_image("barcode")


def test_the_dicom_of_the_small_region_shows_the_svs(real_data):
    with (
        open_slide(real_data("slides/cmu-1-small-region-dicom")) as dicom,
        open_slide(real_data("slides/CMU-1-Small-Region.svs")) as svs,
    ):
        assert dicom.shape == svs.shape
        assert dicom.mpp == svs.mpp
        # the converter encoded the tiles again: measured 108 and 2.89
        assert differences(dicom.read(0, 0, 0, *svs.shape), svs.read(0, 0, 0, *svs.shape))[1] < 3.2


@pytest.mark.parametrize(
    ("syntax", "table"),
    [(s, t) for s in (JPEG, JPEG2000, JPEG_LS) for t in ("basic", "extended", "none")]
    + [(HTJ2K, "basic"), (RAW, ""), (IMPLICIT, "")],
)
def test_written_slides_come_back(tmp_path, image, syntax, table):
    write_dicom(tmp_path / "a.dcm", image, syntax=syntax, table=table)
    write_dicom(tmp_path / "b.dcm", image[::2, ::2], syntax=syntax, table=table, instance="2", mpp=1.0)
    with open_slide(tmp_path) as slide:
        assert [(level.shape, level.tile) for level in slide.levels] == [
            ((200, 300), (64, 64)),
            ((100, 150), (64, 64)),
        ]
        assert slide.mpp == (0.5, 0.5)
        for level, expected in enumerate((image, image[::2, ::2])):
            got = slide.read(level, 0, 0, *expected.shape[:2])
            if syntax == JPEG:
                assert differences(got, expected)[1] < 1.5
            else:
                assert np.array_equal(got, expected)


def test_openslide_reads_the_written_file_alike(tmp_path, image):
    """The writer of these tests is right: another reader agrees with it."""
    pytest.importorskip("openslide")
    path = write_dicom(tmp_path / "a.dcm", image, tags=[(0x00200052, "UI", "1.2.9")])
    with open_slide(path) as ours, open_slide(path, backend="openslide") as theirs:
        assert np.array_equal(ours.read(0, 0, 0, 200, 300), theirs.read(0, 0, 0, 200, 300))
        assert ours.mpp == theirs.mpp


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL_422"])
def test_colours_of_a_jpeg_without_a_mark_are_those_of_the_header(tmp_path, image, photometric):
    tile = image[:64, :64]
    code = imagecodecs.jpeg8_encode(
        tile,
        level=98,
        colorspace="RGB",
        outcolorspace="RGB" if photometric == "RGB" else "YCBCR",
        subsampling="444",
    )
    plain = without_marks(code)
    assert jpeg_facts(plain) == (64, 64, False)
    path = write_dicom(tmp_path / "a.dcm", tile, frames=[plain], photometric=photometric)
    with open_slide(path) as slide:
        assert differences(slide.read(0, 0, 0, 64, 64), tile)[1] < 1.5


def without_marks(code):
    """A JPEG without its JFIF and Adobe segments."""
    at, out = 2, [b"\xff\xd8"]
    while code[at + 1] != 0xDA:
        n = 2 + struct.unpack_from(">H", code, at + 2)[0]
        if code[at + 1] not in {0xE0, 0xEE}:
            out.append(code[at : at + n])
        at += n
    return b"".join([*out, code[at:]])


def test_sparse_frames_lie_where_they_say_and_the_rest_is_glass(tmp_path, image):
    tiles = [image[64:128, 128:192], image[:64, :64]]
    path = write_dicom(
        tmp_path / "a.dcm",
        image,
        syntax=JPEG_LS,
        frames=[encode(t, JPEG_LS) for t in tiles],
        positions=[(1, 2), (0, 0)],
    )
    expected = np.full_like(image, 255)
    expected[64:128, 128:192], expected[:64, :64] = tiles
    with open_slide(path) as slide:
        assert np.array_equal(slide.read(0, 0, 0, 200, 300), expected)
        assert slide.damage == ()


def test_a_level_may_be_cut_into_several_files(tmp_path, image):
    frames = [encode(part, JPEG_LS) for part in cut(image, 64)]
    for name, start, part in (("b", 0, frames[:9]), ("a", 9, frames[9:])):
        write_dicom(
            tmp_path / f"{name}.dcm", image, syntax=JPEG_LS, frames=part, concatenation=("1.9", start), instance=name
        )  # fmt: skip
    with open_slide(tmp_path) as slide:
        assert np.array_equal(slide.read(0, 0, 0, 200, 300), image)


def test_of_several_focal_planes_the_middle_one_is_shown(tmp_path, image):
    planes = [image // 2, image, 255 - image]
    frames = [encode(part, JPEG_LS) for plane in planes for part in cut(plane, 64)]
    path = write_dicom(tmp_path / "a.dcm", image, syntax=JPEG_LS, frames=frames, tags=[(0x00480303, "UL", 3)])
    with open_slide(path) as slide:
        assert np.array_equal(slide.read(0, 0, 0, 200, 300), image)


@pytest.mark.parametrize("planar", [0, 1])
def test_raw_ybr_and_planar_frames(tmp_path, image, planar):
    ybr = np.asarray(Image.fromarray(image[:64, :64]).convert("YCbCr"))
    code = (ybr.transpose(2, 0, 1) if planar else ybr).tobytes()
    tags = [(0x00280006, "US", planar)]
    path = write_dicom(
        tmp_path / "a.dcm", image[:64, :64], syntax=RAW, frames=[code], photometric="YBR_FULL", tags=tags
    )
    with open_slide(path) as slide:
        assert differences(slide.read(0, 0, 0, 64, 64), image[:64, :64])[0] <= 3


def test_two_slides_in_a_folder_are_named(tmp_path, image):
    write_dicom(tmp_path / "one.dcm", image)
    write_dicom(tmp_path / "two.dcm", image[:150], series="1.2.3.2")
    write_dicom(tmp_path / "two label.dcm", image[:64, :64], series="1.2.3.2", flavour="LABEL", instance="2")
    with pytest.raises(SlideError, match=r"holds 2 DICOM slides; .*one\.dcm, two\.dcm"):
        open_slide(tmp_path)
    with open_slide(tmp_path / "one.dcm") as one, open_slide(tmp_path / "two.dcm") as two:
        assert (one.name, one.shape, one.associated) == ("one", (200, 300), ())
        assert (two.name, two.shape, two.associated) == ("two", (150, 300), ("label",))
        assert one.fingerprint != two.fingerprint
        assert two.associated_image("label").shape == (64, 64, 3)


def test_what_names_a_patient_is_kept_apart(tmp_path, image):
    extra = [
        (tag, element(tag, "LO", text))
        for tag, text in (
            (0x00100010, "Doe^Jane"),
            (0x00100020, "P-77"),
            (0x00080050, "A-1"),
            (0x00400512, "S09-1"),
        )
    ]
    scan = [
        (0x00080070, "LO", "Leica Biosystems"),
        (0x00081090, "LO", "GT450"),
        (0x00181000, "LO", "SN 5"),
        (0x0008002A, "DT", "20240208113700"),
    ]
    path = write_dicom(tmp_path / "a.dcm", image, extra=extra, tags=scan)
    with open_slide(path) as slide:
        assert (slide.vendor, slide.scanner, slide.scanner_serial) == ("leica biosystems", "GT450", "SN 5")
        assert slide.scan_date == "2024-02-08T11:37:00"
        private = slide.private()
        assert private["PatientName"] == "Doe^Jane"
        assert private["PatientID"] == "P-77"
        assert private["ContainerIdentifier"] == "S09-1"
        assert not any(word in str(slide.info()) + repr(slide) for word in ("Doe", "P-77", "A-1'", "S09-1"))


def test_a_damaged_frame_is_missing_and_the_rest_is_there(tmp_path, image):
    frames = [encode(part, JPEG_LS) for part in cut(image, 64)]
    frames[6] = b"\x55" * len(frames[6])
    path = write_dicom(tmp_path / "a.dcm", image, syntax=JPEG_LS, frames=frames)
    with open_slide(path) as slide:
        got = slide.read(0, 0, 0, 200, 300)
        assert (got[64:128, 64:128] == MISSING_RGB).all()
        expected = image.copy()
        expected[64:128, 64:128] = MISSING_RGB
        assert np.array_equal(got, expected)
        assert [(d.level, d.row, d.col) for d in slide.damage] == [(0, 1, 1)]


@pytest.mark.parametrize("syntax", [JPEG_LS, RAW])
def test_a_file_cut_at_its_end_shows_what_it_has(tmp_path, image, syntax):
    path = write_dicom(tmp_path / "a.dcm", image, syntax=syntax)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    with open_slide(path) as slide:
        got = slide.read(0, 0, 0, 200, 300)
        assert np.array_equal(got[:64], image[:64])
        assert (got[192:, 256:] == MISSING_RGB).all()
        assert 4 < len(slide.damage) < 14


def test_a_frame_that_asks_for_gigabytes_is_missing(tmp_path, image):
    code = bytearray(encode(image[:64, :64], JPEG))
    at = next(i for i in range(len(code)) if code[i : i + 2] == b"\xff\xc0")
    code[at + 5 : at + 9] = struct.pack(">HH", 65500, 65500)
    path = write_dicom(tmp_path / "a.dcm", image[:64, :64], frames=[bytes(code)])
    with open_slide(path) as slide:
        assert (slide.read(0, 0, 0, 64, 64) == MISSING_RGB).all()
        assert "65500 x 65500 px" in slide.damage[0].reason


def test_refusals_are_one_sentence(tmp_path, image):
    def write(name, **kwargs):
        folder = tmp_path / name
        folder.mkdir()
        return write_dicom(folder / "a.dcm", image, **kwargs)

    whole = write("whole").read_bytes()
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "a.dcm").write_bytes(whole[:300])
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise" / "a.dcm").write_bytes(b"\0" * 128 + b"DICM" + bytes(range(256)) * 9)
    cases = {
        write("grey", tags=[(0x00280002, "US", 1)]): "greyscale or one colour channel",
        write("deep", tags=[(0x00280100, "US", 16)]): "aren't 8-bit RGB",
        write(
            "ct", tags=[(0x00080016, "UI", "1.2.840.10008.5.1.4.1.1.2"), (0x00080060, "CS", "CT")]
        ): r"another kind \(CT\)",
        write("label", flavour="LABEL"): "only its label",
        write("huge", shape=(2**31, 2**31)): "a size that no slide has",
        write("tiny", tile=8): "frames are only 8 x 8 px",
        write("short", tags=[(0x00280008, "IS", "90000")]): "truncated, most frames are missing",
        write("nothing", shape=(0, 0)): "a size that no slide has",
        write(
            "frames", tags=[(0x00280010, "US", 65535), (0x00280011, "US", 65535)]
        ): "frames that no slide has",
        tmp_path / "cut" / "a.dcm": "damaged or incomplete",
        tmp_path / "noise" / "a.dcm": "damaged or incomplete|another kind|a size that no slide has",
    }
    for path, words in cases.items():
        with pytest.raises(SlideError, match=words) as caught:
            open_slide(path)
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith("a.dcm")


def test_an_unknown_compression_names_openslide_or_is_read_by_it(tmp_path, image):
    path = write_dicom(tmp_path / "a.dcm", image, tags=None)
    data = path.read_bytes().replace(b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.4.99")
    path.write_bytes(data)
    with pytest.raises(SlideError, match=r"a\.dcm: its frames are compressed in a way that isn't read here"):
        open_slide(path, backend="dicom")


def test_mutated_headers_never_crash(tmp_path, image):
    """Every byte of the header may be wrong: a SlideError or a slide, nothing else."""
    rng = np.random.default_rng(11)
    source = write_dicom(tmp_path / "a.dcm", image[:64, :128]).read_bytes()
    end = source.index(b"\xff\xd8\xff")
    opened = 0
    for _ in range(250):
        data = bytearray(source)
        for at in rng.integers(128, end, rng.integers(1, 4)):
            data[at] = rng.integers(0, 256)
        (tmp_path / "a.dcm").write_bytes(data)
        with contextlib.suppress(SlideError), open_slide(tmp_path / "a.dcm") as slide:
            if slide.shape[0] * slide.shape[1] <= 2**22:
                slide.read(0, 0, 0, *slide.shape)
            opened += 1
    assert opened > 25
