"""The newest sound checkpoint of a run is found, whatever happened to the others, and each of those is named once."""

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


def cut(share):
    def damage(path):
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])

    return damage


def change_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


DAMAGES = {
    "empty": cut(0),
    "first byte only": lambda path: path.write_bytes(path.read_bytes()[:1]),
    "in the head": cut(0.02),
    "in the middle": cut(0.5),
    "in the directory": cut(0.95),
    "last byte": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "a byte more": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "garbage": lambda path: path.write_bytes(b"\x93garbage" * 500),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "a byte changed": change_a_byte,
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_one_before_is_gone_on_from_and_the_log_says_why(tmp_path, caplog, damage):
    save_run(tmp_path, 10, 20, 30)
    DAMAGES[damage](file(tmp_path, 30))
    assert newest_iteration(tmp_path) == 20
    (warning,) = warnings_in(caplog)
    assert warning.startswith("passed over model_0000030.pth: ")
    assert str(file(tmp_path, 30)) in warning


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name not in ("a byte more", "a byte changed")])
def test_without_a_checksum_what_does_not_load_is_passed_over(tmp_path, damage):
    """Additional bytes at the end and changed ones within a tensor are what only a checksum finds."""
    save_run(tmp_path, 10, 20)
    checksum(tmp_path, 20).unlink()
    assert newest_iteration(tmp_path) == 20
    DAMAGES[damage](file(tmp_path, 20))
    assert newest_iteration(tmp_path) == 10


def test_several_damaged_ones_are_warned_of_one_by_one(tmp_path, caplog):
    save_run(tmp_path, 10, 20, 30, 40)
    for iteration in (20, 30, 40):
        cut(0.7)(file(tmp_path, iteration))
    assert newest_iteration(tmp_path) == 10
    assert [message.split(":")[0] for message in warnings_in(caplog)] == [
        f"passed over model_00000{iteration}.pth" for iteration in (40, 30, 20)
    ]


def test_files_that_changed_places_are_passed_over(tmp_path):
    save_run(tmp_path, 10, 20, 30)
    file(tmp_path, 20).rename(tmp_path / "between")
    file(tmp_path, 30).rename(file(tmp_path, 20))
    (tmp_path / "between").rename(file(tmp_path, 30))
    assert newest_iteration(tmp_path) == 10


def test_the_one_that_is_called_the_last_wins(tmp_path, caplog):
    """By hand: to go back. Or because the process was killed before it could name the newer one."""
    save_run(tmp_path, 10, 20, 30)
    (tmp_path / "last_checkpoint").write_text("model_0000010.pth\n")
    assert newest_iteration(tmp_path) == 10
    assert warnings_in(caplog) == []


TAGS = [None, b"", b"\xff\xfe\x00garbage", b"model_0000077.pth", b"../model_0000010.pth", b"a\nb", b"x" * 5000]


@pytest.mark.parametrize("tag", TAGS)
def test_without_a_tag_that_makes_sense_the_names_tell(tmp_path, caplog, tag):
    folder = tmp_path / "run"
    save_run(tmp_path, 10)  # outside
    save_run(folder, 10, 9_999_999, 10_000_000)  # in this order, which is not that of the letters
    (folder / "last_checkpoint").unlink()
    if tag is not None:
        (folder / "last_checkpoint").write_bytes(tag)
    assert newest_iteration(folder) == 10_000_000
    assert len(warnings_in(caplog)) == 1


def save_end(folder, iteration):
    Checkpointer(small_model(seed=iteration), folder).save("model_final", iteration=iteration)


