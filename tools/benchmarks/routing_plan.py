"""Training runs of `does_routing_pay.py`: data sets, networks that are compared, and the results they depend on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from fixed_routes import frequent_route, random_route
from routing_training import RunSettings, load_config
from smp_models import SMP_MODELS

from dl_lib.data import build_test_loader
from dl_lib.modeling import build_model
from dl_lib.modeling.costs.costs import MADDS_PER_GFLOP
from dl_lib.modeling.costs.table import CostTable

ROOT = Path(__file__).parents[2]
DATA_SETS = {"scenes": "playground/Quickstart", "photos": "playground/Photos"}  # name -> experiment
BUDGETS = (0.25, 0.5, 0.75)  # of the cost with all gates open
MIDDLE = "hard-0.50"
HARD_GROUP, SMP_GROUP = "hard gates", "segmentation_models_pytorch"
RANDOM_ROUTES = 3
PENALTY_MU = {0.25: 0.15, 0.5: 0.45, 0.75: 0.74}  # with these targets, the penalty settles near the budgets
SMP_LR = {"unet-resnet18": 1e-3, "unet-mobilenet_v2": 1e-3, "deeplabv3plus-mobilenet_v2": 3e-3}  # docs/log.md
_NO_SPREAD = "MODEL.BUDGET.SPREAD=0"
_INIT_BIAS = {0.25: 0.5, 0.5: 0.5, 0.75: 1.5}  # of hard gates, by budget; low budgets require lower ones (docs/log.md)
_PENALTY = ("MODEL.BUDGET.CONTROL=penalty", "MODEL.BUDGET.LOSS_WEIGHT=0.5", _NO_SPREAD)  # published form
_SOFT = (*_PENALTY, "MODEL.GATE.KIND=soft", "MODEL.BUDGET.UNUPDATE_RATE=0.3", "SOLVER.OPTIMIZER.GATE_LR_MULTI=1")
_NO_GATES = ("MODEL.GATE.GATE_ON=False", "MODEL.BUDGET.CONSTRAIN=False", _NO_SPREAD)
_MAX_WIDTH = 256

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Request:
    """Request for the settings of one run.

    Attributes:
        data_set: Name in `DATA_SETS`.
        seed: Seed of the run.
        seeds: Seeds of all runs.
        opts: Overrides that all runs share.
        smp_lr: Learning rate of the networks of segmentation_models_pytorch, instead of `SMP_LR`.
        find_row: Function from a variant's name and a seed to the row of that finished run on the same data set.
    """

    data_set: str
    seed: int
    seeds: tuple[int, ...]
    opts: tuple[str, ...]
    smp_lr: float | None
    find_row: Callable[[str, int], Row]

    def settings(self, *opts: str, **values: Any) -> RunSettings:
        """Return the settings of the run with these overrides."""
        return RunSettings(DATA_SETS[self.data_set], (*self.opts, f"SEED={self.seed}", *opts), **values)

    def table(self, *opts: str) -> CostTable:
        """Return the costs of the network of the data set with these overrides."""
        return _cost_table(RunSettings(DATA_SETS[self.data_set], (*self.opts, *opts)))


@dataclass(frozen=True)
class Variant:
    """Network to train.

    Attributes:
        name: Name, unique.
        line: Line of the table; the routes drawn at random share one.
        group: Group of lines in the figure.
        make_settings: Function from a request to the settings of a run.
        data_sets: Data sets to train on.
    """

    name: str
    line: str
    group: str
    make_settings: Callable[[Request], RunSettings]
    data_sets: tuple[str, ...] = tuple(DATA_SETS)


def variants() -> tuple[Variant, ...]:
    """Return all variants; each comes after those that it depends on."""
    found = []
    gates = (
        ("hard", HARD_GROUP, _hard, tuple(DATA_SETS)),
        ("hard-penalty", "hard gates, penalty", _penalty, ("scenes",)),
        ("soft", "soft gates", _soft, tuple(DATA_SETS)),
    )
    for kind, group, make, data_sets in gates:
        for budget in BUDGETS:
            line = f"{group}, budget {budget:g}"
            found.append(Variant(_name(kind, budget), line, group, functools.partial(make, budget), data_sets))
    make = functools.partial(_spread, BUDGETS[1])
    found.append(
        Variant("hard-spread-0.50", "hard gates with spread, budget 0.5", "hard gates with spread", make, ("scenes",))
    )
    for budget in BUDGETS:
        line = f"all edges open, cost of budget {budget:g}"
        make = functools.partial(_open, budget)
        found.append(Variant(_name("open", budget), line, "all edges open, narrower", make))
    found.append(Variant("frequent-route", "most frequent edges", "most frequent edges", _frequent))
    for number in range(1, RANDOM_ROUTES + 1):
        make = functools.partial(_random, number)
        found.append(Variant(f"random-route-{number}", "random routes", "random routes", make))
    for name, model in SMP_MODELS.items():
        found.append(Variant(name, model.title, SMP_GROUP, functools.partial(_smp, name)))
    return tuple(found)


def _name(kind: str, budget: float) -> str:
    return f"{kind}-{budget:.2f}"


def _hard(budget: float, request: Request) -> RunSettings:
    return request.settings(_init_bias(budget), _NO_SPREAD, f"MODEL.BUDGET.TARGET={budget}")


def _spread(budget: float, request: Request) -> RunSettings:
    return request.settings(_init_bias(budget), f"MODEL.BUDGET.TARGET={budget}")  # with the spread of the experiment


def _penalty(budget: float, request: Request) -> RunSettings:
    return request.settings(_init_bias(budget), *_PENALTY, f"MODEL.BUDGET.LOSS_MU={PENALTY_MU[budget]}")


def _init_bias(budget: float) -> str:
    return f"MODEL.GATE.GATE_INIT_BIAS={_INIT_BIAS[budget]}"


def _soft(budget: float, request: Request) -> RunSettings:
    return request.settings(*_SOFT, f"MODEL.BUDGET.LOSS_MU={budget}")


def _open(budget: float, request: Request) -> RunSettings:
    """Choose the width with the cost nearest to that of the hard gates of this seed."""
    madds = _real_madds(request.find_row(_name("hard", budget), request.seed))

    def opts(width: int) -> tuple[str, ...]:
        return (*_NO_GATES, f"MODEL.BACKBONE.INIT_CHANNEL={width}")

    def distance(width: int) -> float:
        return abs(request.table(*opts(width)).dense - madds)

    low, high = 2, _MAX_WIDTH  # even widths; the cost grows with the width
    while high - low > 2:
        middle = (low + high) // 4 * 2
        low, high = (middle, high) if request.table(*opts(middle)).dense <= madds else (low, middle)
    return request.settings(*opts(min((low, high), key=distance)))


def _frequent(request: Request) -> RunSettings:
    row, lattice = request.find_row(MIDDLE, request.seed), request.table(*_NO_GATES).lattice
    route = frequent_route(lattice, row["open_fractions"])
    return request.settings(*_NO_GATES, route=tuple(map(str, route.edges)))


def _random(number: int, request: Request) -> RunSettings:
    """Draw a route with the cost of the hard gates of this seed, to the outputs of their frequent edges."""
    row, table = request.find_row(MIDDLE, request.seed), request.table(*_NO_GATES)
    reached = frequent_route(table.lattice, row["open_fractions"]).reached
    route = random_route(
        table,
        madds=_real_madds(row),
        outputs=reached & {*table.lattice.outputs},
        seed=f"{request.data_set} {request.seed} {number}",
    )
    return request.settings(*_NO_GATES, route=tuple(map(str, route.edges)))


def _smp(name: str, request: Request) -> RunSettings:
    """Train for the median time of the hard gates, all seeds, at the middle budget."""
    seconds = median(request.find_row(MIDDLE, seed)["training_seconds"] for seed in request.seeds)
    lr = f"SOLVER.OPTIMIZER.BASE_LR={request.smp_lr or SMP_LR[name]}"
    return request.settings(*_NO_GATES, lr, smp=name, training_seconds=seconds)


def real_gflops(row: Row) -> float:
    """Return the mean real cost of the images, every module that runs."""
    return row["costs_gflops"]["real_complete"]["avg"]


def _real_madds(row: Row) -> float:
    return real_gflops(row) * MADDS_PER_GFLOP


@functools.cache
def _cost_table(settings: RunSettings) -> CostTable:
    """Return the costs at the size of the first test image; those of the data sets have equal sizes."""
    cfg = load_config(settings, root=ROOT)
    (sample,) = next(iter(build_test_loader(cfg, cfg.DATASETS.TEST[0])))
    return build_model(cfg).costs.table(*sample["image"].shape[-2:])
