"""The report of a study says what its results say, and nobody's name unless asked."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tifffile

from napari_batchfx.errors import StudyError
from napari_batchfx.study import Study
from napari_batchfx.study.reporting import report_data


def test_the_report_holds_the_results(done):
    with Study.open(done) as study:
        data = report_data(study)
        probe, adapted = study.results.probe.result, study.results.adapt
        assert [row.tiles for row in data.slides] == [80] * 4
        assert data.slides[0].mpp == (0.5, 0.5)
        assert data.design.counts.tolist() == [[80, 80], [80, 80]]
        assert data.design.cramers_v == pytest.approx(0, abs=1e-9)
        (section,) = data.probes
        assert section.result is probe
        assert (section.batch, section.encoder, section.stain) == (
            "scanner",
            "colour-statistics",
            "as scanned",
        )
        (row,) = data.adaptations
        assert row.n_changed == adapted.changed.sum()
        assert row.after.value > row.before.value
        assert row.after.value == adapted.numbers["comparison"]["balanced_accuracy_after"]["value"]
        assert row.after.n == 80  # labelled tiles of B that are no controls
        assert row.n_controls == 160
        assert row.chance == 0.5
        kinds = {(overlay.slide[-3:], overlay.tiles.name) for overlay in data.overlays}
        assert ("A-1", "site probe (scanner)") in kinds
        assert ("B-1", "what the correction changed") in kinds
        assert ("A-1", "what the correction changed") not in kinds  # learned from, not predicted
        overlay = data.overlays[0]
        assert overlay.thumbnail_um[0] * overlay.thumbnail.shape[0] == pytest.approx(256)
        assert data.problems == []
        assert "64 px at 0.5 µm" in data.methods[0]


def test_names_are_in_it_only_if_asked(done, tmp_path):
    with Study.open(done) as study:
        plain = study.report(tmp_path / "plain.html").read_text()
        named = study.report(tmp_path / "named.html", with_identifiers=True).read_text()
    text = re.sub(
        r"base64,[A-Za-z0-9+/=]+", "", plain
    )  # letters and digits of pictures' bytes, by chance any
    assert len(text) < len(plain)
    for name in ("Meier", "Schulze", "1951"):
        assert name not in text
        assert name in named
    assert str(tmp_path) not in named


def test_an_outdated_result_is_called_so(done):
    with Study.open(done) as study:
        study.settings.probe.batch = "site"
        problems = report_data(study).problems
        assert len(problems) == 1
        assert "after the site probe was computed" in problems[0]


def test_stains_are_shown_where_features_were_normalised(done):
    with Study.open(done) as study:
        assert report_data(study).stains == []
        study.settings.encode.normalizer = "macenko"
        rows = report_data(study).stains
        assert [row.slide for row in rows] == [entry.name for entry in study.slides]
        for row in rows:
            transform = study.encode_transform(row.slide)
            np.testing.assert_array_equal(row.matrix, transform.source.matrix)
            np.testing.assert_array_equal(row.after, transform.transform(row.before))
        study.settings.stain.strength = 0.0
        preview = study.stain_transform("Meier A-1")
        np.testing.assert_array_equal(preview.transform(rows[0].before), rows[0].before)


def test_a_missing_slide_leaves_the_rest(done, tmp_path):
    with Study.open(done) as study:
        study.slide("Meier A-1").path = tmp_path / "A-1.tif"
        folder = study.save_as(tmp_path / "copy")
    with Study.open(folder) as study:
        data = report_data(study)
        assert sorted(row.tiles for row in data.slides) == [0, 80, 80, 80]
        assert any("A-1.tif is not where it was" in problem for problem in data.problems)
        assert {overlay.slide for overlay in data.overlays} == {"Meier B-1", "Schulze A-2", "Schulze B-2"}
        assert study.report(tmp_path / "r.html").exists()


def test_an_empty_study_has_a_report_and_a_wrong_place_is_a_sentence(tmp_path):
    with Study.create(name="empty") as study:
        assert "Batch-effect report" in study.report(tmp_path / "r.html").read_text()
        with pytest.raises(StudyError, match="no folder nowhere"):
            study.report(tmp_path / "nowhere" / "r.html")


def test_the_name_of_the_study_is_in_it_only_if_asked(done, tmp_path):
    import shutil

    folder = tmp_path / "Huber 1948.batchfx"
    shutil.copytree(done, folder)
    with Study.open(folder) as study:
        study.name = "Huber 1948"
        study.report_problem("results", f"The results can't be written to {study.folder.name}.")
        study.report_problem("table", f"{study.name}: no tile is encoded.")
        plain = study.report(tmp_path / "plain.html").read_text()
        named = study.report(tmp_path / "named.html", with_identifiers=True).read_text()
    assert "Huber" not in plain
    assert "<title>Batch-effect report</title>" in plain
    assert "napari-batchfx run STUDY.batchfx" in plain
    assert "the study: no tile is encoded." in plain
    assert "<h1>Huber 1948</h1>" in named
    assert "napari-batchfx run Huber 1948.batchfx" in named


@pytest.mark.parametrize(("n", "says"), [(0, None), (1, "1 place found"), (2, "2 places found")])
def test_damage_in_a_file_is_said_in_the_report(tmp_path, n, says):
    from napari_batchfx.slides import write_pyramid

    image = np.random.default_rng(2).integers(90, 250, (400, 500, 3), dtype=np.uint8)
    path = write_pyramid(tmp_path / "a.tif", image, 0.5, tile=128, levels=1)
    with tifffile.TiffFile(path) as file:
        offsets, counts = file.pages[0].dataoffsets, file.pages[0].databytecounts
    data = bytearray(path.read_bytes())
    for index in range(n):
        data[offsets[index] : offsets[index] + counts[index]] = bytes(counts[index])
    path.write_bytes(data)
    with Study.create() as study:
        study.add_slide(path)
        note = report_data(study).slides[0].note
    assert ("damaged" in note) == bool(n)
    assert says is None or f"pixels damaged in the file: {says}; tiles on them are left out" in note
