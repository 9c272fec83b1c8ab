"""Latency tables as JSON files, and the network that a table belongs to."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, get_args

from dl_lib.config import CfgNode, ConfigError
from dl_lib.config.choices import InferencePrecision
from dl_lib.config.crop_size import resolved_crop
from dl_lib.config.errors import shown
from dl_lib.modeling.build import resolve_device
from dl_lib.modeling.costs.latency import LatencyConditions, LatencyTable
from dl_lib.modeling.dynamic.configured_route import ROUTE_KEY, configured_route
from dl_lib.modeling.dynamic.lattice import Edge, Node
from dl_lib.modeling.dynamic.route import Route
from dl_lib.utils.device_name import device_name
from dl_lib.utils.files import read_regular
from dl_lib.utils.rounding import round_up

__all__ = [
    "LATENCY_KEY",
    "configured_latency",
    "latency_from_json",
    "latency_to_json",
    "network_values",
    "training_latency",
]

LATENCY_KEY = "MODEL.BUDGET.LATENCY_TABLE"
_NETWORK_KEYS = (  # that determine the parts and their speed, besides the route
    "MODEL.CHANNELS_LAST",
    *("MODEL.BACKBONE.NAME", "MODEL.BACKBONE.INIT_CHANNEL", "MODEL.BACKBONE.CELL_TYPE", "MODEL.BACKBONE.SEPT_STEM"),
    *("MODEL.BACKBONE.NORM", "MODEL.GATE.SMALL_GATE", "MODEL.SEM_SEG_HEAD.NAME", "MODEL.SEM_SEG_HEAD.NUM_CLASSES"),
    *("MODEL.SEM_SEG_HEAD.NORM", "MODEL.SEM_SEG_HEAD.CHANNELS"),
)
_SCALARS, _MAPPINGS = ("stem", "head", "decisions"), ("operations", "gates", "transitions")
_UNIT = "ms per image"
_MAX_FILE_BYTES = 2**22  # several times the table of the largest lattice
_MAX_MS = 1e9
_MAX_SIDE_PX, _MAX_THREADS, _MAX_TEXT = 2**20, 2**16, 1000

Part = TypeVar("Part", Node, Edge)


def network_values(cfg: CfgNode) -> dict[str, Any]:
    """Return the config values that determine the parts of the network other than its route, by key."""
    values = cfg.flat()
    return {key: values[key] for key in _NETWORK_KEYS}


def configured_latency(cfg: CfgNode) -> LatencyTable:
    """Read the latency table of a config.

    Raises:
        ConfigError: If there is no such file, it contains no latency table, or the table is that of another network.
    """
    path = cfg.MODEL.BUDGET.LATENCY_TABLE
    if not path:
        raise _error(cfg, "must be set with MODEL.BUDGET.TARGET_UNIT=ms")
    try:
        table = latency_from_json(read_regular(path, max_bytes=_MAX_FILE_BYTES))
    except OSError as error:
        raise _error(cfg, f"cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise _error(cfg, f"must be a latency table: {error}") from error
    expected, measured = network_values(cfg), table.conditions
    changes = [
        f"{key} was {shown(value)}, not {shown(expected[key])}"
        for key, value in measured.network.items()
        if value != expected[key]
    ]
    if measured.route != configured_route(cfg):
        changes.append(f"it has another lattice or {ROUTE_KEY}")
    if changes:
        raise _error(cfg, f"must be a table of this network, but is that of another network: {', '.join(changes)}")
    return table


def training_latency(cfg: CfgNode, *, size_divisor: int) -> LatencyTable:
    """Read the latency table of a training run whose crops are padded to multiples of `size_divisor`.

    Raises:
        ConfigError: As in `configured_latency`, or if the table is that of another device or image size.
    """
    table = configured_latency(cfg)
    device, measured = device_name(resolve_device(cfg.MODEL.DEVICE)), table.conditions
    if measured.device != device:
        raise _error(
            cfg,
            f"must be measured on the device of the training run, {device}, but is a table of another device, "
            f"{measured.device}",
        )
    height, width = (round_up(side, size_divisor) for side in resolved_crop(cfg))
    if measured.size != (height, width):
        raise _error(
            cfg,
            f"must be measured at the size of the padded training crops, {height}x{width}, but is a table of another "
            "size, {}x{}".format(*measured.size),
        )
    return table


def _error(cfg: CfgNode, problem: str) -> ConfigError:
    return ConfigError(
        f"{LATENCY_KEY} {problem}; measure a table with dl_lib profile-costs. "
        f"Received: {LATENCY_KEY}={cfg.MODEL.BUDGET.LATENCY_TABLE!r}"
    )


def latency_to_json(table: LatencyTable) -> str:
    """Return a table as JSON, which `latency_from_json` reads back to an equal table."""
    conditions = table.conditions
    content = {
        "unit": _UNIT,
        "device": conditions.device,
        "threads": conditions.threads,
        "precision": conditions.precision,
        "versions": dict(conditions.versions),
        "size": list(conditions.size),
        "network": dict(conditions.network),
        "route": conditions.route.to_content(),
        **{name: getattr(table, name) for name in _SCALARS},
        "operations": _by_name(table.operations, conditions.route.cells),
        "gates": _by_name(table.gates, _gated(conditions.route)),
        "transitions": _by_name(table.transitions, conditions.route.edges),
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def latency_from_json(text: str | bytes) -> LatencyTable:
    """Read a latency table from JSON, as written by `latency_to_json`.

    Raises:
        ValueError: If the text is not the JSON of a latency table.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it contains no JSON ({error})") from error
    names = [*_CONDITIONS, "route", *_SCALARS, *_MAPPINGS]
    if not isinstance(content, dict) or content.keys() != {*names}:
        raise ValueError(f"it must be an object with the keys {', '.join(names)}")
    for name, is_valid in _CONDITIONS.items():
        if not is_valid(content[name]):
            raise ValueError(f"{name} is invalid")
    route = Route.from_content(content["route"])
    known = {name: content[name] for name in ("device", "threads", "precision", "versions", "network")}
    table = LatencyTable.of_parts(
        LatencyConditions(**known, size=(content["size"][0], content["size"][1]), route=route),
        scalars={name: _milliseconds(content[name], name=name) for name in _SCALARS},
        operations=_by_part(content["operations"], route.cells, name="operations"),
        gates=_by_part(content["gates"], _gated(route), name="gates"),
        transitions=_by_part(content["transitions"], route.edges, name="transitions"),
    )
    if not table.expected_all_open:
        raise ValueError("operations and transitions must not all be 0")
    return table