@pytest.mark.parametrize("tagged", [True, False])
def test_the_end_of_a_run_is_the_newest_until_the_run_is_prolonged(tmp_path, tagged):
    def newest():
        if not tagged:
            (tmp_path / "last_checkpoint").unlink(missing_ok=True)
        return newest_iteration(tmp_path)

    save_run(tmp_path, 10, 20)
    save_end(tmp_path, 30)
    assert newest() == 30
    save_run(tmp_path, 40)  # prolonged
    assert newest() == 40
    cut(0.5)(file(tmp_path, 40))
    assert newest() == 30
    cut(0.5)(tmp_path / "model_final.pth")
    assert newest() == 20
    save_end(tmp_path, 50)
    assert newest() == 50


@pytest.mark.parametrize("values", [{"iteration_of_old": 7}, {"iteration": "the end"}])
def test_an_end_that_does_not_say_where_it_is_counts_as_the_end(tmp_path, values):
    save_run(tmp_path, 10)
    (tmp_path / "last_checkpoint").unlink()
    torch.save({"model": small_model(seed=3).state_dict(), **values}, tmp_path / "model_final.pth")
    assert Checkpointer(small_model(), tmp_path).resume_or_load("") == values


def test_nothing_sound_is_an_error_and_no_new_start(tmp_path):
    save_run(tmp_path, 10, 20)
    cut(0.5)(file(tmp_path, 10))
    cut(0.5)(file(tmp_path, 20))
    checkpointer = Checkpointer(small_model(), tmp_path)
    assert checkpointer.has_checkpoint()
    with pytest.raises(CheckpointError, match=r"passed over: \['model_0000020.pth', 'model_0000010.pth'\]"):
        checkpointer.resume_or_load("", resume=True)
    with pytest.raises(CheckpointError, match="no sound checkpoint"):
        checkpointer.get_checkpoint_file()


def test_a_tag_alone_says_that_something_was_lost(tmp_path):
    save_run(tmp_path, 10)
    file(tmp_path, 10).unlink()
    with pytest.raises(CheckpointError, match="no sound checkpoint to go on from"):
        Checkpointer(small_model(), tmp_path).resume_or_load("")


def test_halves_foreign_files_and_folders_are_no_checkpoints(tmp_path, caplog):
    save_run(tmp_path, 10)
    for name in ("model_0000020.pth.partial", "model_20.pth", "weights.pth", "model_0000020.pth.old", "model_best.pth"):
        shutil.copy(file(tmp_path, 10), tmp_path / name)
    file(tmp_path, 30).mkdir()
    (tmp_path / "last_checkpoint").unlink()
    assert newest_iteration(tmp_path) == 10
    assert len(warnings_in(caplog)) == 1  # of the tag


@pytest.mark.parametrize("names", [["model_best.pth"], ["weights.pth"], ["model_0000010.pth.partial"], []])
def test_where_no_run_is_there_is_nothing_to_go_on_from(tmp_path, names):
    for name in names:
        torch.save({"model": small_model().state_dict()}, tmp_path / name)
    assert not Checkpointer(small_model(), tmp_path).has_checkpoint()
    assert not Checkpointer(small_model(), tmp_path / "nowhere").has_checkpoint()
    assert Checkpointer(small_model(), tmp_path).get_checkpoint_file() == ""


def test_what_the_system_refuses_to_read_may_be_sound_and_is_not_passed_over(tmp_path, monkeypatch):
    save_run(tmp_path, 10, 20)

    def refuse(*args, **kwargs):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", refuse)
        with pytest.raises(UnreadableCheckpointError, match=r"cannot be read: Input/output error.*0000020\.pth'"):
            newest_iteration(tmp_path)
    assert newest_iteration(tmp_path) == 20


def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "run").write_text("no folder")
    with pytest.raises(UnreadableCheckpointError, match=r"cannot look for checkpoints: Not a dir.*Received: path='"):
        Checkpointer(small_model(), tmp_path / "run").has_checkpoint()
    (tmp_path / "last_checkpoint").mkdir()
    with pytest.raises(UnreadableCheckpointError, match="cannot look for checkpoints: Is a directory"):
        Checkpointer(small_model(), tmp_path).has_checkpoint()
