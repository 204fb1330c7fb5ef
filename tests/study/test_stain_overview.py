"""The stain of every slide side by side: who stands apart, what is declined, and the CSV."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from napari_batchfx.errors import StainError
from napari_batchfx.jobs import run
from napari_batchfx.slides import write_pyramid
from napari_batchfx.stain import REFERENCE
from napari_batchfx.study import Study
from napari_batchfx.study.stain_overview import stain_overview_job

MPP = 0.5


def painted(folder, name, scale=(1.0, 1.0), matrix=REFERENCE.matrix, seed=0):
    """A slide of 384 x 384 px whose stain is known: intensities are the reference's times ``scale``."""
    rng = np.random.default_rng(seed)
    amounts = np.stack([rng.gamma(1.2, 0.35, (384, 384)), rng.gamma(2.0, 0.2, (384, 384))], axis=-1)
    amounts[rng.random((384, 384)) < 0.2, 0] = 0
    amounts[rng.random((384, 384)) < 0.2, 1] = 0
    image = np.clip(240 * np.exp(-(amounts * scale) @ matrix), 0, 255).astype(np.uint8)
    image[:40] = 240
    return write_pyramid(folder / f"{name}.tif", image, MPP, compression="deflate")


@pytest.fixture
def study(tmp_path):
    """Five slides of one laboratory, a sixth with half the eosin, a blank one."""
    with Study.create() as study:
        for k in range(5):
            scale = (1 + 0.03 * k, 1 - 0.03 * k)
            study.add_slide(painted(tmp_path, f"Meier-{k}", scale, seed=k), patient=f"P{k}")
        study.add_slide(painted(tmp_path, "Meier-pale", (1.0, 0.5), seed=9))
        blank = write_pyramid(tmp_path / "blank.tif", np.full((384, 384, 3), 240, np.uint8), MPP)
        study.add_slide(blank)
        yield study


def test_the_pale_one_stands_apart_and_the_blank_one_is_declined(study):
    found = run(stain_overview_job(study))
    rows = {row.slide: row for row in found.rows}
    assert [name for name, row in rows.items() if row.apart] == ["Meier-pale"]
    assert "intensity of second stain" in rows["Meier-pale"].apart
    assert "intensity of haematoxylin" not in rows["Meier-pale"].apart
    assert rows["blank"].estimate is None
    assert "blank" in rows["blank"].declined
    assert any("blank" in warning for warning in found.warnings)
    assert set(found.transforms) == {row.fingerprint for row in found.rows if row.estimate is not None}
    dots = rows["Meier-0"].dots
    assert [name for name, _, _ in dots] == ["haematoxylin", "eosin"]
    for (_, direction, strongest), own in zip(dots, REFERENCE.matrix, strict=True):
        assert direction == pytest.approx(np.degrees(np.arctan2(own[1], own[0])), abs=4)
        assert strongest > 0.4
    assert found.has_vectors
    assert found.target == "the built-in reference"


def test_nobody_stands_apart_from_half_of_the_slides_or_from_few(study, tmp_path):
    entries = list(study.slides)
    assert not any(row.apart for row in run(stain_overview_job(study, entries[3:6])).rows)
    study.add_slide(painted(tmp_path, "pale-too", (1.0, 0.5), seed=10))
    halves = [*entries[:2], entries[5], study.slides[-1]]
    assert not any(row.apart for row in run(stain_overview_job(study, halves)).rows)


def test_csv_has_numbers_and_no_names_unless_asked(study, tmp_path):
    found = run(stain_overview_job(study))
    text = found.write_csv(tmp_path / "stain.csv").read_text("utf-8")
    assert "Meier" not in text
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [line["slide"] for line in lines] == [f"slide {k + 1}" for k in range(7)]
    estimate = found.rows[2].estimate
    assert float(lines[2]["haematoxylin red"]) == estimate.matrix[0, 0]
    assert float(lines[2]["second stain intensity"]) == estimate.max_concentration[1]
    assert lines[6]["quality"] == "declined"
    assert "blank" not in lines[6]["notes"].split(" ")[0]
    assert "Stands apart: " in lines[5]["notes"]
    assert "Meier-pale" in found.csv(with_names=True)


def test_lab_statistics_and_what_no_slide_gives(study, tmp_path):
    study.settings.stain.method = "reinhard"
    found = run(stain_overview_job(study))
    assert not found.has_vectors
    assert [name for name, _, _ in found.rows[0].dots] == ["tissue"]
    assert "mean L" in found.csv()
    with pytest.raises(StainError, match="blank"):
        run(stain_overview_job(study, ["blank"]))
