"""Slides as tasks of a cluster: the same features as in one process, whatever dies meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from napari_batchfx.errors import StudyError
from napari_batchfx.jobs import run
from napari_batchfx.study import Cluster, Study
from napari_batchfx.study.cluster_task import encode_slide, task_of
from napari_batchfx.study.own_cores import cores_of

from .conftest import set_up
from .test_history import features

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def local():
    """One cluster of two workers for all tests that don't kill it."""
    with Cluster(local=2) as cluster:
        yield cluster


@pytest.fixture
def clean(slides, tmp_path):
    """What one process stores, undisturbed."""
    with set_up(tmp_path / "clean", slides, labels=False) as study:
        run(study.encode_job())
    return features(study.folder)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system can't hold a process to cores")
def test_local_workers_keep_to_cores_of_their_own(local):
    """Threads of two workers on the same cores wait for one another: half of the time, measured."""

    def cores():
        return [sorted(os.sched_getaffinity(int(thread))) for thread in os.listdir("/proc/self/task")]

    there = os.sched_getaffinity(0)
    found = list(local._client.run(cores).values())
    assert len(found) == 2
    for threads in found:
        assert all(one == threads[0] for one in threads)
    first, second = (set(threads[0]) for threads in found)
    assert first | second <= there
    if len(there) >= 2:
        assert first | second == there
        assert not first & second


def test_cores_are_shared_out_evenly_and_all_are_used():
    for n in (1, 2, 3, 7, 16):
        cores = list(range(10, 10 + n))
        for workers in (1, 2, 3, 5, 20):
            shares = [cores_of(k, workers, cores) for k in range(workers)]
            assert all(shares)
            assert set().union(*shares) == set(cores)
            if workers <= n:
                assert sum(map(len, shares)) == n
                assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_the_features_are_those_of_one_process(local, clean, slides, tmp_path):
    with set_up(tmp_path / "s", slides) as study:
        study.cluster = local
        seen = []
        outcome = run(study.run_job(), seen.append)
        assert outcome.problems == ()
        assert features(study.folder) == clean
        assert set(outcome.encode.slides) == set(slides)
        assert outcome.encode.tiles == 4 * 80
        assert "4 of 4 slides" in [step.text() for step in seen if "slides" in step.what][-1]
        assert outcome.adapt is not None
        again = run(study.encode_job())
        assert (again.tiles, again.kept) == (0, 320)
        assert [step.kind for step in study.steps] == ["encode", "probe", "adapt"]
        assert not list(study.folder.glob(".cluster-*"))


def test_normalised_features_are_too(local, slides, tmp_path):
    found = []
    for name, cluster in (("here", None), ("there", local)):
        with set_up(tmp_path / name, slides, labels=False) as study:
            study.settings.encode.normalizer, study.settings.encode.target = "reinhard", "A-1"
            study.cluster = cluster
            run(study.encode_job(["A-2", "B-1"]))
            found.append(features(study.folder))
    assert found[0] == found[1]


def test_one_bad_slide_is_skipped(local, slides, tmp_path):
    with set_up(tmp_path / "s", slides, labels=False) as study:
        slides["A-2"].write_bytes(slides["A-2"].read_bytes()[:5000])
        study.cluster = local
        outcome = run(study.encode_job())
        assert set(outcome.slides) == {"A-1", "B-1", "B-2"}
        assert [problem.subject for problem in outcome.problems] == ["A-2"]
        assert "has changed" in str(outcome.problems[0])


def test_a_job_that_is_stopped_goes_on(local, clean, slides, tmp_path):
    with set_up(tmp_path / "s", slides, labels=False) as study:
        study.cluster = local
        job = study.encode_job()
        next(job)
        next(job)
        job.close()
        assert run(study.encode_job()).problems == ()
        assert features(study.folder) == clean


def test_a_machine_that_sees_nothing_or_is_of_another_version(slides, tmp_path):
    with set_up(tmp_path / "s", slides, labels=False) as study:
        task = task_of(study, study.slides[0], mark=".cluster-x", topic="t", slots={})
        assert "doesn't see" in encode_slide(task)["fatal"]
        assert "same version" in encode_slide(task | {"version": "0.0"})["fatal"]
        (study.folder / ".cluster-x").touch()
        assert encode_slide(task)["tiles"] == 80
        assert "P1" not in str(task)  # a patient's name does not travel


def test_no_scheduler_is_one_sentence():
    with pytest.raises(StudyError, match="no scheduler answers there"):
        Cluster("tcp://127.0.0.1:9", patience_s=1)
    with pytest.raises(StudyError, match="give one of them"):
        Cluster()


def start(*words):
    """A process of dask's command line, on this machine."""
    return subprocess.Popen(
        [sys.executable, "-m", "distributed.cli." + words[0], *map(str, words[1:])],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def free_port():
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def scheduler(port):
    return start("dask_scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard")


def worker(address, *more):
    return start(
        "dask_worker", address, "--nthreads", 1, "--no-dashboard", "--no-nanny", "--memory-limit", 0, *more
    )


def connected(address, n=1):
    for _ in range(300):
        try:
            cluster = Cluster(address, patience_s=60)
            break
        except StudyError:
            time.sleep(0.1)
    for _ in range(600):
        if len(cluster.workers()) >= n:
            return cluster
        time.sleep(0.05)
    raise AssertionError("no workers")


def end(*processes):
    for process in processes:
        process.kill()
        process.wait()


def test_kill_a_worker_then_the_scheduler(clean, slides, tmp_path):
    """Both in one run: a worker dies at its first tiles, the scheduler a moment later and comes back."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    gpu = ("--resources", "GPU=1")  # declared, so that every task asks for one
    processes = [scheduler(port), worker(address, *gpu), worker(address, *gpu)]
    try:
        cluster = connected(address, 2)
        with set_up(tmp_path / "s", slides, labels=False) as study, cluster:
            study.settings.encode.batch_size = 8
            study.cluster = cluster
            job = study.encode_job()
            killed = 0
            for progress in job:
                if killed == 0 and progress.done:
                    os.kill(processes[1].pid, signal.SIGKILL)
                    killed = 1
                elif killed == 1:
                    os.kill(processes[0].pid, signal.SIGKILL)
                    end(*processes)
                    processes = [scheduler(port), worker(address, *gpu)]
                    killed = 2
            assert killed == 2
            assert features(study.folder) == clean
            assert {problem.text for problem in study.problems} == set()
    finally:
        end(*processes)


def test_a_scheduler_that_stays_away_ends_the_job_and_the_next_goes_on(local, clean, slides, tmp_path):
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    processes = [scheduler(port), worker(address)]
    try:
        cluster = connected(address)
        cluster._patience_s = cluster._client._timeout = 1.0
        with set_up(tmp_path / "s", slides, labels=False) as study, cluster:
            study.cluster = cluster
            study.save()
            job = study.encode_job()
            next(job)
            end(*processes)
            with pytest.raises(StudyError, match="the features up to here are kept"):
                run(job)
    finally:
        end(*processes)
    with Study.open(tmp_path / "s.batchfx") as study:
        study.cluster = local
        run(study.encode_job())
        assert features(study.folder) == clean
