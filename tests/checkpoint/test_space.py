"""A full disk, before and while a checkpoint is written: what was there stays, and the error says what is missing."""

import errno
import os
import resource
from collections import namedtuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dl_lib.checkpoint import Checkpointer, CheckpointError, NoSpaceError
from dl_lib.checkpoint.space import required_bytes
from tests.helpers.checkpoints import newest_iteration, save_run, small_model

# Python 3.12 and later: torch has threads of its own, which the children do not use.
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")

MIB = 2**20
Usage = namedtuple("Usage", "total used free")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3000), st.text("abcdefgh.", min_size=1, max_size=90)), max_size=60))
def test_the_room_that_is_asked_for_is_enough_and_not_much_more(tmp_path_factory, sizes):
    content = {"model": {name: torch.zeros(size) for size, name in sizes}, "array": np.zeros(500), "text": "a" * 1000}
    path = tmp_path_factory.mktemp("size") / "a.pth"
    torch.save(content, path)
    assert path.stat().st_size <= required_bytes(content) <= path.stat().st_size + MIB + 512 * len(sizes)


def test_what_several_tensors_look_at_counts_once_and_whole():
    whole = torch.zeros(MIB)
    views = {"model": {"a": whole, "b": whole[:7], "c": torch.zeros(1).expand(MIB)}, "states": [(whole.view(2, -1),)]}
    assert 4 * MIB <= required_bytes(views) < 4 * MIB + 1.1 * MIB


def test_too_little_room_is_noticed_before_anything_is_written(tmp_path, monkeypatch):
    save_run(tmp_path, 1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(10 * MIB, 7 * MIB, 3 * MIB))
    large = Checkpointer(nn.Linear(1024, 1024), tmp_path)  # 4 MiB
    with pytest.raises(NoSpaceError, match=r"needed about 5\.0 MiB, free 3\.0 MiB") as error:
        large.save("model_0000002", iteration=2)
    assert "not enough room on the disk" in str(error.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_system_that_does_not_tell_its_size_is_tried(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(0, 0, 0))
    save_run(tmp_path, 1)
    assert newest_iteration(tmp_path) == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_meanwhile_leaves_the_old_checkpoint_and_no_rubbish(tmp_path, monkeypatch, number):
    save_run(tmp_path, 1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(descriptor):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)  # where file systems that allocate late find out
        with pytest.raises(NoSpaceError, match="used up while the file was written") as error:
            save_run(tmp_path, 1)
    assert os.strerror(number) in str(error.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    save_run(tmp_path, 2)  # there is room again
    assert newest_iteration(tmp_path) == 2


def test_where_there_is_no_room_for_a_folder_the_disk_is_named_all_the_same(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "makedirs", full)
    with pytest.raises(NoSpaceError, match=r"Received: path='.*/new/run/model_0000001\.pth', needed about 1\.0 MiB"):
        save_run(tmp_path / "new" / "run", 1)


def in_a_child(do):
    """What a forked process that has limits of its own says."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, do().encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    with os.fdopen(reader) as said:
        return said.read()


@pytest.mark.parametrize("limit_bytes", [0, 100, 300_000, 1_000_000])
def test_a_real_limit_is_met_in_the_middle_of_a_tensor(tmp_path, limit_bytes):
    """Files end at the limit, as on a full disk; torch reports that as an error of its own."""
    save_run(tmp_path, 1)
    model = nn.Linear(512, 512)  # 1 MiB

    def save():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
        try:
            Checkpointer(model, tmp_path).save("model_0000002", iteration=2)
        except NoSpaceError as error:
            return str(error)
        return "saved"

    said = in_a_child(save)
    assert "used up while the file was written (File too large)" in said
    assert f"Received: path='{tmp_path / 'model_0000002.pth'}', needed about 2.0 MiB, free" in said
    assert sorted(path.name for path in tmp_path.glob("model*")) == ["model_0000001.pth", "model_0000001.pth.sha256"]
    assert newest_iteration(tmp_path) == 1


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "run").write_text("a file where the folder should be")
    with pytest.raises(CheckpointError, match=r"could not be written: .*Received: path='.*run/model_0000001\.pth'"):
        save_run(tmp_path / "run", 1)
    save_run(tmp_path, 1)

    def refuse(source, target):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(CheckpointError, match="could not be written: Permission denied"):
        Checkpointer(small_model(), tmp_path).save("model_0000002")
    assert newest_iteration(tmp_path) == 1
