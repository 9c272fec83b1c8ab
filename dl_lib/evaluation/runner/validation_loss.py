"""The training's losses on data that is not trained on."""

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
    """The losses of labels on every data set of `DATASETS.TEST`; every process has to call it, and gets the same.

    Images and labels are resized as `INPUT` says for tests, and nothing else. That of the budget is none of them: it
    grows as the training goes on, and losses are to be compared over the training.

    Args:
        cfg: the run's configuration.
        model: in either mode, which it keeps.

    Returns:
        By names such as `<data set>/val_loss_sem_seg`, their sum as `<data set>/val_total_loss`.

    Raises:
        DataError: if a data set cannot be used.
        ConfigError: if the model gives no such losses.
    """
    network = comm.unwrap(model)
    if not hasattr(network, "label_losses"):
        raise ConfigError(
            "this model has no label_losses (see SegmentationModel) that could be computed in evaluation mode; leave "
            f"TEST.VALIDATION_LOSS off. Received: {type(network).__name__}"
        )
    return {
        f"{name}/val_{loss}": value
        for name in cfg.DATASETS.TEST
        for loss, value in mean_losses(
            network, build_test_loader(cfg, name, transform_label=True), description=f"validation loss on {name}"
        ).items()
    }


def mean_losses(model: Any, loader: SampleBatches, *, description: str = "validation loss") -> dict[str, float]:
    """The losses of each batch by itself, averaged over the images of all processes; every process has to call it.

    Args:
        model: with `label_losses`, see `SegmentationModel`; in either mode, which it keeps.
        loader: this process's batches, with labels of the images' sizes; processes may have unequally many.
        description: of the progress bar.

    Returns:
        Each loss, and `total_loss`; nothing where no image could be used.
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
    shares = comm.all_gather((images, sums))
    total = sum(images for images, _ in shares)
    names = dict.fromkeys(name for _, sums in shares for name in sums)
    return {name: sum(sums.get(name, 0.0) for _, sums in shares) / total for name in names}
