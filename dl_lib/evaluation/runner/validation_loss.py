"""Validation loss."""

from __future__ import annotations

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

__all__ = ["mean_losses", "validation_losses"]


def validation_losses(cfg: CfgNode, model: nn.Module) -> dict[str, float]:
    """Compute the label losses on every dataset of `DATASETS.TEST`; a collective with equal results on all processes.

    Images and labels are only resized, as `INPUT` specifies for testing. The budget loss is excluded: its weight
    grows during training, so that values of different iterations would not be comparable.

    Args:
        cfg: Configuration of the run.
        model: Model in training or evaluation mode, which is preserved.

    Returns:
        Losses under names such as `<dataset>/val_loss_sem_seg`, and their sum `<dataset>/val_total_loss`.

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
        f"{name}/val_{loss}": value
        for name in cfg.DATASETS.TEST
        for loss, value in mean_losses(
            network, build_test_loader(cfg, name, transform_label=True), description=f"validation loss on {name}"
        ).items()
    }


def mean_losses(model: Any, loader: SampleBatches, *, description: str = "validation loss") -> dict[str, float]:
    """Compute the losses of every batch and average them over the images of all processes; a collective.

    Args:
        model: Model with `label_losses`, see `SegmentationModel`; its training or evaluation mode is preserved.
        loader: Batches of this process, with labels of the images' sizes; processes may have different numbers.
        description: Description of the progress bar.

    Returns:
        Each loss and `total_loss`; empty if no image is usable.
    """
    images, sums = 0, dict[str, float]()
    bar = progress_bar(len(loader), description=description, unit="image")
    with evaluation_mode(model), torch.inference_mode(), comm.single_process(), bar:
        for inputs in loader:
            losses = {name: loss.item() for name, loss in model.label_losses(inputs).items()}
            for name, loss in {**losses, "total_loss": sum(losses.values())}.items():
                sums[name] = sums.get(name, 0.0) + loss * len(inputs)
            images += len(inputs)
            bar.update()
    gathered = comm.all_gather((images, sums))
    total = sum(images for images, _ in gathered)
    names = dict.fromkeys(name for _, sums in gathered for name in sums)
    return {name: sum(sums.get(name, 0.0) for _, sums in gathered) / total for name in names}
