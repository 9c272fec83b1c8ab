"""Commands `dl_lib freeze-route` and `dl_lib specialise`: run folders, their evaluation and training, user errors."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from dl_lib.checkpoint import Checkpointer
from dl_lib.cli import specialise
from dl_lib.cli.route_networks import RoutedRun
from dl_lib.config import get_cfg, write_config
from dl_lib.engine.training.ema import ModelEMA
from dl_lib.evaluation.report import write as report
from dl_lib.evaluation.runner.network_comparison import image_gates
from dl_lib.inference.freezing import frequent_route, route_state_dict, specialized_route
from dl_lib.modeling import build_model
from dl_lib.modeling.dynamic.configured_route import configured_route
from dl_lib.modeling.dynamic.gate import Gate
from dl_lib.modeling.dynamic.route import Route
from dl_lib.utils.folder_replacement import partial_folder
from tests.helpers.command import run_command as run
from tests.helpers.small_run import DATASET, SMALL, register

WITHOUT_GATES = ["MODEL.GATE.GATE_ON=False", "MODEL.BUDGET.CONSTRAIN=False", "MODEL.ALLOW_UNEXPECTED_KEYS=[gate]"]
WITHOUT_GATES += ["SOLVER.EMA.DECAY=0"]
QUICK_TRAINING = ["TEST.EVAL_PERIOD=0", "SOLVER.BEST_METRIC=", "TEST.PRECISE_BN.ENABLED=False"]


def small_config(folder, kind):
    cfg = get_cfg()
    table = ["MODEL.BUDGET.LATENCY_TABLE", str(folder / "absent.json")]
    cfg.merge_from_list([*SMALL, *table, "MODEL.GATE.KIND", kind, "OUTPUT_DIR", str(folder)])
    return cfg


@pytest.fixture(params=["soft", "hard"])
def kind(request):
    return request.param


@pytest.fixture
def folder(tmp_path, kind, monkeypatch):
    """Run folder of a network in which some gates are constant, and the others depend on the image."""
    register()
    monkeypatch.setattr(report, "_draw", lambda *args, **kwargs: {})  # figures take longer than the rest
    cfg = small_config(tmp_path / "run", kind)
    torch.manual_seed(3)
    model = build_model(cfg)
    for number, gate in enumerate(module for module in model.modules() if isinstance(module, Gate)):
        nn.init.normal_(gate.predict.weight, std=30.0 if number == 1 else 0.0)
        nn.init.uniform_(gate.predict.bias, -0.3, 1.0)
    Checkpointer(model, tmp_path / "run", ema=ModelEMA(model, decay=0.9)).save("model_final")
    write_config(cfg, tmp_path / "run")
    (tmp_path / "run" / "net.py").write_text("OWN = True\n")
    return tmp_path / "run"


def trained(folder, kind):
    """Return config, model and gates of the run."""
    cfg = small_config(folder, kind)
    model = build_model(cfg)
    Checkpointer(model).load(folder / "model_final.pth", [])
    return cfg, model, image_gates(cfg, model, dataset_name=DATASET)


def assert_complete_run(folder, route, weights):
    """Check that a run folder holds a route with weights, and that its evaluation gives the recorded scores."""
    assert Route.from_json((folder / "route.json").read_text()) == route
    cfg = get_cfg()
    cfg.merge_from_file(folder / "config.yaml")
    assert (configured_route(cfg), cfg.MODEL.WEIGHTS) == (route, "")
    assert (cfg.MODEL.BUDGET.CONSTRAIN, cfg.MODEL.BUDGET.LATENCY_TABLE) == (False, "")
    assert (folder / "net.py").read_text() == "OWN = True\n"
    for name in ("model_final.pth", "model_final.pth.sha256", "last_checkpoint", "results.json", "before_after.md"):
        assert (folder / name).is_file()
    saved = torch.load(folder / "model_final.pth", weights_only=True)
    for state in (saved["model"], saved["ema"]["weights"]):
        assert state.keys() == weights.keys() and all(torch.equal(state[key], weights[key]) for key in state)
    values = json.loads((folder / "before_after.json").read_text())
    assert run("evaluate", "--config-file", folder) == 0
    evaluated = json.loads((folder / "evaluations" / DATASET / "results.json").read_text())
    after = values["after"]
    assert evaluated["parameters"] == after["parameters"]
    result = evaluated["datasets"][DATASET]
    assert all(result[name] == after[name] for name in ("mIoU", "pACC", "costs_gflops", "classes"))
    return values["before"], after, values


def test_frozen_network(folder, kind, capsys):
    assert run("freeze-route", folder, "--keep", "0.4") == 0
    printed = capsys.readouterr().out
    assert "mIoU (%)" in printed and f"Wrote run folder {folder}_frozen" in printed
    _, model, gates = trained(folder, kind)
    values = "one" if kind == "hard" else "mean"
    route = frequent_route(model.backbone.lattice, gates, keep=0.4, values=values)
    assert 0 < len(route.edges) < len(model.backbone.lattice.edges)
    frozen = Path(f"{folder}_frozen")
    before, after, _ = assert_complete_run(frozen, route, route_state_dict(model, route))
    assert after["learned_gates"] == 0
    assert before["learned_gates"] == before["edges"] == len(model.backbone.lattice.edges)
    assert (after["cells"], after["edges"]) == (len(route.cells), len(route.edges))


def test_specialized_network(folder, kind, capsys):
    output = folder.parent / "mine"
    assert run("specialise", folder, "--data", DATASET, "--output", output, "DATASETS.TEST=[digit_scenes_val]") == 0
    printed = capsys.readouterr().out
    _, model, gates = trained(folder, kind)
    route = specialized_route(model.backbone, gates)
    learned, total = sum(value is None for value in route.gates.values()), len(model.backbone.lattice.edges)
    assert 0 < learned < len(route.edges) < total
    assert f"Removed cells: {len(model.backbone.route.cells) - len(route.cells)} of 6; " in printed
    folded = len(route.edges) - learned
    assert f"gates folded into constants: {folded}; gates that depend on the image: {learned}\n" in printed
    saved = get_cfg()
    saved.merge_from_file(output / "config.yaml")
    assert saved.DATASETS.TEST == ["digit_scenes_val"]
    write_config(saved.with_values({"DATASETS.TEST": [DATASET]}), output)
    before, after, values = assert_complete_run(output, route, route_state_dict(model, route))
    assert all(before[name] == after[name] for name in ("mIoU", "pACC", "classes"))
    assert values["logits_difference"] < 1e-5 and values["label_difference"] == 0
    assert after["parameters"] < before["parameters"] and 0 < after["peak_memory_bytes"] <= before["peak_memory_bytes"]
    assert after["costs_gflops"]["real"]["avg"] < before["costs_gflops"]["real"]["avg"]


@pytest.mark.parametrize("kind", ["soft"], indirect=True)
class TestOneKind:
    """Properties that do not depend on the kind of the gates."""

    @pytest.mark.parametrize(("values", "given", "fixed"), [("one", "gate", 1), ("mean", "0.5", 0.5)])
    def test_gates_are_evaluated_only_for_their_means(self, folder, values, given, fixed, monkeypatch):
        monkeypatch.setattr(RoutedRun, "gates", None)
        route = ",".join(f"layer{layer}_stride4.keep={given}" for layer in range(3))
        assert run("freeze-route", folder, "--route", route, "--gates", values) == 0
        assert {*Route.from_json(Path(f"{folder}_frozen", "route.json").read_text()).gates.values()} == {fixed}

    def test_given_routes_are_tuned_and_resumed(self, folder, capsys):
        frozen, tuned = folder.parent / "frozen", folder.parent / "tuned"
        route = "layer0_stride4.keep=0.25,layer1_stride4.keep,layer2_stride4.keep"
        assert run("freeze-route", folder, "--route", route, "--gates", "one", "--output", frozen) == 0
        found = Route.from_json((frozen / "route.json").read_text())
        assert found.entries() == route.split(",")
        weights = f"MODEL.WEIGHTS={frozen / 'model_final.pth'}"
        tune = ["train", "--config-file", frozen, weights, f"OUTPUT_DIR={tuned}", *QUICK_TRAINING]
        assert run(*tune, "SOLVER.LR_SCHEDULER.MAX_ITER=2") == 0
        assert run(*tune, "SOLVER.LR_SCHEDULER.MAX_ITER=3", "--resume") == 0
        assert torch.load(tuned / "model_final.pth", weights_only=True)["iteration"] == 3
        assert "Resuming from iteration 2/3" in capsys.readouterr().out

    def test_outputs_that_change_are_refused(self, folder, monkeypatch, capsys):
        monkeypatch.setattr(specialise, "LOGITS_TOLERANCE", -1.0)
        assert run("specialise", folder) == 2
        assert "the specialized network must have the outputs of RUN" in capsys.readouterr().err
        assert [*folder.parent.iterdir()] == [folder]

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--keep=1"], "argument --keep: must be a number in [0, 1). Received: 1"),
            (["--keep=0.5", "--route=all_open"], "argument --route: not allowed with argument --keep"),
            (["--gates=two"], "argument --gates: invalid choice: 'two'"),
            (["--route=all_opne"], "--route: must be the name of a route"),
            (["--route=layer0_stride4.up"], "--route: a route must contain edges of the lattice"),
            (["--data=absent_val"], "--data: invalid config: DATASETS.TEST contains 'absent_val', which is not a"),
            ([f"DATASETS.TEST=[{DATASET},digit_scenes_val]"], "--data: choose one dataset with --data NAME."),
            (
                ["TEST.MULTI_SCALE.FLIP=True"],
                "TEST.MULTI_SCALE.FLIP: routes are derived from evaluations with",
            ),
            (["TEST.EXECUTION=compiled"], "TEST.EXECUTION must be sparse or dense"),
            (WITHOUT_GATES, "RUN must be a routed network with learned gates"),
            (["--output=."], "--output: this folder exists and is not replaced"),
        ],
    )
    def test_user_errors(self, folder, words, message, monkeypatch, capsys):
        monkeypatch.chdir(folder)
        assert run("freeze-route", folder, *words) == 2
        assert message in capsys.readouterr().err
        assert [*folder.parent.iterdir()] == [folder]

    def test_bfloat16_is_refused_for_equal_outputs(self, folder, capsys):
        assert run("specialise", folder, "TEST.PRECISION=bf16") == 2
        assert "TEST.PRECISION must be float32" in capsys.readouterr().err

    def test_folders_that_appear_meanwhile_are_kept(self, folder, monkeypatch, capsys):
        output = folder.parent / "mine"
        monkeypatch.setattr(specialise, "_check_equal", lambda comparison: (output / "other").mkdir(parents=True))
        assert run("specialise", folder, "--output", output) == 2
        assert "--output: this folder exists and is not replaced" in capsys.readouterr().err
        assert [*output.iterdir()] == [output / "other"]
        assert not (partial_folder(output) / "model_final.pth").exists()

    def test_links_to_empty_folders_are_followed(self, folder, capsys):
        target, link = folder.parent / "target", folder.parent / "link"
        target.mkdir()
        link.symlink_to(target)
        assert run("freeze-route", folder, "--route", "all_open", "--gates", "one", "--output", link) == 0
        assert (target / "model_final.pth").is_file() and link.is_symlink()
        assert sorted(folder.parent.iterdir()) == [link, folder, target]
        assert f"Wrote run folder {target}\n" in capsys.readouterr().out

    def test_the_current_folder_is_not_replaced(self, folder, monkeypatch, capsys):
        empty = folder.parent / "empty"
        empty.mkdir()
        monkeypatch.chdir(empty)
        assert run("freeze-route", folder, "--output", ".") == 2
        assert "--output: this folder exists and is not replaced" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["freeze-route", "specialise"])
def test_a_missing_run_is_named_by_its_argument(tmp_path, command, capsys):
    assert run(command, tmp_path / "absent") == 2
    assert f"dl_lib {command}: error: RUN: no such file, folder or shipped experiment" in capsys.readouterr().err
