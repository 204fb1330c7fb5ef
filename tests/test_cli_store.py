"""``store``: what a study keeps, who writes it, what is damaged; and deleting it."""

import json
import socket
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_batchfx.cli import app
from napari_batchfx.features import FeatureStore
from napari_batchfx.slides import write_pyramid
from napari_batchfx.study import Study

CELLS = np.argwhere(np.ones((12, 12), bool))


def command(*arguments, **more):
    return CliRunner().invoke(app, ["store", *map(str, arguments)], **more)


@pytest.fixture
def study(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "s.batchfx"
    with Study.create(folder) as work:
        for name in ("A", "B"):
            pixels = rng.integers(0, 255, (300, 300, 3), dtype=np.uint8)
            entry = work.add_slide(
                write_pyramid(tmp_path / f"{name}.tif", pixels, 0.5, compression="deflate")
            )
            for encoder in ("colour-statistics/v1/fp32", "timm/x/abc/fp32"):
                array = work.store().array(entry.fingerprint, encoder, "64px-0.5um-step64", dim=63)
                array.append(CELLS, np.tile(np.arange(63, dtype=np.float32), (len(CELLS), 1)))
        work.save()
    return folder


def test_it_lists(study):
    for where in (study, study / "features.zarr", study / "study.json", study.with_suffix("")):
        done = command(where)
        assert done.exit_code == 0, done.output
        lines = done.stdout.splitlines()
        assert len(lines) == 7
        assert lines[0] == "A"
        assert "  colour-statistics/v1  64px-0.5um-step64  stain none  144 tiles  0.1 MB" in lines
        assert any(
            line.startswith("  timm/x/abc            64px-0.5um-step64  stain none  144 tiles")
            for line in lines
        )
        assert lines[-1] == f"in all: 4 entries, {FeatureStore(study / 'features.zarr').nbytes / 1e6:,.1f} MB"
    assert len(command(study, "--slide", "B").stdout.splitlines()) == 4
    assert len(command(study, "--slide", "B", "--encoder", "colour-statistics").stdout.splitlines()) == 3
    found = json.loads(command(study, "--json", "--encoder", "timm/x").stdout)
    assert sorted((row["slide"], row["n"], row["dim"]) for row in found["entries"]) == [
        ("A", 144, 63),
        ("B", 144, 63),
    ]
    assert found["locks"] == []


def test_rows_fit_a_terminal_and_name_the_encoder_enough(tmp_path):
    keys = [
        f"timm/batchfx-mini/v1/sha256:{'0a' * 16}/fp32/pooled/0123abcd",
        f"timm/vit_small_patch16_224.augreg_in21k_ft_in1k/sha256:{'1b' * 16}/fp32/cls+mean/89ab4567",
        f"timm/vit_small_patch16_224.augreg_in21k_ft_in1k/sha256:{'1b' * 16}/bf16/cls+mean/89ab4567",
    ]
    store = FeatureStore(tmp_path / "features.zarr")
    for key in keys:
        array = store.array("f" * 32, key, "224px-0.5um-step224-y0.0-x0.0", "macenko-0123456789abcdef", dim=2)
        array.append(CELLS[:3], np.zeros((3, 2), np.float32))
    lines = command(tmp_path / "features.zarr").stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert "  timm/batchfx-mini/v1" in lines
    for line in (line.strip() for line in lines if line.startswith("  timm/")):
        found = json.loads(command(tmp_path / "features.zarr", "--encoder", line, "--json").stdout)["entries"]
        assert [row["encoder"].startswith(line) for row in found] == [True]


def test_it_deletes_what_is_asked_for(study):
    store = FeatureStore(study / "features.zarr")
    done = command(study, "--clear", "--slide", "A", "--encoder", "timm", input="n\n")
    assert done.exit_code == 1
    assert len(store.keys()) == 4
    done = command(study, "--clear", "--slide", "A", "--encoder", "timm", input="y\n")
    assert done.exit_code == 0
    assert "Delete 1 entry (0.0 MB)?" in done.output or "Delete 1 entry (0.1 MB)?" in done.output
    assert "deleted:" in done.stderr
    assert len(store.keys()) == 3
    assert command(study, "--clear", "--encoder", "colour-statistics/v1/fp32", "--yes").exit_code == 0
    assert [row["encoder"] for row in store.keys()] == ["timm/x/abc/fp32"]  # noqa: SIM118 - no dict
    assert command(study, "--clear", "--yes").exit_code == 0
    assert store.keys() == []
    assert command(study).stdout == "in all: 0 entries, 0.0 MB\n"
    assert command(study, "--clear", "--yes").exit_code == 0


def test_damage_is_found_on_request(study):
    (file, *_) = sorted(study.glob("features.zarr/*/*/vectors/c/0/0/0"))
    data = bytearray(file.read_bytes())
    data[7] ^= 1
    file.write_bytes(data)
    assert command(study).exit_code == 0
    done = command(study, "--check")
    assert done.exit_code == 1
    assert done.stdout.count("Mind:") == 1
    assert "the features of 1 tile is damaged" in done.stdout
    assert "143 tiles" in done.stdout
    (file.parents[4] / "zarr.json").write_text("{ torn")
    done = command(study)
    assert done.exit_code == 1
    assert "damaged zarr.json" in done.stdout


def test_who_is_writing_is_said_and_not_deleted_under(study):
    code = (
        "import sys\nfrom napari_batchfx.features import FeatureStore\n"
        "row = sorted(FeatureStore(sys.argv[1]).keys(), key=lambda row: row['fingerprint'])[0]\n"
        "keys = [row[key] for key in ('fingerprint', 'encoder', 'grid', 'stain')]\n"
        "with FeatureStore(sys.argv[1]).array(*keys).writing('A'):\n"
        "    print(row['fingerprint'], flush=True)\n    sys.stdin.readline()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(study / "features.zarr")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        fingerprint = child.stdout.readline().strip()
        done = command(study)
        assert f"being written by python on {socket.gethostname()} (process {child.pid}, since" in done.stdout
        assert json.loads(command(study, "--json").stdout)["locks"][0]["alive"] is True
        done = command(study, "--clear", "--yes")
        assert done.exit_code == 1
        assert "wait or close it" in done.stderr
        left = {row["fingerprint"] for row in FeatureStore(study / "features.zarr").keys()}  # noqa: SIM118
        assert left == {fingerprint}
    finally:
        child.kill()
        child.communicate()
    assert "which has ended; the next job goes on." in command(study).stdout
    assert command(study, "--clear", "--yes").exit_code == 0


def test_refusals(study, tmp_path):
    for arguments, said in (
        ([tmp_path / "none"], "none: there is no such folder"),
        ([study, "--slide", "Z"], "Z: no slide of this name or fingerprint here"),
        ([tmp_path], "is no feature store"),
    ):
        done = command(*arguments)
        assert done.exit_code == 1
        assert said in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    (tmp_path / "empty").mkdir()
    assert command(tmp_path / "empty").exit_code == 1
    assert not any((tmp_path / "empty").iterdir())
    with Study.create(tmp_path / "new.batchfx") as work:
        work.save()
    assert command(tmp_path / "new.batchfx").stdout == "new.batchfx: no features are stored yet.\n"
    # names come from the study; without them the features are listed all the same
    (study / "study.json").write_text("{")
    done = command(study)
    assert done.exit_code == 0
    assert "study.json is damaged" in done.stderr
    assert "144 tiles" in done.stdout
