"""Weights of a file into a model: all of them by name and shape, but for what is named as an exception."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from dl_lib.checkpoint.conversion.classifiers import is_classifier, translate_classifier
from dl_lib.checkpoint.conversion.plain_convs import convert_plain_convs
from dl_lib.checkpoint.conversion.released import Translation, is_released, translate_released
from dl_lib.checkpoint.errors import CheckpointError
from dl_lib.checkpoint.matching import CheckpointMismatchError, find_mismatch
from dl_lib.checkpoint.partial_loading import describe_allowed_mismatch, split_mismatch

__all__ = ["load_weights"]

_log = logging.getLogger(__name__)


def load_weights(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    *,
    path: str,
    allow_missing_keys: Sequence[str] = (),
    allow_unexpected_keys: Sequence[str] = (),
) -> None:
    """Loads all of a model or, on an error, nothing; what is left out is listed in the log with its reason.

    Args:
        model: without a parallel wrapper.
        weights: by our names or by those of the published code.
        path: where the weights are from, for messages.
        allow_missing_keys: parts of the model that the file need not hold, or holds in another shape, by components of
            the model's keys: "gate", "sem_seg_head.predictor". They stay as they are.
        allow_unexpected_keys: parts of the file that the model need not have a place for, by components of the keys.

    Raises:
        CheckpointMismatchError: if anything else differs by name or shape; lists what is left over on both sides.
        CheckpointError: if the weights are of the published dynamic network and the model is none.
    """
    file = convert_plain_convs(_in_our_names(weights, model=model, path=path), model=model)
    own = model.state_dict()
    found = dataclasses.replace(find_mismatch(file.weights, model=own), untranslated=file.untranslated)
    wrong, left = split_mismatch(
        found,
        allow_missing_keys=allow_missing_keys,
        allow_unexpected_keys=allow_unexpected_keys,
        original_names=file.original_names,
    )
    if wrong:
        raise CheckpointMismatchError(
            wrong, path=path, original_names=file.original_names, model_keys=own, file_keys=weights
        )
    for text in describe_allowed_mismatch(left, model_keys=own, file_keys=weights):
        _log.info("%s: %s", path, text)
    fitting = {key: value for key, value in file.weights.items() if key in own and key not in found.shapes}
    model.load_state_dict({**own, **fitting}, strict=True)


def _in_our_names(weights: Mapping[str, Tensor], *, model: nn.Module, path: str) -> Translation:
    if is_classifier(weights):
        return translate_classifier(weights)
    if not is_released(weights):
        return Translation(weights, original_names={}, untranslated={})
    cell_types = getattr(getattr(model, "backbone", None), "cell_types", None)
    if cell_types is None:
        raise CheckpointError(
            f"these are weights of the published dynamic network, and the model is none: it has no "
            f"backbone.cell_types. Received: model={type(model).__name__}, path={path!r}"
        )
    translation = translate_released(weights, cell_types=cell_types)
    _log.info("%d keys of the published code translated", len(translation.original_names))
    return translation
