"""Loading of weights into a model, strict by key and shape except for explicitly allowed parts."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from dl_lib.checkpoint.conversion.registry import ConversionError, Translation, convert
from dl_lib.checkpoint.errors import CheckpointError
from dl_lib.checkpoint.matching import CheckpointMismatchError, find_mismatch
from dl_lib.checkpoint.partial_loading import describe_allowed_mismatch, split_mismatch

__all__ = ["convert_weights", "load_weights"]

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
    model.load_state_dict({**own, **fitting}, strict=True)
