"""The benchmark: what it measures is what it says, and its tables are its figures."""

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from dl_lib.benchmark import cases
from dl_lib.benchmark.cases import Case, EvaluationCase, Settings, TrainingCase, all_cases, half_of_the_cells
from dl_lib.benchmark.machine import TUNED_ALLOCATOR
from dl_lib.benchmark.measure import Measurement, Memory, Results, Timing, measure_memory
from dl_lib.benchmark.report import format_markdown, results_as_dict
from dl_lib.cli import benchmark
from dl_lib.modeling.dynamic.lattice import Lattice, Node
from dl_lib.modeling.dynamic.routing import Routing
from tests.helpers.published import SETTINGS, build

ROOT = Path(__file__).parents[2]
TINY = tuple(str(word) for word in SETTINGS["tiny"])
L16 = Lattice([2, 3] + [4] * 14)


def run_door(*words, cwd):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "tools" / "benchmark.py"), *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


def rows_of(markdown, *, heading):
    """The table under a heading, as dicts of text."""
    lines = [line for line in markdown.partition(heading)[2].splitlines() if line.startswith("|")]
    titles, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return [dict(zip(titles, row, strict=True)) for row in rows]


def test_a_whole_run(tmp_path):
    wanted = "evaluation/*/half/channels_last_folded/*"
    words = ["--output", "out", "--repeats", "3", "--threads", "1", "--sizes", "64x128", "--cases", wanted]
    done = run_door(*words, "--device", "cpu", "--allocator", "tuned", *TINY, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    markdown = (tmp_path / "out" / "benchmark.md").read_text()
    assert done.stdout.startswith(markdown)
    for fact in ("- CPU: ", "- threads: 1", "- device: cpu", f"- torch: {torch.__version__}", "float32 matrix product"):
        assert fact in markdown
    for name, value in TUNED_ALLOCATOR.items():
        assert f"{name}={value}" in markdown

    report = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    prefix = "evaluation/64x128/half/channels_last_folded"
    dense, sparse = (report["cases"][f"{prefix}/{execution}"] for execution in ("dense", "sparse"))
    assert len(report["cases"]) == 2
    dense_row, sparse_row = rows_of(markdown, heading="## Evaluation")
    for case, row in ((dense, dense_row), (sparse, sparse_row)):
        seconds = case["seconds"]
        assert seconds["median"] == statistics.median(seconds["all"])
        assert seconds["min"] <= seconds["lower_quartile"] <= seconds["median"] <= seconds["upper_quartile"]
        rate = case["executed_gflops"] / seconds["median"]
        assert case["share_of_matmul"] == pytest.approx(rate / report["matmul"]["gmadds_per_second"])
        assert row["seconds"] == f"{seconds['median']:.4f}"
        assert row["GMAC/s"] == f"{rate:.1f}"
        assert row["peak MiB"] == f"{case['peak_mib']:.0f}"
        assert 0 < case["idle_mib"] <= case["peak_mib"]
    assert sparse_row["time ratio"] == f"{sparse['seconds']['median'] / dense['seconds']['median']:.3f}"
    assert sparse_row["cost ratio"] == f"{sparse['executed_gflops'] / dense['executed_gflops']:.3f}"
    assert (dense_row["time ratio"], dense_row["cost ratio"]) == ("", "")


def test_rates_and_rows_in_closed_form():
    sparse = EvaluationCase((64, 128), "open", "contiguous", "sparse")
    measurements = (
        Measurement(sparse, Timing((1.0, 2.0, 6.0), gflops=12.0), Memory(300.0, 100.0)),
        Measurement(TrainingCase("full_gate", "contiguous"), Timing((0.25,), gflops=3.0), Memory(900.0, 120.0)),
    )
    results = Results(measurements, matmul=Timing((4.0, 4.0), gflops=48.0))
    machine = {"device": "cpu"}
    values = results_as_dict(results, machine=machine, opts=[])["cases"]
    assert values[sparse.name]["gmadds_per_second"] == 6.0
    assert values[sparse.name]["share_of_matmul"] == 0.5
    assert values[sparse.name]["seconds"] == {
        **{"median": 2.0, "min": 1.0, "lower_quartile": 1.5, "upper_quartile": 4.0, "all": [1.0, 2.0, 6.0]}
    }
    markdown = format_markdown(results, machine=machine, opts=[])
    (row,) = rows_of(markdown.partition("## Training")[0], heading="## Evaluation")
    assert (row["seconds"], row["share"], row["time ratio"]) == ("2.0000", "0.500", ""), "nothing to compare with"
    (row,) = rows_of(markdown, heading="## Training step, 2x3x256x256")
    assert list(row.values()) == ["full_gate", "contiguous", "0.2500", "3.000", "900"]


def test_all_cases_are_there():
    names = [case.name for case in all_cases([(512, 1024), (1024, 2048)])]
    assert len(set(names)) == len(names) == 2 * 2 * 3 * 2 + 2 * 2
    for size in ("512x1024", "1024x2048"):
        for gates in ("open", "half"):
            for variant in ("contiguous", "channels_last", "channels_last_folded"):
                assert f"evaluation/{size}/{gates}/{variant}/dense" in names
                assert f"evaluation/{size}/{gates}/{variant}/sparse" in names
    for gate in ("full_gate", "small_gate"):
        for variant in ("contiguous", "channels_last"):
            assert f"training/2x3x256x256/{gate}/{variant}" in names


def test_half_of_the_cells_of_16_layers():
    expected = {Node(2, 1), Node(16, 0), Node(16, 1)}
    expected |= {Node(layer, scale) for layer in range(3, 16, 2) for scale in (0, 2)}
    expected |= {Node(layer, scale) for layer in range(4, 16, 2) for scale in (1, 3)}
    assert half_of_the_cells(L16) == expected
    assert (len(expected), len(L16.nodes)) == (29, 62)


def routing_of_half(lattice):
    """All gates 1 but those of the closed half, which is reached all the same."""
    everything = Routing.all_open(lattice)
    closed = half_of_the_cells(lattice)
    is_open = torch.tensor([edge.source not in closed for edge in lattice.edges])
    return Routing(lattice, everything.gates_BE * is_open, everything.reached_BN)


@pytest.mark.parametrize("variant", ["contiguous", "channels_last"])
@pytest.mark.parametrize("gates", ["open", "half"])
def test_what_runs_is_what_the_case_says(gates, variant):
    settings = Settings("cpu", opts=TINY)
    dense = EvaluationCase((64, 128), gates, variant, "dense").prepare(settings)()
    sparse = EvaluationCase((64, 128), gates, variant, "sparse").prepare(settings)()
    model = build("tiny")
    lattice = model.backbone.lattice
    routing = routing_of_half(lattice) if gates == "half" else Routing.all_open(lattice)
    table = model.costs.table(64, 128)
    assert sparse == pytest.approx(table.real_complete(routing).item() / 1e9, rel=1e-12)
    assert dense == pytest.approx(table.real_complete(Routing.all_open(lattice)).item() / 1e9, rel=1e-12)


def test_training_steps_change_the_weights_and_stay_finite(monkeypatch):
    model = build("tiny", device="cpu", overrides=["MODEL.GATE.SMALL_GATE", True])
    monkeypatch.setattr(cases, "build_model", lambda cfg: model)
    run = TrainingCase("small_gate", "contiguous", side=128).prepare(Settings("cpu", opts=TINY))
    before = {key: value.clone() for key, value in model.named_parameters()}
    gflops = [run() for _ in range(3)]
    after = dict(model.named_parameters())
    complete = model.costs.table(128, 128).real_complete(Routing.all_open(model.backbone.lattice))
    assert gflops == [pytest.approx(complete.item() / 1e9)] * 3
    assert all(value.isfinite().all() for value in after.values())
    assert not any(after[key].equal(before[key]) for key in before if key.endswith("conv.weight"))


@dataclass(frozen=True)
class Hoard(Case):
    """Takes 256 MiB and gives them back."""

    name = group = "hoard"

    def prepare(self, settings):
        return lambda: float(torch.ones(64 * 2**20).sum())


def test_memory_is_that_of_the_case_alone():
    hoard = torch.ones(192 * 2**20)  # 768 MiB here, which must not be counted there
    memory = measure_memory(Hoard(), Settings("cpu", num_threads=1))
    assert memory.peak_mib - memory.idle_mib == pytest.approx(256, abs=16)
    del hoard


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cases", "training/*,evaluation/512x1024/open/contiguous/spare"], "nearest: evaluation/512x1024/open/cont"),
        (["--sizes", "512*1024"], "expected HEIGHTxWIDTH in pixels"),
        (["--repeats", "0"], "expected a whole number from 1. Received: 0"),
        (["MODEL.GATE.GATE_ON=False", "--cases", "training/*"], "Received: MODEL.GATE.GATE_ON=False"),
        (["SEDE=1", "--cases", "training/*"], "Nearest known: SEED"),
    ],
)
def test_mistakes_are_answered_in_words(words, message, capsys, monkeypatch):
    # What comes before the timing is not worth a process here.
    monkeypatch.setattr("dl_lib.benchmark.measure.measure_memory", lambda case, settings: case.prepare(settings))
    with pytest.raises(SystemExit) as caught:
        benchmark.main(["--device", "cpu", *words])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_help_does_not_wait_for_torch(tmp_path):
    (tmp_path / "torch.py").write_text("raise AssertionError('torch was imported')\n")
    command = [sys.executable, str(ROOT / "tools" / "benchmark.py"), "--help"]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: benchmark.py ")
