"""Shown images of an evaluation of a small network: pixels, predictions, unreadable and skipped samples."""

import logging
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import torch

from dl_lib.config import get_cfg
from dl_lib.data import DatasetCatalog, build_test_loader
from dl_lib.data.errors import UnreadableFileError
from dl_lib.data.samplers import SampleKey
from dl_lib.evaluation import evaluate_datasets
from dl_lib.evaluation.report.image_routes import shown_positions
from dl_lib.evaluation.runner import image_routes
from dl_lib.modeling.build import build_model
from dl_lib.visualization.overlay import overlay_labels
from tests.helpers.small_run import SMALL

NAME = "own_scenes"
META = DatasetCatalog.meta("digit_scenes_val")


class Scenes:
    """Digit scenes without labels. The second one is always unreadable, `lost` ones from the second reading on."""

    def __init__(self, lost):
        self.scenes = DatasetCatalog.get("digit_scenes_val")
        self.lost, self.reads = lost, []

    def __len__(self):
        return 6

    def __getitem__(self, index):
        self.reads.append(index)
        if index == 1 or (index in self.lost and self.reads.count(index) > 1):
            raise UnreadableFileError(f"scene {index} is damaged")
        sample = dict(self.scenes[index])
        del sample["sem_seg"]
        return sample


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    cfg = get_cfg()
    cfg.merge_from_list(SMALL)
    return build_model(cfg).train()


@pytest.fixture
def evaluate(monkeypatch, tmp_path, model):
    monkeypatch.setattr(DatasetCatalog, "_entries", dict(DatasetCatalog._entries))
    monkeypatch.setattr(logging.getLogger("dl_lib"), "propagate", True)

    def evaluate(lost=(), name=NAME):
        scenes = Scenes(lost)
        DatasetCatalog.register(name, lambda: scenes, replace(META, labelled=False))
        cfg = get_cfg()
        cfg.merge_from_list([*SMALL, "DATASETS.TEST", [name], "DATALOADER.ON_ERROR", "skip"])
        with patch("dl_lib.evaluation.runner.run.write_report", return_value=()) as write:
            results = evaluate_datasets(cfg, model, tmp_path)
        return results[name], write.call_args.kwargs["shown"][name], build_test_loader(cfg, name).dataset

    return evaluate


def test_shown_images_are_those_of_the_evaluation(evaluate, model):
    before = torch.random.get_rng_state()
    result, shown, dataset = evaluate()
    assert torch.equal(torch.random.get_rng_state(), before) and all(module.training for module in model.modules())
    assert [image.position for image in shown] == list(shown_positions(result)) and len(shown) == 3
    scenes = DatasetCatalog.get("digit_scenes_val")
    for image in shown:
        index = [0, 2, 3, 4, 5][image.position]  # the second sample is skipped
        record, pixels = result.images[image.position], scenes[index]["image"]
        assert record.image_id == scenes[index]["image_id"]
        np.testing.assert_array_equal(image.image, pixels)
        with torch.inference_mode():
            (output,) = model.eval()([dataset[SampleKey(0, index)]])
        model.train()
        classes = output["sem_seg"].argmax(dim=0).numpy()
        np.testing.assert_array_equal(image.prediction, overlay_labels(pixels, classes, meta=META))
        names = [META.class_names[value] for value in np.unique(classes)]
        assert image.colors == {name: META.class_colors[META.class_names.index(name)] for name in names}
        assert image.real_all_open_madds >= record.costs.real > 0


def test_samples_that_became_unreadable_are_omitted(evaluate, caplog):
    result, shown, _ = evaluate()
    lost = [0, 2, 3, 4, 5][shown[0].position]
    again, remaining, _ = evaluate([lost], "again")
    assert again.images[0].costs == result.images[0].costs and again.num_images == 5
    assert [image.position for image in remaining] == [image.position for image in shown[1:]]
    assert f"is omitted from the figure of routes: scene {lost} is damaged" in caplog.text


def test_large_images_are_reduced(evaluate, monkeypatch):
    monkeypatch.setattr(image_routes, "_LONGEST_SIDE_PX", 40)
    _, shown, _ = evaluate()
    assert {array.shape for image in shown for array in (image.image, image.prediction)} == {(40, 40, 3)}
