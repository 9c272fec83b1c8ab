"""Search for the newest valid checkpoint among damaged, truncated and foreign files."""

import errno
import shutil

import pytest
import torch

from dl_lib.checkpoint import Checkpointer, CheckpointError
from dl_lib.checkpoint.errors import UnreadableCheckpointError
from tests.helpers.checkpoints import newest_iteration, save_run, small_model, warnings_in


def file(folder, iteration):
    return folder / f"model_{iteration:07d}.pth"


def checksum(folder, iteration):
    return folder / f"model_{iteration:07d}.pth.sha256"


def truncate(ratio):
    def damage(path):
        whole = path.read_bytes()
        path.write_bytes(whole[: int(ratio * len(whole))])

    return damage


def change_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


DAMAGES = {
    "empty": truncate(0),
    "first byte only": lambda path: path.write_bytes(path.read_bytes()[:1]),
    "in the head": truncate(0.02),
    "in the middle": truncate(0.5),
    "in the directory": truncate(0.95),
    "last byte": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "a byte more": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "garbage": lambda path: path.write_bytes(b"\x93garbage" * 500),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "a byte changed": change_a_byte,
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_previous_checkpoint_is_used_and_the_reason_is_logged(tmp_path, caplog, damage):
    save_run(tmp_path, 10, 20, 30)
    DAMAGES[damage](file(tmp_path, 30))
    assert newest_iteration(tmp_path) == 20
    (warning,) = warnings_in(caplog)
    assert warning.startswith("Skipped invalid checkpoint model_0000030.pth: ")
    assert str(file(tmp_path, 30)) in warning


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name not in ("a byte more", "a byte changed")])
def test_without_a_checksum_unloadable_files_are_skipped(tmp_path, damage):
    """Only a checksum detects appended bytes and changed bytes within a tensor."""
    save_run(tmp_path, 10, 20)
    checksum(tmp_path, 20).unlink()
    assert newest_iteration(tmp_path) == 20
    DAMAGES[damage](file(tmp_path, 20))
    assert newest_iteration(tmp_path) == 10


def test_each_damaged_checkpoint_is_logged(tmp_path, caplog):
    save_run(tmp_path, 10, 20, 30, 40)
    for iteration in (20, 30, 40):
        truncate(0.7)(file(tmp_path, iteration))
    assert newest_iteration(tmp_path) == 10
    assert [message.split(":")[0] for message in warnings_in(caplog)] == [
        f"Skipped invalid checkpoint model_00000{iteration}.pth" for iteration in (40, 30, 20)
    ]


def test_swapped_files_are_skipped(tmp_path):
    save_run(tmp_path, 10, 20, 30)
    file(tmp_path, 20).rename(tmp_path / "between")
    file(tmp_path, 30).rename(file(tmp_path, 20))
    (tmp_path / "between").rename(file(tmp_path, 30))
    assert newest_iteration(tmp_path) == 10


def test_last_checkpoint_has_precedence(tmp_path, caplog):
    """It names an older checkpoint if the user has edited it, or if the process was killed before updating it."""
    save_run(tmp_path, 10, 20, 30)
    (tmp_path / "last_checkpoint").write_text("model_0000010.pth\n")
    assert newest_iteration(tmp_path) == 10
    assert warnings_in(caplog) == []


TAGS = [None, b"", b"\xff\xfe\x00garbage", b"model_0000077.pth", b"../model_0000010.pth", b"a\nb", b"x" * 5000]


@pytest.mark.parametrize("tag", TAGS)
def test_without_a_valid_tag_file_names_decide(tmp_path, caplog, tag):
    folder = tmp_path / "run"
    save_run(tmp_path, 10)  # outside
    save_run(folder, 10, 9_999_999, 10_000_000)  # numerical order differs from alphabetical order
    (folder / "last_checkpoint").unlink()
    if tag is not None:
        (folder / "last_checkpoint").write_bytes(tag)
    assert newest_iteration(folder) == 10_000_000
    assert len(warnings_in(caplog)) == 1


def save_final(folder, iteration):
    Checkpointer(small_model(seed=iteration), folder).save("model_final", iteration=iteration)


