"""Downloads over real HTTP from a local hub: what can go wrong on the way, each time one sentence, and a retry."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import threading

import numpy as np
import pytest
from huggingface_hub import HfFileMetadata

from napari_batchfx.encoders import EncoderSpec, describe, download, downloading, streaming
from napari_batchfx.encoders.hub import ask, fetch, fetch_job, is_cached
from napari_batchfx.encoders.making import make_job
from napari_batchfx.encoders.weights import from_hub_job
from napari_batchfx.errors import Cancelled, EncoderError
from napari_batchfx.jobs import run

from .hub_server import COMMIT, HubServer, QuietServer

WEIGHTS = np.random.default_rng(5).bytes(1_500_000)
FILES = {"config.json": b'{"architecture": "test_vit"}', "model.safetensors": WEIGHTS}
FILE = "model.safetensors"


@pytest.fixture
def use_hub(monkeypatch, tmp_path):
    """A function that makes this process use a hub and a cache of its own, as HF_ENDPOINT and HF_HOME do."""
    from huggingface_hub import constants

    def use(url, cache=tmp_path / "cache", offline=False, token=None):
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr(downloading, "WAIT_S", 0.05)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HTTP_PROXY", "http_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        return cache

    return use


@pytest.fixture
def hub(use_hub):
    server = HubServer({"org/tiny": FILES, "org/secret": FILES}, gated={"org/secret"})
    use_hub(server.url)
    yield server
    server.close()


def parts(cache):
    return list(cache.rglob("*part"))


def sentence(error):
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def test_progress_counts_bytes_and_the_file_is_filed_where_every_program_finds_it(hub):
    from huggingface_hub import hf_hub_download

    steps = []
    path = run(fetch_job("org/tiny", FILE, title="Tiny"), steps.append)
    assert path.read_bytes() == WEIGHTS
    assert path.parent.name == COMMIT
    assert steps[0].done == 0
    assert steps[-1].done == steps[-1].total == len(WEIGHTS)
    assert [s.done for s in steps] == sorted(s.done for s in steps)
    assert len(steps) >= len(WEIGHTS) // streaming.CHUNK
    assert steps[-1].text().startswith("downloading Tiny: 2 of 2 MB, ")
    assert hub.ranges == [""]
    assert hf_hub_download("org/tiny", FILE) == str(path)
    assert hub.ranges == [""]  # nothing came twice
    assert run(fetch_job("org/tiny", FILE)) == path
    assert run(fetch_job("org/tiny", "no.such")) is None


def test_a_token_goes_to_the_hub_and_not_to_where_it_redirects(hub, use_hub):
    use_hub(hub.url, token="let-me-in")
    assert fetch("org/secret", FILE).read_bytes() == WEIGHTS
    assert not hub.leaked


def test_gated_without_a_token_with_a_wrong_one_and_with_one_that_has_no_access_yet(hub, use_hub):
    with pytest.raises(EncoderError) as error:
        fetch("org/secret", "config.json", title="Secret")
    text = sentence(error)
    assert f"accept their terms first; do so at {hub.url}/org/secret" in text
    assert "set HF_TOKEN" in text
    use_hub(hub.url, token="not-yet")
    with pytest.raises(EncoderError) as error:
        fetch("org/secret", "config.json", title="Secret")
    text = sentence(error)
    assert "has no access yet" in text
    assert f"{hub.url}/org/secret" in text
    use_hub(hub.url, token="hf_wrong")
    with pytest.raises(EncoderError) as error:
        fetch("org/secret", "config.json", title="Secret")
    text = sentence(error)
    assert "doesn't accept your token" in text
    assert "/settings/tokens" in text
    use_hub(hub.url, token="let-me-in")
    assert fetch("org/secret", "config.json").read_bytes() == FILES["config.json"]


def test_a_connection_that_is_cut_goes_on_where_it_stopped(hub):
    hub.faults[FILE] = [400_000, 300_000, "503"]
    path = fetch("org/tiny", FILE)
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(WEIGHTS).digest()
    starts = [int(r.removeprefix("bytes=").rstrip("-") or 0) for r in hub.ranges]
    assert starts[0] == 0
    assert 0 < starts[1] <= 400_000
    assert starts[1] < starts[2] <= 700_000
    assert starts[3] == starts[2]


def test_a_connection_that_stays_cut_is_told_and_the_next_time_resumes(hub, use_hub):
    cache = use_hub(hub.url)
    hub.faults[FILE] = [600_000] + [0] * 20
    with pytest.raises(EncoderError) as error:
        fetch("org/tiny", FILE, title="Tiny")
    text = sentence(error)
    assert "broke at 0." in text
    assert "of 1.5 MB" in text
    assert "goes on from there" in text
    assert not is_cached("org/tiny", FILE)
    (part,) = parts(cache)
    kept = part.stat().st_size
    assert 0 < kept <= 600_000
    hub.faults.clear()
    hub.ranges.clear()
    steps = []
    assert run(fetch_job("org/tiny", FILE), steps.append).read_bytes() == WEIGHTS
    assert hub.ranges == [f"bytes={kept}-"]
    assert not parts(cache)


def test_a_server_that_cant_resume_begins_anew(hub):
    hub.faults[FILE] = [500_000, "whole"]
    assert fetch("org/tiny", FILE).read_bytes() == WEIGHTS


def test_a_wrong_checksum_is_thrown_away(hub, use_hub):
    cache = use_hub(hub.url)
    hub.faults[FILE] = ["damage"]
    with pytest.raises(EncoderError) as error:
        fetch("org/tiny", FILE, title="Tiny")
    text = sentence(error)
    assert "model.safetensors arrived damaged" in text
    assert "load it again" in text
    assert not is_cached("org/tiny", FILE)
    assert not parts(cache)
    assert fetch("org/tiny", FILE).read_bytes() == WEIGHTS


def test_a_wrong_checksum_of_a_small_file(hub):
    hub.faults["config.json"] = ["damage"]
    with pytest.raises(EncoderError, match=r"config\.json arrived damaged"):
        fetch("org/tiny", "config.json")
    assert fetch("org/tiny", "config.json").read_bytes() == FILES["config.json"]


def test_cancel_while_the_bytes_come_and_while_the_line_is_dead(hub, use_hub):
    cache = use_hub(hub.url)
    go = threading.Event()
    hub.faults[FILE] = [("pause", 700_000, go)]
    seen = []

    def enough():
        return bool(seen) and seen[-1].done >= 500_000

    with pytest.raises(Cancelled):
        run(fetch_job("org/tiny", FILE), seen.append, enough)
    go.set()
    (part,) = parts(cache)
    assert part.stat().st_size == seen[-1].done < len(WEIGHTS)
    hub.faults[FILE] = [0] * 20
    with pytest.raises(Cancelled):
        run(fetch_job("org/tiny", FILE), None, iter([False, False, False, True]).__next__)
    # a server that answers and then sends nothing: steps go on, so that one can stop
    dead, steps = threading.Event(), []
    hub.faults[FILE] = [("pause", 0, dead)]
    with pytest.raises(Cancelled):
        run(fetch_job("org/tiny", FILE), steps.append, lambda: len(steps) > 12)
    assert steps[-1].done == steps[-5].done == seen[-1].done
    dead.set()
    hub.faults.clear()
    hub.ranges.clear()
    assert fetch("org/tiny", FILE).read_bytes() == WEIGHTS
    assert hub.ranges == [f"bytes={seen[-1].done}-"]


def test_download_gets_what_loading_needs_and_no_more(hub):
    path = run(download("hf-hub:org/tiny"))
    assert path.name == FILE
    asked = {p for c, p in hub.requests if c == "GET"}
    assert asked == {"/org/tiny/resolve/main/config.json", "/org/tiny/resolve/main/model.safetensors",
                     "/cdn/org/tiny/model.safetensors"}  # fmt: skip
    with pytest.raises(EncoderError, match="built in"):
        run(download("colour-statistics"))
    with pytest.raises(
        EncoderError, match=r"CONCH can't be loaded here.*conch package.*TRIDENT.*import the h5"
    ):
        run(download("conch"))


def test_offline_with_and_without_what_is_needed(hub, use_hub):
    fetch("org/tiny", FILE)
    n = len(hub.requests)
    use_hub(hub.url, offline=True)
    assert fetch("org/tiny", FILE).read_bytes() == WEIGHTS
    with pytest.raises(EncoderError) as error:
        fetch("org/tiny", "config.json", title="Tiny")
    text = sentence(error)
    assert "HF_HUB_OFFLINE is set" in text
    assert "local folder" in text
    with pytest.raises(EncoderError, match="HF_HUB_OFFLINE"):
        describe("hf-hub:org/tiny", ask_hub=True)
    assert len(hub.requests) == n


def test_a_hub_that_is_gone(hub, use_hub):
    fetch("org/tiny", FILE)
    hub.close()
    use_hub(hub.url)
    assert fetch("org/tiny", FILE).read_bytes() == WEIGHTS
    with pytest.raises(EncoderError) as error:
        fetch("org/tiny", "config.json", title="Tiny")
    assert f"couldn't be downloaded from {hub.url}" in sentence(error)


@pytest.mark.parametrize("when", ["before", "in the middle"])
def test_a_full_disk(hub, use_hub, tmp_path, when):
    """On a disk of 2 MB of its own, which is full before or fills up while the bytes come."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(disk)], capture_output=True, check=False
    ).returncode == 0 if shutil.which("mount") else False  # fmt: skip
    if not mounted:
        pytest.skip("this system lets nobody mount a small disk here")
    try:
        use_hub(hub.url, cache=disk)

        def fill():
            with contextlib.suppress(OSError), (disk / "full").open("wb") as file:
                while True:
                    file.write(bytes(4096))
                    file.flush()

        if when == "before":
            fill()
            os.truncate(disk / "full", 1_000_000)
        else:
            hub.faults[FILE] = [fill]
        with pytest.raises(EncoderError) as error:
            fetch("org/tiny", FILE, title="Tiny")
        text = sentence(error)
        assert "Tiny: the disk is full" in text
        assert "MB are still to download" in text
        assert "set HF_HOME to a folder on a larger disk" in text
        assert len(hub.ranges) == (when == "in the middle")
        (disk / "full").unlink()
        assert fetch("org/tiny", FILE).read_bytes() == WEIGHTS
        assert len(parts(disk)) == 0
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_no_room_for_a_single_byte(hub, use_hub, tmp_path):
    """/dev/full refuses every byte, as a disk does whose last ones somebody else took."""
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full on this system")
    cache = use_hub(hub.url)
    blobs = cache / "models--org--tiny" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / (hashlib.sha256(WEIGHTS).hexdigest() + ".batchfx-part")).symlink_to("/dev/full")
    with pytest.raises(EncoderError, match=r"the disk is full: 1\.5 MB are still to download"):
        fetch("org/tiny", FILE)


