"""Benchmarks of evaluation and training: the cases run what their names say."""

import json
from functools import partial

import evaluation
import networks
import pytest
import torch
import training
from evaluation import EvaluationCase, evaluation_cases, evaluation_table, half_of_the_cells
from harness import Memory, Settings, Timing
from training import step_case

from dl_lib.modeling.dynamic.lattice import Lattice, Node
from dl_lib.modeling.dynamic.routing import Routing
from tests.helpers.published import SETTINGS, build
from tests.helpers.small_run import SMALL, register

TINY = tuple(str(word) for word in SETTINGS["tiny"])
L16 = Lattice([2, 3] + [4] * 14)


def test_all_evaluation_cases_exist():
    names = [case.name for case in evaluation_cases([(512, 1024), (1024, 2048)])]
    assert names == [
        f"{size}/{gates}/{variant}/{execution}"
        for size in ("512x1024", "1024x2048")
        for gates in ("open", "half")
        for variant in ("contiguous", "channels_last", "channels_last_folded")
        for execution in ("dense", "sparse")
    ]


def test_half_of_the_cells_of_16_layers():
    expected = {Node(2, 1), Node(16, 0), Node(16, 1)}
    expected |= {Node(layer, scale) for layer in range(3, 16, 2) for scale in (0, 2)}
    expected |= {Node(layer, scale) for layer in range(4, 16, 2) for scale in (1, 3)}
    assert half_of_the_cells(L16) == expected
    assert (len(expected), len(L16.nodes)) == (29, 62)


def routing_of_half(lattice):
    """Routing with the gates of the closed half at 0; all of its cells are still reached."""
    everything = Routing.all_open(lattice)
    closed = half_of_the_cells(lattice)
    is_open = torch.tensor([edge.source not in closed for edge in lattice.edges])
    return Routing(lattice, everything.gates_BE * is_open, everything.reached_BN)


@pytest.mark.parametrize("variant", ["contiguous", "channels_last"])
@pytest.mark.parametrize("gates", ["open", "half"])
def test_dense_and_sparse_cases_cost_what_the_table_says(gates, variant):
    settings = Settings(opts=TINY)
    dense = EvaluationCase((64, 128), gates, variant, "dense").prepare(settings)()
    sparse = EvaluationCase((64, 128), gates, variant, "sparse").prepare(settings)()
    model = build("tiny")
    lattice = model.backbone.lattice
    routing = routing_of_half(lattice) if gates == "half" else Routing.all_open(lattice)
    table = model.costs.table(64, 128)
    assert sparse == pytest.approx(table.real_complete(routing).item() / 1e9, rel=1e-12)
    assert dense == pytest.approx(table.real_complete(Routing.all_open(lattice)).item() / 1e9, rel=1e-12)


def test_evaluation_table_in_closed_form():
    dense, sparse = (EvaluationCase((64, 128), "half", "contiguous", mode) for mode in ("dense", "sparse"))
    timings = {dense: Timing((5.0, 4.0, 3.0), gflops=16.0), sparse: Timing((1.0, 2.0, 6.0), gflops=12.0)}
    memory = {dense: Memory(300.0, 100.0), sparse: Memory(200.0, 100.0)}
    table = evaluation_table(timings, memory, matmul_rate=12.0)
    assert [row[4:] for row in table.rows] == [
        (4.0, None, None, 16.0, 4.0, pytest.approx(1 / 3), 300.0),
        (2.0, 0.5, 0.75, 12.0, 6.0, 0.5, 200.0),
    ]


@pytest.fixture
def memory_in_this_process(monkeypatch):
    """Run the case in this process; the harness tests cover the subprocess."""
    for module in (evaluation, training):
        monkeypatch.setattr(module, "measure_memory", lambda case, settings: case.prepare(settings) and Memory(2, 1))


