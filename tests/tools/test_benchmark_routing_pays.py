"""Benchmark of routing: fixed and random routes, other networks, resumed runs, and the summary of the rows."""

import itertools
import json
from concurrent.futures import Executor, Future
from types import SimpleNamespace

import does_routing_pay
import fixed_routes
import pytest
import torch
from does_routing_pay import main
from fixed_routes import (
    TOLERANCE,
    UnavailableError,
    frequent_route,
    random_route,
    route_madds,
)
from routing_plan import variants
from routing_rows import lines_of, summary_table
from routing_training import TimeLimit
from smp_models import SMP_MODELS, build_smp_network
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dl_lib.config import get_cfg
from dl_lib.engine.hooks import Hook
from dl_lib.engine.training.trainer import Trainer
from dl_lib.modeling import build_model
from dl_lib.modeling.costs.counters import count_madds, measure_madds
from dl_lib.modeling.dynamic.lattice import Lattice
from dl_lib.modeling.dynamic.routing import Routing
from tests.helpers.small_run import DATASET, SMALL, register
from tests.helpers.training import restore_logging


@pytest.fixture(scope="module")
def cfg():
    config = get_cfg()
    config.merge_from_list([*SMALL, "MODEL.GATE.GATE_ON", False, "MODEL.BUDGET.CONSTRAIN", False])
    return config


def test_frequent_route_keeps_what_the_source_reaches():
    lattice = Lattice([2, 2])
    open_edges = {"layer0_stride4.keep": 0.51, "layer1_stride8.keep": 1.0, "layer2_stride4.keep": 0.9}
    fractions = {str(edge): open_edges.get(str(edge), 0.5) for edge in lattice.edges}
    route = frequent_route(lattice, fractions)
    assert route.entries() == ["layer0_stride4.keep", "layer1_stride4.pass", "layer2_stride4.keep"]


def test_random_routes_are_connected_and_have_the_cost_asked_for(cfg, monkeypatch):
    table = build_model(cfg).costs.table(48, 48)
    outputs = frozenset(table.lattice.outputs[:2])
    madds = 0.5 * (table.stem + table.head + table.dense)
    routes = [random_route(table, madds=madds, outputs=outputs, seed=str(seed)) for seed in range(5)]
    assert routes[0] == random_route(table, madds=madds, outputs=outputs, seed="0")
    assert routes[0] != routes[1]
    for route in routes:
        cost = table.real_complete(Routing.of_route(route)).item()
        assert abs(cost - madds) <= TOLERANCE * madds and cost == route_madds(table, route)
        assert route.reached >= outputs
    monkeypatch.setattr(fixed_routes, "MAX_DRAWS", 10)
    with pytest.raises(UnavailableError, match="no random route of 10 draws"):
        random_route(table, madds=1.0, outputs=outputs, seed="0")


@pytest.mark.parametrize("name", SMP_MODELS)
def test_convolutions_of_other_networks_are_counted_as_by_torch(name):
    with torch.device("meta"):
        network, image = build_smp_network(name, num_classes=11).eval(), torch.empty(1, 3, 64, 64)
    madds, convolutions = measure_madds(network, image), []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda *call: convolutions.append(count_madds(call[0], call[1][0], call[2])))
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(image)
    assert 2 * sum(convolutions) == counter.get_total_flops()  # torch counts 2 per multiply-add
    assert 1 < madds / sum(convolutions) < 1.05, "norms, activations and pooling"


