"""Command `dl_lib sweep`: table, values and figure of a run, and user errors."""

import json

import pytest
import torch
from torch import nn

from dl_lib.checkpoint import Checkpointer
from dl_lib.cli import main as cli
from dl_lib.config import get_cfg, write_config
from dl_lib.modeling import build_model
from dl_lib.modeling.dynamic.gate import Gate
from dl_lib.utils.device_name import device_name
from tests.helpers.small_run import DATASET, SMALL, register
from tests.helpers.training import restore_logging

WITHOUT_GATES = ["MODEL.GATE.GATE_ON=False", "MODEL.BUDGET.CONSTRAIN=False", "MODEL.ALLOW_UNEXPECTED_KEYS=[gate]"]


@pytest.fixture
def folder(tmp_path):
    """Run folder of a network whose gates have different constant values."""
    register()
    cfg = get_cfg()
    cfg.merge_from_list([*SMALL, "SOLVER.EMA.DECAY", 0.0, "OUTPUT_DIR", str(tmp_path / "run")])
    torch.manual_seed(0)
    model = build_model(cfg)
    for gate in (module for module in model.modules() if isinstance(module, Gate)):
        nn.init.zeros_(gate.predict.weight)
        nn.init.uniform_(gate.predict.bias, 0.1, 1.5)
    Checkpointer(model, tmp_path / "run").save("model_final")
    write_config(cfg, tmp_path / "run")
    return tmp_path / "run"


def run(*words):
    """Run the command; return its exit status."""
    with restore_logging():
        try:
            cli.main(["sweep", *map(str, words)])
        except SystemExit as exit:
            return exit.code
    return 0


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_whole_sweep(folder, capsys):
    before = files_of(folder)
    assert run(folder, "--thresholds", "0.8,0,0.5,0.5") == 0
    log, written = capsys.readouterr().out, folder / "sweeps" / DATASET
    stems = [f"threshold_sweep.{suffix}" for suffix in ("json", "md", "png")]
    assert sorted(path.name for path in written.iterdir()) == ["config.yaml", "log.txt", *stems]
    values = json.loads((written / stems[0]).read_text())
    assert (values["dataset"], values["images"], values["default_threshold"]) == (DATASET, 5, 0.0)
    assert values["environment"]["device"] == device_name(torch.device("cpu")) and values["latency_noise"] >= 0
    points = values["points"]
    assert [point["threshold"] for point in points] == [0.0, 0.5, 0.8]
    assert points[0]["costs_gflops"]["real"] > points[2]["costs_gflops"]["real"] > 0
    for point in points:
        assert 0 <= point["mIoU"] <= 1 and len(point["seconds_per_image"]) == 2
        assert point["costs_gflops"].keys() == {"expected", "real", "real_complete", "executed"}
        assert point["pareto_optimal"].keys() == {"GFLOPs", "latency"}
    markdown = " ".join((written / stems[1]).read_text().split())
    row = f"| 0 (default) | {100 * points[0]['mIoU']:.2f} | {points[0]['costs_gflops']['real']:.6f} | "
    assert "Learned gates at or below the threshold are closed." in markdown
    assert row in markdown and f"]({stems[2]})" in markdown
    assert "0 (default)" in log and f"Results: {written}" in log
    assert {path: content for path, content in files_of(folder).items() if path.parts[0] != "sweeps"} == before


def test_a_sweep_under_other_settings_is_not_replaced(folder, capsys):
    assert run(folder, "--thresholds=0.5", "--name=mine") == 0
    before = files_of(folder)
    assert run(folder, "--name=mine", "TEST.MULTI_SCALE.FLIP=True") == 2
    assert "--name: this folder holds an evaluation under other settings" in capsys.readouterr().err
    assert files_of(folder) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--thresholds=0.5,1"], "argument --thresholds: must be a number in [0, 1). Received: 1"),
        (["--thresholds=0.5,x"], "argument --thresholds: must be a number in [0, 1). Received: x"),
        (["--thresholds="], "argument --thresholds: must be a number in [0, 1). Received: "),
        (["--data=absent_val"], "absent_val"),
        ([f"DATASETS.TEST=[{DATASET},digit_scenes_val]"], "--data: a sweep uses one dataset; add --data NAME."),
        (["TEST.EXECUTION=dense"], "Received: TEST.EXECUTION='dense'"),
        (WITHOUT_GATES, "RUN must be a routed network with learned gates"),
        (["--name=../up"], "--name: must be text of 1 to 80 bytes"),
    ],
)
def test_user_errors_leave_the_run_unchanged(folder, words, message, capsys):
    before = files_of(folder)
    assert run(folder, *words) == 2
    assert message in capsys.readouterr().err
    assert files_of(folder) == before


def test_a_missing_run_is_named_by_its_argument(tmp_path, capsys):
    assert run(tmp_path / "absent") == 2
    error = capsys.readouterr().err
    assert error.startswith("dl_lib sweep: error: RUN: no such file, folder or shipped experiment")
