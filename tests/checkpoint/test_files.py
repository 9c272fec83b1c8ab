import functools
import os
import pickle
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from dl_lib.checkpoint import Checkpointer, CheckpointError
from dl_lib.checkpoint.files import read_checkpoint


class Payload:
    """Unpickling one of these creates a file."""

    def __init__(self, path, *, by):
        self.path, self.by = str(path), by

    def __reduce__(self):
        if self.by == "shell":
            return os.system, (f"touch {self.path}",)
        return eval, (f"open({self.path!r}, 'w').close()",)


def write_plain_pickle(content, path):
    path.write_bytes(pickle.dumps(content))


WRITERS = {
    "zip": torch.save,
    "legacy": lambda content, path: torch.save(content, path, _use_new_zipfile_serialization=False),
    "pickle": write_plain_pickle,
}


@pytest.mark.parametrize("by", ["shell", "eval"])
@pytest.mark.parametrize("writer", WRITERS)
def test_code_in_a_file_is_refused_and_not_executed(tmp_path, writer, by):
    trace, path = tmp_path / "executed", tmp_path / "evil.pth"
    WRITERS[writer]({"model": {"weight": torch.zeros(2)}, "extra": Payload(trace, by=by)}, path)
    model = torch.nn.Linear(2, 2)
    before = model.weight.clone()
    with pytest.raises(CheckpointError) as error:
        Checkpointer(model).load(str(path))
    assert not trace.exists()
    assert torch.equal(model.weight, before)
    # A plain pickle's first unknown instruction ends it, before the name of what it would call is read.
    named = {"shell": "posix.system to be executed", "eval": "eval to be executed"}[by]
    assert (named if writer != "pickle" else "no checkpoint of torch.save") in str(error.value)
    assert "othing" in str(error.value) and "executed" in str(error.value)
    torch.load(path, weights_only=False) if writer != "pickle" else pickle.loads(path.read_bytes())
    assert trace.exists()  # the payload does work where files are executed


GOOD = {"model": {"weight": torch.arange(6.0), "bias": torch.ones(2)}, "iteration": 3}


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x89PNG\r\n\x1a\n" + bytes(100), b"PK\x03\x04" + bytes(50)])
def test_what_is_no_checkpoint_is_named_with_its_size(tmp_path, content):
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"Received: path='{path}', {len(content)} bytes"):
        read_checkpoint(path)


def test_safetensors_are_read(tmp_path):
    path = tmp_path / "model.safetensors"
    weights = {"weight": torch.randn(2, 3), "half": torch.randn(4).bfloat16(), "count": torch.tensor(7)}
    save_file(weights, path)
    assert read_checkpoint(path).keys() == {"model"}
    torch.testing.assert_close(read_checkpoint(path)["model"], weights, rtol=0, atol=0)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"damaged, or no checkpoint of safetensors; .* Received: path="):
        read_checkpoint(path)


@settings(max_examples=40, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_that_is_cut_off_anywhere_is_an_error(tmp_path_factory, share):
    path = tmp_path_factory.mktemp("cut") / "model.pth"
    torch.save({**GOOD, "large": torch.zeros(20_000)}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError, match="cut off"):
        read_checkpoint(path)


@pytest.mark.parametrize("layout", ["model", "state_dict", "bare"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_known_layouts_and_a_parallel_wrappers_prefix_read_alike(tmp_path, layout, prefix):
    weights = {prefix + key: value for key, value in GOOD["model"].items()}
    torch.save(weights if layout == "bare" else {layout: weights, "iteration": 3}, tmp_path / "model.pth")
    read = read_checkpoint(tmp_path / "model.pth")
    assert {key: value.tolist() for key, value in read.pop("model").items()} == {
        "weight": [0, 1, 2, 3, 4, 5],
        "bias": [1, 1],
    }
    assert read == ({} if layout == "bare" else {"iteration": 3})


def test_a_prefix_that_only_some_keys_have_is_part_of_the_name(tmp_path):
    torch.save({"module.a": torch.zeros(1), "b": torch.zeros(1)}, tmp_path / "model.pth")
    assert list(read_checkpoint(tmp_path / "model.pth")["model"]) == ["module.a", "b"]


def test_numpy_arrays_are_weights_too(tmp_path):
    torch.save({"model": {"weight": np.arange(3, dtype=np.float32)}}, tmp_path / "model.pth")
    assert torch.equal(read_checkpoint(tmp_path / "model.pth")["model"]["weight"], torch.arange(3.0))


@pytest.mark.parametrize("content", [{}, [torch.zeros(1)], {"iteration": 3}, {"model": {"a": "text"}}, {"model": {}}])
def test_a_file_without_weights_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match="no state dict in this file"):
        read_checkpoint(tmp_path / "model.pth")


def test_weights_are_fetched_from_an_address(tmp_path, monkeypatch):
    served, cache = tmp_path / "served", tmp_path / "cache"
    served.mkdir()
    saved, loaded = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    torch.save({"model": saved.state_dict()}, served / "model.pth")
    monkeypatch.setenv("FVCORE_CACHE", str(cache))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = functools.partial(QuietHandler, directory=served)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            Checkpointer(loaded).load(f"http://127.0.0.1:{server.server_port}/model.pth")
        finally:
            server.shutdown()
            thread.join()
    assert torch.equal(loaded.weight, saved.weight)


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass
