"""Encoding on many machines: a slide is a task of a dask.distributed cluster."""

from __future__ import annotations

import contextlib
import queue
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from napari_batchfx.errors import StudyError
from napari_batchfx.jobs import Job, Progress
from napari_batchfx.study.cluster_task import TELL_S, encode_slide, task_of
from napari_batchfx.study.encoding import EncodeOutcome
from napari_batchfx.study.own_cores import own_cores
from napari_batchfx.study.problems import Problem

if TYPE_CHECKING:
    from napari_batchfx.study.bench import Bench
    from napari_batchfx.study.entries import SlideEntry

__all__ = ["Cluster"]

#: How long, in seconds, a scheduler that went away is waited for.
PATIENCE_S: Final = 120.0
#: Slides that are given out ahead, for each worker: enough to keep it busy, few enough to stop at once.
_AHEAD: Final = 4
#: How often, in seconds, it is asked which workers there are.
_ASK_S: Final = 2.0
_MISSING = 'many machines need dask.distributed; pip install "napari-batchfx[distributed]"'


class Cluster:
    """A dask.distributed cluster that encodes the slides of a study.

    Set it as ``study.cluster`` and encode as always: each slide is a task. Workers open the slide, and write
    vectors straight into the study's store; only progress and counts travel. Study and slides must lie where
    all machines see them under the same name.

    Parameters
    ----------
    address : str, optional
        Of a scheduler, ``tcp://host:8786``.
    local : int, optional
        Instead, start so many workers on this machine.
    patience_s : float
        How long a scheduler that went away is waited for; then the job ends, and what is stored is kept.

    Raises
    ------
    StudyError
        If there is no scheduler at the address, or dask.distributed isn't installed.

    Notes
    -----
    If a worker declares the resource ``GPU``, every task asks for one. A worker that dies costs the batch it
    was at; its slide is given to another one. Messages between the machines are Python's pickle, as in all of
    dask: use a cluster of your own.

    Examples
    --------
    >>> with Cluster(local=2) as cluster:  # doctest: +SKIP
    ...     study.cluster = cluster
    ...     outcome = study.run()
    """

    def __init__(
        self, address: str | None = None, *, local: int | None = None, patience_s: float = PATIENCE_S
    ) -> None:
        try:
            import distributed
        except ImportError as error:
            raise StudyError(f"{address or 'local'}: {_MISSING}.") from error
        if (address is None) == (local is None):
            raise StudyError("A cluster is an address or a number of local workers: give one of them.")
        self._own: Any = None
        if local is not None:
            self._own = distributed.LocalCluster(
                n_workers=local, threads_per_worker=1, dashboard_address=None, silence_logs=50
            )
            address = self._own.scheduler_address
        self.address = str(address)
        self._patience_s = patience_s
        try:
            self._client = distributed.Client(
                self.address, timeout=min(10.0, patience_s), set_as_default=False
            )
        except (OSError, ValueError) as error:
            raise StudyError(
                f"{self.address}: no scheduler answers there; start one (dask scheduler), or correct it."
            ) from error
        if self._own is not None and (plugin := own_cores(local or 1)) is not None:
            # threads of several workers on the same cores wait for one another: half of the time, measured
            self._client.register_plugin(plugin)
        self._client._timeout = patience_s  # how long it tries again when the connection is lost

    def workers(self) -> dict[str, dict[str, Any]]:
        """What is known of each worker, by address."""
        with contextlib.suppress(OSError, RuntimeError, TimeoutError):
            found: dict[str, dict[str, Any]] = self._client.scheduler_info(n_workers=-1)["workers"]
            return found
        return {}

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        with contextlib.suppress(Exception):
            self._client.close()
        if self._own is not None:
            own, self._own = self._own, None
            with contextlib.suppress(Exception):
                own.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Cluster {self.address}, {len(self.workers())} workers>"

    def encode_job(self, study: Bench, entries: Sequence[SlideEntry]) -> Job[EncodeOutcome]:
        """Encode slides of a study (see :meth:`Study.encode_job`).

        Raises
        ------
        StudyError
            If machines don't see the study, have another version, or the scheduler stays away; what is
            stored is kept, and the next run goes on from there.
        """
        asked = [entry for entry in entries if study.selection.takes(entry.name)]
        if study.settings.encode.normalizer and study.settings.encode.cohort and asked:
            # All slides' stain, once and here: the workers find it beside the study.
            yield Progress(0, 0, "estimating the stain of all slides", "slides")
            study.encode_transform(asked[0])
        with _mark(study) as mark:
            work = _Work(self, study, asked, mark)
            self._client.subscribe_topic(work.topic, work.heard)
            try:
                yield from work.run()
            finally:
                work.stop()
                with contextlib.suppress(Exception):
                    self._client.unsubscribe_topic(work.topic)
        return work.outcome()


@contextlib.contextmanager
def _mark(study: Bench) -> Iterator[str]:
    """A file in the study's folder that every machine must see."""
    name = f".cluster-{uuid.uuid4().hex}"
    path = study.folder / name
    try:
        path.touch()
    except OSError as error:
        raise StudyError(
            f"{study.folder.name}: its folder can't be written ({error.strerror or error})."
        ) from error
    try:
        yield name
    finally:
        path.unlink(missing_ok=True)


