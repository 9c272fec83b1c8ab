"""Weights by path or address, with a server on the loopback interface."""

import hashlib
import io
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
import torch
from iopath.common.file_io import g_pathmgr

from dl_lib.checkpoint import Checkpointer, CheckpointError
from dl_lib.checkpoint.locate import local_weights
from tests.helpers.checkpoints import equal_states, small_model


def weights(seed):
    buffer = io.BytesIO()
    torch.save({"model": small_model(seed=seed).state_dict()}, buffer)
    return buffer.getvalue()


MODEL = weights(1)
DIGITS = hashlib.sha256(MODEL).hexdigest()[:8]
PAGES = {
    "/model.pth": MODEL,
    "/other/model.pth": weights(2),
    f"/model-{DIGITS}.pth": MODEL,
    "/model-01234567.pth": MODEL,
    "/model-v2.pth": MODEL,
    "/page.pth": b"  <!DOCTYPE html><html><body>Sign in</body></html>",
    "/empty.pth": b"",
    "/cut.pth": MODEL[: len(MODEL) // 2],
    "/text.pth": b"not weights",
    "/": MODEL,
}


class Handler(BaseHTTPRequestHandler):
    requests: ClassVar[list[str]] = []

    def do_GET(self):
        self.requests.append(self.path)
        path = self.path.partition("?")[0]
        if path == "/incomplete.pth":  # the connection ends before the announced length
            self.send_response(200)
            self.send_header("Content-Length", str(len(MODEL)))
            self.end_headers()
            self.wfile.write(MODEL[:100])
        elif path in PAGES:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(PAGES[path])
        else:
            self.send_error(404)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STORE", str(tmp_path))
    monkeypatch.setenv("FVCORE_CACHE", "$STORE/cache")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    Handler.requests.clear()
    return tmp_path / "cache"


def cached_files(cache):
    return sorted(path.name for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock")


@pytest.mark.parametrize("name", ["model.pth", f"model-{DIGITS}.pth", "model-v2.pth", "model.pth?token=a/b", ""])
def test_address_is_downloaded_once(server, cache, name):
    for _ in range(2):
        model = small_model()
        Checkpointer(model).load(f"{server}/{name}")
        assert equal_states(model, small_model(seed=1))
    assert Handler.requests == [f"/{name}"]
    assert cached_files(cache) == [name.partition("?")[0] or "weights.pth"]


def test_equal_names_of_different_addresses_are_different_files(server):
    for path, seed in {"model.pth": 1, "other/model.pth": 2}.items():
        model = small_model()
        Checkpointer(model).load(f"{server}/{path}")
        assert equal_states(model, small_model(seed=seed))
    assert local_weights(f"{server}/model.pth?version=1") != local_weights(f"{server}/model.pth?version=2")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("none.pth", "HTTP Error 404"),
        ("model-01234567.pth", f"the SHA-256 {DIGITS}.* does not begin with the 01234567 in the file name"),
        ("page.pth", "the server sent a web page"),
        ("empty.pth", "empty file"),
        ("incomplete.pth", "retrieval incomplete"),
        ("cut.pth", "truncated, damaged or not a torch.save checkpoint"),
        ("text.pth", "truncated, damaged or not a torch.save checkpoint"),
        ("none/", "HTTP Error 404"),
    ],
)
def test_failed_download_is_an_error_and_leaves_no_file(server, cache, path, reason):
    with pytest.raises(CheckpointError, match=rf"{reason}.* Received: path='"):
        Checkpointer(small_model()).load(f"{server}/{path}")
    assert cached_files(cache) == []


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("http://127.0.0.1:9/model.pth", "Connection refused"),
        ("http://[/model.pth", "Invalid IPv6 URL"),
        ("http://127.0.0.1:port/model.pth", "(nonnumeric|invalid) port"),
        ("s3://bucket/model.pth", "other addresses than http://, https:// require a PathHandler of iopath"),
    ],
)
def test_unusable_addresses(address, reason):
    with pytest.raises(CheckpointError, match=rf"could not be downloaded: .*{reason}.* Received: path='"):
        local_weights(address)


def test_handlers_of_iopath_resolve_other_addresses(tmp_path, monkeypatch):
    (tmp_path / "model.pth").write_bytes(MODEL)
    monkeypatch.setattr(g_pathmgr, "get_local_path", lambda address: str(tmp_path / "model.pth"))
    assert local_weights("s3://bucket/model.pth") == str(tmp_path / "model.pth")


def test_simultaneous_requests_download_a_file_once(server):
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(local_weights, [f"{server}/model.pth"] * 4))
    assert len(set(paths)) == 1
    assert Handler.requests == ["/model.pth"]


def test_folder_lists_its_weights(tmp_path):
    for name in ("model_final.pth", "model_0000010.PTH", "log.txt", "a.safetensors"):
        (tmp_path / name).touch()
    with pytest.raises(CheckpointError, match=r"not a folder; name one of its files: a.safe.*, model_0.*, model_f"):
        local_weights(str(tmp_path))
    os.mkfifo(tmp_path / "pipe.pth")
    with pytest.raises(CheckpointError, match="not a pipe, device or socket"):
        local_weights(str(tmp_path / "pipe.pth"))
    os.mkdir(tmp_path / "empty")
    with pytest.raises(CheckpointError, match=r"it contains no weights\. Received: path="):
        local_weights(str(tmp_path / "empty"))
