"""One slide of a study as a task of a cluster: encoded where it runs, straight into the shared store."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from napari_batchfx.errors import BatchfxError
from napari_batchfx.jobs import Progress
from napari_batchfx.study.annotations import from_geojson
from napari_batchfx.study.bench import Bench
from napari_batchfx.study.encoding import encode_job
from napari_batchfx.study.entries import SlideEntry
from napari_batchfx.study.selection import Selection
from napari_batchfx.study.settings import EncodeSettings, Settings, StainSettings, TissueChoice

if TYPE_CHECKING:
    from napari_batchfx.encoders import Encoder

__all__ = ["TELL_S", "encode_slide", "encoder_name", "task_of"]

#: How often, in seconds, a worker says how far it is and asks whether the slide is still wanted.
TELL_S: Final = 0.5
#: A worker that died on another machine keeps its slide's lock for three minutes.
_LOCK_WAIT_S: Final = 210.0

_encoders: dict[str, Encoder] = {}
_door = threading.Lock()


def encode_slide(task: dict[str, Any]) -> dict[str, Any]:
    """Encode what the store lacks of one slide.

    Parameters
    ----------
    task : dict
        Plain values (see :meth:`Cluster.encode_job`): the study's folder as this machine sees it, the slide,
        the settings. Nothing in it is code.

    Returns
    -------
    dict
        ``tiles``, ``kept``, ``damaged``, ``lost``, ``seconds``; ``problem`` where the slide failed,
        ``fatal`` where every slide would.
    """
    started = time.monotonic()
    tell, is_wanted = _line_to_client(task)
    if refused := _refusal(task):
        return {"fatal": refused}
    entry = SlideEntry.model_validate(task["entry"])
    bench = _bench(task, entry)
    try:
        _wait_for_lock(bench, entry, is_wanted)
        job = encode_job(bench, [entry], None)
        last, told = Progress(0, 0, ""), 0.0
        try:
            while True:
                last = next(job)
                if time.monotonic() - told >= TELL_S:
                    told = time.monotonic()
                    tell({"slide": entry.fingerprint, "done": last.done, "total": last.total})
                    if not is_wanted():
                        return {"cancelled": True}
        except StopIteration as stop:
            outcome = stop.value
        finally:
            job.close()
        _keep_encoder(bench)
        return {
            "tiles": outcome.tiles,
            "kept": outcome.kept,
            "damaged": outcome.damaged,
            "lost": outcome.lost_by_slide.get(entry.name, 0),
            "problem": str(outcome.problems[0]) if outcome.problems else None,
            "seconds": time.monotonic() - started,
        }
    except (BatchfxError, OSError) as error:
        return {"fatal": f"{_here()}: {error}"}
    finally:
        for slide in bench.slides:
            bench.put_away(slide)


def _refusal(task: dict[str, Any]) -> str:
    """Why nothing can be encoded here, in a sentence; empty where it can."""
    from napari_batchfx import __version__

    if task["version"] != __version__:
        return (
            f"{_here()} has napari-batchfx {__version__}, the command {task['version']}: vectors might "
            "differ; install the same version everywhere."
        )
    if not Path(task["folder"], task["mark"]).is_file():
        return (
            f"{_here()} doesn't see {task['folder']}: study and slides must lie in a folder that all "
            "machines see under the same name."
        )
    return ""


def _bench(task: dict[str, Any], entry: SlideEntry) -> Bench:
    """A study of one slide (and its stain target) that writes into the shared store and nowhere else."""
    others = [SlideEntry.model_validate(one) for one in task["others"]]
    settings = Settings(
        encode=EncodeSettings.model_validate(task["encode"]),
        tissue=TissueChoice.model_validate(task["tissue"]),
        stain=StainSettings.model_validate(task["stain"]),
    )
    bench = Bench(task["name"], [entry, *others], settings, Path(task["folder"]))
    bench.annotations = from_geojson(task["regions"])
    bench.selection = Selection.model_validate(task["selection"])
    bench.instruments.threads = _threads(task["slots"])
    with _door:
        if task["encoder"] in _encoders:
            bench.instruments.adopt(settings.encode, _encoders[task["encoder"]])
    return bench


def _keep_encoder(bench: Bench) -> None:
    """Loading takes longer than many a slide: the next task of this process goes on with it."""
    loaded = bench.instruments.loaded_encoder(bench.settings.encode)
    if loaded is not None:
        with _door:
            _encoders.clear()
            _encoders[encoder_name(bench.settings.encode)] = loaded


def encoder_name(choice: EncodeSettings) -> str:
    """Which encoder is meant, wherever it is loaded."""
    return "\n".join((choice.encoder, choice.device, choice.precision))


def _threads(slots: dict[str, int]) -> int:
    """CPU threads for one slide: the cores of this machine, shared by the tasks that it runs at once."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        cores = os.cpu_count() or 1
    with contextlib.suppress(ImportError, ValueError):
        from distributed import get_worker

        return max(1, cores // max(1, slots.get(get_worker().ip, 1)))
    return cores


def _wait_for_lock(bench: Bench, entry: SlideEntry, is_wanted: Callable[[], bool]) -> None:
    """Wait for the lock of a worker that may have died; encoding says it in a sentence where it hasn't."""
    until = time.monotonic() + _LOCK_WAIT_S
    while time.monotonic() < until and is_wanted():
        lock = bench.store().lock_of(entry.fingerprint)
        if lock is None or not lock.alive:
            return
        time.sleep(TELL_S)


def _line_to_client(
    task: dict[str, Any],
) -> tuple[Callable[[dict[str, Any]], None], Callable[[], bool]]:
    """How progress is told, and how it is found out that nobody waits for the slide any more."""
    try:
        from distributed import get_worker

        worker = get_worker()
        key = worker.get_current_task()
    except (ImportError, ValueError):  # called as a function
        return (lambda said: None), (lambda: True)

    def tell(said: dict[str, Any]) -> None:
        worker.log_event(task["topic"], said)

    def is_wanted() -> bool:
        state = worker.state.tasks.get(key)
        return state is not None and state.state not in ("cancelled", "released", "forgotten")

    return tell, is_wanted


def _here() -> str:
    from napari_batchfx.features import _process

    return f"The machine {_process.host_name()}"


def task_of(
    study: Bench, entry: SlideEntry, *, mark: str, topic: str, slots: dict[str, int]
) -> dict[str, Any]:
    """The task of a slide, as plain values."""
    from napari_batchfx import __version__
    from napari_batchfx.study.annotations import to_geojson
    from napari_batchfx.study.tissue_regions import is_tissue_class

    encode = study.settings.encode
    aims: list[SlideEntry] = []
    if encode.normalizer:
        aims = list(study.slides) if encode.cohort else [study.slide(encode.target)] if encode.target else []
    drawn = [a for a in study.annotations if a.slide == entry.name and is_tissue_class(a.class_name)]
    tiles = {name: text for name, text in study.selection.tiles.items() if name == entry.name}
    return {
        "version": __version__,
        "name": study.name,
        "folder": str(study.folder.absolute()),
        "mark": mark,
        "topic": topic,
        "slots": slots,
        "entry": _plain(entry),
        "others": [_plain(aim) for aim in aims if aim is not entry],
        "stain": study.settings.stain.model_dump(mode="json"),
        "encode": encode.model_dump(mode="json"),
        "encoder": encoder_name(encode),
        "tissue": study.settings.tissue.model_dump(mode="json"),
        "regions": to_geojson(drawn),
        "selection": {"slides": [], "tiles": tiles},
    }


def _plain(entry: SlideEntry) -> dict[str, Any]:
    data: dict[str, Any] = entry.model_dump(mode="json", exclude={"patient", "more", "earlier_affines"})
    return data | {"path": str(entry.path.absolute())}