@pytest.mark.parametrize("tagged", [True, False])
def test_final_checkpoint_is_the_newest_until_the_run_is_extended(tmp_path, tagged):
    def newest():
        if not tagged:
            (tmp_path / "last_checkpoint").unlink(missing_ok=True)
        return newest_iteration(tmp_path)

    save_run(tmp_path, 10, 20)
    save_final(tmp_path, 30)
    assert newest() == 30
    save_run(tmp_path, 40)  # extended
    assert newest() == 40
    truncate(0.5)(file(tmp_path, 40))
    assert newest() == 30
    truncate(0.5)(tmp_path / "model_final.pth")
    assert newest() == 20
    save_final(tmp_path, 50)
    assert newest() == 50


@pytest.mark.parametrize("values", [{"iteration_of_old": 7}, {"iteration": "the end"}])
def test_final_checkpoint_without_iteration_is_the_newest(tmp_path, values):
    save_run(tmp_path, 10)
    (tmp_path / "last_checkpoint").unlink()
    torch.save({"model": small_model(seed=3).state_dict(), **values}, tmp_path / "model_final.pth")
    assert Checkpointer(small_model(), tmp_path).resume_or_load("") == values


def test_no_valid_checkpoint_is_an_error(tmp_path):
    save_run(tmp_path, 10, 20)
    truncate(0.5)(file(tmp_path, 10))
    truncate(0.5)(file(tmp_path, 20))
    checkpointer = Checkpointer(small_model(), tmp_path)
    assert checkpointer.has_checkpoint()
    with pytest.raises(CheckpointError, match=r"skipped=\['model_0000020.pth', 'model_0000010.pth'\]"):
        checkpointer.resume_or_load("", resume=True)
    with pytest.raises(CheckpointError, match="no valid checkpoint"):
        checkpointer.get_checkpoint_file()


def test_tag_of_a_missing_checkpoint_is_an_error(tmp_path):
    save_run(tmp_path, 10)
    file(tmp_path, 10).unlink()
    with pytest.raises(CheckpointError, match="no valid checkpoint to resume from"):
        Checkpointer(small_model(), tmp_path).resume_or_load("")


def test_partial_files_foreign_files_and_folders_are_ignored(tmp_path, caplog):
    save_run(tmp_path, 10)
    for name in ("model_0000020.pth.partial", "model_20.pth", "weights.pth", "model_0000020.pth.old", "model_best.pth"):
        shutil.copy(file(tmp_path, 10), tmp_path / name)
    file(tmp_path, 30).mkdir()
    (tmp_path / "last_checkpoint").unlink()
    assert newest_iteration(tmp_path) == 10
    assert len(warnings_in(caplog)) == 1  # missing last_checkpoint


@pytest.mark.parametrize("names", [["model_best.pth"], ["weights.pth"], ["model_0000010.pth.partial"], []])
def test_folder_without_a_run_has_no_checkpoint(tmp_path, names):
    for name in names:
        torch.save({"model": small_model().state_dict()}, tmp_path / name)
    assert not Checkpointer(small_model(), tmp_path).has_checkpoint()
    assert not Checkpointer(small_model(), tmp_path / "nowhere").has_checkpoint()
    assert Checkpointer(small_model(), tmp_path).get_checkpoint_file() == ""


def test_unreadable_checkpoint_is_not_skipped(tmp_path, monkeypatch):
    save_run(tmp_path, 10, 20)

    def refuse(*args, **kwargs):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", refuse)
        with pytest.raises(UnreadableCheckpointError, match=r"cannot be read: Input/output error.*0000020\.pth'"):
            newest_iteration(tmp_path)
    assert newest_iteration(tmp_path) == 20


def test_unreadable_folder_is_an_error(tmp_path):
    (tmp_path / "run").write_text("no folder")
    with pytest.raises(UnreadableCheckpointError, match=r"cannot search for checkpoints: Not a dir.*Received: path='"):
        Checkpointer(small_model(), tmp_path / "run").has_checkpoint()
    (tmp_path / "last_checkpoint").mkdir()
    with pytest.raises(UnreadableCheckpointError, match="cannot search for checkpoints: Is a directory"):
        Checkpointer(small_model(), tmp_path).has_checkpoint()
