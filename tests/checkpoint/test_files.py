import errno
import os
import pickle
import resource

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from dl_lib.checkpoint import Checkpointer, CheckpointError, NoSpaceError
from dl_lib.checkpoint.files import read_checkpoint
from tests.helpers.checkpoints import newest_iteration, save_run, small_model

# Python 3.12 and later warn because of torch's threads, which the child processes do not use.
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


class Payload:
    """Object that creates a file when unpickled."""

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
def test_code_in_a_file_is_rejected_and_not_executed(tmp_path, writer, by):
    trace, path = tmp_path / "executed", tmp_path / "evil.pth"
    WRITERS[writer]({"model": {"weight": torch.zeros(2)}, "extra": Payload(trace, by=by)}, path)
    model = torch.nn.Linear(2, 2)
    before = model.weight.clone()
    with pytest.raises(CheckpointError) as error:
        Checkpointer(model).load(str(path))
    assert not trace.exists()
    assert torch.equal(model.weight, before)
    # Loading of a plain pickle fails at an unsupported opcode, before the name of the function is read.
    named = {"shell": "would execute posix.system", "eval": "eval"}[by]
    assert (named if writer != "pickle" else "not a torch.save checkpoint") in str(error.value)
    assert "nothing was executed" in str(error.value)
    torch.load(path, weights_only=False) if writer != "pickle" else pickle.loads(path.read_bytes())
    assert trace.exists()  # the payload works without weights_only


GOOD = {"model": {"weight": torch.arange(6.0), "bias": torch.ones(2)}, "iteration": 3}


ZIP_START = b"PK\x03\x04" + bytes(50)
ZIP_ON_TWO_DISKS = ZIP_START + b"PK\x06\x07" + bytes(12) + b"\2\0\0\0" + b"PK\x05\x06" + bytes(18)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x89PNG\r\n\x1a\n" + bytes(100), ZIP_START, ZIP_ON_TWO_DISKS])
def test_invalid_file_is_reported_with_its_size(tmp_path, content):
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"Received: path='{path}', {len(content)} bytes"):
        read_checkpoint(path)


@pytest.mark.parametrize("ending", [".safetensors", ".SafeTensors"])
def test_safetensors_are_read(tmp_path, ending):
    path = tmp_path / f"model{ending}"
    weights = {"weight": torch.randn(2, 3), "half": torch.randn(4).bfloat16(), "count": torch.tensor(7)}
    save_file(weights, path)
    assert read_checkpoint(path).keys() == {"model"}
    torch.testing.assert_close(read_checkpoint(path)["model"], weights, rtol=0, atol=0)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"damaged or not a safetensors checkpoint; .* Received: path="):
        read_checkpoint(path)


@settings(max_examples=40, deadline=None)
@given(ratio=st.floats(0, 1, exclude_max=True))
def test_truncated_file_is_an_error(tmp_path_factory, ratio):
    path = tmp_path_factory.mktemp("cut") / "model.pth"
    torch.save({**GOOD, "large": torch.zeros(20_000)}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(ratio * len(whole))])
    with pytest.raises(CheckpointError, match="truncated"):
        read_checkpoint(path)


PREFIXES = ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "_forward_module._orig_mod."]


