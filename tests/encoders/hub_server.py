"""A small server that speaks the Hugging Face Hub's download protocol on this machine, over real HTTP."""

import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".safetensors", ".bin", ".pth")


def etag(name, content):
    """As the hub has it: the SHA-256 of large files, git's SHA-1 of small ones."""
    if name.endswith(LARGE):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class QuietServer(ThreadingHTTPServer):
    """Says nothing of a client that has hung up, which some tests are about."""

    daemon_threads = True

    def handle_error(self, *_):
        pass


class HubServer:
    """Serves ``{"org/name": {"config.json": bytes}}``; those in ``gated`` want a token.

    The token ``let-me-in`` has access, ``not-yet`` is known but hasn't, any other is unknown. Large files are
    redirected to another host name, as the hub does, where a token must not arrive. What goes wrong on the way
    is set in ``faults``: ``{"model.safetensors": [fault, ...]}``, one fault a request, where a fault is a
    number (the connection is cut after so many bytes), ``"503"``, ``"damage"`` (one byte is another),
    ``"whole"`` (Range is ignored), ``("pause", bytes, event)`` (waits in the middle for the event) or a
    function that is called in the middle. ``heads`` is the same for questions before a download: ``"429"``,
    ``("pause", event)``, ``"portal"`` (the page of a hotel's network), ``("etag", value)``.
    """

    def __init__(self, repositories, gated=(), cards=None):
        self.repositories, self.gated, self.requests = repositories, set(gated), []
        self.faults, self.ranges, self.leaked = {}, [], []
        self.heads, self.proxied, self.retry_after = {}, [], ""
        self.cards = cards or {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self):
                self.answer(body=False)

            def do_GET(self):
                self.answer(body=True)

            def answer(self, body):
                hub.requests.append((self.command, self.path))
                if self.path.startswith("http://"):  # asked as a proxy is
                    hub.proxied.append(self.path)
                    self.path = "/" + self.path.split("/", 3)[3]
                parts = self.path.split("?")[0].strip("/").split("/")
                if parts[0] == "cdn":
                    if "Authorization" in self.headers:
                        hub.leaked.append(self.path)
                    return self.send(hub.repositories["/".join(parts[1:3])][parts[3]], parts[3], body)
                if parts[:2] == ["api", "models"]:
                    repo, name = "/".join(parts[2:4]), None
                else:
                    repo, name = "/".join(parts[:2]), "/".join(parts[4:])
                files = hub.repositories.get(repo)
                # the real hub tells strangers 401 for what isn't there, too
                if files is None:
                    return self.fail(
                        401 if "Authorization" not in self.headers else 404,
                        "RepoNotFound",
                        "Repository not found",
                    )
                if name is None:
                    return self.send(json.dumps(hub.about(repo)).encode(), "about", body)
                token = self.headers.get("Authorization", "").removeprefix("Bearer ")
                if repo in hub.gated and token != "let-me-in":
                    status = 403 if token == "not-yet" else 401
                    return self.fail(status, "GatedRepo", f"Access to model {repo} is restricted.")
                if parts[2:4] not in (["resolve", "main"], ["resolve", COMMIT]):
                    return self.fail(404, "RevisionNotFound", "Invalid rev id")
                if name not in files:
                    return self.fail(404, "EntryNotFound", "Entry not found")
                content = files[name]
                tag = etag(name, content)
                if not body and hub.heads.get(name):
                    fault = hub.heads[name].pop(0)
                    if fault == "portal":
                        return self.portal()
                    if fault[0] == "pause":
                        fault[1].wait(20)
                    elif fault[0] == "etag":
                        tag = fault[1]
                    else:
                        return self.fail(int(fault), "", "Busy", hub.retry_after)
                if not name.endswith(LARGE):
                    return self.send(content, name, body, tag)
                self.send_response(302)
                self.send_header("Location", f"{hub.cdn}/cdn/{repo}/{name}")
                self.send_header("X-Linked-ETag", f'"{tag}"')
                self.send_header("X-Linked-Size", str(len(content)))
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def portal(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def send(self, content, name, body, tag=None):
                fault = None
                if body and hub.faults.get(name):
                    fault = hub.faults[name].pop(0)
                start = 0
                wanted = self.headers.get("Range", "")
                if body and name.endswith(LARGE):
                    hub.ranges.append(wanted)
                if wanted.startswith("bytes=") and fault != "whole":
                    start = int(wanted.removeprefix("bytes=").rstrip("-"))
                if fault in ("429", "500", "503"):
                    return self.fail(int(fault), "", "Busy", hub.retry_after)
                if fault == "portal":
                    return self.portal()
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                if fault == "endless":
                    self.send_header("Connection", "close")
                else:
                    self.send_header("Content-Length", str(len(content) - start))
                self.send_header("ETag", f'"{tag or etag(name, content)}"')
                self.send_header("X-Repo-Commit", COMMIT)
                self.end_headers()
                if not body:
                    return
                if fault == "damage":
                    content = content[:-1] + bytes([content[-1] ^ 1])
                if fault == "endless":
                    while True:  # until the other side hangs up
                        self.wfile.write(bytes(65536))
                if isinstance(fault, int):
                    self.wfile.write(content[start : start + fault])
                    self.wfile.flush()
                    self.connection.close()
                    self.close_connection = True
                    return
                if isinstance(fault, tuple):
                    _, size, event = fault
                    self.wfile.write(content[start : start + size])
                    self.wfile.flush()
                    event.wait(20)
                    start += size
                elif callable(fault):
                    half = (len(content) - start) // 2
                    self.wfile.write(content[start : start + half])
                    self.wfile.flush()
                    time.sleep(0.2)
                    fault()
                    start += half
                try:
                    self.wfile.write(content[start:])
                except OSError:  # the other side has gone, which some tests are about
                    self.close_connection = True

            def fail(self, status, code, message, retry_after=""):
                self.send_response(status)
                if retry_after:
                    self.send_header("Retry-After", retry_after)
                self.send_header("X-Error-Code", code)
                self.send_header("X-Error-Message", message)
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = QuietServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.cdn = f"http://localhost:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def about(self, repo):
        """What the hub's API says of a repository; that much is public for gated ones, too."""
        files = self.repositories[repo]
        return {
            "id": repo,
            "modelId": repo,
            "sha": COMMIT,
            "gated": "manual" if repo in self.gated else False,
            "private": False,
            "cardData": self.cards.get(repo, {}),
            "siblings": [{"rfilename": n, "size": len(c)} for n, c in files.items()],
        }

    def close(self):
        self._server.shutdown()
        self._server.server_close()


def use_hub(monkeypatch, url, cache, offline=False):
    """Make this process use a hub and a cache of its own, as HF_ENDPOINT and HF_HOME do at the start."""
    from huggingface_hub import constants

    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache) + "-no-token")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


def tiny_model():
    """Files of a repository with timm's smallest vision transformer, random weights (1.5 MB)."""
    from napari_batchfx.encoders.llvm import keep_triton_out

    keep_triton_out()  # tests with a window drawn by software would crash
    import timm
    import torch
    from safetensors.torch import save

    torch.manual_seed(0)
    weights = timm.create_model("test_vit", pretrained=False, num_classes=0).state_dict()
    size = {"input_size": [3, 64, 64], "license": "mit"}
    config = {"architecture": "test_vit", "num_classes": 0, "num_features": 64, "pretrained_cfg": size}
    return {"config.json": json.dumps(config).encode(), "model.safetensors": save(weights)}
