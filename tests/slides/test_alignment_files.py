"""Alignments by hand and from files: points, own JSON, plain matrices, elastix, VALIS."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_batchfx.errors import SlideError
from napari_batchfx.slides import (
    Alignment,
    alignment_from_points,
    open_slide,
    read_alignment,
    write_alignment,
    write_pyramid,
)

AFFINE = np.array([[0.1, -1.0, 300.0], [1.0, 0.1, -20.0], [0, 0, 1]])


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """a: 400 x 600 px of 0.5 um; b: 300 x 500 px of 0.25 um; blank, so nothing is measured."""
    folder = tmp_path_factory.mktemp("pair")
    with (
        open_slide(write_pyramid(folder / "a.tif", _blank(400, 600), 0.5, compression="deflate")) as a,
        open_slide(write_pyramid(folder / "b.tif", _blank(300, 500), 0.25, compression="deflate")) as b,
    ):
        yield a, b


def _blank(h, w):
    return np.full((h, w, 3), 240, np.uint8)


def test_points_find_turn_scale_and_mirror():
    rng = np.random.default_rng(0)
    b = rng.uniform(0, 5000, (6, 2))
    for mirror in (1, -1):
        c, s = 1.05 * np.cos(0.7), 1.05 * np.sin(0.7)
        linear = np.array([[c, -s], [s, c]]) @ np.diag([1, mirror])
        found = alignment_from_points(b @ linear.T + [100, -50] + rng.normal(0, 1.0, b.shape), b)
        assert found.is_mirrored == (mirror == -1)
        assert found.scale == pytest.approx(1.05, abs=2e-3)
        assert found.rotation_deg == pytest.approx(np.degrees(0.7), abs=0.1)
        assert 0.2 < found.residual_um < 3
        assert (found.verdict, found.method, found.n_windows) == ("good", "points", 6)
        assert "fitted to them" in found.sentence()


def test_points_say_what_they_can_not_tell():
    b = np.array([[0.0, 0], [1000, 0], [0, 1000]])
    exact = alignment_from_points(b + np.array([3, 4]), b, "affine")
    assert np.isnan(exact.residual_um)
    assert exact.verdict == "uncertain"
    assert "not measured" in exact.sentence()
    with pytest.raises(SlideError, match="at least 3"):
        alignment_from_points(b[:2], b[:2])
    with pytest.raises(SlideError, match="on a line"):
        alignment_from_points([[0, 0], [500, 510], [1000, 1000]], [[0, 0], [500, 500], [1000, 1000]])
    with pytest.raises(SlideError, match="one spot"):
        alignment_from_points(b / 1e4, b / 1e4)
    with pytest.raises(SlideError, match="as many"):
        alignment_from_points(b, b[:2])
    wrong = np.array([[0.0, 0], [1000, 0], [0, 1000], [1000, 1000]])
    assert alignment_from_points(wrong[[0, 3, 1, 2]], wrong).verdict == "failed"


def test_own_file_round_trip(pair, tmp_path):
    known = Alignment(AFFINE, 1.25, 0.8, "good", 30, "affine", "points")
    path = write_alignment(tmp_path / "x.json", known)
    assert Alignment.from_dict(json.loads(path.read_text())).to_dict() == known.to_dict()
    back = read_alignment(path, *pair)
    assert np.array_equal(back.affine_um, known.affine_um)
    # nothing on these slides speaks for it
    assert (back.verdict, back.model, back.method) == ("uncertain", "affine", "points")
    assert np.isnan(back.residual_um)
    nothing = Alignment.from_dict(Alignment.none_found().to_dict())
    assert np.isnan(nothing.residual_um)
    assert nothing.verdict == "failed"


def test_matrices_in_both_units_and_orders(pair, tmp_path):
    a, b = pair
    swap = np.eye(3)[[1, 0, 2]]
    in_px = np.diag([2, 2, 1.0]) @ AFFINE @ np.diag([0.25, 0.25, 1.0])
    for units, axes, matrix in (
        ("um", "yx", AFFINE),
        ("um", "xy", swap @ AFFINE @ swap),
        ("px", "yx", in_px),
        ("px", "xy", swap @ in_px @ swap),
    ):
        path = tmp_path / "m.json"
        path.write_text(json.dumps({"matrix": matrix.tolist(), "units": units, "axes": axes}))
        assert np.allclose(read_alignment(path, a, b).affine_um, AFFINE)
        rows = "\n".join(",".join(repr(float(v)) for v in row) for row in matrix)
        path = tmp_path / "m.csv"
        path.write_text(f"# units={units} axes={axes}\n{rows}\n")
        found = read_alignment(path, a, b)
        assert np.allclose(found.affine_um, AFFINE)
        # nothing on the slides speaks for it
        assert (found.verdict, found.method) == ("uncertain", "file")
        assert np.isnan(found.residual_um)


def _elastix(kind, parameters, *, spacing=(0.0005, 0.0005), size=(600, 400), centre=None, more=""):
    lines = [
        f'(Transform "{kind}")',
        f"(NumberOfParameters {len(parameters)})",
        f"(TransformParameters {' '.join(map(repr, parameters))})",
        '(InitialTransformParametersFileName "NoInitialTransform")',
        "(FixedImageDimension 2)",
        "(MovingImageDimension 2)",
        f"(Size {size[0]} {size[1]})",
        f"(Spacing {spacing[0]} {spacing[1]})",
        "(Origin 0.0 0.0)",
        "(Direction 1.0 0.0 0.0 1.0)",
    ]
    if centre is not None:
        lines.append(f"(CenterOfRotationPoint {centre[0]} {centre[1]})")
    return "\n".join(lines) + "\n" + more


@pytest.mark.parametrize("unit", [1.0, 1000.0], ids=["um", "mm"])
def test_elastix(pair, tmp_path, unit):
    """A point of a, by elastix' own formula T(x) = A (x - c) + t + c, comes back from where it went on b."""
    a, b = pair
    angle, scale, t, c = 0.3, 1.04, np.array([12.0, -7.0]), np.array([150.0, 100.0])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    spacing = (0.5 / unit, 0.5 / unit)
    shear = np.array([[1.1, 0.02], [-0.05, 0.97]])
    tu, cu = (t / unit).tolist(), (c / unit).tolist()
    cases = [
        ("TranslationTransform", tu, None, np.eye(2), "translation"),
        ("EulerTransform", [angle, *tu], cu, turn, "similarity"),
        ("SimilarityTransform", [scale, angle, *tu], cu, scale * turn, "similarity"),
        ("AffineTransform", [*shear.ravel().tolist(), *tu], cu, shear, "affine"),
    ]
    for kind, parameters, centre, linear, model in cases:
        path = tmp_path / "TransformParameters.0.txt"
        path.write_text(_elastix(kind, parameters, spacing=spacing, centre=centre))
        found = read_alignment(path, a, b)
        x = np.array([80.0, 33.0])  # (x, y) from the first pixel's centre
        middle = c if centre is not None else np.zeros(2)
        on_b = linear @ (x - middle) + t + middle
        half = 0.25  # from the centre of a's first pixel to its corner
        assert found.apply([(on_b + half)[::-1]])[0] == pytest.approx((x + half)[::-1], abs=1e-9)
        assert found.model == model