def test_two_at_once_fetch_it_once(hub):
    go = threading.Event()
    hub.faults[FILE] = [("pause", 300_000, go)]
    found, waited = [], []
    first = threading.Thread(target=lambda: found.append(fetch("org/tiny", FILE)))
    first.start()
    while not hub.ranges:
        pass

    def see(progress):
        waited.append(progress.what)
        go.set()

    found.append(run(fetch_job("org/tiny", FILE), see))
    first.join(20)
    assert found[0] == found[1]
    assert hub.ranges == [""]
    assert any("another program" in what for what in waited)


def test_a_file_that_rotted_on_the_disk(hub):
    from napari_batchfx.encoders.checkpoints import file_hash
    from napari_batchfx.encoders.hub import check_cached

    path = fetch("org/tiny", FILE)
    check_cached(path, file_hash(path), "Tiny")
    blob = path.resolve()
    blob.chmod(0o600)
    blob.write_bytes(WEIGHTS[:-1] + b"?")
    with pytest.raises(EncoderError, match="damaged on this disk"):
        check_cached(path, file_hash(path), "Tiny")
    assert not is_cached("org/tiny", FILE)
    assert fetch("org/tiny", FILE).read_bytes() == WEIGHTS


def test_a_certificate_that_nobody_trusts(use_hub, tmp_path):
    """As behind a hospital's firewall: told apart from a dead line, for the question and for the download."""
    import ssl
    from http.server import BaseHTTPRequestHandler

    if not shutil.which("openssl"):
        pytest.skip("no openssl to make a certificate with")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server = QuietServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        url = f"https://localhost:{server.server_port}"
        use_hub(url)
        with pytest.raises(EncoderError) as error:
            fetch("org/tiny", FILE, title="Tiny")
        assert "certificate of" in sentence(error)
        assert "SSL_CERT_FILE" in sentence(error)
        facts = HfFileMetadata(commit_hash=COMMIT, etag="0" * 64, location=url, size=9, xet_file_data=None)
        with pytest.raises(EncoderError, match="SSL_CERT_FILE"):
            run(downloading.download_job(url, facts, "org/tiny", FILE, "", "Tiny"))
    finally:
        server.shutdown()
        server.server_close()


