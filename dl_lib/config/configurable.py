"""`@configurable`: a constructor with plain keyword arguments that can also be called with a configuration.

A class keeps its constructor free of configuration keys and says in one place, its classmethod `from_config`, how
arguments follow from a configuration::

    class Head(nn.Module):
        @configurable
        def __init__(self, *, channels: int) -> None: ...

        @classmethod
        def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
            return {"channels": input_shape.channels * cfg.MODEL.WIDTH}

    Head(channels=8)                       # plain
    Head(cfg, input_shape)                 # what from_config says
    Head(cfg, input_shape, channels=8)     # the same, with one argument set by hand
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from fvcore.common.config import CfgNode as _FvcoreNode

__all__ = ["configurable"]


def configurable(init: Callable[..., None]) -> Callable[..., None]:
    """Let `__init__` be called with a configuration as its first argument (or as `cfg=`).

    Keyword arguments that `from_config` has a parameter for go to it. The others go to the constructor and win over
    what `from_config` returned. A subclass with a constructor of its own decorates that one as well.

    Raises:
        TypeError: at the decoration, if the function is not an `__init__`; at the call, if the class has no classmethod
            `from_config` that takes `cfg` first and returns a dict, or that dict holds what the constructor lacks.
    """
    if not inspect.isfunction(init) or init.__name__ != "__init__":
        raise TypeError(f"@configurable decorates the __init__ of a class. Received: {init!r}")

    @functools.wraps(init)
    def construct(self: Any, *args: Any, **kwargs: Any) -> None:
        if not _starts_with_cfg(args, kwargs):
            init(self, *args, **kwargs)
            return
        owner = type(self)
        init(self, **_arguments_from_config(owner, init, args, kwargs))

    return construct


def _starts_with_cfg(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return isinstance(args[0] if args else kwargs.get("cfg"), _FvcoreNode)


def _arguments_from_config(
    owner: type, init: Callable[..., None], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    from_config = _from_config_of(owner)
    parameters = inspect.signature(from_config).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for_config = {name: value for name, value in kwargs.items() if takes_any or name in parameters}
    by_hand = {name: value for name, value in kwargs.items() if name not in for_config}
    arguments = from_config(*args, **for_config)
    if not isinstance(arguments, dict):
        raise TypeError(
            f"{owner.__name__}.from_config must return a dict of constructor arguments. "
            f"Received: {type(arguments).__name__}"
        )
    arguments = {**arguments, **by_hand}
    _check_accepted(owner, init, arguments)
    return arguments


def _from_config_of(owner: type) -> Callable[..., Any]:
    from_config = getattr(owner, "from_config", None)
    if not inspect.ismethod(from_config) or from_config.__self__ is not owner:
        raise TypeError(
            f"{owner.__name__} has a @configurable constructor and needs a classmethod from_config(cls, cfg, ...) "
            f"that returns its arguments. Received: from_config={from_config!r}"
        )
    if next(iter(inspect.signature(from_config).parameters), None) != "cfg":
        raise TypeError(
            f"the first argument of {owner.__name__}.from_config must be called cfg. "
            f"Received: from_config{inspect.signature(from_config)}"
        )
    return from_config


def _check_accepted(owner: type, init: Callable[..., None], arguments: dict[str, Any]) -> None:
    accepted = inspect.signature(init).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values()):
        return
    unknown = sorted(set(arguments) - set(accepted))
    if unknown:
        names = ", ".join(name for name in accepted if name != "self")
        raise TypeError(
            f"the constructor of {owner.__name__} takes {names}; from_config or the call gave others. "
            f"Received: {', '.join(unknown)}"
        )
