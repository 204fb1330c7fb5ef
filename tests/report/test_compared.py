"""The table over everything, the questions, the control samples and the paragraph for a paper."""

from __future__ import annotations

import dataclasses
import re

import pytest

from napari_batchfx.report import (
    ComponentsSection,
    ControlsSection,
    Estimate,
    compared_rows,
    methods_paragraph,
    render_report,
)
from napari_batchfx.report.methods_text import asked


def of(row):
    return (row.encoder, row.stain, row.correction)


def test_each_encoding_is_followed_by_its_corrections(data):
    rows = compared_rows(data)
    section, (first, *_) = data.probes[0], data.adaptations
    plain = next(row for row in rows if row.correction == "none" and row.encoder == section.encoder)
    assert plain.signature == Estimate(
        section.result.balanced_accuracy,
        tuple(float(v) for v in section.result.ci),
        int(section.result.confusion.sum()),
    )
    assert plain.chance == section.result.chance
    assert of(rows[rows.index(next(r for r in rows if r.correction == first.correction)) - 1])[2] == "none"
    assert len(rows) == len({of(row) for row in rows})


def test_a_row_without_correction_has_no_accuracy_where_corrections_were_learned_from_different_slides(data):
    one = dataclasses.replace(data.adaptations[0], encoder="E", stain="as scanned", batch="scanner")
    other = dataclasses.replace(one, trained_on="somewhere else", correction="other")
    alike = compared_rows(dataclasses.replace(data, probes=[], adaptations=[one]))
    apart = compared_rows(dataclasses.replace(data, probes=[], adaptations=[one, other]))
    assert alike[0].accuracy == one.before
    assert apart[0].accuracy is None
    assert [row.accuracy for row in apart[1:]] == [one.after, other.after]


def test_a_corrected_signature_is_that_of_held_out_controls(data):
    row = dataclasses.replace(data.adaptations[0], signature_after=Estimate(0.61), signature_chance=0.5)
    found = compared_rows(dataclasses.replace(data, adaptations=[row]))
    corrected = next(one for one in found if one.correction == row.correction)
    assert (corrected.signature, corrected.chance) == (Estimate(0.61), 0.5)
    page = render_report(dataclasses.replace(data, adaptations=[row]))
    assert 'id="compared"' in page
    assert ">0.61</b>" in page


def test_one_thing_alone_is_not_compared(data):
    page = render_report(dataclasses.replace(data, adaptations=[], probes=data.probes[:1]))
    assert 'id="compared"' not in page


def test_control_samples_are_told_with_their_diagnostics_and_without_names(data):
    controls = ControlsSection(
        "scanner",
        "weak",
        ["Only 12 controls on A-1042."],
        {"CS2": (12, 1), "S210": (40, 3)},
        [("direction", "0.83", "1: as the other tiles")],
        "TVN",
    )
    page = render_report(dataclasses.replace(data, controls=controls))
    section = page[page.index('id="controls"') : page.index("</section>", page.index('id="controls"'))]
    text = re.sub(r"<[^>]+>|\s+", " ", section)
    assert "Judged weak for: TVN." in re.sub(r" +", " ", text).replace("weak for", "weak for")
    assert "Only 12 controls on Slide 1." in text
    assert all(part in text for part in ("S210", "40", "0.83"))
    assert "A-1042" not in section


def test_the_paragraph_says_what_was_done_and_with_what(data):
    text = methods_paragraph(data)
    assert f"{len(data.slides)} whole-slide images were analysed" in text
    assert "Tiles of 112 µm." in text
    assert "Kömen et al., 2024" in text
    assert all(f"{name} {version}" in text for name, version in data.versions.items())
    nothing = methods_paragraph(dataclasses.replace(data, probes=[], adaptations=[]))
    assert nothing == ""


@pytest.mark.parametrize("name", ["Jane", "A-1042"])
def test_questions_and_paragraph_name_nobody_on_the_page(data, name):
    row = dataclasses.replace(data.adaptations[0], trained_on="A-1042", correction="Jane Roe's")
    page = render_report(dataclasses.replace(data, adaptations=[row]))
    assert any("A-1042" in question for question in asked(dataclasses.replace(data, adaptations=[row])))
    assert name not in page


def test_components_are_drawn_with_what_they_hold(data):
    found = ComponentsSection(
        "scanner",
        [0.6, 0.3],
        {"CS2 / A-1042": [0.55, 0.97]},
        [0.7, 0.7],
        [(1, Estimate(0.6, (0.5, 0.7)))],
        0.5,
        800,
        "E",
        "as scanned",
    )
    page = render_report(dataclasses.replace(data, components=found))
    assert (
        "Component 2, with 30 % of the variance, alone tells CS2 / Slide 1 apart with an AUROC of 0.97. 800 tiles."
        in page
    )
    assert "0.50–0.70" in page
    assert "A-1042" not in page
