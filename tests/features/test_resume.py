"""A process killed while it writes: what is there is whole, and the next run goes on from it."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest

from napari_batchfx.features import FeatureStore

from .test_store import SLIDE, entry, vectors

N_KILLS = 15

KILLS = """
import json, os, random, signal, sys, time
import numpy as np
from napari_batchfx.features import FeatureStore
from tests.features.test_store import SLIDE, vectors

path, dim, batch, n_kills = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
rng, report = random.Random(dim), []
cells = np.random.default_rng(0).permutation(np.argwhere(np.ones((300, 300), bool)))
open_entry = lambda: FeatureStore(path).array(SLIDE, "encoder/key", "grid", dim=dim)


def write(ticks):
    array = open_entry()
    todo = cells[~array.has(cells)]
    with array.writing("A"):
        for start in range(0, len(todo), batch):
            part = todo[start : start + batch]
            array.append(part, vectors(part, dim))
            os.write(ticks, b".")  # this batch is stored


for kill in range(n_kills):
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        write(theirs)
        os._exit(0)
    os.close(theirs)
    if kill > 1:  # the first ones at once: while the store and the entry are made
        os.read(ours, 1)
    time.sleep(rng.random() * (0.004 if kill <= 1 else 0.05))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    stored = 1 if kill > 1 else 0
    while part := os.read(ours, 4096):
        stored += len(part)
    os.close(ours)
    array = open_entry()
    there = array.done_cells()
    whole = bool(array.has(there).all()) and bool(np.array_equal(array.read(there), vectors(there, dim)))
    alive = [lock.alive for lock in FeatureStore(path).locks()]
    report.append([stored, len(there), whole, array.damage_said(), alive])
print(json.dumps(report))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
@pytest.mark.parametrize(("dim", "batch"), [(4, 7), (600, 24)])
def test_killed_many_times_at_any_moment(tmp_path, request, dim, batch):
    path = tmp_path / "features.zarr"
    done = subprocess.run(
        [sys.executable, "-c", KILLS, str(path), str(dim), str(batch), str(N_KILLS)],
        capture_output=True,
        text=True,
        cwd=request.config.rootpath,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    before = 0
    for stored, there, whole, damaged, alive in json.loads(done.stdout):
        assert whole
        assert damaged == []
        assert alive in ([], [False])
        # what was said to be stored is there; beyond it there may be the batch in flight, and what the blocks
        # of killed batches before had
        assert there >= before + stored * batch
        before = there
    assert before > N_KILLS * batch
    # this process goes on where the killed ones stopped
    array = FeatureStore(path).array(SLIDE, "encoder/key", "grid")
    cells = np.argwhere(np.ones((60, 50), bool)) + np.array([0, 400])
    assert array.append(cells, vectors(cells, dim)) == 3000
    again = FeatureStore(path).array(SLIDE, "encoder/key", "grid")
    assert again.n == before + 3000
    np.testing.assert_array_equal(again.read(again.done_cells()), vectors(again.done_cells(), dim))
    assert FeatureStore(path).locks() == []
    assert not any((path / ".writing").iterdir())


def test_killed_between_the_vectors_and_the_index(tmp_path):
    """What the index doesn't know yet is found in the block, and not written twice."""
    array = entry(FeatureStore(tmp_path / "features.zarr"))
    array.append([[0, 0]], vectors([[0, 0]]))
    (index,) = (tmp_path / "features.zarr").glob("*/*/done/c.0.0")
    before = index.read_bytes()
    some = [[0, 1], [0, 2], [40, 40]]
    array.append(some, vectors(some))
    index.write_bytes(before)
    array = entry(FeatureStore(tmp_path / "features.zarr"))
    assert array.has([[0, 0], *some]).tolist() == [True, False, False, False]
    assert array.append([[0, 2], [41, 41]], vectors([[0, 2], [41, 41]])) == 2
    array = entry(FeatureStore(tmp_path / "features.zarr"))
    assert array.done_cells().tolist() == [[0, 0], [0, 1], [0, 2], [40, 40], [41, 41]]
    np.testing.assert_array_equal(array.read(array.done_cells()), vectors(array.done_cells()))
