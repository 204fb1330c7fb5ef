"""Questions to the hub and bytes from it, in threads of their own: a dead line holds nobody up."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from napari_batchfx.jobs import Job, Progress

__all__ = ["CHUNK", "STEP_S", "Broken", "answered", "polled"]

CHUNK = 256 * 1024  # bytes between two chances to stop
TIMEOUT_S = 10.0
STEP_S = 0.05

T = TypeVar("T")


class Broken(Exception):
    """A request that didn't bring all it should."""

    def __init__(self, cause: Exception | None = None, status: int | None = None) -> None:
        super().__init__(type(cause).__name__)
        self.cause, self.status = cause, status


def answered(question: Callable[[], T], meanwhile: Progress) -> Job[T]:
    """What ``question`` returns or raises; until then ``meanwhile``, a chance to stop.

    The thread of a question that nobody waits for any more ends with its own timeout.
    """
    answer: queue.Queue[tuple[T | None, Exception | None]] = queue.Queue(maxsize=1)

    def ask() -> None:
        try:
            answer.put((question(), None))
        except Exception as error:  # noqa: BLE001 - raised again where the answer is taken
            answer.put((None, error))

    threading.Thread(target=ask, name="hub", daemon=True).start()
    while True:
        try:
            value, error = answer.get(timeout=STEP_S)
        except queue.Empty:
            yield meanwhile
            continue
        if error is not None:
            raise error
        return value  # type: ignore[return-value]  # None only where the question returns it


def polled(url: str, start: int) -> Iterator[tuple[bytes, bool]]:
    """Chunks from byte ``start``, and whether the server began at 0 in spite of it (first chunk only).

    An empty chunk comes wherever nothing comes for a moment. A line that has gone dead is only noticed
    after ten
    seconds; whoever stops the download needn't wait so long. The thread is gone at the latest then.
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
    import requests
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # public, but not marked

    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        # requests leaves the token out where the hub redirects to another host
        with requests.get(
            url, headers=headers, stream=True, timeout=TIMEOUT_S, verify=_certificates(), auth=_as_it_is
        ) as response:
            response.raise_for_status()
            whole = start > 0 and response.status_code != 206
            for chunk in response.iter_content(CHUNK):
                yield chunk, whole
                whole = False
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else None
        raise Broken(error, status) from error
    except requests.RequestException as error:
        raise Broken(error) from error


def _as_it_is(request: Any) -> Any:
    """Keep the token: without this, requests puts what ``~/.netrc`` has for the host in its place."""
    return request


def _certificates() -> str | bool:
    """The certificates that the hub's library trusts, where requests isn't told its own."""
    own = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    return True if own else os.environ.get("SSL_CERT_FILE") or True
