"""The benchmark of trainings, whole but small: what it writes is what it measured."""

import json
from functools import partial

import pytest

from dl_lib.benchmark import train_measure
from dl_lib.benchmark.cases import Settings
from dl_lib.benchmark.measure import Timing
from dl_lib.cli import benchmark_train
from tests.helpers.small_run import SMALL, register

ONE = Timing((1.0,), gflops=0.0)  # as the processes of the launch would load everything anew, tests/launch has them


def test_a_whole_run(tmp_path, monkeypatch, capsys):
    register()
    opts = [f"{key}={value}" for key, value in zip(SMALL[::2], SMALL[1::2], strict=True)]
    for name, number in (("CHUNK", 2), ("LOOP_ROUNDS", 1), ("DATA_STEPS", 4)):
        monkeypatch.setattr(f"dl_lib.benchmark.train_measure.{name}", number)
    small_case = partial(train_measure.TrainingCase, images=1, side=64)
    monkeypatch.setattr("dl_lib.benchmark.train_measure.TrainingCase", small_case)
    small_network = [opt for opt in opts if opt.startswith("MODEL.") and "DEVICE" not in opt]
    monkeypatch.setattr("dl_lib.benchmark.train_measure.Settings", partial(Settings, opts=(*small_network,)))
    monkeypatch.setattr("dl_lib.benchmark.train_measure._measure_processes", lambda *args, **kwargs: {"1": ONE})
    benchmark_train.main(["--output", str(tmp_path), "--repeats", "1", "--memory-side", "64", *opts])
    values = json.loads((tmp_path / "benchmark_train.json").read_text())
    loop = values["step_seconds"]["loop"]
    assert set(loop) == {"bare", "bare, with clipping", "trainer"}
    assert all(len(seconds) == 1 and seconds[0] > 0 for seconds in loop.values())
    assert all(0 < share < 1 for share in values["share_of_a_step_that_waits_for_data"].values())
    assert values["peak_mib"]["kept"] > values["idle_mib"]["kept"]
    printed = capsys.readouterr().out
    assert (tmp_path / "benchmark_train.md").read_text() in printed
    with pytest.raises(SystemExit):
        benchmark_train.main(["--repeats", "0"])
