"""The benchmark of layers: what it measures is what it says, and its tables are its figures."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from dl_lib.benchmark.cases import Settings
from dl_lib.benchmark.layer_cases import LayerCase, Scale, layer_cases
from dl_lib.benchmark.layer_report import format_layer_markdown, layer_results_as_dict
from dl_lib.benchmark.measure import Timing
from dl_lib.cli import benchmark_layers

ROOT = Path(__file__).parents[2]
DENSE = ["static", "cond", "cond loop", "dynamic", "dynamic loop", "aws", "two rates", "sac", "split"]

PLAIN = {"static": 1, "two rates": 2}  # convolutions


def tables_of(markdown):
    """By heading, the rows of its table as lists of text."""
    tables = {}
    for part in markdown.split("## ")[1:]:
        lines = [line for line in part.splitlines() if line.startswith("|")]
        tables[part.splitlines()[0]] = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    return tables


def test_a_whole_run(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = ["--device", "cpu", "--scales", "4x5x6,8x3x2", "--images", "1,3", "--repeats", "3", "--threads", "1"]
    command = [sys.executable, str(ROOT / "tools" / "benchmark_layers.py"), *words, "--output", "out"]
    done = subprocess.run(
        [*command, "--allocator", "tuned"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    markdown = (tmp_path / "out" / "benchmark_layers.md").read_text()
    assert done.stdout.startswith(markdown)
    for fact in ("- threads: 1", "- device: cpu", "- maps: contiguous, float32", "MALLOC_TRIM_THRESHOLD_="):
        assert fact in markdown
    report = json.loads((tmp_path / "out" / "benchmark_layers.json").read_text())["cases"]
    tables = tables_of(markdown)
    for kernel, count in (("dense 3x3", 9), ("depthwise 3x3", 8), ("1x1", 6)):
        assert len(tables[kernel]) == count * 2 * 2
        for maps, images, layer, _, forward_ms, _, _, step_ms, to_static, to_loop in tables[kernel]:
            forward, step = (
                report[f"{direction}/{kernel}/{maps}/{images}/{layer}"] for direction in ("forward", "step")
            )
            assert step["seconds"]["median"] == statistics.median(step["seconds"]["all"])
            assert forward_ms == f"{1e3 * forward['seconds']['median']:.2f}"
            assert (step_ms, to_static) == (f"{1e3 * step['seconds']['median']:.2f}", f"{step['to_static']:.2f}")
            assert to_loop == ("" if step["to_loop"] is None else f"{step['to_loop']:.2f}")


def timings_of(seconds):
    return {
        case: Timing((seconds(case),), gflops=4.0 if case.layer == "sac" else 2.0)
        for case in layer_cases([(4, 2, 2), (512, 1, 1)], images=[8], channels_last=True)
    }


def test_ratios_in_closed_form():
    seconds = {"static": 2.0, "cond": 3.0, "cond loop": 4.0, "dynamic": 6.0, "dynamic loop": 3.0}

    def by_layer(case):
        is_slow = case.layer == "cond" and case.scale.channels == 512 and case.direction == "step"
        return 100.0 if is_slow else seconds.get(case.layer, 5.0)

    timings = timings_of(by_layer)
    values = layer_results_as_dict(timings, machine={})["cases"]
    assert values["step/1x1/4x2x2/8/cond"]["to_static"] == 1.5
    assert values["step/1x1/4x2x2/8/cond"]["to_loop"] == 0.75
    assert values["forward/1x1/4x2x2/8/aws"]["to_loop"] is None
    assert values["step/dense 3x3/4x2x2/8/sac"]["to_static_per_madd"] == 1.25
    rows = {row[0]: row[1:] for row in tables_of(format_layer_markdown(timings, machine={}))["Steps, worst ratios"]}
    assert rows["cond"] == ["8", "1.50", "50.00", "50.00", "50.00", "25.00"], "dense, only up to 256 channels"
    assert rows["dynamic"] == ["8", "3.00", "3.00", "3.00", "3.00", "2.00"]
    assert rows["split"] == ["8", "2.50", "", "", "2.50", ""]
    assert rows["sac"] == ["8", "2.50", "2.50", "", "1.25", ""]


def test_cases_are_those_that_exist():
    cases = layer_cases([(4, 8, 8), (8, 4, 4)], images=[1, 8], channels_last=False)
    assert len({case.name for case in cases}) == len(cases) == (9 + 8 + 6) * 2 * 2 * 2
    assert [case.layer for case in cases[:9]] == DENSE, "those of a group stand side by side"
    assert {case.layer for case in cases if case.kernel == "1x1"} == set(DENSE) - {"two rates", "sac", "split"}
    assert {case.layer for case in cases if case.kernel == "depthwise 3x3"} == set(DENSE) - {"split"}


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("direction", ["forward", "step"])
@pytest.mark.parametrize("layer", DENSE)
def test_what_runs_is_what_the_case_says(layer, direction, channels_last):
    calls = []
    run = LayerCase(layer, "dense 3x3", Scale(8, 5, 6), 3, direction, channels_last).prepare(Settings("cpu"))
    handle = register_module_forward_pre_hook(lambda module, inputs: calls.append((module, inputs[0])))
    try:
        gflops = [run() for _ in range(2)]
    finally:
        handle.remove()
    module, x = calls[0]  # the layer itself comes before its parts
    assert x.shape == (3, 8, 5, 6)
    assert x.is_contiguous(memory_format=torch.channels_last) is channels_last
    assert module.training is (direction == "step")
    assert (x.grad is not None) is (direction == "step")
    assert all((p.grad is not None) is (direction == "step") for p in module.parameters())
    assert gflops[0] == gflops[1] > 0
    if layer in PLAIN:
        assert gflops[0] == PLAIN[layer] * 8 * 8 * 9 * 5 * 6 / 1e9


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scales", "64x128"], "expected CHANNELSxHEIGHTxWIDTH, such as 64x64x128,8x2x2. Received: 64x128"),
        (["--images", "8,0"], "expected a whole number from 1. Received: 0"),
        (["--repeats", "many"], "expected a whole number from 1. Received: many"),
    ],
)
def test_mistakes_are_answered_in_words(words, message, capsys):
    with pytest.raises(SystemExit) as caught:
        benchmark_layers.main(words)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_help_does_not_wait_for_torch(tmp_path):
    (tmp_path / "torch.py").write_text("raise AssertionError('torch was imported')\n")
    command = [sys.executable, str(ROOT / "tools" / "benchmark_layers.py"), "--help"]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: benchmark_layers.py ")
