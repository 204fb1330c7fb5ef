"""One writer a slide: seen, waited for, and taken over when it died. Other programs are real processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from napari_batchfx.encoders import ColourStatistics
from napari_batchfx.errors import FeatureError
from napari_batchfx.features import FeatureStore, LockInfo, embed, locks

from .test_store import SLIDE, entry, vectors

HOLDER = """
import sys, time
from napari_batchfx.features import FeatureStore
entry = FeatureStore(sys.argv[1]).array(sys.argv[2], "encoder/key", "64px-0.5um-step64", dim=4)
with entry.writing("A-1042"):
    entry.append([[0, 0]], [[0, 0, 0, 0]])
    print("holding", flush=True)
    sys.stdin.readline()
    entry.append([[0, 1]], [[0, 1, 1, 1]])
print("done", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def patience(monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE_S", 0.1)


@pytest.fixture
def holder(tmp_path, patience):
    """Another program that is writing the slide."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "features.zarr"), SLIDE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "holding\n"
    yield child
    child.kill()
    child.communicate()


def test_another_program_is_named_read_beside_and_waited_for(holder, tmp_path):
    store = FeatureStore(tmp_path / "features.zarr")
    (lock,) = store.locks()
    host = socket.gethostname()
    assert (lock.fingerprint, lock.owner, lock.alive) == (SLIDE, f"{host} pid {holder.pid}", True)
    assert lock.slide == "A-1042"
    assert 0 <= lock.silent_s <= lock.age_s < 60
    array = entry(store)
    with pytest.raises(FeatureError) as error:
        array.append([[5, 5]], vectors([[5, 5]]))
    assert str(error.value).startswith(
        f"features.zarr: the features of A-1042 are being written by python on {host} (process {holder.pid}, "
        "since "
    )
    assert " s); wait or close it." in str(error.value)
    # reading goes on, and another slide can be written
    assert array.read([[0, 0]]).tolist() == [[0, 0, 0, 0]]
    assert not array.has([[5, 5]])[0]
    store.array("b" * 32, "encoder/key", "grid", dim=4).append([[1, 1]], vectors([[1, 1]]))
    # nothing is deleted under it; the other slide is
    with pytest.raises(FeatureError, match="being written"):
        store.clear()
    assert [row["fingerprint"] for row in store.keys()] == [SLIDE]  # noqa: SIM118 - no dict
    holder.stdin.write("\n")
    holder.stdin.flush()
    assert holder.stdout.readline() == "done\n"
    assert store.locks() == []
    assert array.append([[5, 5]], vectors([[5, 5]])) == 1
    assert array.n == 3


def test_a_killed_owner_is_taken_over_at_once(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    # not waited for: until then the system keeps the process in its list
    while True:
        (lock,) = FeatureStore(tmp_path / "features.zarr").locks()
        if not lock.alive:
            break
        time.sleep(0.01)
    left = tmp_path / "features.zarr" / ".writing" / f"{SLIDE}.half"
    left.write_bytes(b"half a file")
    array = entry(FeatureStore(tmp_path / "features.zarr"))
    assert array.append([[5, 5]], vectors([[5, 5]])) == 1
    assert array.n == 2
    assert not left.exists()


def test_a_job_says_who_writes_before_it_computes(holder, grid, tmp_path):
    """On the same slide, whatever the encoder."""
    folder = tmp_path / "features.zarr"
    lock = folder / ".locks" / f"{SLIDE}.json"
    lock.rename(lock.with_name(f"{grid.slide.fingerprint}.json"))
    model = ColourStatistics()
    model._embed = None  # would fail
    with pytest.raises(FeatureError, match=r"A-1042 are being written by python on"):
        embed(grid, model, cells=[[0, 0]], store=FeatureStore(folder))


def said(folder, fingerprint=SLIDE, **more):
    """A lock as another process or machine writes it."""
    (folder / ".locks").mkdir(parents=True, exist_ok=True)
    path = folder / ".locks" / f"{fingerprint}.json"
    from napari_batchfx.features import _process

    values = {"host": socket.gethostname(), "pid": os.getppid(), "program": "napari", "slide": "S"}
    values |= {"started": _process.started(os.getppid()), "space": _process.space(), "token": "x"}
    values |= {"since": time.time() - 200, "folder": path.parent.stat().st_ino}
    path.write_text(json.dumps(values | more))
    return path


def test_a_process_number_that_was_given_again_is_a_dead_owner(tmp_path, patience):
    store = FeatureStore(tmp_path / "features.zarr")
    said(store.path)
    (lock,) = store.locks()
    assert lock.alive
    assert lock.who == f"napari on {socket.gethostname()} (process {os.getppid()}, since 3 min)"
    with pytest.raises(FeatureError, match=r"features of S are being written by napari on .*, since 3 min\)"):
        entry(store).append([[0, 0]], vectors([[0, 0]]))
    said(store.path, started="1")
    assert not store.locks()[0].alive
    assert entry(store).append([[0, 0]], vectors([[0, 0]])) == 1


def test_another_machine_is_alive_while_it_gives_signs_of_life(tmp_path, patience):
    store = FeatureStore(tmp_path / "features.zarr")
    path = said(store.path, host="elsewhere", space="")
    assert store.locks()[0].alive
    with pytest.raises(FeatureError, match=r"being written by napari on elsewhere \(process"):
        entry(store).append([[0, 0]], vectors([[0, 0]]))
    os.utime(path, (time.time() - locks.STALE_S + 20,) * 2)
    assert store.locks()[0].alive
    os.utime(path, (time.time() - locks.STALE_S - 1,) * 2)
    (lock,) = store.locks()
    assert not lock.alive
    assert lock.silent_s > locks.STALE_S
    assert entry(store).append([[0, 0]], vectors([[0, 0]])) == 1
    # a container on this machine: its process numbers mean something else
    path = said(store.path, space="another", pid=10**9)
    assert store.locks()[0].alive


def test_a_lock_that_cannot_be_read_counts_until_it_is_old(tmp_path, patience):
    store = FeatureStore(tmp_path / "features.zarr")
    path = said(store.path)
    path.write_text("{ torn")
    with pytest.raises(FeatureError, match="being written"):
        entry(store).append([[0, 0]], vectors([[0, 0]]))
    os.utime(path, (time.time() - locks.STALE_S - 1,) * 2)
    assert entry(store).append([[0, 0]], vectors([[0, 0]])) == 1


def test_a_job_gives_signs_of_life_and_leaves_no_thread(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "BEAT_S", 0.02)
    store = FeatureStore(tmp_path / "features.zarr")
    path = store.path / ".locks" / f"{SLIDE}.json"
    with entry(store).writing("A"), entry(FeatureStore(store.path)).writing("again, in the same process"):
        os.utime(path, (1, 1))
        for _ in range(500):
            if path.stat().st_mtime > 1:
                break
            time.sleep(0.01)
        assert store.locks()[0].silent_s < 10
        assert [t.name for t in threading.enumerate()].count("batchfx-lock") == 1
    assert "batchfx-lock" not in [t.name for t in threading.enumerate()]
    assert store.locks() == []


def test_a_writer_whose_lock_was_taken_over_stops(tmp_path, patience):
    """As after the lid of a laptop was closed for a while: another machine may be writing by now."""
    array = entry(FeatureStore(tmp_path / "features.zarr"))
    with array.writing():
        array.append([[0, 0]], vectors([[0, 0]]))
        path = said(tmp_path / "features.zarr", host="elsewhere")
        with pytest.raises(FeatureError, match="written by napari on elsewhere"):
            array.append([[0, 1]], vectors([[0, 1]]))
        os.utime(path, (1, 1))
        assert array.append([[0, 1]], vectors([[0, 1]])) == 1
        path.unlink()  # somebody tidied up
        assert array.append([[0, 2]], vectors([[0, 2]])) == 1
    assert not path.exists()
    assert array.n == 3


def test_a_copied_store_is_not_locked_by_who_writes_the_original(holder, tmp_path):
    import shutil

    shutil.copytree(tmp_path / "features.zarr", tmp_path / "copy.zarr")
    store = FeatureStore(tmp_path / "copy.zarr")
    assert not store.locks()[0].alive
    assert entry(store).append([[5, 5]], vectors([[5, 5]])) == 1


def test_two_jobs_of_one_process_share_the_lock_on_one_slide(grid, tmp_path):
    """The window encodes a view while a whole slide is under way."""
    from napari_batchfx.features import embed_job

    folder, cells, model = tmp_path / "features.zarr", grid.all_cells(), ColourStatistics()
    jobs = [
        embed_job(grid, model, cells=part, store=FeatureStore(folder), batch_size=4)
        for part in (cells[:60], cells[30:])
    ]
    tables, store = [], FeatureStore(folder)
    while jobs:
        for job in list(jobs):
            try:
                next(job)
            except StopIteration as stop:
                tables.append(stop.value)
                jobs.remove(job)
        if len(jobs) == 2 and store.locks():
            assert [lock.owner for lock in store.locks()] == [f"{socket.gethostname()} pid {os.getpid()}"]
    assert store.locks() == []
    array = FeatureStore(folder).array(grid.slide.fingerprint, model.key, grid.key)
    assert array.n == len(cells)
    for table in tables:
        np.testing.assert_array_equal(array.read(table.obs[["row", "col"]]), table.X)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_does_not_have_its_parents_lock(tmp_path, patience):
    code = f"""
import os, sys
from napari_batchfx.errors import FeatureError
from napari_batchfx.features import FeatureStore, locks
locks.PATIENCE_S = 0.1
entry = FeatureStore({str(tmp_path / "features.zarr")!r}).array("a", "e", "g", dim=1)
with entry.writing():
    entry.append([[0, 0]], [[1]])
    child = os.fork()
    if child == 0:
        try:
            entry.append([[0, 1]], [[1]])
        except FeatureError as error:
            os._exit(7 if "being written" in str(error) else 8)
        os._exit(9)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    entry.append([[0, 2]], [[1]])
print(entry.n)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["7", "2"], done.stderr


def test_how_long_is_said():
    said = [
        LockInfo("f", "h pid 1", age, True).who.split("since ")[1][:-1] for age in (4, 75, 200, 9000, 2e5)
    ]
    assert said == ["4 s", "1 min", "3 min", "2 h", "2 days"]
