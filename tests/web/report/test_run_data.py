"""Run folders as the report reads them: complete, partial, damaged, and with evaluations of their own."""

import os
import shutil

import pytest

from dl_lib.config import ConfigError
from dl_lib.web.report.run_data import read_run
from tests.helpers.evaluated_run import make_evaluated_run


@pytest.fixture
def run(tmp_path):
    return make_evaluated_run(tmp_path / "run")


def read(folder):
    return read_run(folder, among=[folder])


def test_a_complete_run(run):
    data = read(run)
    assert (data.name, data.parameters, data.missing) == ("run", 1234, ())
    (result,) = data.datasets.values()
    assert len(result.images) == len(result.gates.image_ids) == result.values["images"] == 12
    assert data.config["SOLVER.LR_SCHEDULER.MAX_ITER"] == 80
    assert data.environment == "python  3.11.7\ntorch   2.14.1"
    assert data.training_seconds == pytest.approx(80 * 0.5)


def test_missing_and_damaged_files_are_named_and_the_rest_is_read(run):
    for name in ("metrics.json", "log.txt", "confusion.csv", "report_data.npz"):
        (run / name).unlink()
    (run / "gates.npz").write_bytes(b"PK")
    (run / "config.yaml").write_text("a: !!python/object/apply:os.system [exit]")
    data = read(run)
    problems = ["confusion.csv cannot be read", "gates.npz is not a file with", "report_data.npz cannot be read"]
    problems += ["cannot read metrics.json"]
    problems += ["config must be valid YAML without Python tags", "log.txt cannot be read"]
    assert len(data.missing) == len(problems)
    for problem, sentence in zip(problems, data.missing, strict=True):
        assert problem in sentence
    (result,) = data.datasets.values()
    assert result.gates is result.confusion is result.data is None and len(result.images) == 12
    assert data.training_seconds is None and data.config == {} and data.environment == ""


def test_several_datasets_have_files_of_their_own(tmp_path):
    data = read(make_evaluated_run(tmp_path / "run", datasets=("some_val", "other_val")))
    assert [*data.datasets] == ["some_val", "other_val"] and data.missing == ()


def test_dataset_names_do_not_become_paths(tmp_path):
    folder = make_evaluated_run(tmp_path / "run", datasets=("some_val", "other_val"))
    results = folder / "results.json"
    results.write_text(results.read_text().replace('"other_val"', '"/../../other"'))
    with pytest.raises(ConfigError, match="name of a dataset must be one of a file"):
        read(folder)


def test_the_last_evaluation_of_a_run_without_results(run):
    for number, name in enumerate(("b", "a")):
        shutil.copytree(run, run / "evaluations" / name, ignore=shutil.ignore_patterns("evaluations", "metrics.json"))
        os.utime(run / "evaluations" / name / "results.json", (number, number))
    assert read(run).folder == run
    (run / "results.json").unlink()
    data = read(run)
    assert data.folder == run / "evaluations" / "a" and data.training_seconds == pytest.approx(40)
    assert read(run / "evaluations" / "b").name == "run/b"


def test_a_folder_without_results(tmp_path):
    with pytest.raises(ConfigError, match=r"RUN must be a folder with a results\.json"):
        read(tmp_path)
