"""State dicts as they are in checkpoint files, and those of wrapped models.

Wrappers, of parallel training, `torch.compile`, Lightning Fabric and weight averaging, add prefixes to the keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dl_lib.checkpoint.errors import CheckpointError

__all__ = ["state_dict_of", "without_wrappers"]

_PARALLEL = "module"  # DistributedDataParallel, DataParallel, AveragedModel; also a possible name of a real module
_WRAPPERS = ("_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
# A chain of wrappers at any position, as submodules can be wrapped; `module` only next to one that is unmistakable.
_CHAIN = re.compile(rf"(?<![^.])(?:{_PARALLEL}\.)*(?:(?:{'|'.join(_WRAPPERS)})\.)+(?:{_PARALLEL}\.)*(?=[^.])")
_AVERAGED_COUNT = "n_averaged"  # of torch.optim.swa_utils.AveragedModel, next to the prefixed keys


def state_dict_of(content: Any, *, path: str) -> dict[str, Tensor]:
    """Return a state dict of dense tensors, see `without_wrappers`.

    Raises:
        CheckpointError: If the content is anything else.
    """
    weights = dict(content) if isinstance(content, Mapping) else {}
    others = [key for key, value in weights.items() if not (_is_dense(value) or isinstance(value, np.ndarray))]
    if others or not weights:
        found = f"non-tensor keys {others[:5]}" if others else f"a {type(content).__name__} without tensors"
        raise CheckpointError(
            f"no state dict in this file; expected {{'model': state_dict}}, {{'state_dict': state_dict}} or a bare "
            f"state dict (names to tensors). Received: path={path!r} with {found}"
        )
    named = without_wrappers({str(key): value for key, value in weights.items()})
    return {key: torch.as_tensor(value) for key, value in named.items()}


def without_wrappers(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state dict with the keys of the wrapped model.

    `module.` is removed only if all keys begin with it. If two keys would become equal, all keep their names.
    """
    names = {key: _CHAIN.sub("", key) for key in weights}
    prefixed = {key: name for key, name in names.items() if name != _AVERAGED_COUNT}
    while prefixed and all(name.startswith(f"{_PARALLEL}.") for name in prefixed.values()):
        names = prefixed = {key: name.removeprefix(f"{_PARALLEL}.") for key, name in prefixed.items()}
    if len(set(names.values())) < len(names):
        return dict(weights)
    return {name: weights[key] for key, name in names.items()}


def _is_dense(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not (value.is_meta or value.is_quantized)
