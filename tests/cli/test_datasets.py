"""Commands `dl_lib check-dataset` and `dl_lib browse-dataset` on miniature datasets with injected defects."""

import cv2
import numpy as np
import pytest
import yaml

from dl_lib.cli import browse_dataset, check_dataset
from tests.helpers.dataset_files import save_png, write_cityscapes, write_voc

NAME = "cityscapes_fine_sem_seg_train"


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("DL_DATASETS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command, *words):
    """Run a command that fails; return its exit status."""
    with pytest.raises(SystemExit) as end:
        command.main(list(words))
    return end.value.code


def test_a_valid_dataset_is_usable(root, capsys):
    write_cityscapes(root)
    check_dataset.main([NAME, "--workers", "0"])
    printed = capsys.readouterr().out
    assert printed.startswith(f"{NAME}: 2 samples read")
    assert printed.endswith("usable for training: yes\n")
    rows = [line.split() for line in printed.splitlines() if line.strip().startswith("0 ")]
    assert rows[0][:2] == ["0", "road"]


def test_every_defect_is_reported(root, capsys):
    write_cityscapes(root, images_per_city=3)
    labels = sorted((root / "cityscapes/gtFine/train").rglob("*_labelIds.png"))
    images = sorted((root / "cityscapes/leftImg8bit/train").rglob("*.png"))
    labels[0].unlink()
    images[1].unlink()
    images[2].write_bytes(images[2].read_bytes()[:500])
    save_png(labels[3], np.full((64, 128), 77, np.uint8))
    save_png(labels[4], np.full((32, 128), 7, np.uint8))
    assert run(check_dataset, NAME, "--workers", "1") == 1
    printed = capsys.readouterr().out
    assert "1 x image without a label:\n  aachen_000000_000019\n" in printed
    assert "1 x label or listed name without an image:\n  aachen_000001_000019\n" in printed
    assert f"1 x unreadable file:\n  {images[2]} is damaged or truncated" in printed
    assert f"1 x label with unknown class ids:\n  {labels[3]} contains ids that Cityscapes does not define" in printed
    assert "1 x label size differs from image size:\n  bochum_000004_000019" in printed
    assert printed.endswith("usable for training: no\n")


def test_long_lists_are_truncated_without_all(root, capsys):
    write_cityscapes(root, images_per_city=6)
    for label in (root / "cityscapes/gtFine/train").rglob("*_labelIds.png"):
        save_png(label, np.full((64, 128), 77, np.uint8))
    assert run(check_dataset, NAME, "--workers", "0") == 1
    assert "12 x label" in (printed := capsys.readouterr().out)
    assert "... and 2 more (--all lists them)" in printed
    assert run(check_dataset, NAME, "--workers", "0", "--all") == 1
    assert capsys.readouterr().out.count("contains ids that Cityscapes") == 12


def test_an_unlabelled_dataset_is_not_usable_for_training(root, capsys):
    write_voc(root)
    assert run(check_dataset, "voc_2012_sem_seg_test", "--workers", "0") == 1
    assert capsys.readouterr().out.endswith("usable for training: no (no labels)\n")


def test_folders_from_the_command_line(root, capsys):
    for name in ("a", "b/c"):
        save_png(root / f"images/{name}.png", np.zeros((8, 8, 3), np.uint8))
        save_png(root / f"labels/{name}.png", np.ones((8, 8), np.uint8))
    entry = "{NAME: own_on_the_line, IMAGES: images, LABELS: labels, CLASSES: [x, y]}"
    words = ["own_on_the_line", "--workers", "0", f"DATASETS.FOLDERS=[{entry}]"]
    assert run(check_dataset, *words) == 1
    printed = capsys.readouterr().out
    assert "own_on_the_line: 2 samples read" in printed
    assert "usable for training: no: no pixel of class 'x' (accept with --allow absent-classes). Check" in printed
    assert "255 is the ignore value, not a class; map files with other ids" in printed and "LABEL_MAP" in printed
    check_dataset.main([*words, "--allow", "absent-classes"])
    assert capsys.readouterr().out.endswith("usable for training: yes\n")
    assert run(check_dataset, "other", "DATASETS.FOLDERS=[{NAME: other, IMAGES: images}]") == 2
    assert "must have the key CLASSES" in capsys.readouterr().err


def test_the_cause_of_unpaired_files_is_printed(root, capsys):
    save_png(root / "i" / "a.png", np.zeros((2, 2), np.uint8))
    (root / "m").mkdir()
    (root / "m" / "a.jpg").touch()
    entry = "DATASETS.FOLDERS=[{NAME: jpegs, IMAGES: i, LABELS: m, CLASSES: [a, b]}]"
    assert run(check_dataset, "jpegs", "--workers", "0", entry) == 1
    printed = capsys.readouterr().out
    assert "usable for training: no: no label could be read\n" in printed and "CLASS_WEIGHTS" not in printed
    assert printed.endswith("Labels exist as .jpg: not read; create them again as PNG or another lossless format.\n")


def test_an_entry_that_fits_the_files_is_proposed(root, capsys):
    for name in ("a", "b"):
        save_png(root / f"images/{name}_sat.png", np.zeros((8, 8, 3), np.uint8))
        save_png(root / f"labels/{name}_mask.png", np.full((8, 8), 255 * (name == "a"), np.uint8))
    entry = "{NAME: own_masks, IMAGES: images, LABELS: labels, CLASSES: [x, y]}"
    assert run(check_dataset, "own_masks", "--workers", "0", f"DATASETS.FOLDERS=[{entry}]") == 1
    proposed = capsys.readouterr().out.partition("proposed entry of DATASETS.FOLDERS")[2].partition("\n")[2]
    assert "LABEL_PATTERN: '{name}_mask.png'" in proposed
    other = yaml.safe_load(proposed.replace("own_masks", "own_masks_fixed"))
    check_dataset.main(["own_masks_fixed", "--workers", "0", f"DATASETS.FOLDERS={other}"])
    printed = capsys.readouterr().out
    assert "own_masks_fixed: 2 samples read" in printed
    assert printed.endswith("usable for training: yes\n")  # and no further proposal


def test_an_unknown_name_is_answered_with_similar_ones(root, capsys):
    assert run(check_dataset, "cityscapes_fine_sem_seg_trian") == 2
    error = capsys.readouterr().err
    assert "nearest: cityscapes_fine_sem_seg_train" in error and "--config-file" in error


def test_a_contact_sheet_shows_images_labels_and_variants(root, capsys):
    write_cityscapes(root)
    words = [NAME, "--count", "2", "--variants", "1", "--cell-width", "128", "--output", "sheet.png"]
    browse_dataset.main([*words, "INPUT.MIN_SIZE_TRAIN=[64]", "INPUT.CROP_SIZE=[64, 64]", "INPUT.FLIP_PROB=0"])
    sheet = cv2.imread(str(root / "sheet.png"))[..., ::-1]
    assert str(root / "sheet.png") in capsys.readouterr().out
    image = cv2.imread(str(next((root / "cityscapes/leftImg8bit/train/aachen").glob("*.png"))))[..., ::-1]
    differences = cv2.matchTemplate(sheet, image, cv2.TM_SQDIFF)  # up to rounding
    top, left = np.unravel_index(differences.argmin(), differences.shape)
    assert np.array_equal(sheet[top : top + image.shape[0], left : left + image.shape[1]], image), "the unchanged image"


def test_unlabelled_images_are_shown_alone(root):
    write_voc(root)
    browse_dataset.main(["voc_2012_sem_seg_test"])
    assert cv2.imread(str(root / "output/browse_voc_2012_sem_seg_test.png")) is not None
