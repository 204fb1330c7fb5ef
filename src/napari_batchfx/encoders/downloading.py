"""One file from the hub into its cache: with progress, resumable, checked, stoppable at any time."""

from __future__ import annotations

import hashlib
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_batchfx.encoders.hub_errors import (
    checksum_error,
    cut_error,
    disk_error,
    disk_full_error,
    explained,
    harmless,
    no_hub_error,
    retry_after,
    status_of,
    unreachable_error,
)
from napari_batchfx.encoders.streaming import STEP_S, Broken, answered, polled
from napari_batchfx.jobs import Job, Progress

__all__ = ["DownloadProgress", "download_job", "facts_job"]

ATTEMPTS = 4  # in a row without a single new byte
WAIT_S = 1.0
PATIENCE_S = 60.0  # a hub that wants a longer pause is left alone
UNSAID = 20_000_000  # bytes of a file whose size the hub doesn't say; weights never come so
_BUSY = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class DownloadProgress(Progress):
    """Progress of a download; ``done`` and ``total`` are bytes, told in MB."""

    unit: str = "bytes"

    def text(self) -> str:
        """``downloading UNI: 123 of 1,213 MB, 12.4 MB/s, 88 s left``."""
        if not self.total:  # not known, or another program is at it
            return self.what
        line = f"{self.what}: {self.done / 1e6:,.0f} of {self.total / 1e6:,.0f} MB"
        if self.rate:
            line += f", {self.rate / 1e6:.1f} MB/s"
            left = self.seconds_left
            if left is not None and self.done < self.total:
                line += f", {left:,.0f} s left" if left < 90 else f", {left / 60:,.0f} min left"
        return line


def facts_job(url: str, repo: str, revision: str, shown: str) -> Job[Any]:
    """Size and checksum of a file, from the hub; asked again where the hub is busy just now.

    Yields
    ------
    DownloadProgress

    Returns
    -------
    huggingface_hub.HfFileMetadata or None
        None if the repository has no such file.

    Raises
    ------
    EncoderError
        One sentence: refused, not found, busy, unreachable, or no hub at all.
    """
    from huggingface_hub import errors, get_hf_file_metadata

    for attempt in range(1, ATTEMPTS + 1):
        try:
            # without the half minute of retries that the hub's own download makes without a network
            facts = yield from answered(
                lambda: get_hf_file_metadata(url), DownloadProgress(0, 0, f"asking the hub for {shown}")
            )
        except errors.EntryNotFoundError:
            return None
        except Exception as error:  # noqa: BLE001 - the HTTP library raises many kinds: all become one sentence
            pause = retry_after(error) or WAIT_S * attempt
            if status_of(error) not in _BUSY or attempt == ATTEMPTS or pause > PATIENCE_S:
                raise explained(error, shown, repo, revision) from harmless(error)
            yield from _pause(pause, DownloadProgress(0, 0, f"the hub is busy, asking again for {shown}"))
            continue
        # the ETag becomes a file's name: a hotel's or a firewall's page has none, an evil one a path
        if not facts.commit_hash or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", str(facts.etag or "")):
            raise no_hub_error(shown, repo)
        return facts
    raise AssertionError("the last attempt returns or raises")


def _pause(seconds: float, meanwhile: DownloadProgress) -> Job[None]:
    """Wait in steps, so that stopping doesn't wait."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        yield meanwhile
        time.sleep(STEP_S)


def download_job(url: str, facts: Any, repo: str, filename: str, revision: str, shown: str) -> Job[Path]:
    """Download a file into the hub's own cache, from where every program finds it.

    The hub's library does it without resuming (since its version 1) and without checking the content, and
    can't be stopped; so the bytes are fetched here, and the library then files them.

    Parameters
    ----------
    url : str
        The file's address on the hub.
    facts : huggingface_hub.HfFileMetadata
        Its size, and its checksum as ETag.
    repo, filename, revision : str
        What is downloaded.
    shown : str
        What the user asked for.

    Yields
    ------
    DownloadProgress

    Returns
    -------
    Path
        The file in the cache.

    Raises
    ------
    EncoderError
        One sentence: refused, cut off, wrong checksum, disk full.
    """
    from filelock import FileLock, Timeout
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    cache = Path(constants.HF_HUB_CACHE)
    folder = repo_folder_name(repo_id=repo, repo_type="model")
    blob = cache / folder / "blobs" / str(facts.etag)
    what = f"downloading {shown}"
    try:
        blob.parent.mkdir(parents=True, exist_ok=True)
        # the place where the hub's library has its locks, so that the two don't fetch the same file at once
        lock_file = cache / ".locks" / folder / f"{facts.etag}.lock"
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(lock_file)
        while True:
            try:
                lock.acquire(timeout=0)
                break
            except Timeout:  # another window or program is at it
                yield DownloadProgress(0, 0, f"waiting for another program that is {what}")
                time.sleep(STEP_S)
        try:
            if not blob.exists():
                yield from _fill(blob, url, facts, filename, shown, repo, what)
        finally:
            lock.release()
        size = blob.stat().st_size
        return (
            yield from answered(
                lambda: _filed(repo, filename, revision, shown), DownloadProgress(size, size, what)
            )
        )
    except OSError as error:  # of the disk: those of the network are explained where they arise
        raise disk_error(shown, error, _missing(blob, int(facts.size or 0)), cache) from error


def _missing(blob: Path, total: int) -> int:
    """Bytes that are still to come."""
    try:
        return max(0, total - _part(blob).stat().st_size)
    except OSError:  # no file yet, or no folder for it
        return total


def _filed(repo: str, filename: str, revision: str, shown: str) -> Path:
    """The file's place in the snapshot; its bytes are there, so the library only links them."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repo, filename, revision=revision or None))
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise explained(error, shown, repo, revision) from harmless(error)


