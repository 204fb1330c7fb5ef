"""``store``: which features a study keeps, how much they take, who is writing them; and deleting them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_batchfx.cli._app import PROBLEM, command, count, fail, note, out, wait
from napari_batchfx.errors import BatchfxError, FeatureError

if TYPE_CHECKING:
    from napari_batchfx.features import FeatureStore

__all__ = ["register", "short_keys"]

#: Columns that a line may take.
WIDTH = 100

# parts of an encoder's key from which on it says how the encoder was set up, and no longer which it is
_DETAILS = ("sha256:", "random:", "fp32", "fp16", "bf16")


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app)
    def store(
        where: Annotated[
            Path, typer.Argument(help="A study (.batchfx), or a feature store (features.zarr).")
        ],
        clear: Annotated[bool, typer.Option("--clear", help="Delete what is listed.")] = False,
        slide: Annotated[
            str | None, typer.Option(help="Only this slide: its name in the study, or its fingerprint.")
        ] = None,
        encoder: Annotated[
            str | None, typer.Option(help="Only this encoder: its key, or what that begins with.")
        ] = None,
        yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
        check: Annotated[
            bool, typer.Option("--check", help="Read everything and compare the checksums.")
        ] = False,
        as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    ) -> None:
        """List the stored features: slide, encoder, grid, stain, tiles and size; or delete them."""
        from napari_batchfx.features import FeatureStore

        folder, names = _find(where)
        if not folder.exists():
            out().print(f"{where.name}: no features are stored yet.", markup=False)
            return
        opened = FeatureStore(folder)
        listed = opened.keys()
        fingerprint = _fingerprint(listed, names, slide)
        rows = [
            row
            for row in listed
            if fingerprint in (None, row["fingerprint"])
            and (encoder is None or row["encoder"] == encoder or row["encoder"].startswith(f"{encoder}/"))
        ]
        if encoder is not None and listed and not rows:
            raise fail(
                f"{encoder}: nothing of this encoder is stored here; `store` without --encoder lists all."
            )
        for row in rows:
            row["slide"] = names.get(row["fingerprint"], row["fingerprint"][:12])
        if check:
            with wait("reading all features"):
                _check(opened, rows)
        locks = [lock for lock in opened.locks() if fingerprint in (None, lock.fingerprint)]
        if as_json:
            said = [vars(lock) | {"who": lock.who} for lock in locks]
            print(json.dumps({"entries": rows, "locks": said}, ensure_ascii=False, indent=2))
        else:
            _print(rows, locks, names, short_keys(row["encoder"] for row in listed))
        if clear and rows:
            size = sum(row["nbytes"] for row in rows) / 1e6
            if not yes:
                typer.confirm(f"Delete {_entries(rows)} ({size:,.1f} MB)?", abort=True)
            opened.clear(fingerprint, encoder)
            note(f"deleted: {size:,.1f} MB")
        elif any(row["damaged"] for row in rows):
            raise typer.Exit(PROBLEM)


def _find(where: Path) -> tuple[Path, dict[str, str]]:
    """The store's folder, and the names of slides by fingerprint where there is a study."""
    from napari_batchfx.study import files, study_folder

    if not where.exists() and study_folder(where).exists():
        where = study_folder(where)
    if where.name == files.STUDY_FILE:
        where = where.parent
    if not where.exists():
        raise FeatureError(f"{where.name}: there is no such folder; name a study or its features.zarr.")
    study = next((at for at in (where, where.absolute().parent) if (at / files.STUDY_FILE).is_file()), None)
    names: dict[str, str] = {}
    if study is not None:
        try:
            names = {entry.fingerprint: entry.name for entry in files.read_study(study).slides}
        except BatchfxError as error:  # the features can be listed all the same
            note(str(error))
    if study == where or where.suffix == files.SUFFIX:
        return where / files.FEATURES_FOLDER, names
    if where.is_dir() and not any(where.iterdir()):
        raise FeatureError(f"{where.name}: is an empty folder; name a study or its features.zarr.")
    return where, names


def _fingerprint(listed: list[dict[str, Any]], names: dict[str, str], slide: str | None) -> str | None:
    if slide is None:
        return None
    known = {row["fingerprint"] for row in listed} | set(names)
    found = [mark for mark in known if names.get(mark) == slide]
    found = found or [mark for mark in known if len(slide) >= 6 and mark.startswith(slide)]
    if len(found) != 1:
        raise fail(f"{slide}: no slide of this name or fingerprint here; `store` without --slide lists all.")
    return found[0]


def _check(store: FeatureStore, rows: list[dict[str, Any]]) -> None:
    """Read every vector: says in ``damaged`` how many are, and counts them out of ``n``."""
    for row in rows:
        if row["damaged"] is None:
            entry = store.array(row["fingerprint"], row["encoder"], row["grid"], row["stain"])
            entry.has(entry.done_cells())
            row["damaged"] = next(iter(entry.damage_said()), None)
            row["n"] = entry.n


def _print(rows: list[dict[str, Any]], locks: list[Any], names: dict[str, str], keys: dict[str, str]) -> None:
    console = out()
    for slide in sorted({row["slide"] for row in rows}):
        console.print(slide, markup=False)
        own = [row for row in rows if row["slide"] == slide]
        told = [(keys.get(row["encoder"]) or "unknown", _told(row)) for row in own]
        across = max(len(key) for key, _ in told)
        is_wide = any(4 + across + len(rest) > WIDTH for _, rest in told)
        for row, (key, rest) in zip(own, told, strict=True):
            console.print(f"  {key}\n    {rest}" if is_wide else f"  {key:<{across}}  {rest}", markup=False)
            if row["damaged"]:
                console.print(f"  Mind: {row['damaged']}", markup=False)
    for lock in locks:
        slide = names.get(lock.fingerprint) or lock.slide or lock.fingerprint[:12]
        if lock.alive:
            console.print(f"{slide}: being written by {lock.who}", markup=False)
        else:
            console.print(
                f"{slide}: was being written by {lock.who}, which has ended; the next job goes on.",
                markup=False,
            )
    size = sum(row["nbytes"] for row in rows) / 1e6
    console.print(f"in all: {_entries(rows)}, {size:,.1f} MB", markup=False)


def _told(row: dict[str, Any]) -> str:
    size = f"{row['nbytes'] / 1e6:,.1f} MB"
    return f"{row['grid']}  stain {row['stain'] or 'unknown'}  {count(row['n'], 'tile')}  {size}"


def short_keys(keys: Iterable[str]) -> dict[str, str]:
    """What is enough of each encoder's key to name it, here and to ``--encoder``.

    The hash of the weights and what follows is left out, unless another key begins alike.

    Examples
    --------
    >>> list(short_keys(["timm/batchfx-mini/v1/sha256:0a/fp32", "colour-statistics/v1/fp32"]).values())
    ['timm/batchfx-mini/v1', 'colour-statistics/v1']
    """
    known = list(dict.fromkeys(keys))
    found = {}
    for key in known:
        parts = key.split("/")
        others = [other.split("/") for other in known if other != key]
        n = next((i for i, part in enumerate(parts) if i and part.startswith(_DETAILS)), len(parts))
        while n < len(parts) and any(other[:n] == parts[:n] for other in others):
            n += 1
        found[key] = "/".join(parts[:n])
    return found


def _entries(rows: list[dict[str, Any]]) -> str:
    return "1 entry" if len(rows) == 1 else f"{len(rows):,} entries"