def _gated(route: Route) -> tuple[Node, ...]:
    """Return the cells with learned gates."""
    return tuple(node for node in route.cells if None in route.gates_of(node))


def _by_name(values: Mapping[Part, float], parts: Sequence[Part]) -> dict[str, float]:
    return {str(part): values[part] for part in parts}


def _by_part(values: Any, parts: Sequence[Part], *, name: str) -> dict[Part, float]:
    by_name = {str(part): part for part in parts}
    if not isinstance(values, dict) or values.keys() != by_name.keys():
        raise ValueError(f"{name} must have one value for each part of the route")
    return {part: _milliseconds(values[text], name=f"{name}.{text}") for text, part in by_name.items()}


def _milliseconds(value: Any, *, name: str) -> float:
    if type(value) not in (int, float) or not 0 <= value <= _MAX_MS:
        raise ValueError(f"{name} must be milliseconds from 0 to {_MAX_MS:g}")
    return float(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_TEXT


def _is_int(value: Any, *, high: int) -> bool:
    return type(value) is int and 1 <= value <= high


def _is_shallow(values: Mapping[str, Any]) -> bool:
    """Return whether the values are scalars or lists of scalars."""
    items = (item for value in values.values() for item in (value if isinstance(value, list) else [value]))
    return not any(isinstance(item, (list, dict)) for item in items)


def _is_size(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(_is_int(side, high=_MAX_SIDE_PX) for side in value)


_CONDITIONS: dict[str, Callable[[Any], bool]] = {  # name -> whether a value is valid
    "unit": lambda value: value == _UNIT,
    "device": _is_text,
    "threads": partial(_is_int, high=_MAX_THREADS),
    "precision": lambda value: value in get_args(InferencePrecision),
    "versions": lambda value: isinstance(value, dict) and all(map(_is_text, [*value, *value.values()])),
    "size": _is_size,
    "network": lambda value: isinstance(value, dict) and value.keys() == {*_NETWORK_KEYS} and _is_shallow(value),
}