def test_time_limit_ends_training_and_drives_the_learning_rate(monkeypatch):
    clock, seen, ends = iter([100.0, 101.0, 104.0, 111.0]), [], []  # seconds: start, and after each step
    monkeypatch.setattr("routing_training.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda iteration: iteration)
    limit = TimeLimit(scheduler, limit_seconds=10.0)

    class LossModel(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = model

        def forward(self, batch, step_rate):
            return {"loss": self.layer(batch).sum()}, {}

    class Recorder(Hook):
        def after_step(self, trainer):
            scheduler.step()
            seen.append(optimizer.param_groups[0]["lr"])
            ends.append(trainer.max_iter)

    loader = itertools.repeat(torch.ones(1, 1))
    trainer = Trainer(LossModel(), loader, optimizer, max_iter=50, hooks=[limit, Recorder()])
    trainer.train()
    assert seen == [5, 20, 50] and trainer.iteration == 3 and limit.seconds == 11
    assert ends == [10, 5, 3], "estimates, for the remaining time in the log"


OPTS = [
    *("DATASETS.TRAIN=[five_digit_scenes]", "DATASETS.TEST=[five_digit_scenes]", "INPUT.CROP_SIZE=[32, 32]"),
    *("SOLVER.IMS_PER_BATCH=2", "SOLVER.LR_SCHEDULER.WARMUP_ITERS=1", "MODEL.BACKBONE.INIT_CHANNEL=8"),
    *("MODEL.BACKBONE.LAYER_NUM=2", "MODEL.BACKBONE.CELL_NUM_LIST=[2, 3]", "MODEL.BACKBONE.MAX_STRIDE=16"),
    *("MODEL.SEM_SEG_HEAD.IN_FEATURES=[layer_0, layer_1, layer_2]", "MODEL.SEM_SEG_HEAD.NUM_CLASSES=11"),
    *("TEST.PRECISE_BN.NUM_ITER=1", "LOG_PERIOD=1"),
    "MODEL.BUDGET.SPREAD=0.1",  # of hard gates only
]


class MainThreadExecutor(Executor):
    """Executor that calls each function at once, in the main thread, which training requires."""

    def __init__(self, max_workers):
        self.max_workers = max_workers

    def submit(self, function, /, *arguments, **options):
        future = Future()
        try:
            future.set_result(function(*arguments, **options))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.fixture
def run_main(tmp_path, monkeypatch):
    """Return a function that runs the benchmark with 4 iterations in this process; it returns the names that ran."""
    register()
    assert DATASET in OPTS[0]
    trained = []

    def in_this_process(function, settings, *, folder, **options):
        trained.append(folder.relative_to(tmp_path / "runs").as_posix())
        return function(settings, folder=folder, **options)

    monkeypatch.setattr(does_routing_pay, "in_fresh_process", in_this_process)
    monkeypatch.setattr(does_routing_pay, "ThreadPoolExecutor", MainThreadExecutor)
    monkeypatch.setattr("dl_lib.evaluation.report.write._draw", lambda *arguments, **options: {})
    monkeypatch.setattr("dl_lib.evaluation.scores.result.MIN_IMAGES", 5)
    words = ["--output", str(tmp_path / "out"), "--runs", str(tmp_path / "runs"), "--threads", "1", "--seeds", "0"]

    def run(only, *options):
        trained.clear()
        main([*words, "--iterations", "4", "--only", only, *options, *OPTS])
        return list(trained)

    with restore_logging():  # the runs set up the logger
        yield run


def test_runs_leave_rows_and_are_not_repeated(run_main, tmp_path, capsys):
    variant_names = ("hard-0.50", "open-0.50", "frequent-route", "random-route-1", "unet-resnet18")
    names = [f"scenes/{name}/seed0" for name in variant_names]
    only = ",".join(names)
    assert run_main(only) == names
    rows = {row["variant"]: row for row in map(json.loads, (tmp_path / "out" / "rows.jsonl").read_text().splitlines())}
    assert sorted(rows) == sorted(variant_names)
    hard = rows["hard-0.50"]
    assert len(hard["open_fractions"]) == len(Lattice([2, 3]).edges)
    assert hard["iterations"] == 4 and hard["distinct_routes"] >= 1 and 0 <= hard["image_dependent_edges"] <= 1
    assert hard["cost_correlations"].keys() == {"classes", "foreground_ratio", "object_scale_px", "objects"}
    for row in rows.values():
        costs = row["costs_gflops"]
        assert costs["executed"] == costs["real_complete"] and row["training_seconds"] > 0
        assert len(row["class_IoU"]) == 11 and row["machine"]["threads"] == "1"
        assert ("segmentation_models_pytorch" in row["machine"]) == (row["variant"] == "unet-resnet18")
    limit = rows["unet-resnet18"]["settings"]["training_seconds"]
    assert hard["training_seconds"] == limit <= rows["unet-resnet18"]["training_seconds"]
    narrow, frequent, drawn = (rows[name]["costs_gflops"]["executed"]["avg"] for name in variant_names[1:4])
    assert narrow == pytest.approx(hard["costs_gflops"]["real_complete"]["avg"], rel=0.1), "of even widths"
    assert drawn == pytest.approx(hard["costs_gflops"]["real_complete"]["avg"], rel=TOLERANCE)
    assert frequent <= hard["costs_gflops"]["real_complete"]["max"]
    assert (tmp_path / "out" / "results.png").exists()
    assert "| most frequent edges " in (tmp_path / "out" / "results.md").read_text()

    assert run_main(only) == [], "all rows exist"
    assert run_main(only, "--lr", "0.002") == names[4:], "the settings of one run have changed"
    assert run_main(only) == [], "the earlier row is kept"
    capsys.readouterr()
    assert run_main("*", "--list") == []
    states = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    assert len(states) == sum(len(variant.data_sets) for variant in variants()) and states[names[0]] == "finished"
    assert states["scenes/random-route-2/seed0"] == "pending"
    assert states["scenes/open-0.25/seed0"] == "requires scenes/hard-0.25/seed0"


def test_runs_that_require_others_and_damaged_rows_end_with_a_message(run_main, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        run_main("scenes/frequent-route/*")
    assert "frequent-route/seed0 requires scenes/hard-0.50/seed0" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        run_main("scenes/har-*")
    assert "--only must match names of runs" in capsys.readouterr().err
    (tmp_path / "out").mkdir()
    for line in (b'{"data_set": "scenes"}', b"[" * 10**5, b"\xff\xfe", b"3"):
        (tmp_path / "out" / "rows.jsonl").write_bytes(line + b"\n")
        with pytest.raises(SystemExit, match="2"):
            run_main("*")
        assert "Received: line 1, " in capsys.readouterr().err


def row(variant, seed, *, miou, gflops, routes=None):
    return {
        **{"data_set": "scenes", "variant": variant, "seed": seed, "mIoU": miou},
        "costs_gflops": {"real_complete": {"avg": gflops, "min": 0.5 * gflops, "max": 2 * gflops}},
        **{"distinct_routes": routes, "image_dependent_edges": None if routes is None else 0.5},
        **{"parameters": 1000, "iterations": 7, "training_seconds": 10.0 * seed},
    }


def test_table_shows_means_deviations_and_differences_paired_by_seed():
    rows = [
        *(row("hard-0.25", seed, miou=miou, gflops=1.0, routes=4) for seed, miou in ((1, 0.5), (2, 0.7))),
        *(row("hard-0.75", seed, miou=0.8, gflops=4.0, routes=4) for seed in (1, 2)),
        *(row("random-route-1", seed, miou=miou, gflops=1.9) for seed, miou in ((1, 0.4), (2, 0.5))),
        row("random-route-2", 2, miou=0.6, gflops=1.9),
        row("unet-resnet18", 2, miou=0.9, gflops=9.0),
    ]
    table = summary_table("Scenes", lines_of(rows, variants()))
    found = {values[0]: dict(zip(table.columns, values, strict=True)) for values in table.rows}
    assert list(found) == ["hard gates, budget 0.25", "hard gates, budget 0.75", "random routes", "U-Net, ResNet-18"]
    hard, drawn, unet = found["hard gates, budget 0.25"], found["random routes"], found["U-Net, ResNet-18"]
    assert hard["mIoU (%)"] == "60.00 ± 14.14" and hard["routes"] == "4 ± 0" and hard["runs"] == 2
    assert hard["difference to hard gates (%)"] == "" and hard["training (s)"] == 15.0
    assert drawn["mIoU (%)"] == "50.00 ± 10.00" and drawn["GFLOPs of the images"] == "0.9500 to 3.8000"
    assert drawn["difference to hard gates (%)"] == "-13.33 ± 5.77", "of -10, -20 and -10"
    assert drawn["at budget"] == "0.25", "1.9 / 1.0 is less than 4.0 / 1.9"
    assert unet["mIoU (%)"] == "90.00" and unet["difference to hard gates (%)"] == "+10.00"
    assert unet["at budget"] == "0.75" and unet["routes"] == unet["image-dependent edges"] == "-"
