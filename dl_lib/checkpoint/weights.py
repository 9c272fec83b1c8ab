"""Loading of weights into a model, strict by key and shape except for explicitly allowed parts."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dl_lib.checkpoint.conversion.registry import ConversionError, Translation, convert
from dl_lib.checkpoint.errors import CheckpointError
from dl_lib.checkpoint.matching import CheckpointMismatchError, find_mismatch, format_keys
from dl_lib.checkpoint.partial_loading import describe_allowed_mismatch, split_mismatch
from dl_lib.checkpoint.state_dict import state_dict_of

__all__ = ["check_values", "convert_weights", "load_ema_weights", "load_weights", "non_finite"]

_log = logging.getLogger(__name__)


def convert_weights(weights: Mapping[str, Tensor], *, model: nn.Module, path: str) -> Translation:
    """Translate a state dict of any registered format.

    Raises:
        CheckpointError: If the weights belong to a different kind of model.
    """
    try:
        return convert(weights, model=model)
    except ConversionError as error:
        raise CheckpointError(f"{error}, path={path!r}") from error


def load_weights(
    model: nn.Module,
    file: Translation | Mapping[str, Tensor],
    *,
    path: str,
    allow_missing_keys: Sequence[str] = (),
    allow_unexpected_keys: Sequence[str] = (),
) -> None:
    """Load a state dict of any registered format; a mismatch leaves the model unchanged.

    Args:
        model: Model without a parallel wrapper.
        file: Result of `convert_weights`, or its argument.
        path: Checkpoint file, for messages.
        allow_missing_keys: Components of the model's keys, such as "gate" or "sem_seg_head.predictor". Matching keys
            may be missing from the file or differ in shape; they keep their initialization.
        allow_unexpected_keys: Components of the file's keys that the model need not have; matching keys are ignored.

    Raises:
        CheckpointMismatchError: If any other key is missing, unexpected or of a different shape.
        CheckpointError: If the weights belong to a different kind of model.
    """
    if not isinstance(file, Translation):
        file = convert_weights(file, model=model, path=path)
    own = model.state_dict()
    mismatch = dataclasses.replace(find_mismatch(file.weights, model=own), untranslated=file.untranslated)
    forbidden, allowed = split_mismatch(
        mismatch,
        allow_missing_keys=allow_missing_keys,
        allow_unexpected_keys=allow_unexpected_keys,
        original_names=file.original_names,
    )
    if forbidden:
        raise CheckpointMismatchError(
            forbidden, path=path, original_names=file.original_names, model_keys=own, file_keys=file.file_keys
        )
    for text in describe_allowed_mismatch(allowed, model_keys=own, file_keys=file.file_keys):
        _log.info("%s: %s", path, text)
    fitting = {key: value for key, value in file.weights.items() if key in own and key not in mismatch.shapes}
    check_values(fitting, path=path, like=own, original_names=file.original_names)
    model.load_state_dict({**own, **fitting}, strict=True)


def load_ema_weights(model: nn.Module, checkpoint: Mapping[str, Any], *, path: str) -> bool:
    """Load the EMA weights of a checkpoint of this library, see `load_weights`; return False if it has none.

    Raises:
        CheckpointError: If they are not those of the model.
    """
    if "ema" not in checkpoint:
        return False
    state = checkpoint["ema"]
    weights = state.get("weights") if isinstance(state, Mapping) else None
    load_weights(model, state_dict_of(weights, path=path), path=path)
    return True


def check_values(
    weights: Mapping[str, Tensor],
    *,
    path: str,
    like: Mapping[str, Tensor] | None = None,
    original_names: Mapping[str, str] | None = None,
) -> None:
    """Check that all values are finite, and that tensors that are floating-point in `like` are so in `weights`.

    Args:
        weights: Tensors by key of the model.
        path: File, for the message.
        like: Tensors of the model, by key.
        original_names: Key in the file by key of the model, where they differ.

    Raises:
        CheckpointError: If not; the message lists the tensors by their key in the file.
    """
    integers = [key for key in weights if like and like[key].is_floating_point() > weights[key].is_floating_point()]
    for keys, requirement in ((integers, "floating-point numbers"), (non_finite(weights), "finite, not NaN or Inf")):
        if keys:
            names = [(original_names or {}).get(key, key) for key in keys]
            raise CheckpointError(
                f"weights must be {requirement}; nothing was loaded. Invalid ({len(names)}):\n{format_keys(names)}\n"
                f"Use another checkpoint, such as one from before the run diverged. Received: path={path!r}"
            )


def non_finite(weights: Mapping[str, Tensor]) -> list[str]:
    """Return the keys of tensors with NaN or infinite values."""
    return [key for key, value in weights.items() if value.is_floating_point() and not _is_finite(value)]


def _is_finite(value: Tensor) -> bool:
    return bool(torch.isfinite(value if value.element_size() > 1 else value.float()).all())  # float8 has no isfinite