def test_evaluation_run(tmp_path, capsys, memory_in_this_process):
    words = ["--output", str(tmp_path), "--repeats", "2", "--sizes", "64x128", "--cases", "*/half/*_folded/*"]
    evaluation.main([*words, "--device", "cpu", *TINY])
    values = json.loads((tmp_path / "evaluation.json").read_text())
    rows = values["tables"]["Evaluation, one image"]
    assert [row["execution"] for row in rows] == ["dense", "sparse"]
    assert rows[1]["time ratio"] == rows[1]["seconds"] / rows[0]["seconds"]
    for row in rows:
        seconds = values["samples"][f"64x128/half/channels_last_folded/{row['execution']}"]
        assert row["seconds"] == sum(seconds) / 2 and row["GMAC/s"] == row["GFLOPs"] / row["seconds"]
    assert values["facts"]["network"] == "default configuration " + " ".join(TINY)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cases", "512x1024/open/contiguous/spare"], "nearest: 512x1024/open/cont"),
        (["--sizes", "512*1024"], "Received: 512*1024"),
        (["--repeats", "0"], "Received: 0"),
        (["MODEL.GATE.GATE_ON=False"], "MODEL.GATE.GATE_ON must be True"),
        (["SEDE=1"], "SEED"),
    ],
)
def test_invalid_arguments_end_with_a_message(words, message, capsys, memory_in_this_process):
    with pytest.raises(SystemExit) as caught:
        evaluation.main(["--device", "cpu", *words])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_training_steps_change_the_weights_and_stay_finite(monkeypatch):
    torch.manual_seed(0)  # with other weights a gate may stay closed, and its cell without gradients
    model = build("tiny", device="cpu", overrides=["MODEL.GATE.SMALL_GATE", True])
    monkeypatch.setattr(networks, "build_model", lambda cfg: model)
    run = step_case("small_gate", "contiguous", side=128).prepare(Settings(opts=TINY))
    before = {key: value.clone() for key, value in model.named_parameters()}
    gflops = [run() for _ in range(3)]
    after = dict(model.named_parameters())
    complete = model.costs.table(128, 128).real_complete(Routing.all_open(model.backbone.lattice))
    assert gflops == [pytest.approx(complete.item() / 1e9)] * 3
    assert all(value.isfinite().all() for value in after.values())
    assert not any(after[key].equal(before[key]) for key in before if key.endswith("conv.weight"))


def test_training_run(tmp_path, monkeypatch, capsys, memory_in_this_process):
    register()
    for name, number in (
        ("CHUNK_STEPS", 2),
        ("LOOP_ROUNDS", 1),
        ("DATA_STEPS", 4),
        ("PROCESS_ROUNDS", 1),
        ("CPU_THREADS", 1),
    ):
        monkeypatch.setattr(training, name, number)
    monkeypatch.setattr(training, "step_case", partial(step_case, images=2, side=64))
    opts = [f"{key}={value}" for key, value in zip(SMALL[::2], SMALL[1::2], strict=True)]
    network = tuple(opt for opt in opts if opt.startswith("MODEL.") and "DEVICE" not in opt)
    monkeypatch.setattr(training, "start", lambda arguments: Settings(opts=network))
    # Processes of the launcher have tests in tests/launch.
    monkeypatch.setattr(training, "launch", lambda function, request, *, device, args: function(*args))
    training.main(["--output", str(tmp_path), "--repeats", "1", *opts])
    values = json.loads((tmp_path / "training.json").read_text())
    step, loop, data, activations, processes = values["tables"].values()
    assert [(row["gate"], row["variant"]) for row in step] == [
        (gate, order) for gate in ("full_gate", "small_gate") for order in ("contiguous", "channels_last")
    ]
    assert [row["loop"] for row in loop] == ["bare", "bare, with clipping", "trainer"]
    assert all(row["s per step"] > 0 for row in (*loop, *processes))
    assert all(0 < row["fraction of a step"] < 1 for row in data)
    assert [row["activations"] for row in activations] == ["kept", "recomputed"]
    with pytest.raises(SystemExit):
        training.main(["--parts", "loops"])
    assert "--parts: must be some of step, loop, data, activations, processes" in capsys.readouterr().err
