"""Benchmark of the layers."""

import json
from statistics import median

import layers
import pytest
import torch
from harness import Settings, Timing
from layers import LayerCase, layer_cases, layer_report, ratio
from torch.nn.modules.module import register_module_forward_pre_hook

DENSE = ["static", "cond", "cond loop", "dynamic", "dynamic loop", "aws", "two rates", "sac", "split"]
PLAIN = {"static": 1, "two rates": 2}  # number of convolutions


def test_cases_are_those_that_exist():
    cases = layer_cases([(4, 8, 8), (8, 4, 4)], images=[1, 8])
    assert len({case.name for case in cases}) == len(cases) == (9 + 8 + 6) * 2 * 2 * 2
    assert [case.layer for case in cases[:9]] == DENSE, "the layers of a group are adjacent"
    assert {case.layer for case in cases if case.kernel == "1x1"} == set(DENSE) - {"two rates", "sac", "split"}
    assert {case.layer for case in cases if case.kernel == "depthwise 3x3"} == set(DENSE) - {"split"}


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("direction", ["forward", "step"])
@pytest.mark.parametrize("layer", DENSE)
def test_case_runs_what_its_name_says(layer, direction, channels_last):
    calls = []
    run = LayerCase(layer, "dense 3x3", (8, 5, 6), 3, direction, channels_last).prepare(Settings())
    handle = register_module_forward_pre_hook(lambda module, inputs: calls.append((module, inputs[0])))
    try:
        gflops = [run() for _ in range(2)]
    finally:
        handle.remove()
    module, x = calls[0]  # the layer is called before its parts
    assert x.shape == (3, 8, 5, 6)
    assert x.is_contiguous(memory_format=torch.channels_last) is channels_last
    assert module.training is (direction == "step")
    assert (x.grad is not None) is (direction == "step")
    assert all((p.grad is not None) is (direction == "step") for p in module.parameters())
    assert gflops[0] == gflops[1] > 0
    if layer in PLAIN:
        assert gflops[0] == PLAIN[layer] * 8 * 8 * 9 * 5 * 6 / 1e9


def test_ratios_in_closed_form():
    seconds = {"static": 2.0, "cond": 3.0, "cond loop": 4.0, "dynamic": 6.0, "dynamic loop": 3.0}
    timings = {}
    for case in layer_cases([(4, 2, 2), (8, 2, 2), (512, 1, 1)], images=[8], channels_last=True):
        is_slow = case.layer == "cond" and case.shape[0] == 512 and case.direction == "step"
        timings[case] = Timing(
            (100.0 if is_slow else seconds.get(case.layer, 5.0),), 4.0 if case.layer == "sac" else 2.0
        )

    def case(kernel, layer, direction="step"):
        return LayerCase(layer, kernel, (4, 2, 2), 8, direction, channels_last=True)

    assert ratio(case("1x1", "cond"), "static", timings) == 1.5
    assert ratio(case("1x1", "cond"), "cond loop", timings) == 0.75
    assert ratio(case("1x1", "aws"), "aws loop", timings) is None
    assert ratio(case("dense 3x3", "sac"), "static", timings, per_madd=True) == 1.25
    report = layer_report(timings, facts={})
    worst, medians, *details = report.tables
    rows = {row[0]: row[1:] for row in worst.rows}
    assert rows["cond"] == (8, 1.5, 50.0, 50.0, 50.0, 25.0), "dense only up to 256 channels"
    assert rows["dynamic"] == (8, 3.0, 3.0, 3.0, 3.0, 2.0)
    assert rows["split"] == (8, 2.5, None, None, 2.5, None)
    assert rows["sac"] == (8, 2.5, 2.5, None, 1.25, None)
    assert {row[0]: row[1:] for row in medians.rows}["cond"] == (8, 1.5, 1.5, 1.5, 1.5, 0.75)
    assert [table.title for table in details] == ["dense 3x3", "depthwise 3x3", "1x1"]
    assert all(table.detail for table in details) and report.facts["maps"] == "channels last, float32"


def test_run(tmp_path, capsys):
    words = ["--device", "cpu", "--shapes", "4x5x6,8x3x2", "--images", "1,3", "--repeats", "2"]
    layers.main([*words, "--output", str(tmp_path), "--document", str(tmp_path / "summary.md")])
    values = json.loads((tmp_path / "layers.json").read_text())
    for kernel, count in (("dense 3x3", 9), ("depthwise 3x3", 8), ("1x1", 6)):
        assert len(values["tables"][kernel]) == count * 2 * 2
        for row in values["tables"][kernel]:
            for direction in ("forward", "step"):
                seconds = values["samples"][f"{direction}/{kernel}/{row['maps']}/{row['images']}/{row['layer']}"]
                assert row[f"{direction} ms"] == 1e3 * median(seconds) and len(seconds) == 2
    summary = (tmp_path / "summary.md").read_text()
    assert "## Training steps, worst ratios" in summary and "## dense 3x3" not in summary


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--shapes", "64x128"], "expected CHANNELSxHEIGHTxWIDTH, such as 64x64x128,8x2x2. Received: 64x128"),
        (["--images", "8,0"], "Received: 0"),
    ],
)
def test_invalid_arguments_end_with_a_message(words, message, capsys):
    with pytest.raises(SystemExit) as caught:
        layers.main(words)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