@dataclass
class _Work:
    cluster: Cluster
    study: Bench
    entries: Sequence[SlideEntry]
    mark: str
    topic: str = field(default_factory=lambda: f"batchfx-{uuid.uuid4().hex}")
    problems: list[Problem] = field(default_factory=list)
    _events: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)
    _running: dict[Any, SlideEntry] = field(default_factory=dict)
    _partial: dict[str, tuple[int, int]] = field(default_factory=dict)
    _results: dict[str, dict[str, Any]] = field(default_factory=dict)
    _names: list[str] = field(default_factory=list)
    _start: float = field(default_factory=time.monotonic)
    _lost_since: float | None = None
    _workers: dict[str, dict[str, Any]] = field(default_factory=dict)
    _asked: float = 0.0

    def heard(self, event: Any) -> None:
        """A worker says how far it is; called by the client's thread."""
        _, said = event
        self._events.put(said)

    def run(self) -> Job[None]:
        waiting = deque(self.entries)
        yield self._progress("asking the cluster")
        while waiting or self._running:
            if not self._is_connected():
                yield self._progress("waiting for the scheduler")
                time.sleep(TELL_S)
                continue
            yield from self._give_out(waiting)
            self._listen()
            for future in [future for future in self._running if future.done()]:
                self._take(future, self._running.pop(future), waiting)
            yield self._progress("encoding")

    def _is_connected(self) -> bool:
        status = self.cluster._client.status
        if status == "running":
            self._lost_since = None
            return True
        since = self._lost_since = self._lost_since or time.monotonic()
        if status in ("closed", "closing") or time.monotonic() - since > self.cluster._patience_s + 5:
            raise StudyError(
                f"{self.cluster.address}: the scheduler went away; the features up to here are kept: start "
                "it again and run the same command."
            )
        return False

    def _give_out(self, waiting: deque[SlideEntry]) -> Job[None]:
        if not waiting:
            return
        if time.monotonic() - self._asked > _ASK_S or not self._workers:
            self._workers, self._asked = self.cluster.workers(), time.monotonic()
        workers = self._workers
        if not workers:
            yield self._progress("waiting for workers")
            time.sleep(TELL_S)
            return
        slots: dict[str, int] = {}
        for one in workers.values():
            slots[one["host"]] = slots.get(one["host"], 0) + int(one["nthreads"])
        has_gpu = any((one.get("resources") or {}).get("GPU") for one in workers.values())
        room = max(8, _AHEAD * sum(slots.values()))
        while waiting and len(self._running) < room:
            entry = waiting.popleft()
            task = task_of(self.study, entry, mark=self.mark, topic=self.topic, slots=slots)
            future = self.cluster._client.submit(
                encode_slide,
                task,
                key=f"batchfx-{entry.fingerprint[:12]}-{uuid.uuid4().hex[:8]}",
                pure=False,
                resources={"GPU": 1} if has_gpu else None,
            )
            self._running[future] = entry

    def _listen(self) -> None:
        """Take what workers said; wait a moment where they said nothing."""
        with contextlib.suppress(queue.Empty):
            said = self._events.get(timeout=0.1)
            while True:
                self._partial[said["slide"]] = (int(said["done"]), int(said["total"]))
                said = self._events.get_nowait()

    def _take(self, future: Any, entry: SlideEntry, waiting: deque[SlideEntry]) -> None:
        """The result of a slide; one that was lost with the scheduler is given out again."""
        if future.status in ("cancelled", "lost"):
            waiting.append(entry)
            return
        try:
            result: dict[str, Any] = future.result()
        except Exception as error:  # noqa: BLE001 - whatever a worker raised is one slide's trouble
            result = {"problem": _said(entry, error)}
            if isinstance(error, ModuleNotFoundError):
                result = {"fatal": f"A worker has no napari-batchfx ({error}); install it on all machines."}
        if "fatal" in result:
            raise StudyError(f"{self.study.name}: {result['fatal']}")
        if result.get("cancelled"):
            waiting.append(entry)
            return
        self._results[entry.name] = result
        self._partial.pop(entry.fingerprint, None)
        if result.get("problem"):
            self.problems.append(self.study.report_problem(entry.name, result["problem"]))
        else:
            self._names.append(entry.name)

    def _progress(self, what: str) -> Progress:
        done = sum(one.get("tiles", 0) + one.get("kept", 0) for one in self._results.values())
        new = sum(one.get("tiles", 0) for one in self._results.values())
        under_way = sum(done for done, _ in self._partial.values())
        known = done + sum(total for _, total in self._partial.values())
        begun = len(self._results) + len(self._partial)
        total = round(known * len(self.entries) / begun) if begun else 0
        seconds = time.monotonic() - self._start
        rate = (new + under_way) / seconds if new + under_way else None
        slides = f"{len(self._results):,} of {len(self.entries):,} slides"
        return Progress(done + under_way, total, f"{what}, {slides}", rate=rate)

    def stop(self) -> None:
        """Take back what was given out and isn't done; workers stop at their next batch."""
        if self._running:
            with contextlib.suppress(Exception):
                self.cluster._client.cancel(list(self._running), force=True)
        self._running = {}

    def outcome(self) -> EncodeOutcome:
        def by_slide(key: str) -> dict[str, int]:
            return {name: one[key] for name, one in self._results.items() if one.get(key)}

        def total(key: str) -> int:
            return sum(one.get(key, 0) for one in self._results.values())

        order = {entry.name: number for number, entry in enumerate(self.entries)}
        return EncodeOutcome(
            total("tiles"),
            total("kept"),
            tuple(sorted(self._names, key=order.__getitem__)),
            tuple(self.problems),
            total("damaged"),
            by_slide("damaged"),
            by_slide("lost"),
        )


def _said(entry: SlideEntry, error: Exception) -> str:
    if type(error).__name__ == "KilledWorker":
        return (
            f"{entry.name}: the workers that were at it died, one after the other; it may need more memory "
            "than they have. It is left out."
        )
    text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return f"{entry.name}: a worker failed on it ({text}); it is left out."
