"""Official Cityscapes scores: bitwise equal to those of SemSegEvaluator on the same predictions."""

import sys
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as script
from torch import nn

from dl_lib.config import get_cfg
from dl_lib.data import build_test_loader
from dl_lib.data.errors import InvalidSampleError, MissingDataError
from dl_lib.evaluation.official.cityscapes import CityscapesEvaluator, ground_truth_path, official_scores
from dl_lib.evaluation.runner.build import build_evaluator, build_writers, label_png_folder
from dl_lib.evaluation.runner.run import inference_on_dataset
from tests.helpers.dataset_files import write_cityscapes

NAME = "cityscapes_fine_sem_seg_val"
COSTS = dict.fromkeys(["expt_flops", "real_flops", "real_flops_complete", "executed_flops"], 1.0)


class NoisyModel(nn.Module):
    """Model that is correct on three of four pixels, never predicts `never`, and predicts `always` in every image."""

    def __init__(self, *, never=(), always=()):
        super().__init__()
        self.never, self.always = never, always

    def forward(self, batched_inputs):
        return [{"sem_seg": self.logits(sample["sem_seg"]), "flops": COSTS} for sample in batched_inputs]

    def logits(self, label):
        generator = torch.Generator().manual_seed(int(label.long().sum()))
        guess = torch.randint(0, 19, label.shape, generator=generator)
        is_correct = (torch.rand(label.shape, generator=generator) < 0.75) & (label != 255)
        guess[is_correct] = label[is_correct].long()
        for index in self.never:
            guess[guess == index] = (index + 1) % 19
        for index in self.always:
            guess[label == 0] = index
        return nn.functional.one_hot(guess, 19).permute(2, 0, 1).float()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets")
    write_cityscapes(root, images_per_city=2, coarse=True)
    return root


@pytest.fixture
def cfg(root, monkeypatch):
    monkeypatch.setenv("DL_DATASETS", str(root))
    cfg = get_cfg()
    cfg.merge_from_list(["TEST.OFFICIAL_SCORES", True, "DATALOADER.NUM_WORKERS", 0, "INPUT.MIN_SIZE_TEST", 0])
    return cfg


def evaluate(cfg, folder, *, name=NAME, **settings):
    return inference_on_dataset(
        NoisyModel(**settings),
        build_test_loader(cfg, name),
        build_evaluator(cfg, name, folder=folder),
        writers=build_writers(cfg, name, folder=folder),
    )


@pytest.mark.parametrize("settings", [{}, {"never": [3, 7]}])
def test_class_scores_equal_the_official_script(cfg, tmp_path, settings):
    """All classes occur, so that both rules for absent classes agree."""
    result = evaluate(cfg, tmp_path, **settings)
    assert result.metrics.absent == ()
    assert {score.name: score.iou for score in result.metrics.classes} == dict(result.official.class_iou)
    assert result.metrics.mean_iou == result.official.mean_class_iou
    assert (result.metrics.mean_iou < 0.99) and (result.metrics.classes[3].iou == 0) == bool(settings)
    assert result.official.source == f"cityscapesScripts {metadata.version('cityscapesScripts')}"


def test_category_scores_follow_from_the_confusion_matrix(cfg, tmp_path):
    result = evaluate(cfg, tmp_path)
    groups = {
        "flat": [0, 1],
        "construction": [2, 3, 4],
        "object": [5, 6, 7],
        "nature": [8, 9],
        "sky": [10],
        "human": [11, 12],
        "vehicle": [13, 14, 15, 16, 17, 18],
    }
    counts = result.confusion
    expected = {}
    for name, members in groups.items():
        hits = int(counts[members][:, members].sum())
        expected[name] = hits / int(counts[members].sum() + counts[:, members].sum() - hits)
    assert dict(result.official.category_iou) == expected
    assert result.official.mean_category_iou == pytest.approx(sum(expected.values()) / 7, rel=1e-12)


