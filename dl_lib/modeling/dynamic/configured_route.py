"""Route of a config: `MODEL.BACKBONE.ROUTE` as a name, a file or a list of entries."""

from __future__ import annotations

from pathlib import Path

from dl_lib.config import CfgNode, ConfigError
from dl_lib.config.errors import shown
from dl_lib.config.paths import expand_path
from dl_lib.modeling.dynamic.lattice import Lattice
from dl_lib.modeling.dynamic.named_routes import NAMED_ROUTES
from dl_lib.modeling.dynamic.route import Route
from dl_lib.utils.files import read_regular
from dl_lib.utils.names import nearest_names

__all__ = ["ROUTE_KEY", "configured_route", "embed_route_file"]

ROUTE_KEY = "MODEL.BACKBONE.ROUTE"
_FILE_SUFFIX = ".json"
_MAX_FILE_BYTES = 2**20  # several times the JSON of the largest lattice


def configured_route(cfg: CfgNode, *, key: str = ROUTE_KEY) -> Route:
    """Return the route of a config, by default the whole lattice with the gates of `MODEL.GATE`.

    Args:
        cfg: Config.
        key: Name of the route in messages.

    Raises:
        ConfigError: If there is no such name or file, or the route or the lattice is invalid.
    """
    entries, gated = cfg.MODEL.BACKBONE.ROUTE, cfg.MODEL.GATE.GATE_ON
    try:
        lattice = Lattice(cfg.MODEL.BACKBONE.CELL_NUM_LIST)
    except ValueError as error:
        raise ConfigError(f"MODEL.BACKBONE.CELL_NUM_LIST: {error}") from error
    if not entries:
        return Route.whole(lattice, gated=gated)
    try:
        route = _read(entries, lattice, key=key)
    except ValueError as error:
        received = "" if "Received" in str(error) else f". Received: {key}={shown(entries)}"
        raise ConfigError(f"{key}: {error}{received}") from error
    if not (route.is_fixed or gated):
        raise ConfigError(
            f"{key} must not contain learned gates with MODEL.GATE.GATE_ON=False; set it to True, or give the "
            "edges fixed values. Received: MODEL.GATE.GATE_ON=False"
        )
    return route


def embed_route_file(cfg: CfgNode) -> None:
    """Replace the file of `MODEL.BACKBONE.ROUTE` by its entries, so that the config does not depend on the file.

    Raises:
        ConfigError: As in `configured_route`.
    """
    if _file_of(cfg.MODEL.BACKBONE.ROUTE):
        cfg.MODEL.BACKBONE.ROUTE = configured_route(cfg).entries()


def _read(entries: list[str], lattice: Lattice, *, key: str) -> Route:
    first = entries[0]
    if path := _file_of(entries):
        route = Route.from_json(_content(path, key=key))
        if route.lattice != lattice:
            raise ValueError(
                f"{path} must be a route of this lattice; use the MODEL.BACKBONE.CELL_NUM_LIST of the file, "
                f"{list(route.lattice.cells_per_layer)}"
            )
        return route
    if len(entries) == 1 and "." not in first:
        if first not in NAMED_ROUTES:
            raise ValueError(
                "must be the name of a route, a .json file or entries such as layer0_stride4.keep; "
                f"{nearest_names(first, NAMED_ROUTES)}"
            )
        return NAMED_ROUTES[first].build(lattice)
    return Route.parse(lattice, entries)


def _content(path: Path, *, key: str) -> bytes:
    try:
        return read_regular(expand_path(path, key=key), max_bytes=_MAX_FILE_BYTES)
    except OSError as error:
        raise ValueError(
            f"the route file cannot be read: {error.strerror or error}; use a path relative to the current directory, "
            "such as that of the route.json which dl_lib freeze-route writes"
        ) from error


def _file_of(entries: list[str]) -> Path | None:
    return Path(entries[0]) if len(entries) == 1 and entries[0].endswith(_FILE_SUFFIX) else None
