"""Runs a core job in a thread for the docks: progress, cancel, error and partial results as Qt signals."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal
from superqt.utils import GeneratorWorker, create_worker

from napari_batchfx.jobs import Job, Progress

__all__ = ["QtJob"]

_BAR_MS = 500


class _Worker(GeneratorWorker):
    """A superqt worker that closes its job when it is stopped.

    superqt leaves an aborted generator suspended until it is collected; a job would keep its reader threads until then.
    napari's own ``create_worker`` is not used: it hands every worker to the viewer in front, whichever started it, and that
    one's closing would stop the work of another.
    """

    stop: threading.Event

    def start(self) -> None:
        """Begin at once; superqt's own waits for the event loop, which may draw for long before it comes round."""
        from qtpy.QtCore import QThreadPool

        self._worker_set.add(self)
        self._finished.connect(self._set_discard)
        QThreadPool.globalInstance().start(self)

    def quit(self) -> None:
        """Ask the job to stop after its current step."""
        self.stop.set()


class QtJob(QObject):
    """Drives one job at a time off the GUI thread.

    A job that is started while another runs cancels that one first; signals of the old one no longer arrive.
    Slots run in the GUI thread.
    """

    progressed = Signal(object)  # Progress
    succeeded = Signal(object)  # what the job returned
    failed = Signal(object)  # the exception
    cancelled = Signal()
    ended = Signal()  # after any of the three above

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._worker: Any = None
        self._bar: Any = None
        self._latest: Progress | None = None
        self._described = ""
        # napari's progress bar runs the event loop, and so paints the window, whenever it is written to: it is written to
        # seldom, from here only, and only what changed.
        self._refresh = QTimer(self)
        self._refresh.setInterval(_BAR_MS)
        self._refresh.timeout.connect(self._write_bar)

    @property
    def is_running(self) -> bool:
        """Whether a job is under way (and was not asked to stop)."""
        return self._worker is not None

    def start(self, job: Job[Any], what: str = "", *, bar: bool = True) -> None:
        """Run ``job`` in a thread; ``bar`` says whether napari shows its progress, too."""
        self.cancel()

        stop = threading.Event()

        def drive() -> Generator[Progress, None, Any]:
            try:
                while not stop.is_set():
                    yield next(job)
            except StopIteration as end:
                return end.value
            finally:
                job.close()

        worker = create_worker(
            drive, _worker_class=_Worker, _ignore_errors=True, _start_thread=False, _connect=None
        )
        worker.stop = stop
        self._worker = worker
        worker.yielded.connect(self._on_progress)
        worker.returned.connect(self._on_returned)
        worker.errored.connect(self._on_errored)
        if bar:
            self._open_bar(what)
        worker.start()

    def cancel(self) -> None:
        """Ask the running job to stop; what it has finished is kept. Does nothing when none runs."""
        worker = self._release()
        if worker is not None:
            worker.quit()
            self.cancelled.emit()
            self.ended.emit()

    def wait(self, milliseconds: int = 10_000) -> bool:
        """Block until every worker thread has stopped (for closing and tests); whether they did in time."""
        from qtpy.QtCore import QThreadPool

        return bool(QThreadPool.globalInstance().waitForDone(milliseconds))

    def _release(self) -> Any:
        worker, self._worker = self._worker, None
        if worker is not None:
            for signal, slot in (
                (worker.yielded, self._on_progress),
                (worker.returned, self._on_returned),
                (worker.errored, self._on_errored),
            ):
                with contextlib.suppress(TypeError, RuntimeError):  # already gone with the window
                    signal.disconnect(slot)
        self._close_bar()
        return worker

    def _on_progress(self, progress: Progress) -> None:
        if self._worker is None:
            return  # a step of a job that was cancelled meanwhile
        self._latest = progress
        self.progressed.emit(progress)

    def _write_bar(self) -> None:
        latest, self._latest = self._latest, None
        bar = self._bar
        if bar is None or latest is None:
            return
        # Qt counts to 2**31, and the weights of a large model have more bytes.
        share = 1_000_000 if latest.unit == "bytes" else 1
        total, done = latest.total // share, latest.done // share
        if total and bar.total != total:
            bar.total = total
        if latest.what != self._described:
            self._described = latest.what
            bar.set_description(latest.what)
        if bar is self._bar and done != bar.n:  # still this job: the event loop ran in between
            bar.update(done - bar.n)

    def _on_returned(self, result: Any) -> None:
        worker = self._release()
        if worker is not None and worker.stop.is_set():  # stopped from outside, by whoever holds the worker
            self.cancelled.emit()
        else:
            self.succeeded.emit(result)
        self.ended.emit()

    def _on_errored(self, error: Exception) -> None:
        self._release()
        self.failed.emit(error)
        self.ended.emit()

    def _open_bar(self, what: str) -> None:
        from napari.utils import progress

        self._described = ""
        self._bar = progress(total=0, desc=what or "Batchfx")
        self._refresh.start()

    def _close_bar(self) -> None:
        self._refresh.stop()
        self._latest = None
        bar, self._bar = self._bar, None
        if bar is not None:
            with contextlib.suppress(RuntimeError):  # its Qt half is gone when the window closes
                bar.close()
