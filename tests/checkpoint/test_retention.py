"""Which checkpoints of a run stay, against a plain count; and that nothing goes which the run did not write itself."""

import os
import shutil

from hypothesis import given, settings
from hypothesis import strategies as st

from dl_lib.checkpoint import Checkpointer
from dl_lib.checkpoint.folder import RunFolder
from dl_lib.checkpoint.retention import prune
from tests.helpers.checkpoints import newest_iteration, save_run, small_model, warnings_in


def write(folder, *iterations, checksum=True):
    """Files that need not be read: their names tell."""
    for iteration in iterations:
        path = folder / f"model_{iteration:07d}.pth"
        path.touch()
        if checksum:
            path.with_name(f"{path.name}.sha256").touch()


def iterations_in(folder):
    return sorted(int(path.stem.removeprefix("model_")) for path in folder.glob("model_*.pth"))


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(1, 60), min_size=1), st.integers(0, 5), st.sampled_from([0, 4, 10]))
def test_the_newest_and_the_multiples_stay(tmp_path_factory, iterations, keep_last, keep_every):
    folder = tmp_path_factory.mktemp("run")
    stays, saved = set(), []
    for iteration in sorted(iterations):
        write(folder, iteration)
        prune(RunFolder(str(folder)), iteration=iteration, keep_last=keep_last, keep_every=keep_every)
        saved.append(iteration)
        stays = set(saved[-keep_last:]) | {i for i in saved if keep_every and i % keep_every == 0}
        assert iterations_in(folder) == sorted(stays if keep_last else saved)
    checksums = {path.name.removesuffix(".sha256") for path in folder.glob("*.sha256")}
    assert checksums == {path.name for path in folder.glob("*.pth")}


def test_what_the_run_did_not_write_stays(tmp_path):
    write(tmp_path, 1, 2, 3, 4, 5)
    write(tmp_path, 6, checksum=False)  # a person put it there
    others = [
        "model_final.pth",
        "model_best.pth",
        "model_1.pth",
        "model_0000001.pth.old",
        "mine.pth",
        "mine.pth.sha256",
    ]
    for name in others:
        (tmp_path / name).touch()
    prune(RunFolder(str(tmp_path)), iteration=7, keep_last=1, keep_every=0)
    stays = ["model_0000006.pth"]  # counts as the newest
    assert sorted(os.listdir(tmp_path)) == sorted([*others, *stays])
    write(tmp_path, 7)
    prune(RunFolder(str(tmp_path)), iteration=7, keep_last=1, keep_every=0)
    assert sorted(os.listdir(tmp_path)) == sorted([*others, *stays, "model_0000007.pth", "model_0000007.pth.sha256"])


def test_a_run_that_went_back_never_deletes_what_it_just_saved(tmp_path):
    write(tmp_path, 10, 20, 30, 40)
    (tmp_path / "last_checkpoint").write_text("model_0000010.pth")
    write(tmp_path, 15)
    prune(RunFolder(str(tmp_path)), iteration=15, keep_last=1, keep_every=0)
    assert iterations_in(tmp_path) == [15, 20, 30, 40]
    write(tmp_path, 25)
    prune(RunFolder(str(tmp_path)), iteration=25, keep_last=2, keep_every=0)
    assert iterations_in(tmp_path) == [20, 25, 30, 40]


def test_an_earlier_runs_checkpoints_are_neither_gone_on_from_nor_deleted(tmp_path, caplog):
    save_run(tmp_path, 20, 30, 40)
    Checkpointer(small_model(), tmp_path).save("model_best", last=False)
    new = Checkpointer(small_model(seed=10), tmp_path)
    assert new.archive_earlier_run() == str(tmp_path / "model_0000040.pth")
    assert not new.has_checkpoint()
    assert new.read_own("model_best") == {}
    new.save("model_0000010", iteration=10)
    new.prune(iteration=10, keep_last=1, keep_every=0)
    save_run(tmp_path, 30)
    new.prune(iteration=30, keep_last=1, keep_every=0)
    kept = ["model_0000020.pth", "model_0000030.pth", "model_0000040.pth", "model_best.pth"]
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == kept
    (tmp_path / "last_checkpoint").unlink()
    assert newest_iteration(tmp_path) == 30  # not 40, which has the greater number
    assert (tmp_path / "earlier_checkpoints").read_text() == "model_0000020.pth\nmodel_0000040.pth\nmodel_best.pth\n"
    new.save("model_best", last=False, iteration=35)
    assert new.read_own("model_best")["iteration"] == 35
    assert new.archive_earlier_run() == str(tmp_path / "model_0000030.pth")  # a third run
    assert not new.has_checkpoint()
    assert len(warnings_in(caplog)) == 1  # of the tag that was removed here


def test_a_folder_without_a_run_has_nothing_to_set_aside(tmp_path):
    checkpointer = Checkpointer(small_model(), tmp_path / "new")
    assert checkpointer.archive_earlier_run() == ""
    assert not (tmp_path / "new").exists()


def test_what_a_killed_save_left_is_removed_by_the_next_one(tmp_path):
    save_run(tmp_path, 10)
    rubbish = [
        *("model_0000020.pth.partial", "model_final.pth.partial", "model_0000010.pth.sha256.partial"),
        *("last_checkpoint.partial", "model_0000005.pth.sha256"),  # of a checkpoint that was being deleted
    ]
    foreign = ["results.json.partial", "weights.pth.partial", "weights.pth.sha256", "model_3.pth.partial"]
    for name in (*rubbish, *foreign):
        shutil.copy(tmp_path / "model_0000010.pth", tmp_path / name)
    save_run(tmp_path, 20)
    own = {"model_0000010.pth", "model_0000010.pth.sha256", "model_0000020.pth", "model_0000020.pth.sha256"}
    assert set(os.listdir(tmp_path)) == own | {"last_checkpoint", *foreign}


def test_what_cannot_be_deleted_is_said_and_stays(tmp_path, monkeypatch, caplog):
    write(tmp_path, 1, 2)

    def refuse(path):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "remove", refuse)
    prune(RunFolder(str(tmp_path)), iteration=2, keep_last=1, keep_every=0)
    assert iterations_in(tmp_path) == [1, 2]
    assert warnings_in(caplog) == [f"{tmp_path / 'model_0000001.pth'} could not be deleted: Operation not permitted"]
