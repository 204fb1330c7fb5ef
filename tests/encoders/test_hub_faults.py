"""A hub that hangs, is busy, lies or wants too much; tokens and passwords that must not be seen."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import traceback

import numpy as np
import pytest

from napari_batchfx.encoders import downloading
from napari_batchfx.encoders.hub import ask, fetch, fetch_job
from napari_batchfx.errors import Cancelled, EncoderError
from napari_batchfx.jobs import run

from .hub_server import HubServer, etag, use_hub

WEIGHTS = np.random.default_rng(6).bytes(1_500_000)
FILE = "model.safetensors"
FILES = {"config.json": b'{"architecture": "test_vit"}', FILE: WEIGHTS}
SECRET = "hf_" + "Zebra" * 6


@pytest.fixture
def hub(monkeypatch, tmp_path):
    server = HubServer({"org/tiny": FILES, "org/secret": FILES}, gated={"org/secret"})
    use_hub(monkeypatch, server.url, tmp_path / "cache")
    monkeypatch.setattr(downloading, "WAIT_S", 0.05)
    yield server
    server.close()


def refused(repo="org/tiny", match=""):
    with pytest.raises(EncoderError, match=match or None) as error:
        fetch(repo, FILE, title="Tiny")
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    return error.value


class TestBusy:
    @pytest.mark.parametrize("status", ["429", "500", "503"])
    @pytest.mark.parametrize("where", ["heads", "faults"])
    def test_once_is_asked_again(self, hub, status, where):
        getattr(hub, where)[FILE] = [status]
        assert fetch("org/tiny", FILE).read_bytes() == WEIGHTS

    @pytest.mark.parametrize("where", ["heads", "faults"])
    def test_too_many_requests_for_long(self, hub, where):
        getattr(hub, where)[FILE] = ["429"] * 9
        refused(match="too many requests.*wait some minutes, or log in")

    def test_it_says_when_to_come_again(self, hub):
        hub.retry_after, hub.heads[FILE] = "1", ["429"]
        said = []
        began = time.monotonic()
        assert run(fetch_job("org/tiny", FILE), said.append).read_bytes() == WEIGHTS
        assert time.monotonic() - began >= 1
        assert any("the hub is busy" in step.what for step in said)

    @pytest.mark.parametrize("where", ["heads", "faults"])
    def test_in_an_hour(self, hub, where):
        hub.retry_after = "3600"
        getattr(hub, where)[FILE] = ["429"]
        refused(match="wait 60 minutes")

    def test_broken_for_long(self, hub):
        hub.heads[FILE] = ["500"] * 9
        refused(match="it answers 500")


@pytest.mark.parametrize("question", ["first", "last"])
def test_cancel_while_a_question_is_not_answered(hub, question):
    """Before the bytes come, and after them, when the library files them."""
    go, asked = threading.Event(), threading.Event()
    pause = ("pause", go)
    hub.heads[FILE] = [pause] if question == "first" else [("etag", etag(FILE, WEIGHTS)), pause]
    seen = []

    def see(progress):
        seen.append(progress)
        if not hub.heads[FILE]:
            asked.set()

    began = time.monotonic()
    try:
        with pytest.raises(Cancelled):
            run(fetch_job("org/tiny", FILE), see, asked.is_set)
        assert not go.is_set()
        assert seen
        assert time.monotonic() - began < 9  # a question that hangs is given up after 10 s
    finally:
        go.set()


class TestLies:
    def test_the_page_of_a_hotels_network(self, hub, tmp_path):
        hub.heads[FILE] = ["portal"]
        refused(match="no hub of models.*log in with a browser")
        assert not list((tmp_path / "cache").rglob("*part"))

    @pytest.mark.parametrize("evil", ["../../../../escaped", "/escaped", "a/b", "..", "a\\b"])
    def test_a_checksum_that_is_a_path(self, hub, tmp_path, evil):
        hub.heads[FILE] = [("etag", evil)] * 9
        refused(match="no hub of models")
        assert not list(tmp_path.rglob("*escaped*"))

    def test_a_file_without_an_end(self, hub, tmp_path):
        hub.faults[FILE] = ["endless"]
        refused(match="arrived damaged")
        assert not list((tmp_path / "cache").rglob("*part"))

    def test_a_page_in_place_of_the_bytes(self, hub):
        hub.faults[FILE] = ["portal"]
        assert fetch("org/tiny", FILE).read_bytes() == WEIGHTS


class TestSecrets:
    @pytest.mark.parametrize("odd", ["ä", " x", "\r\nX: y"])
    def test_a_token_that_can_be_none(self, hub, monkeypatch, odd):
        monkeypatch.setenv("HF_TOKEN", SECRET + odd)
        error = refused("org/secret", "HF_TOKEN has a character in it")
        assert "Zebra" not in "".join(traceback.format_exception(error))
        assert not hub.requests
        with pytest.raises(EncoderError, match="HF_TOKEN has a character in it"):
            ask("org/secret")

    def test_an_end_of_line_after_a_token_is_no_matter(self, hub, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", "let-me-in\n")
        assert fetch("org/secret", FILE).read_bytes() == WEIGHTS

    def test_a_token_is_in_no_message_and_no_detail(self, hub, monkeypatch, tmp_path, caplog, capfd):
        caplog.set_level(0)
        monkeypatch.setenv("HF_TOKEN", SECRET)
        for _ in range(2):
            error = refused("org/secret", "doesn't accept your token")
            assert "Zebra" not in "".join(traceback.format_exception(error))
            hub.faults[FILE] = ["429"] * 9
            error = refused("org/tiny")
            assert "Zebra" not in "".join(traceback.format_exception(error))
        assert "Zebra" not in caplog.text
        assert "Zebra" not in "".join(capfd.readouterr())
        kept = [p for p in tmp_path.rglob("*") if p.is_file()]
        assert not any(b"Zebra" in p.read_bytes() for p in kept)

    def test_a_password_in_the_address_of_a_mirror(self, hub, monkeypatch, tmp_path):
        use_hub(monkeypatch, hub.url.replace("//", "//me:Zebra@"), tmp_path / "other")
        for error in (refused("org/secret", "accept their terms"), refused("org/none")):
            assert hub.url in str(error)
            assert "Zebra" not in "".join(traceback.format_exception(error))

    def test_a_netrc_file_does_not_take_the_tokens_place(self, hub, monkeypatch, tmp_path):
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password other\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        monkeypatch.setenv("HF_TOKEN", "let-me-in")
        assert fetch("org/secret", FILE).read_bytes() == WEIGHTS
        assert not hub.leaked

    def test_another_port_is_another_host(self, hub, monkeypatch):
        other = HubServer({"org/secret": FILES})
        try:
            hub.cdn = other.url
            monkeypatch.setenv("HF_TOKEN", "let-me-in")
            assert fetch("org/secret", FILE).read_bytes() == WEIGHTS
            assert other.requests
            assert not other.leaked
        finally:
            other.close()


class TestSettings:
    @pytest.mark.parametrize("address", ["not an address", "ftp://hub", ""])
    def test_an_address_that_is_none(self, monkeypatch, tmp_path, address):
        use_hub(monkeypatch, address, tmp_path)
        refused(match="HF_ENDPOINT is .* which is no address")

    @pytest.fixture
    def use_proxy(self, monkeypatch):
        """A function that sets the proxy; the hub's library asks for it once a process, so it begins anew."""
        huggingface_hub = pytest.importorskip("huggingface_hub", "1.0")

        def use(address):
            monkeypatch.delenv("NO_PROXY")
            monkeypatch.setenv("no_proxy", "")
            monkeypatch.setenv("http_proxy", address)
            huggingface_hub.close_session()

        yield use
        huggingface_hub.close_session()

    def test_a_proxy(self, hub, use_proxy):
        use_proxy(hub.url)
        assert fetch("org/tiny", "config.json").read_bytes() == FILES["config.json"]
        assert len(hub.proxied) >= 2  # question and bytes

    def test_a_proxy_that_is_gone(self, hub, use_proxy):
        use_proxy("http://me:Zebra@127.0.0.1:9")
        error = refused(match="check the connection and the proxy that http_proxy names")
        assert "Zebra" not in "".join(traceback.format_exception(error))
        assert not hub.requests


