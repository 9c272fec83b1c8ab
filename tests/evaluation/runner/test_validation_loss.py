"""Validation loss, compared with the loss computed from predictions."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dl_lib.config import ConfigError
from dl_lib.data import DatasetCatalog, build_test_loader
from dl_lib.engine.training.random_state import get_random_state
from dl_lib.evaluation.runner.validation_loss import mean_losses, validation_losses
from dl_lib.modeling.losses.cross_entropy import HardExamples, PixelCrossEntropy
from dl_lib.utils import comm
from tests.helpers.small_run import DATASET, assert_equal, make_trainer, metrics
from tests.helpers.training import restore_logging

SIZE = 64  # shorter edge after resizing, of images and labels


def nearest(label, height, width):
    """Resize by nearest neighbour: the pixels that contain the new centers."""
    rows = ((np.arange(height) + 0.5) * label.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * label.shape[1] / width).astype(int)
    return torch.from_numpy(label[rows][:, columns].astype(np.int64))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    overrides = [
        *("TEST.VALIDATION_LOSS", True, "INPUT.MIN_SIZE_TEST", SIZE, "SOLVER.LR_SCHEDULER.MAX_ITER", 2),
        *("TEST.EVAL_PERIOD", 0, "SOLVER.BEST_METRIC", f"{DATASET}/val_total_loss", "SOLVER.BEST_METRIC_MODE", "min"),
        *("SOLVER.ACCUMULATION_STEPS", 1, "SOLVER.EMA.DECAY", 0.0, "MODEL.LOSS.DICE_WEIGHT", 0.5),
    ]
    with restore_logging():
        trainer = make_trainer(folder, overrides)
        trainer.train()
    return trainer, folder


def test_equals_the_mean_of_explicit_losses(trained):
    trainer, folder = trained
    found, raw = metrics(folder)[-1], DatasetCatalog.get(DATASET)
    model, losses = trainer.evaluated_model.eval(), []
    for index, (sample,) in enumerate(build_test_loader(trainer.cfg, DATASET)):
        logits = model([{"image": sample["image"]}])[0]["sem_seg"]
        label = nearest(raw[index]["sem_seg"], *logits.shape[-2:])
        losses.append(F.cross_entropy(logits[None], label[None], ignore_index=255).item())
    assert sample["sem_seg"].shape != logits.shape[-2:]  # scores use another size
    assert found[f"{DATASET}/val_loss_sem_seg"] == pytest.approx(np.mean(losses), rel=1e-5)
    names = {name for name in found if "/val_" in name}
    assert names == {f"{DATASET}/val_{name}" for name in ("loss_sem_seg", "loss_dice", "total_loss")}
    parts = found[f"{DATASET}/val_loss_sem_seg"] + found[f"{DATASET}/val_loss_dice"]
    assert found[f"{DATASET}/val_total_loss"] == pytest.approx(parts, rel=1e-9)


def test_best_checkpoint_can_be_selected_by_it(trained):
    best = torch.load(trained[1] / "model_best.pth", weights_only=True)["best"]
    assert best["metric"] == f"{DATASET}/val_total_loss"
    assert best["value"] == metrics(trained[1])[-1][f"{DATASET}/val_total_loss"]


def test_model_is_unchanged(trained):
    trainer = trained[0]
    model = trainer.evaluated_model.train()
    model.sem_seg_head.eval()  # each module keeps its mode
    modes = [module.training for module in model.modules()]
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    before = get_random_state()
    first = validation_losses(trainer.cfg, model, dataset_names=trainer.cfg.DATASETS.TEST)
    assert validation_losses(trainer.cfg, model, dataset_names=trainer.cfg.DATASETS.TEST) == first
    assert_equal(get_random_state(), before, path="random_state")
    assert_equal(dict(model.state_dict()), weights, path="model")
    assert [module.training for module in model.modules()] == modes


def test_model_without_label_losses_is_rejected(trained):
    with pytest.raises(ConfigError, match=r"label_losses.*TEST\.VALIDATION_LOSS=False\. Received: model=Linear"):
        validation_losses(trained[0].cfg, nn.Linear(1, 1), dataset_names=[])


class HardPixels(nn.Module):
    """Model with hard example mining, whose normalization is a collective in training."""

    loss = PixelCrossEntropy(255, hard_examples=HardExamples(0.5, 0.1))

    def label_losses(self, inputs):
        logits, labels = (torch.stack([sample[key] for sample in inputs]) for key in ("logits", "sem_seg"))
        return {"loss_sem_seg": self.loss(logits, labels)}


class Images(list):
    """Batches of images."""

    skipped = ()


def losses_of(*images, batch_size=1):
    starts = range(0, len(images), batch_size)
    return mean_losses(HardPixels(), Images(images[start : start + batch_size] for start in starts), ignore_value=255)


def make_images(*, labelled):
    """Return images with the given numbers of labelled pixels."""
    random = torch.Generator().manual_seed(0)
    images = []
    for count in labelled:
        label = torch.randint(3, (16,), generator=random)
        label[count:] = 255
        images.append({"logits": torch.randn(3, 4, 4, generator=random), "sem_seg": label.view(4, 4)})
    return images


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_images_without_labelled_pixels_are_not_averaged(batch_size):
    images = make_images(labelled=[16, 0, 3, 0, 1])
    alone = [losses_of(image)["total_loss"] for image in images if (image["sem_seg"] != 255).any()]
    found = losses_of(*images, batch_size=batch_size)
    assert found["loss_sem_seg"] == found["total_loss"] == pytest.approx(np.mean(alone), rel=1e-6)
    assert losses_of(images[1], images[3]) == {}


def test_processes_with_different_numbers_of_images_average_over_all(monkeypatch):
    images = make_images(labelled=[16, 9, 0, 16, 0])
    whole = losses_of(*images)
    monkeypatch.setattr(comm.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(comm.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(comm.dist, "get_rank", lambda: 0)
    # A collective inside the loop would hang: the other process may have no image left.
    monkeypatch.setattr(comm.dist, "all_reduce", lambda values: pytest.fail("it talks to the other process"))
    gathered = []
    monkeypatch.setattr(comm, "all_gather", lambda value: gathered.append(value) or gathered)
    losses_of(images[0], images[2])
    assert losses_of(*images[3:], images[1]) == pytest.approx(whole, rel=1e-6)
    assert [images for images, _ in gathered] == [1, 2]
    assert losses_of(images[2]) == pytest.approx(whole, rel=1e-6)  # a third process without a labelled image
    assert comm.get_world_size() == 2
