"""From archives to listed data sets, by the command a user types."""

import dataclasses
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from torchvision.datasets import SBDataset
from torchvision.datasets.voc import DATASET_YEAR_DICT

from dl_lib.cli import prepare_voc as command
from dl_lib.data.catalog import DatasetCatalog
from tests.helpers.dataset_files import AUGMENTED_NAMES, SBD_NAMES, write_sbd, write_voc

ROOT = Path(__file__).parents[2]


def md5_of(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The two archives in miniature, with the published layouts."""
    folder = tmp_path_factory.mktemp("archives")
    write_voc(folder)
    write_sbd(folder)
    (folder / "sbd" / "inst").mkdir()
    with tarfile.open(folder / "voc.tar", "w") as tar:
        tar.add(folder / "VOCdevkit", "VOCdevkit")
    with tarfile.open(folder / "sbd.tgz", "w:gz") as tar:
        tar.add(folder / "sbd", "benchmark_RELEASE/dataset")
    return {"voc": folder / "voc.tar", "sbd": folder / "sbd.tgz"}


@pytest.fixture
def root(archives, tmp_path, monkeypatch):
    """An empty data sets' root; the miniature archives pass for the published ones."""
    voc, sbd = command.published_archives()
    published = (
        dataclasses.replace(voc, url="http://127.0.0.1:1/voc", md5=md5_of(archives["voc"])),
        dataclasses.replace(sbd, url="http://127.0.0.1:1/sbd", md5=md5_of(archives["sbd"])),
    )
    monkeypatch.setattr(command, "published_archives", lambda: published)
    monkeypatch.setenv("DL_DATASETS", str(tmp_path / "datasets"))
    return tmp_path / "datasets"


def check_tree(root):
    assert sorted(path.name for path in (root / "sbd").iterdir()) == ["cls", "img", "train.txt", "val.txt"]
    assert (root / "sbd" / "train.txt").read_text().split() == SBD_NAMES["train"]
    listed = root / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation" / "trainaug.txt"
    assert listed.read_text().splitlines() == AUGMENTED_NAMES
    dataset = DatasetCatalog.get("voc_2012_aug_sem_seg_train")
    assert [dataset[index]["image_id"] for index in range(len(dataset))] == AUGMENTED_NAMES


def test_archives_that_the_user_has(root, archives, capsys):
    command.main(["--voc", str(archives["voc"]), "--sbd", str(archives["sbd"])])
    check_tree(root)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{archives['voc']} is unpacked in {root}"
    assert "voc_2012_sem_seg_train: 4 images" in lines
    assert "voc_2012_sem_seg_val: 3 images" in lines
    assert lines[-1].startswith("voc_2012_aug_sem_seg_train: 7 images, not the usual 10,582; they are listed in ")


def test_one_archive_after_the_other(root, archives, capsys):
    command.main(["--voc", str(archives["voc"])])
    assert capsys.readouterr().out.endswith("SBD is not there, so neither is voc_2012_aug_sem_seg_train\n")
    command.main(["--sbd", str(archives["sbd"])])
    check_tree(root)


def test_what_was_downloaded_before_is_not_fetched_again(root, archives, capsys):
    root.mkdir()
    shutil.copy(archives["voc"], root / "VOCtrainval_11-May-2012.tar")
    command.main(["--download", "--sbd", str(archives["sbd"])])
    check_tree(root)
    with pytest.raises(SystemExit) as caught:
        command.main(["--download"])  # SBD's has an address where nobody answers
    assert caught.value.code == 2
    assert "benchmark.tgz could not be downloaded" in capsys.readouterr().err


def test_the_usual_number_is_not_remarked_upon(root, archives, monkeypatch, capsys):
    monkeypatch.setattr(command, "EXPECTED_AUGMENTED", 7)
    command.main(["--voc", str(archives["voc"]), "--sbd", str(archives["sbd"])])
    assert "voc_2012_aug_sem_seg_train: 7 images; they are listed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--voc", "{sbd}"], "not the published VOCtrainval_11-May-2012.tar"),
        (["--voc", "{voc}", "--sbd", "absent.tgz"], "Received: path='absent.tgz'"),
        (["--sbd", "{sbd}"], "Expected VOCdevkit/VOC2012 with"),
        ([], "there is nothing to do"),
    ],
)
def test_what_cannot_be_done_is_one_message(root, archives, words, message, capsys):
    with pytest.raises(SystemExit) as caught:
        command.main([word.format(**archives) for word in words])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    assert not (root / "VOCdevkit").exists()


def test_published_archives_are_those_that_torchvision_knows():
    voc, sbd = command.published_archives()
    assert voc.md5 == DATASET_YEAR_DICT["2012"]["md5"] == "6cd6e144f989b92b3379bac3b3de84fd"
    assert sbd.md5 == SBDataset.md5 == "82b4d87ceb2ed10f6038a1cba92111cb"
    assert (voc.file_name, sbd.file_name) == ("VOCtrainval_11-May-2012.tar", "benchmark.tgz")


def test_help_explains_itself_without_waiting_for_torch(tmp_path):
    (tmp_path / "torch.py").write_text("raise AssertionError('torch was imported')\n")
    done = subprocess.run(
        [sys.executable, "-m", "dl_lib.cli.main", "prepare-voc", "--help"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "DL_DATASETS" in done.stdout
