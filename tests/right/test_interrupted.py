"""Two encoders, two slides, a cancel, kills and a resume: the store holds what one clean run holds, bit for bit."""

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from napari_batchfx.features import FeatureStore
from napari_batchfx.study import Study

SLIDES = ("slides/CMU-1-Small-Region.svs", "scanners/ki67-two-scanners/OS-2-ndpi.ome.tif")
# a ViT and a CNN with BatchNorm, tiny and real; then the two that are built in
PAIRS = {
    "library": ("test_vit?pretrained=false", "test_resnet?pretrained=false"),
    "cli": ("batchfx-mini", "colour-statistics"),
}
PATIENCE_S = 600  # only against hanging for ever

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")


def content(folder):
    """Everything in the store as another program finds it: key -> cell -> the vector's bytes."""
    store = FeatureStore(Path(folder) / "features.zarr")
    found = {}
    for row in store.keys():  # noqa: SIM118 - it is no mapping
        assert row["damaged"] is None
        key = tuple(row[name] for name in ("fingerprint", "encoder", "grid", "stain"))
        entry = store.array(*key)
        cells = entry.done_cells()
        assert entry.n == row["n"] == len(cells)
        vectors = np.ascontiguousarray(entry.read(cells))
        assert key not in found
        found[key] = {
            tuple(cell): vector.tobytes() for cell, vector in zip(cells.tolist(), vectors, strict=True)
        }
    return found


def total(folder):
    if not (Path(folder) / "features.zarr").is_dir():
        return 0
    return sum(row["n"] for row in FeatureStore(Path(folder) / "features.zarr").keys())  # noqa: SIM118


def same(messy, clean):
    assert messy.keys() == clean.keys()
    assert len(clean) == 4  # two slides by two encoders
    for key, cells in clean.items():
        assert messy[key].keys() == cells.keys(), key
        different = [cell for cell, vector in cells.items() if messy[key][cell] != vector]
        assert not different, (key, len(different), len(cells))


def kill_when(command, folder, n, sign=signal.SIGKILL):
    """Run a program until the store holds ``n`` tiles and some of its own, and end it there; its exit status."""
    n = max(n, total(folder) + 1)  # else it would be ended while it starts, where ctrl-c is Python's own
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while total(folder) < n:
            assert child.poll() is None, (
                f"it ended before it could be stopped: {child.stderr.read().decode()[-400:]}"
            )
            assert time.monotonic() < deadline, "it didn't come that far"
            time.sleep(0.05)
        child.send_signal(sign)
        return child.wait(timeout=PATIENCE_S)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        child.stderr.close()


# ------------------------------------------------------------------ the library

# a pause after every batch, so that it is caught in the middle on a quick machine, too
CHILD = """
import sys, time
from napari_batchfx.study import Study
with Study.open(sys.argv[1]) as study:
    study.settings.encode.batch_size = 2
    for name in sys.argv[2:]:
        study.settings.encode.encoder = name
        for _ in study.encode_job():
            time.sleep(0.005)
"""


def make_study(folder, paths):
    with Study.create(folder) as study:
        for path in paths:
            study.add_slide(path)
        study.settings.encode.mpp, study.settings.encode.size_px, study.settings.encode.precision = (
            0.8,
            96,
            "fp32",
        )
        study.save()
    return folder


def finish(folder, names, batch_size=None):
    with Study.open(folder) as study:
        study.settings.encode.batch_size = batch_size
        for name in names:
            study.settings.encode.encoder = name
            job = study.encode_job()
            with contextlib.suppress(StopIteration):
                while True:
                    next(job)
        assert not study.problems


def test_the_study_ends_up_the_same(tmp_path, real_data):
    paths, names = [real_data(name) for name in SLIDES], PAIRS["library"]
    clean = make_study(tmp_path / "clean.batchfx", paths)
    finish(clean, names)
    expected = content(clean)
    n = sum(map(len, expected.values()))
    assert n > 200

    messy = make_study(tmp_path / "messy.batchfx", reversed(paths))
    with Study.open(messy) as study:  # a cancel
        study.settings.encode.encoder = names[1]
        job = study.encode_job()
        stored = (step for step in job if step.partial is not None)
        for _ in range(2):
            next(stored)
        job.close()
    begun = total(messy)
    assert 0 < begun < n
    for share in (0.4, 0.8):
        command = [sys.executable, "-c", CHILD, str(messy), *names]
        assert kill_when(command, messy, int(share * n)) == -signal.SIGKILL
        left = total(messy)
        assert int(share * n) <= left < n
    finish(messy, names[::-1], batch_size=7)
    same(content(messy), expected)


# ------------------------------------------------------------------ the command line


# ctrl-c does nothing in a program that a script started in the background, as these tests may be; and a pause after
# every batch here, too: batches are stored several at a time, and a quick machine would be at its end by then
PROGRAM = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from napari_batchfx.study.slide_work import SlideWork
hold = SlideWork.hold
def held(work, batch):
    time.sleep(0.05)
    return hold(work, batch)
SlideWork.hold = held
from napari_batchfx.cli import main
main()
"""


def cli(*arguments):
    return [sys.executable, "-c", PROGRAM, *map(str, arguments)]


def run_here(*arguments):
    from typer.testing import CliRunner

    from napari_batchfx.cli import app

    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def embed(paths, name, folder, tables):
    return (
        "embed",
        *paths,
        "--encoder",
        name,
        "--study",
        folder,
        "--out",
        tables / f"{name}.h5ad",
        "--tile-mpp",
        0.5,
        "--device",
        "cpu",
    )


def test_the_command_line_ends_up_the_same(tmp_path, real_data):
    paths, names = [real_data(name) for name in SLIDES], PAIRS["cli"]
    clean, messy = tmp_path / "clean.batchfx", tmp_path / "messy.batchfx"
    for name in names:
        run_here(*embed(paths, name, clean, tmp_path))
    expected = content(clean)
    n = {name: sum(len(v) for k, v in expected.items() if name in k[1]) for name in names}
    assert min(n.values()) > 40

    few = (*embed(paths[::-1], names[0], messy, tmp_path), "--batch-size", 1)
    assert kill_when(cli(*few), messy, n[names[0]] // 4) == -signal.SIGKILL
    # ctrl-c: stops by itself, says so, and keeps what is done
    assert kill_when(cli(*few), messy, n[names[0]] // 2, signal.SIGINT) == 130
    assert n[names[0]] // 2 <= total(messy) < n[names[0]]
    assert "there already" in run_here("run", messy)
    run_here(*embed(paths, names[1], messy, tmp_path))
    same(content(messy), expected)