def test_a_row_whose_repository_holds_a_bare_checkpoint(use_hub, tmp_path):
    """As GPFM is published: one .pth and no configuration; the row says what it is."""
    import io

    import timm
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model("test_vit", pretrained=False, num_classes=0).eval()
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    spec = EncoderSpec(
        "tiny", "Tiny", "org/bare", 64, "cls", 1, ((0.4, 0.5, 0.6), (0.2, 0.2, 0.2)), "ours", False,
        {"dynamic_img_size": True}, input_px=96, architecture="test_vit", weights_file="Tiny.pth", interpolation="bilinear",
    )  # fmt: skip
    server = HubServer({"org/bare": {"Tiny.pth": buffer.getvalue()}})
    try:
        use_hub(server.url)
        assert not is_cached("org/bare", spec.weights_file)
        files = run(from_hub_job("org/bare", "Tiny", spec))
        assert is_cached("org/bare", spec.weights_file)
    finally:
        server.close()
    options = {"device": "cpu", "precision": "auto", "assembly": None, "mpp": None, "threads": None}
    encoder = run(make_job(files, "Tiny", "org/bare", spec, options))
    # built for 160 px and used at 96: the position embedding is resampled by timm, the rest is the row's
    assert (encoder.input_px, encoder.interpolation, encoder.mean) == (96, "bilinear", (0.4, 0.5, 0.6))
    tiles = np.random.default_rng(0).integers(0, 256, (3, 96, 96, 3), dtype=np.uint8)
    whole = timm.create_model("test_vit", pretrained=False, num_classes=0, dynamic_img_size=True).eval()
    whole.load_state_dict(model.state_dict())
    values = (tiles / 255 - np.array([0.4, 0.5, 0.6])) / 0.2
    with torch.inference_mode():
        expected = whole.forward_features(torch.from_numpy(values).float().permute(0, 3, 1, 2))[:, 0].numpy()
    np.testing.assert_allclose(encoder.embed(tiles), expected, rtol=1e-4, atol=1e-4)


