"""Run folders as the report reads them: complete, partial, damaged, and with evaluations of their own."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from dl_lib.config import ConfigError
from dl_lib.web.report.run_data import read_run
from tests.helpers.evaluated_run import make_evaluated_run


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    return make_evaluated_run(tmp_path_factory.mktemp("evaluated"))


@pytest.fixture
def run(evaluated, tmp_path):
    """Copy of a run that a test may change."""
    return Path(shutil.copytree(evaluated, tmp_path / "run"))


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


def change_results(run, **values):
    """Change values of the entries of all datasets in results.json."""
    path = run / "results.json"
    content = json.loads(path.read_text())
    for entry in content["datasets"].values():
        entry.update(values)
    path.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Run on the same images with another result."""
    return make_evaluated_run(tmp_path_factory.mktemp("other"), seed=1)


@pytest.mark.parametrize(
    ("name", "difference"),
    [
        ("per_image.csv", "mean real GFLOPs="),
        ("confusion.csv", "labelled pixels="),
        ("gates.npz", "mean gate of "),
        ("report_data.npz", "labelled pixels="),
    ],
)
def test_a_file_of_another_evaluation_is_not_shown(run, other, name, difference):
    shutil.copy(other / name, run / name)
    data = read(run)
    assert len(data.missing) == 1
    problem = f"{name} is of another evaluation than results.json; evaluate the run again. Received: {difference}"
    assert problem in data.missing[0]
    (result,) = data.datasets.values()
    shown = {"per_image.csv": result.images or None, "confusion.csv": result.confusion, "gates.npz": result.gates}
    shown["report_data.npz"] = result.data
    assert [file for file, content in shown.items() if content is None] == [name]


@pytest.mark.parametrize(
    ("values", "sentences"),
    [
        (
            {"images": 11},
            {"per_image.csv": "images=12 instead of 11", "gates.npz": "images=", "report_data.npz": "images="},
        ),
        (
            {"classes": {"disc": {"IoU": 0.5}}},
            {"confusion.csv": "classes=4 instead of 1", "report_data.npz": "classes=4"},
        ),
        (
            {"classes": {name: {"IoU": 0.5} for name in ("background", "bar", "disc", "never")}},
            {"confusion.csv": "class names='disc' instead of 'bar'"},
        ),
        ({"pACC": 0.25}, {"confusion.csv": "pixel accuracy=0.6", "report_data.npz": "pixel accuracy=0.6"}),
    ],
)
def test_results_of_another_evaluation(run, values, sentences):
    change_results(run, **values)
    missing = read(run).missing
    assert len(missing) == len(sentences)
    for (name, difference), sentence in zip(sentences.items(), missing, strict=True):
        assert f"{name} is of another evaluation than results.json; evaluate the run again" in sentence
        assert f"Received: {difference}" in sentence


def test_files_of_other_images_of_the_same_evaluation_are_not_shown(run):
    table = run / "per_image.csv"
    table.write_text(table.read_text().replace("image_3,", "image_03,"))
    differences = [sentence.partition("Received: ")[2] for sentence in read(run).missing]
    assert differences == 2 * ["image names='image_3' instead of 'image_03'"]


@pytest.mark.parametrize(
    ("values", "received"),
    [
        ({"mIoU": 1.5}, "mIoU=1.5"),
        ({"mIoU": float("nan")}, "mIoU=nan"),
        ({"pACC": "0.5"}, "pACC='0.5'"),
        ({"classes": {"disc": {"IoU": -0.1}}}, "IoU of disc=-0.1"),
        ({"classes": []}, "AttributeError: 'list' object has no attribute 'items'"),
        ({"seconds_per_image": -1}, "seconds_per_image=-1"),
        ({"costs_gflops": {}}, "KeyError: 'expected'"),
        (
            {"costs_gflops": {kind: {"avg": -1} for kind in ("expected", "real", "real_complete", "executed")}},
            "costs_gflops.expected.avg=-1",
        ),
        ({"seconds_per_image": 10**400}, "seconds_per_image=1000"),
        ({"seconds_per_image": 1e100}, "seconds_per_image=1e+100"),
        ({"images": -12}, "images=-12"),
    ],
)
def test_impossible_results_are_an_error(run, values, received):
    change_results(run, **values)
    with pytest.raises(
        ConfigError, match=rf"scores in \[0, 1\]; .* Received: dataset='some_val', {re.escape(received)}"
    ):
        read(run)


@pytest.mark.parametrize(
    ("content", "received"),
    [({"datasets": {}}, "datasets={}"), ({"datasets": 3}, "datasets=3"), ({"datasets": {"a": 3}}, "dataset='a'")],
)
def test_results_without_datasets_are_an_error(run, content, received):
    (run / "results.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=f"must have datasets, .* Received: {received}"):
        read(run)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("config.yaml", "[1, 2]", "config.yaml must be a mapping from keys to values. Received: list"),
        ("config.yaml", "a: " + "[" * 10_000, "found more than 50 nested levels"),
        ("config.yaml", "a: [" + "b, " * 400_000, "config.yaml cannot be read"),
        ("log.txt", "Environment:\n" + "x\n" * 10_000, "log.txt does not state the environment"),
        ("log.txt", "Environment:\n[2026] INFO", "log.txt does not state the environment"),
        ("log.txt", "no record", "log.txt does not state the environment"),
    ],
)
def test_a_config_or_environment_that_is_none_is_named(run, name, content, problem):
    (run / name).write_text(content)
    (missing,) = read(run).missing
    assert problem in missing
