"""``adapt --all`` and ``adapt --load``: the table of the dock, and a saved classifier, without a window."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_batchfx import Study, adapt
from napari_batchfx.cli import app
from napari_batchfx.jobs import run
from napari_batchfx.slides import write_pyramid
from napari_batchfx.study import Annotation

MPP = 0.5


@pytest.fixture
def study(tmp_path):
    """Two slides of two scanners; the left half darker; controls on the upper part."""
    rng = np.random.default_rng(0)
    with Study.create(tmp_path / "s") as made:
        for name, colour in (("A", (215, 130, 190)), ("B", (190, 125, 205))):
            image = np.empty((320, 320, 3), np.uint8)
            image[:] = colour
            dots = rng.random(image.shape[:2])
            image[dots > np.where(np.arange(320) < 160, 0.6, 0.8)] = (90, 50, 130)
            path = write_pyramid(tmp_path / f"{name}.tif", image, MPP, compression="deflate")
            entry = made.add_slide(path, scanner=f"S-{name}")
            for label, x0, x1 in (("left", 0, 80), ("right", 80, 160)):
                made.annotations.append(
                    Annotation(entry.name, label, False, [[0, x0], [0, x1], [160, x1], [160, x0]])
                )
            made.annotations.append(
                Annotation(entry.name, None, True, [[0, 0], [0, 160], [100, 160], [100, 0]])
            )
        encode = made.settings.encode
        encode.size_px, encode.mpp, encode.stride_px = 64, MPP, 32
        made.settings.adapt.train_on = ["S-A"]
        run(made.encode_job())
        made.save()
    return tmp_path / "s.batchfx"


def test_all_and_a_saved_classifier(study, tmp_path, monkeypatch):
    def command(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    # one correction and one classifier are enough to see the table
    monkeypatch.setattr(adapt, "METHODS", ("standardize",))
    monkeypatch.setattr(adapt, "OFFERED_HEADS", ("adabn",))
    every = command("adapt", study, "--all", "--json")
    assert every.exit_code == 0, every.stderr
    facts = json.loads(every.stdout)
    assert set(facts) == {"standardize", "adabn"}
    for one in facts.values():
        comparison = one["comparison"]
        assert comparison["n"] == 81
        assert 0 <= comparison["inside_after"]["value"] <= 1, "held-out tiles of the slides it learned from"
    with Study.open(study) as opened:
        opened.settings.adapt.head = "adabn"
        saved = run(opened.adapt_job()).result.head.save(tmp_path / "head.safetensors")
    loaded = command("adapt", study, "--load", saved, "--json")
    assert loaded.exit_code == 0, loaded.stderr
    again = json.loads(loaded.stdout)
    # a classifier from elsewhere has learned from no slide here: it is applied to both
    assert again["comparison"]["n"] == 162
    assert again["comparison"]["n_changed"] == facts["adabn"]["comparison"]["n_changed"] > 0
    assert command("adapt", study, "--load", saved, "--all").exit_code == 2
    gone = command("adapt", study, "--load", tmp_path / "gone.safetensors")
    assert gone.exit_code == 1
    assert "gone.safetensors" in gone.stderr
    assert "Traceback" not in gone.stderr