def test_weights_in_several_pieces(use_hub):
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    files = {
        "config.json": FILES["config.json"],
        "model.safetensors.index.json": json.dumps(index).encode(),
        "model-00001-of-00002.safetensors": WEIGHTS[:900_000],
        "model-00002-of-00002.safetensors": WEIGHTS[900_000:],
    }
    server = HubServer({"org/split": files, "org/torn": dict(list(files.items())[:3])})
    try:
        use_hub(server.url)
        assert ask("org/split").size_bytes == len(WEIGHTS)
        run(download("hf-hub:org/split"))
        assert is_cached("org/split")
        with pytest.raises(EncoderError, match="lacks model-00002-of-00002"):
            run(download("hf-hub:org/torn"))
        assert not is_cached("org/torn")
    finally:
        server.close()


def test_the_commands(hub, monkeypatch, capsys):
    from napari_batchfx.cli import main

    def say(*arguments):
        monkeypatch.setattr("sys.argv", ["napari-batchfx", "encoders", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, *capsys.readouterr()

    code, listed, _ = say()
    assert code == 0
    assert "phikon-v2\n  Phikon-v2; 1,024 numbers" in listed
    assert "can't be loaded here" in listed
    code, told, _ = say("show", "hf-hub:org/secret", "--hub")
    assert code == 0
    assert "terms    to accept on its page" in told
    assert "size     1.5 MB" in told
    code, got, _ = say("get", "hf-hub:org/tiny")
    assert code == 0
    assert "1.5 MB are on this machine" in got
    assert say("download", "hf-hub:org/tiny")[:2] == (0, got)
    assert say("describe", "uni") == say("show", "uni")
    assert json.loads(say("show", "hf-hub:org/tiny", "--json")[1])["cached"] is True
    code, _, trouble = say("get", "hf-hub:org/secret")
    assert code == 1
    assert "accept their terms" in trouble
    assert len(trouble.strip().splitlines()) == 1


def test_a_long_line_goes_on_below_itself_on_a_terminal(monkeypatch):
    import io

    from rich.console import Console

    from napari_batchfx.cli import encoders

    for width, lines in ((80, 3), (300, 1)):
        console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
        monkeypatch.setattr(encoders, "out", lambda console=console: console)
        encoders._say(describe("conch").note, "note", 8)
        said = console.file.getvalue().rstrip().splitlines()
        assert len(said) == lines
        assert said[0].startswith("note     its weights")
        assert all(line.startswith(" " * 9) and len(line.rstrip()) <= width for line in said[1:])


def test_what_the_hub_says_now(hub):
    hub.cards["org/secret"] = {"license": "other", "license_name": "by-nc"}
    facts = ask("org/secret")
    assert (facts.gated, facts.licence, facts.size_bytes) == (True, "by-nc", len(WEIGHTS))
    card = describe("hf-hub:org/secret", ask_hub=True)
    assert (card.gated, card.licence, card.size_text, card.cached) == (True, "by-nc", "1.5 MB", False)
    assert card.text() == "by-nc, terms to accept on the hub, 1.5 MB, to download"
    with pytest.raises(EncoderError, match="no model org/none"):
        describe("hf-hub:org/none", ask_hub=True)