def test_what_elastix_files_can_not_say_is_refused(pair, tmp_path):
    path = tmp_path / "t.txt"
    for text, message in [
        (_elastix("BSplineTransform", [0.0, 0.0]), "can't be read"),
        (_elastix("TranslationTransform", [1.0, 2.0], spacing=(1, 1), size=(150, 100)), "pixel size"),
        (_elastix("AffineTransform", [1.0, 2.0]), "2 numbers, not 6"),
        (_elastix("AffineTransform", [1.0, 0.0, 2.0, 0.0, 0.0, 0.0]), "inverted"),
        (
            _elastix("TranslationTransform", [1.0, 2.0]).replace("NoInitialTransform", "T.0.txt"),
            "another file",
        ),
        (_elastix("EulerTransform", [0.1, 1, 2]).replace("ImageDimension 2", "ImageDimension 3"), "2-D"),
        (_elastix("TranslationTransform", [1.0, 2.0]).replace("Direction 1.0", "Direction -1.0"), "turned"),
    ]:
        path.write_text(text)
        with pytest.raises(SlideError, match=message):
            read_alignment(path, *pair)


def test_valis(pair, tmp_path):
    """b's pixel to its small image, by inverse M to the common frame, and the same way back on a."""
    a, b = pair
    m_a = np.array([[0.9, 0.1, 5], [-0.1, 0.9, 3], [0, 0, 1]])
    m_b = np.array([[0.0, 1.0, 2], [-1.0, 0.0, 90], [0, 0, 1]])
    slides = [
        {"name": "a", "M": m_a.tolist(), "processed_img_shape_rc": [100, 150], "slide_shape_rc": [400, 600]},
        {"name": "b", "M": m_b.tolist(), "processed_img_shape_rc": [60, 100], "slide_shape_rc": [300, 500]},
    ]
    path = tmp_path / "valis.json"
    path.write_text(json.dumps({"format": "valis", "slides": slides}))
    found = read_alignment(path, a, b)
    x, y = 123.0, 45.0  # level-0 pixels of b
    common = np.linalg.inv(m_b) @ [x / 5, y / 5, 1]
    there = (m_a @ common)[:2] * 4  # level-0 pixels of a
    assert found.apply([[y * 0.25, x * 0.25]])[0] == pytest.approx(there[::-1] * 0.5)
    slides[1]["slide_shape_rc"] = [900, 500]
    path.write_text(json.dumps({"format": "valis", "slides": slides}))
    with pytest.raises(SlideError, match="VALIS saw"):
        read_alignment(path, a, b)
    slides[1]["name"] = "other"
    path.write_text(json.dumps({"format": "valis", "slides": slides}))
    with pytest.raises(SlideError, match="no slide called b"):
        read_alignment(path, a, b)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.pickle", "", "never loaded"),
        ("x.json", "{", "damaged"),
        ("x.json", "[1]", "matrix"),
        ("x.json", '{"matrix": [[1,0,0],[0,1,0],[0,0,1]]}', "units"),
        ("x.json", '{"matrix": [[1,0],[0,1]], "units": "um", "axes": "xy"}', "3 x 3"),
        ("x.json", '{"matrix": [[1,0,0],[2,0,0],[0,0,1]], "units": "um", "axes": "xy"}', "invertible"),
        ("x.json", '{"matrix": [[1,0,0],[0,1,0],[0.1,0,1]], "units": "um", "axes": "xy"}', "perspective"),
        ("x.json", '{"format": "napari-batchfx alignment", "verdict": "good"}', "no alignment written"),
        ("x.csv", "1,0,0\n0,1,0\n0,0,1\n", "units"),
        ("x.csv", "# units=um axes=yx\na,b,c\n0,1,0\n0,0,1\n", "numbers"),
        ("x.txt", "hello", "neither"),
    ],
)
def test_files_that_are_no_alignment(pair, tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(SlideError, match=message):
        read_alignment(path, *pair)


def test_files_that_can_not_be_read(pair, tmp_path):
    with pytest.raises(SlideError, match="can't be read"):
        read_alignment(tmp_path / "none.json", *pair)
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(SlideError, match="no text"):
        read_alignment(tmp_path / "b.json", *pair)
    (tmp_path / "c.json").write_bytes(b" " * 1_100_000)
    with pytest.raises(SlideError, match="too large"):
        read_alignment(tmp_path / "c.json", *pair)
    with pytest.raises(SlideError, match="can't be written"):
        write_alignment(tmp_path / "no" / "x.json", Alignment.none_found())


def test_an_alignment_is_a_real_matrix():
    for matrix in (np.zeros((3, 3)), np.eye(2), np.full((3, 3), np.nan)):
        with pytest.raises(SlideError):
            Alignment(matrix, 0.0, 0.0, "good")
    with pytest.raises(SlideError):
        Alignment(np.eye(3), 0.0, 0.0, "perfect")
    assert Alignment(np.eye(3), 0.1, 0.9, "uncertain").sentence().endswith("before you compare tiles.")
