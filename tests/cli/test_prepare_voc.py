"""Command `dl_lib prepare-voc` on miniature archives."""

import dataclasses
import hashlib
import shutil
import tarfile

import pytest
from torchvision.datasets import SBDataset
from torchvision.datasets.voc import DATASET_YEAR_DICT

from dl_lib.cli import prepare_voc as command
from dl_lib.data.catalog import DatasetCatalog
from tests.helpers.dataset_files import AUGMENTED_NAMES, SBD_NAMES, write_sbd, write_voc


def md5_of(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Miniature archives with the published layouts."""
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
    """Empty dataset root; the checksums of the published archives are those of the miniature ones."""
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


def test_local_archives(root, archives, capsys):
    command.main(["--voc", str(archives["voc"]), "--sbd", str(archives["sbd"])])
    check_tree(root)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Extracted {archives['voc']} to {root}"
    assert "voc_2012_sem_seg_train: 4 images" in lines
    assert "voc_2012_sem_seg_val: 3 images" in lines
    assert lines[-1].startswith("voc_2012_aug_sem_seg_train: 7 images (expected 10,582), listed in ")


def test_one_archive_after_the_other(root, archives, capsys):
    command.main(["--voc", str(archives["voc"])])
    assert capsys.readouterr().out.endswith("voc_2012_aug_sem_seg_train: not available without SBD\n")
    command.main(["--sbd", str(archives["sbd"])])
    check_tree(root)


def test_an_existing_download_is_used(root, archives, capsys):
    root.mkdir()
    shutil.copy(archives["voc"], root / "VOCtrainval_11-May-2012.tar")
    command.main(["--download", "--sbd", str(archives["sbd"])])
    check_tree(root)
    with pytest.raises(SystemExit) as caught:
        command.main(["--download"])  # no server at the URL of SBD
    assert caught.value.code == 2
    assert "benchmark.tgz could not be downloaded" in capsys.readouterr().err


def test_the_expected_number_of_images(root, archives, monkeypatch, capsys):
    monkeypatch.setattr(command, "EXPECTED_AUGMENTED", 7)
    command.main(["--voc", str(archives["voc"]), "--sbd", str(archives["sbd"])])
    assert "voc_2012_aug_sem_seg_train: 7 images, listed in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--voc", "{sbd}"], "not the published VOCtrainval_11-May-2012.tar"),
        (["--voc", "{voc}", "--sbd", "absent.tgz"], "Received: path='absent.tgz'"),
        (["--sbd", "{sbd}"], "Expected VOCdevkit/VOC2012 with"),
        ([], "--voc, --sbd and --download"),
    ],
)
def test_errors_are_one_message(root, archives, words, message, capsys):
    with pytest.raises(SystemExit) as caught:
        command.main([word.format(**archives) for word in words])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    assert not (root / "VOCdevkit").exists()


def test_published_archives_are_those_of_torchvision():
    voc, sbd = command.published_archives()
    assert voc.md5 == DATASET_YEAR_DICT["2012"]["md5"] == "6cd6e144f989b92b3379bac3b3de84fd"
    assert sbd.md5 == SBDataset.md5 == "82b4d87ceb2ed10f6038a1cba92111cb"
    assert (voc.file_name, sbd.file_name) == ("VOCtrainval_11-May-2012.tar", "benchmark.tgz")