def test_official_script_counts_predicted_absent_classes_as_zero(cfg, tmp_path, root, monkeypatch):
    """Class 15 (bus) is removed from the ground truth."""
    write_cityscapes(tmp_path / "other", images_per_city=1)
    monkeypatch.setenv("DL_DATASETS", str(tmp_path / "other"))
    for path in (tmp_path / "other").rglob("*_gtFine_labelIds.png"):
        ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        ids[ids == 28] = 0
        cv2.imwrite(str(path), ids)
    left_out = evaluate(cfg, tmp_path / "a", never=[15])
    assert left_out.metrics.absent == ("bus",) and left_out.official.class_iou["bus"] is None
    assert left_out.metrics.mean_iou == left_out.official.mean_class_iou
    cfg.TEST.ABSENT_CLASSES = "zero_if_predicted"
    zero = evaluate(cfg, tmp_path / "b", always=[15])
    assert zero.metrics.predicted_absent == ("bus",) and zero.official.class_iou["bus"] == 0
    assert {score.name: score.iou for score in zero.metrics.classes} == dict(zero.official.class_iou)
    assert zero.metrics.mean_iou == zero.official.mean_class_iou


def test_script_prints_nothing_and_keeps_its_settings(cfg, tmp_path, capfd):
    before = dict(vars(script.args))
    evaluate(cfg, tmp_path)
    assert capfd.readouterr().out == ""
    assert vars(script.args) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["label_png"]
    assert not Path(script.args.exportFile).exists()


def test_script_finds_the_files_by_name(cfg, tmp_path, root, monkeypatch):
    """The script is run as by hand, with CITYSCAPES_RESULTS."""
    result = evaluate(cfg, tmp_path)
    monkeypatch.setenv("CITYSCAPES_RESULTS", str(tmp_path))
    for image in result.images:
        finder = script.CArgs()
        finder.predictionPath = finder.predictionWalk = None
        truth = str(ground_truth_path(image.file_name))
        assert script.getPrediction(finder, truth) == str(tmp_path / "label_png" / f"{image.image_id}.png")


def test_ground_truth_path_follows_the_layout(cfg, root):
    image = root / "cityscapes/leftImg8bit/val/frankfurt/frankfurt_000000_000019_leftImg8bit.png"
    fine = root / "cityscapes/gtFine/val/frankfurt/frankfurt_000000_000019_gtFine_labelIds.png"
    assert ground_truth_path(str(image)) == fine
    image = next((root / "cityscapes/leftImg8bit/train_extra").rglob("*.png"))
    coarse = ground_truth_path(str(image))
    assert coarse.is_file() and coarse.name.endswith("_gtCoarse_labelIds.png")


def test_missing_label_id_files_are_an_error(tmp_path):
    write_cityscapes(tmp_path)
    image = next((tmp_path / "cityscapes/leftImg8bit/val").rglob("*.png"))
    ground_truth_path(str(image)).unlink()
    with pytest.raises(MissingDataError, match=r"gtFine archive again.*TEST.OFFICIAL_SCORES.*Received: image="):
        ground_truth_path(str(image))
    with pytest.raises(MissingDataError, match=r"need images in the Cityscapes layout.*Received: image='a.png'$"):
        ground_truth_path("a.png")


def test_error_contains_the_output_of_the_script(cfg, tmp_path):
    result = evaluate(cfg, tmp_path)
    folder = label_png_folder(tmp_path)
    path = folder / f"{result.images[0].image_id}.png"
    cv2.imwrite(str(path), np.zeros((3, 5), np.uint8))
    with pytest.raises(InvalidSampleError, match=r"Received: ERROR: Image widths of .* are not equal"):
        official_scores(result.images, folder=folder)


def test_missing_script_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cityscapesscripts.evaluation", None)
    with pytest.raises(ImportError, match=r"pip install 'dl_lib\[cityscapes\]'"):
        CityscapesEvaluator(NAME, folder=tmp_path)
