"""Models from the hub, for real: a child process with HF_ENDPOINT set downloads a tiny model over HTTP."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from .hub_server import HubServer

# many loads in one process: starting Python with torch takes seconds
CHILD = """
import json, os, sys
import numpy as np
from napari_batchfx.encoders import load
from napari_batchfx.encoders.hub import fetch, is_cached
from napari_batchfx.errors import EncoderError
tiles = np.random.default_rng(0).integers(0, 256, (2, 160, 160, 3), dtype=np.uint8)
answers = []
for name in json.loads(sys.argv[1]):
    if name.startswith("TOKEN="):
        os.environ["HF_TOKEN"] = name.removeprefix("TOKEN=")
        continue
    try:
        if name.startswith("file:"):  # without torch
            size = fetch(name[5:], "model.safetensors").stat().st_size
            answers.append({"size": size, "cached": is_cached(name[5:])})
            continue
        encoder = load(name, device="cpu")
        features = encoder.embed(tiles).tolist()
        answers.append({"key": encoder.key, "features": features, "licence": encoder.licence})
    except EncoderError as error:
        answers.append({"error": str(error)})
    answers[-1]["cached"] = is_cached(name.partition(":")[2]) if name.startswith("hf-hub:") else None
print("ANSWERS" + json.dumps(answers))
"""


def ask(names, home, **environment):
    blocked = (
        "HF_",
        "HUGGING",
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
    )
    clean = {k: v for k, v in os.environ.items() if not k.startswith(blocked)}
    clean |= {"HF_HOME": str(home), "NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_TELEMETRY": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(names)],
        env=clean,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.rpartition("ANSWERS")[2])


@pytest.fixture(scope="module")
def tiny():
    """A tiny timm model, as a repository's files and as its own features of the child's tiles."""
    import timm
    import torch
    from safetensors.torch import save

    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = timm.create_model("test_vit", pretrained=False, num_classes=5).eval()
    config = {
        k: model.pretrained_cfg[k]
        for k in ("input_size", "mean", "std", "interpolation", "classifier", "fixed_input_size")
    }
    files = {
        "config.json": json.dumps(
            {"architecture": "test_vit", "num_classes": 5, "pretrained_cfg": {**config, "license": "mit"}}
        ).encode(),
        "model.safetensors": save(model.state_dict()),
    }
    tiles = np.random.default_rng(0).integers(0, 256, (2, 160, 160, 3), dtype=np.uint8)
    model.reset_classifier(0)
    with torch.inference_mode():
        features = model((torch.from_numpy(tiles).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5).numpy()
    return files, features


def test_the_whole_way(tiny, tmp_path):
    files, features = tiny
    repositories = {
        "org/tiny": files,
        "org/secret": files,
        "org/half": {"config.json": files["config.json"]},
        "org/other": {
            "config.json": b'{"model_type": "own", "auto_map": {"AutoModel": "own.OwnModel"}}',
            "model.safetensors": files["model.safetensors"],
            "own.py": b"raise SystemExit",
        },
        "timm/test_vit.r160_in1k": files,
    }
    hub = HubServer(repositories, gated={"org/secret"})
    try:
        here = {"HF_ENDPOINT": hub.url}
        names = [
            "hf-hub:org/tiny",
            "test_vit",
            "hf-hub:org/secret",
            "hf-hub:org/nothing",
            "hf-hub:org/tiny@v9",
            "hf-hub:org/half",
        ]
        names += [
            "hf-hub:org/other",
            "hf-hub:not a name",
            "TOKEN=let-me-in",
            "hf-hub:org/secret",
            "hf-hub:org/nothing",
        ]
        answers = ask(names, tmp_path / "home", **here)
        good, plain, gated, missing, revision, half, other, bad, allowed, unknown = answers
        np.testing.assert_allclose(good["features"], features, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(plain["features"], features, rtol=1e-4, atol=1e-4)
        assert good["cached"]
        assert good["licence"] == "mit"
        assert "org/tiny/sha256:" in good["key"]
        assert plain["key"].startswith("timm/timm/test_vit.r160_in1k/sha256:")
        assert good["key"].split("sha256:")[1] == plain["key"].split("sha256:")[1]
        assert "accept their terms" in gated["error"]
        assert hub.url + "/org/secret" in gated["error"]
        assert "HF_TOKEN" in gated["error"]
        assert "no model org/nothing" in missing["error"]
        assert "spelling" in missing["error"]
        assert "no revision 'v9'" in revision["error"]
        assert "no model.safetensors" in half["error"]
        assert "no pytorch_model.bin" in half["error"]
        assert "program code from its repository, which is never done here" in other["error"]
        assert not any(path.startswith("/org/other") and "config" not in path for _, path in hub.requests)
        assert "no hub name" in bad["error"]
        for answer in (missing, half, other, bad):
            assert "\n" not in answer["error"]
            assert not answer["cached"]
        assert allowed["features"] == good["features"]
        assert "no model org/nothing" in unknown["error"]
    finally:
        hub.close()

    # nothing listens there any more: what was downloaded is found, what wasn't says what to do
    again, gone = ask(["file:org/tiny", "hf-hub:org/new"], tmp_path / "home", **here)
    assert again == {"size": len(files["model.safetensors"]), "cached": True}
    assert "couldn't be downloaded" in gone["error"]
    assert "HF_ENDPOINT" in gone["error"]
    assert "local folder" in gone["error"]


def test_offline(tiny, tmp_path):
    """HF_HUB_OFFLINE: no request at all (a port that isn't open would be refused), one sentence."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    plain, gated = ask(["hf-hub:org/tiny", "uni"], tmp_path / "home", HF_ENDPOINT=url, HF_HUB_OFFLINE="1")
    for answer in (plain, gated):
        assert "HF_HUB_OFFLINE is set" in answer["error"]
        assert "local folder" in answer["error"]
        assert "\n" not in answer["error"]
