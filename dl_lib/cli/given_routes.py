"""Fixed routes given on the command line, and networks that hold a route of a trained one."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from dl_lib.cli.arg_types import comma_separated
from dl_lib.config import CfgNode, ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from dl_lib.inference.freezing import FixedValues
    from dl_lib.modeling import DynamicNet4Seg
    from dl_lib.modeling.dynamic.route import Route

__all__ = ["add_gates_option", "add_route_option", "build_network", "gate_values", "given_route", "with_route"]


def add_route_option(parser: argparse._ActionsContainer) -> None:
    """Add `--route`."""
    parser.add_argument("--route", type=comma_separated, metavar="ROUTE", help="name, .json file or edges")


def add_gates_option(parser: argparse._ActionsContainer) -> None:
    """Add `--gates`, see `gate_values`."""
    parser.add_argument(
        "--gates", choices=("mean", "one"), help="values of the gates (default: one for hard gates, otherwise mean)"
    )


def gate_values(cfg: CfgNode, arguments: argparse.Namespace) -> FixedValues:
    """Return the values of the gates: those given, otherwise one for hard gates and the mean for others."""
    values: FixedValues = arguments.gates or ("one" if cfg.MODEL.GATE.KIND == "hard" else "mean")
    return values


def given_route(
    cfg: CfgNode, model: DynamicNet4Seg, arguments: argparse.Namespace, *, gates: Callable[[], Tensor]
) -> Route:
    """Return the fixed route of `--route` and `--gates`.

    Args:
        cfg: Config of the model.
        model: Model with learned gates.
        arguments: Arguments with `route` and `gates`.
        gates: Function that evaluates the gates (images, edges) of the dataset, called if their means are needed.

    Raises:
        ConfigError: If the route is invalid, or the model lacks a part of it.
    """
    from dl_lib.inference.freezing import with_fixed_values
    from dl_lib.modeling.dynamic.configured_route import ROUTE_KEY, configured_route

    given = configured_route(cfg.with_values({ROUTE_KEY: arguments.route}), key="--route")
    route_weights(model, with_fixed_values(given, None))  # reports missing edges before the dataset is evaluated
    needs_means = gate_values(cfg, arguments) == "mean" and not {None, 1.0}.isdisjoint(given.gates.values())
    try:
        return with_fixed_values(given, gates() if needs_means else None)
    except ValueError as error:
        raise ConfigError(f"--route: {error}") from error


def route_weights(model: DynamicNet4Seg, route: Route) -> dict[str, Tensor]:
    """Return the weights of the network that holds only a route.

    Raises:
        ConfigError: If the model lacks a part of the route.
    """
    from dl_lib.inference.freezing import route_state_dict

    try:
        return route_state_dict(model, route)
    except ValueError as error:
        raise ConfigError(f"the route does not fit RUN: {error}") from error


def with_route(cfg: CfgNode, route: Route) -> CfgNode:
    """Return the config of the network that holds only a route.

    Without weights, budget and latency table: target and table refer to the network of the run.
    """
    from dl_lib.modeling.dynamic.configured_route import ROUTE_KEY

    budget = {"MODEL.BUDGET.CONSTRAIN": False, "MODEL.BUDGET.SPREAD": 0.0, "MODEL.BUDGET.LATENCY_TABLE": ""}
    return cfg.with_values({ROUTE_KEY: route.entries(), "MODEL.WEIGHTS": "", **budget})


def build_network(cfg: CfgNode, model: DynamicNet4Seg, route: Route) -> DynamicNet4Seg:
    """Build the network that holds only a route, with the weights of the model.

    Args:
        cfg: Config of the model.
        model: Model of a run.
        route: Route for `MODEL.BACKBONE.ROUTE`.

    Raises:
        ConfigError: As in `route_weights`.
    """
    from dl_lib.engine import build_configured_model
    from dl_lib.modeling import DynamicNet4Seg

    weights = route_weights(model, route)
    network = build_configured_model(with_route(cfg, route))
    assert isinstance(network, DynamicNet4Seg), "the config differs in the route"
    network.load_state_dict(weights)
    return network