class TestDisk:
    def test_a_file_in_the_place_of_the_cache(self, hub, monkeypatch, tmp_path):
        (tmp_path / "file").write_text("")
        use_hub(monkeypatch, hub.url, tmp_path / "file")
        refused(match=r"can't be written into .*\(Not a directory\); set HF_HOME")

    @pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="this system has no such limit")
    def test_files_may_not_grow_so_large(self, hub, tmp_path):
        import resource

        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, before[1]))
        try:
            refused(match="takes no file so large.*set HF_HOME to a folder on another disk")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)
        assert fetch("org/tiny", FILE).read_bytes() == WEIGHTS
        assert hub.ranges[-1].startswith("bytes=")  # what had arrived was used


OTHER_PROGRAM = """
from napari_batchfx.encoders.hub import fetch
fetch("org/tiny", "model.safetensors")
"""


def test_another_program_at_it_is_killed_and_this_one_goes_on(hub, tmp_path):
    """Two processes and one file: the second waits, and takes over what the first had when it was killed."""
    go = threading.Event()
    hub.faults[FILE] = [("pause", 700_000, go)]
    clean = {k: v for k, v in os.environ.items() if not k.upper().endswith("_PROXY")}
    clean |= {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "NO_PROXY": "127.0.0.1,localhost",
    }
    clean.pop("HF_HUB_OFFLINE", None)
    other = subprocess.Popen([sys.executable, "-c", OTHER_PROGRAM], env=clean)
    try:
        until = time.monotonic() + 60

        def arrived():
            sizes = []
            with contextlib.suppress(OSError):
                sizes = [p.stat().st_size for p in (tmp_path / "cache").rglob("*part")]
            return max(sizes, default=0)

        while arrived() < 500_000 and time.monotonic() < until and other.poll() is None:
            time.sleep(0.02)
        waited = []

        def see(progress):
            if "another program" in progress.what and other.poll() is None:
                waited.append(progress)
                other.kill()

        assert run(fetch_job("org/tiny", FILE), see).read_bytes() == WEIGHTS
        assert waited
        assert int(hub.ranges[-1].removeprefix("bytes=").rstrip("-")) >= 500_000
    finally:
        other.kill()
        other.wait(20)
        go.set()
