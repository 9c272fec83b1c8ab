"""Retention of a run's checkpoints, and ownership in a folder with several runs."""

import os
import shutil

from hypothesis import given, settings
from hypothesis import strategies as st

from dl_lib.checkpoint.earlier_run import archive_earlier_run
from dl_lib.checkpoint.folder import RunFolder
from tests.helpers.checkpoints import save_run, warnings_in


def write(folder, *iterations, checksum=True):
    """Create empty checkpoint files, which are identified by name only."""
    for iteration in iterations:
        path = folder / f"model_{iteration:07d}.pth"
        path.touch()
        if checksum:
            path.with_name(f"{path.name}.sha256").touch()


def iterations_in(folder):
    return sorted(int(path.stem.removeprefix("model_")) for path in folder.glob("model_*.pth"))


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(1, 60), min_size=1), st.integers(0, 5), st.sampled_from([0, 4, 10]))
def test_prune_keeps_the_newest_and_the_multiples(tmp_path_factory, iterations, keep_last, keep_every):
    folder = tmp_path_factory.mktemp("run")
    kept, saved = set(), []
    for iteration in sorted(iterations):
        write(folder, iteration)
        RunFolder(str(folder)).prune(iteration=iteration, keep_last=keep_last, keep_every=keep_every)
        saved.append(iteration)
        kept = set(saved[-keep_last:]) | {i for i in saved if keep_every and i % keep_every == 0}
        assert iterations_in(folder) == sorted(kept if keep_last else saved)
    checksums = {path.name.removesuffix(".sha256") for path in folder.glob("*.sha256")}
    assert checksums == {path.name for path in folder.glob("*.pth")}


def test_prune_keeps_files_that_the_run_did_not_write(tmp_path):
    write(tmp_path, 1, 2, 3, 4, 5)
    write(tmp_path, 6, checksum=False)  # copied by the user
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
    RunFolder(str(tmp_path)).prune(iteration=7, keep_last=1, keep_every=0)
    kept = ["model_0000006.pth"]  # counts as the newest
    assert sorted(os.listdir(tmp_path)) == sorted([*others, *kept])
    write(tmp_path, 7)
    RunFolder(str(tmp_path)).prune(iteration=7, keep_last=1, keep_every=0)
    assert sorted(os.listdir(tmp_path)) == sorted([*others, *kept, "model_0000007.pth", "model_0000007.pth.sha256"])


def test_prune_after_resuming_from_an_older_checkpoint_keeps_the_latest_save(tmp_path):
    write(tmp_path, 10, 20, 30, 40)
    (tmp_path / "last_checkpoint").write_text("model_0000010.pth")
    write(tmp_path, 15)
    RunFolder(str(tmp_path)).prune(iteration=15, keep_last=1, keep_every=0)
    assert iterations_in(tmp_path) == [15, 20, 30, 40]
    write(tmp_path, 25)
    RunFolder(str(tmp_path)).prune(iteration=25, keep_last=2, keep_every=0)
    assert iterations_in(tmp_path) == [20, 25, 30, 40]


def test_next_save_removes_leftovers_of_a_killed_save(tmp_path):
    save_run(tmp_path, 10)
    leftovers = [
        *("model_0000020.pth.partial", "model_final.pth.partial", "model_0000010.pth.sha256.partial"),
        *("last_checkpoint.partial", "model_0000005.pth.sha256"),  # its checkpoint was being deleted
    ]
    foreign = ["results.json.partial", "weights.pth.partial", "weights.pth.sha256", "model_3.pth.partial"]
    for name in (*leftovers, *foreign):
        shutil.copy(tmp_path / "model_0000010.pth", tmp_path / name)
    save_run(tmp_path, 20)
    own = {"model_0000010.pth", "model_0000010.pth.sha256", "model_0000020.pth", "model_0000020.pth.sha256"}
    assert set(os.listdir(tmp_path)) == own | {"last_checkpoint", *foreign}


def test_failed_deletion_logs_a_warning(tmp_path, monkeypatch, caplog):
    write(tmp_path, 1, 2)

    def refuse(path):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "remove", refuse)
    RunFolder(str(tmp_path)).prune(iteration=2, keep_last=1, keep_every=0)
    assert iterations_in(tmp_path) == [1, 2]
    assert warnings_in(caplog) == [f"Could not delete {tmp_path / 'model_0000001.pth'}: Operation not permitted"]


def test_archives_are_numbered_and_keep_the_code_and_other_files_in_place(tmp_path):
    code = {"config.yaml", "net.py", "base_nets/00/net.py", "parts/__init__.py", "parts/inner/a.py"}
    others = {"notes.txt", "other/b.py", "find_lr.csv", "wandb/run-a/a.wandb", "mlflow/mlflow.db"}
    for number in (1, 2):
        moved = {
            "metrics.json",
            "log.txt",
            "log_rank1.txt",
            "events.out.tfevents.1",
            "evaluations/val/results.json",
            "tracker_wandb.json",
        }
        for name in (*code, *others, *moved):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        archive = archive_earlier_run(tmp_path)
        assert archive == tmp_path / f"earlier_run_{number}"
        assert files_below(archive) == code | moved
    assert {name for name in files_below(tmp_path) if not name.startswith("earlier_run_")} == code | others
    (tmp_path / "log.txt").touch()  # of a start that has failed
    assert archive_earlier_run(tmp_path) is None


def files_below(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
