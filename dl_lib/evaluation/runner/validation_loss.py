"""Validation loss."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import nn

from dl_lib.config import ConfigError
from dl_lib.data import build_test_loader
from dl_lib.evaluation.runner.run import SampleBatches
from dl_lib.utils import comm
from dl_lib.utils.modes import evaluation_mode
from dl_lib.utils.progress import progress_bar

__all__ = ["TOTAL_LOSS", "loss_metric", "mean_losses", "validation_losses"]

TOTAL_LOSS = "total_loss"  # sum of the losses


def validation_losses(cfg: CfgNode, model: nn.Module, *, dataset_names: Iterable[str]) -> dict[str, float]:
    """Compute the label losses on datasets; a collective with equal results on all processes.

    The mean is over the images with labelled pixels. Images and labels are only resized, as `INPUT` specifies for
    testing. The budget loss is excluded: its weight grows during training, so that values of different iterations would
    not be comparable.

    Args:
        cfg: Configuration of the run.
        model: Model in training or evaluation mode, which is preserved.
        dataset_names: Datasets to evaluate on, with labels.

    Returns:
        Losses under names such as `<dataset>/val_loss_sem_seg`, and their sum `<dataset>/val_total_loss`; none of a
        dataset without labelled pixels.

    Raises:
        DataError: If a dataset is invalid.
        ConfigError: If the model has no label losses.
    """
    network = comm.unwrap(model)
    if not hasattr(network, "label_losses"):
        raise ConfigError(
            "TEST.VALIDATION_LOSS needs a model with label_losses (see SegmentationModel); set "
            f"TEST.VALIDATION_LOSS=False. Received: model={type(network).__name__}"
        )
    return {
        loss_metric(name, loss): value
        for name in dataset_names
        for loss, value in mean_losses(
            network,
            build_test_loader(cfg, name, transform_label=True),
            ignore_value=cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
            description=f"validation loss on {name}",
        ).items()
    }


def loss_metric(dataset: str, loss: str) -> str:
    """Return the name of a validation loss, such as `voc_2012_sem_seg_val/val_total_loss`."""
    return f"{dataset}/val_{loss}"


def mean_losses(
    model: Any, loader: SampleBatches, *, ignore_value: int, description: str = "validation loss"
) -> dict[str, float]:
    """Compute the losses of every image and average them over the labelled images of all processes; a collective.

    Images are evaluated one at a time, so that the result does not depend on the batches. An image whose pixels are all
    ignored has no loss.

    Args:
        model: Model with `label_losses`, see `SegmentationModel`; its training or evaluation mode is preserved.
        loader: Batches of this process, with labels `sem_seg` of the images' sizes; processes may have different
            numbers.
        ignore_value: Label of ignored pixels.
        description: Description of the progress bar.

    Returns:
        Each loss and `total_loss`; empty if no image has labelled pixels.
    """
    images, sums = 0, dict[str, float]()
    bar = progress_bar(len(loader), description=description, unit="image")
    with evaluation_mode(model), torch.inference_mode(), comm.single_process(), bar:
        for inputs in loader:
            for sample in inputs:
                if not (sample["sem_seg"] != ignore_value).any():
                    continue
                losses = {name: loss.item() for name, loss in model.label_losses([sample]).items()}
                for name, loss in {**losses, TOTAL_LOSS: sum(losses.values())}.items():
                    sums[name] = sums.get(name, 0.0) + loss
                images += 1
            bar.update()
    gathered = comm.all_gather((images, sums))
    total = sum(images for images, _ in gathered)
    names = dict.fromkeys(name for _, sums in gathered for name in sums)
    return {name: sum(sums.get(name, 0.0) for _, sums in gathered) / total for name in names}
