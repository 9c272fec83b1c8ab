"""State dict of a model as a safetensors file (https://huggingface.co/docs/safetensors)."""

from __future__ import annotations

import os

from safetensors.torch import save
from torch import nn

from dl_lib.utils.files import write_atomically

__all__ = ["write_weights"]


def write_weights(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write the state dict of a model to a file that `MODEL.WEIGHTS` accepts.

    Raises:
        WriteError: If the file cannot be written.
    """
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
    write_atomically(path, save(tensors, metadata={"format": "pt"}))