@pytest.mark.parametrize("layout", ["model", "state_dict", "bare"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_supported_layouts_and_prefixes_of_wrappers(tmp_path, layout, prefix):
    weights = {prefix + key: value for key, value in GOOD["model"].items()}
    torch.save(weights if layout == "bare" else {layout: weights, "iteration": 3}, tmp_path / "model.pth")
    read = read_checkpoint(tmp_path / "model.pth")
    assert {key: value.tolist() for key, value in read.pop("model").items()} == {
        "weight": [0, 1, 2, 3, 4, 5],
        "bias": [1, 1],
    }
    assert read == ({} if layout == "bare" else {"iteration": 3})


def test_numpy_arrays_load_as_weights(tmp_path):
    torch.save({"model": {"weight": np.arange(3, dtype=np.float32)}}, tmp_path / "model.pth")
    assert torch.equal(read_checkpoint(tmp_path / "model.pth")["model"]["weight"], torch.arange(3.0))


def not_regular(kind):
    """Return functions that put something else instead of a file."""
    return {"pipe": os.mkfifo, "folder": os.mkdir, "device": lambda path: os.symlink("/dev/zero", path)}[kind]


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
@pytest.mark.parametrize("name", ["model_0000001.pth", "model_0000001.pth.sha256", "last_checkpoint"])
def test_anything_but_a_regular_file_is_refused_at_once(tmp_path, name, kind):
    save_run(tmp_path, 1)
    (tmp_path / name).unlink()
    not_regular(kind)(tmp_path / name)
    with pytest.raises(CheckpointError, match=rf"(not a regular file|Is a directory).*{name}'"):
        Checkpointer(small_model(), tmp_path).resume_or_load("")


def test_huge_files_are_refused_without_reading_them(tmp_path):
    save_run(tmp_path, 1, 2, 3)
    with open(tmp_path / "model_0000003.pth", "r+b") as file:
        file.truncate(2**42)
    with open(tmp_path / "model_0000002.pth.sha256", "r+b") as file:
        file.truncate(2**42)
    with open(tmp_path / "last_checkpoint", "r+b") as file:
        file.truncate(2**42)
    with open(tmp_path / "model.safetensors", "wb") as file:
        file.truncate(2**42)
    assert newest_iteration(tmp_path) == 1
    with pytest.raises(CheckpointError, match="damaged or not a safetensors"):
        read_checkpoint(tmp_path / "model.safetensors")


META = torch.zeros(2, device="meta")


@pytest.mark.parametrize(
    "content",
    [{}, [torch.zeros(1)], {"iteration": 3}, {"model": {"a": "text"}}, {"model": {}}, {"a": META}],
)
def test_file_without_weights_is_rejected(tmp_path, content):
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match="no state dict in this file"):
        read_checkpoint(tmp_path / "model.pth")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_keeps_the_old_checkpoint_and_leaves_no_partial_file(tmp_path, monkeypatch, number):
    save_run(tmp_path, 1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(descriptor):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)  # where file systems with delayed allocation report it
        with pytest.raises(NoSpaceError, match=r"no space left .* Received: path='.*model_0000001\.pth'") as error:
            save_run(tmp_path, 1)
    assert os.strerror(number) in str(error.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    save_run(tmp_path, 2)
    assert newest_iteration(tmp_path) == 2


def test_full_disk_without_space_for_the_folder(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "makedirs", full)
    with pytest.raises(NoSpaceError, match=r"Received: path='.*/new/run/model_0000001\.pth'"):
        save_run(tmp_path / "new" / "run", 1)


def run_in_fork(function):
    """Return the text that a function returns in a forked process."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, function().encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    with os.fdopen(reader) as output:
        return output.read()


@pytest.mark.parametrize("limit_bytes", [0, 100, 300_000, 1_000_000])
def test_file_size_limit_in_the_middle_of_a_tensor(tmp_path, limit_bytes):
    """A size limit truncates the file as a full disk does; torch replaces the system error with its own."""
    save_run(tmp_path, 1)
    model = torch.nn.Linear(512, 512)  # 1 MiB

    def save():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
        try:
            Checkpointer(model, tmp_path).save("model_0000002", iteration=2)
        except NoSpaceError as error:
            return str(error)
        return "saved"

    message = run_in_fork(save)
    assert "File too large" in message
    assert f"Received: path='{tmp_path / 'model_0000002.pth'}'" in message
    assert sorted(path.name for path in tmp_path.glob("model*")) == ["model_0000001.pth", "model_0000001.pth.sha256"]
    assert newest_iteration(tmp_path) == 1


def test_folder_that_cannot_be_written_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "run").write_text("a file instead of the folder")
    with pytest.raises(CheckpointError, match=r"could not be written: .*Received: path='.*run/model_0000001\.pth'"):
        save_run(tmp_path / "run", 1)
    save_run(tmp_path, 1)

    def refuse(source, target):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(CheckpointError, match="could not be written: Permission denied"):
        Checkpointer(small_model(), tmp_path).save("model_0000002")
    assert newest_iteration(tmp_path) == 1