def _part(blob: Path) -> Path:
    return blob.with_name(blob.name + ".batchfx-part")


def _fill(blob: Path, url: str, facts: Any, filename: str, shown: str, repo: str, what: str) -> Job[None]:
    """Make ``blob`` whole, beginning where an earlier download stopped."""
    part = _part(blob)
    total = int(facts.size or 0)
    digest = _Digest(str(facts.etag), total)
    done = 0
    if part.is_file() and part.stat().st_size <= total:
        with part.open("rb") as file:
            while chunk := file.read(1 << 22):
                digest.update(chunk)
                done += len(chunk)
                yield DownloadProgress(done, total, f"reading what is there of {shown}")
    if shutil.disk_usage(blob.parent).free < total - done:
        raise disk_full_error(shown, total - done, blob.parents[2])
    fruitless, first, began = 0, done, time.perf_counter()
    last: Exception | None = None
    yield DownloadProgress(done, total, what)
    while done < total or not part.is_file():
        before, pause = done, 0.0
        try:
            for chunk, whole in polled(url, done):
                if not chunk:  # nothing has come just now: a chance to stop
                    yield DownloadProgress(done, total, what)
                    continue
                if whole:  # the server began anew: it can't resume
                    done, digest = 0, _Digest(str(facts.etag), total)
                    first = 0
                with part.open("wb" if done == 0 else "ab") as file:
                    file.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                if done > (total or UNSAID):
                    break  # more than there can be: thrown away below
                seconds = time.perf_counter() - began
                yield DownloadProgress(
                    done, total, what, rate=(done - first) / seconds if seconds > 0 else None
                )
            if not total or done > total:
                break
        except Broken as broken:
            last, pause = broken.cause, retry_after(broken.cause)
            if last is not None and (broken.status not in (None, *_BUSY) or pause > PATIENCE_S):
                raise explained(last, shown, repo) from harmless(last)
        if done >= total:
            break
        fruitless = 0 if done > before else fruitless + 1
        if fruitless >= ATTEMPTS:
            if last is not None and status_of(last) == 429:
                raise explained(last, shown, repo) from harmless(last)
            raise cut_error(shown, done, total) if done else unreachable_error(shown, repo, last)
        yield from _pause(
            pause or WAIT_S * max(1, fruitless),
            DownloadProgress(done, total, f"{what}, the connection broke, trying again"),
        )
    part.touch()  # a file of no bytes
    if (total and done != total) or done > (total or UNSAID) or not digest.fits():
        part.unlink(missing_ok=True)
        raise checksum_error(shown, filename)
    part.replace(blob)


class _Digest:
    """The checksum that the hub gives as ETag: SHA-256 of large files, git's SHA-1 of small ones."""

    def __init__(self, etag: str, size: int) -> None:
        self._etag = etag
        self._hash: Any = None
        if len(etag) == 64:
            self._hash = hashlib.sha256()
        elif len(etag) == 40:
            self._hash = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)

    def update(self, chunk: bytes) -> None:
        """Take in the next bytes."""
        if self._hash is not None:
            self._hash.update(chunk)

    def fits(self) -> bool:
        """Whether the bytes are the right ones; True where the ETag is no checksum."""
        return self._hash is None or self._hash.hexdigest() == self._etag.lower()
