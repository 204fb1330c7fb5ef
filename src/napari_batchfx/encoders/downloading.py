"""One file from the hub into its cache: with progress, resumable, checked, stoppable at any time."""

from __future__ import annotations

import hashlib
import os
import queue
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_batchfx.encoders.hub_errors import (
    checksum_error,
    cut_error,
    disk_full_error,
    explained,
    is_disk_full,
    unreachable_error,
)
from napari_batchfx.jobs import Job, Progress

__all__ = ["DownloadProgress", "download_job"]

CHUNK = 256 * 1024  # bytes between two chances to stop
TIMEOUT_S = 10.0
ATTEMPTS = 4  # in a row without a single new byte
WAIT_S = 1.0
STEP_S = 0.05


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
        return _filed(repo, filename, revision, shown)
    except OSError as error:
        if is_disk_full(error):
            part = _part(blob)
            arrived = part.stat().st_size if part.is_file() else 0
            raise disk_full_error(shown, max(0, (facts.size or 0) - arrived), cache) from error
        raise unreachable_error(shown, repo, error) from error


def _filed(repo: str, filename: str, revision: str, shown: str) -> Path:
    """The file's place in the snapshot; its bytes are there, so the library only links them."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repo, filename, revision=revision or None))
    except Exception as error:
        if isinstance(error, OSError) and is_disk_full(error):
            raise
        raise explained(error, shown, repo, revision) from error


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
        before = done
        try:
            for chunk, whole in _polled(url, done):
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
                seconds = time.perf_counter() - began
                yield DownloadProgress(
                    done, total, what, rate=(done - first) / seconds if seconds > 0 else None
                )
            if not total:
                break
        except _Broken as broken:
            last = broken.cause
            if broken.cause is not None and broken.status not in (None, 408, 429, 500, 502, 503, 504):
                raise explained(broken.cause, shown, repo) from broken.cause
        if done >= total:
            break
        fruitless = 0 if done > before else fruitless + 1
        if fruitless >= ATTEMPTS:
            raise cut_error(shown, done, total) if done else unreachable_error(shown, repo, last)
        until = time.monotonic() + WAIT_S * max(1, fruitless)
        while time.monotonic() < until:  # in steps, so that stopping doesn't wait
            yield DownloadProgress(done, total, f"{what}, the connection broke, trying again")
            time.sleep(STEP_S)
    part.touch()  # a file of no bytes
    if (total and done != total) or not digest.fits():
        part.unlink(missing_ok=True)
        raise checksum_error(shown, filename)
    part.replace(blob)


class _Broken(Exception):
    """A request that didn't bring all it should."""

    def __init__(self, cause: Exception | None = None, status: int | None = None) -> None:
        super().__init__(str(cause))
        self.cause, self.status = cause, status


def _polled(url: str, start: int) -> Iterator[tuple[bytes, bool]]:
    """:func:`_stream` from a thread, with an empty chunk wherever nothing comes for a moment.

    A line that has gone dead is only noticed after ten seconds; whoever stops the download needn't wait so
    long. The thread is gone at the latest then.
    """
    waiting: queue.Queue[tuple[bytes, bool] | Exception | None] = queue.Queue(maxsize=8)
    stop = threading.Event()

    def put(item: tuple[bytes, bool] | Exception | None) -> None:
        while not stop.is_set():
            try:
                return waiting.put(item, timeout=STEP_S)
            except queue.Full:
                continue

    def read() -> None:
        try:
            for item in _stream(url, start):
                put(item)
                if stop.is_set():
                    return
            put(None)
        except Exception as error:  # noqa: BLE001 - raised again where the chunks are taken
            put(error)

    threading.Thread(target=read, name="download", daemon=True).start()
    try:
        while True:
            try:
                item = waiting.get(timeout=STEP_S)
            except queue.Empty:
                yield b"", False
                continue
            if item is None:
                return
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        stop.set()


def _stream(url: str, start: int) -> Iterator[tuple[bytes, bool]]:
    """Chunks from byte ``start``, and whether the server began at 0 in spite of it (first chunk only)."""
    import requests
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # public, but not marked

    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        # requests leaves the token out where the hub redirects to another host
        with requests.get(
            url, headers=headers, stream=True, timeout=TIMEOUT_S, verify=_certificates()
        ) as response:
            response.raise_for_status()
            whole = start > 0 and response.status_code != 206
            for chunk in response.iter_content(CHUNK):
                yield chunk, whole
                whole = False
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else None
        raise _Broken(error, status) from error
    except requests.RequestException as error:
        raise _Broken(error) from error


def _certificates() -> str | bool:
    """The certificates that the hub's library trusts, where requests isn't told its own."""
    own = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    return True if own else os.environ.get("SSL_CERT_FILE") or True


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
