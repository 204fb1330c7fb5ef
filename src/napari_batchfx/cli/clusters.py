"""``--scheduler`` and ``--local``: encoding on many machines, or in several processes of this one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from napari_batchfx.cli._app import note, wait

if TYPE_CHECKING:
    from napari_batchfx.study import Study

__all__ = ["Local", "Scheduler", "on_cluster"]

Scheduler = Annotated[
    str | None,
    typer.Option(help="Address of a dask scheduler (tcp://host:8786): its workers encode, a slide a task."),
]
Local = Annotated[
    int | None, typer.Option(help="Encode in so many worker processes on this machine.", min=1, max=256)
]


@contextlib.contextmanager
def on_cluster(study: Study, scheduler: str | None, local: int | None) -> Iterator[None]:
    """Let a study be encoded by a cluster meanwhile, where one is asked for."""
    if scheduler is not None and local is not None:
        raise typer.BadParameter("choose --scheduler or --local")
    if scheduler is None and local is None:
        yield
        return
    from napari_batchfx.study import Cluster

    with wait("connecting"):
        cluster = Cluster(scheduler, local=local)
    with cluster:
        workers = cluster.workers()
        gpus = sum(bool((one.get("resources") or {}).get("GPU")) for one in workers.values())
        note(f"{cluster.address}: {len(workers):,} workers" + (f", {gpus:,} with a GPU" if gpus else ""))
        study.cluster = cluster
        try:
            yield
        finally:
            study.cluster = None
