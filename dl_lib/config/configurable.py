"""`@configurable`: constructors with plain keyword arguments that also accept a config (detectron2).

The classmethod `from_config` maps a config to the arguments of the constructor::

    class Head(nn.Module):
        @configurable
        def __init__(self, *, channels: int) -> None: ...

        @classmethod
        def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
            return {"channels": input_shape.channels * cfg.MODEL.WIDTH}

    Head(channels=8)                       # plain arguments
    Head(cfg, input_shape)                 # arguments from from_config
    Head(cfg, input_shape, channels=8)     # the same, with one argument replaced
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from fvcore.common.config import CfgNode as _FvcoreNode

__all__ = ["configurable"]


def configurable(init: Callable[..., None]) -> Callable[..., None]:
    """Decorate an `__init__` so that its first argument (or `cfg=`) can be a config.

    Keyword arguments that are parameters of `from_config` are passed to it. All others are passed to the constructor
    and override what `from_config` returns. A subclass with its own constructor must decorate it as well.

    Raises:
        TypeError: When decorating, if the function is not an `__init__`. When called, if the class has no classmethod
            `from_config` whose first parameter is `cfg`, or it does not return a dict of constructor arguments.
    """
    if not inspect.isfunction(init) or init.__name__ != "__init__":
        raise TypeError(f"@configurable must decorate the __init__ of a class. Received: {init!r}")

    @functools.wraps(init)
    def construct(self: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(args[0] if args else kwargs.get("cfg"), _FvcoreNode):
            init(self, **_arguments_from_config(type(self), init, args, kwargs))
        else:
            init(self, *args, **kwargs)

    return construct


def _arguments_from_config(
    owner: type, init: Callable[..., None], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    from_config = _from_config_of(owner)
    parameters = inspect.signature(from_config).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for_config = {name: value for name, value in kwargs.items() if takes_any or name in parameters}
    explicit = {name: value for name, value in kwargs.items() if name not in for_config}
    arguments = from_config(*args, **for_config)
    if not isinstance(arguments, dict):
        raise TypeError(
            f"{owner.__name__}.from_config must return a dict of constructor arguments. "
            f"Received: {type(arguments).__name__}"
        )
    arguments = {**arguments, **explicit}
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
            f"the first parameter of {owner.__name__}.from_config must be named cfg. "
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
            f"the constructor of {owner.__name__} accepts {names}; from_config or the call passed others. "
            f"Received: {', '.join(unknown)}"
        )
