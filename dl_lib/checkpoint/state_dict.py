"""Key prefixes of modules that wrap a model: parallel training, `torch.compile`, Lightning Fabric, weight averaging."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

__all__ = ["without_wrappers"]

_PARALLEL = "module"  # DistributedDataParallel, DataParallel, AveragedModel; also a possible name of a real module
_WRAPPERS = ("_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
# A chain of wrappers at any position, as submodules can be wrapped; `module` only next to one that is unmistakable.
_CHAIN = re.compile(rf"(?<![^.])(?:{_PARALLEL}\.)*(?:(?:{'|'.join(_WRAPPERS)})\.)+(?:{_PARALLEL}\.)*(?=[^.])")
_AVERAGED_COUNT = "n_averaged"  # of torch.optim.swa_utils.AveragedModel, next to the prefixed keys

Value = TypeVar("Value")


def without_wrappers(weights: Mapping[str, Value]) -> dict[str, Value]:
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
