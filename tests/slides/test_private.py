"""What could name a patient stays apart: every slide of the zoo has names planted in it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tests.slides.slide_zoo import SECRET, ZOO

from napari_batchfx.slides import open_slide
from napari_batchfx.slides.private import is_identifying


@pytest.mark.parametrize("name", ZOO)
def test_no_name_leaves_the_file(written, name):
    """Planted barcodes, users, file names and patients are in ``private()`` and in nothing else."""
    zoo = written(name)
    with open_slide(zoo.path) as slide:
        said = [
            str(slide.info()),
            json.dumps(slide.info(), default=str),
            str(slide),
            repr(slide),
            repr(slide._source.metadata),
            *map(repr, slide.levels),
        ]
        assert not any(SECRET in text for text in said)
        hidden = slide.private()
        assert any(SECRET in value for value in hidden.values())
        assert all(isinstance(key, str) and isinstance(value, str) for key, value in hidden.items())


@pytest.mark.parametrize("name", ["svs", "ndpi", "scn", "bif", "philips", "trestle", "generic"])
def test_no_name_leaves_the_file_through_openslide(written, name):
    pytest.importorskip("openslide")
    with open_slide(written(name).path, backend="openslide") as slide:
        said = [str(slide.info()), repr(slide), repr(slide._source.metadata)]
        assert not any(SECRET in text for text in said)
        assert any(SECRET in value for value in slide.private().values())


@pytest.mark.parametrize("name", ZOO)
def test_other_pictures_are_named_and_read_only_by_name(written, name):
    zoo = written(name)
    with open_slide(zoo.path) as slide:
        assert sorted(slide.associated) == sorted(zoo.associated)
        shapes = {level.shape for level in slide.levels}
        for other in slide.associated:
            picture = slide.associated_image(other)
            assert picture.dtype == np.uint8
            assert picture.shape[2] == 3
            assert other == "thumbnail" or picture.shape[:2] not in shapes


def test_a_real_barcode_of_leica_and_philips_is_decoded(written):
    for name in ("scn", "philips"):
        with open_slide(written(name).path) as slide:
            assert f"{SECRET}-barcode" in slide.private().values()


@pytest.mark.parametrize(
    "key",
    ["Barcode", "PIM_DP_UFS_BARCODE", "Patient ID", "PatientsName", "Filename", "User", "UserName", "Title", "SlideLabel",
     "AccessionNumber", "StudyID", "HostComputer", "DSR ID", "ImageID", "Reference", "Slide Name", "PIIM_DP_SCANNER_OPERATOR_ID",
     "Label Text", "LABEL", "SpecimenId", "Experimenter Email", "DocumentName", "sourceFilename", "SlideAnnotation"],
)  # fmt: skip
def test_names_of_fields_that_identify(key):
    assert is_identifying(key)


@pytest.mark.parametrize(
    "key",
    [
        "MPP",
        "AppMag",
        "StripeWidth",
        "Date",
        "Time",
        "ScanRes",
        "Magnification",
        "ScannerModel",
        "Parmset",
        "Top",
        "Left",
    ],
)
def test_names_of_fields_that_do_not(key):
    assert not is_identifying(key)
