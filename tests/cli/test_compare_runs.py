"""Command `dl_lib compare-runs`: every cell is the value in the run's results.json."""

import json
import os
import re
from dataclasses import replace

import pytest

from dl_lib.cli.compare_runs import main
from dl_lib.evaluation.report.write import write_report
from dl_lib.evaluation.runner.run import inference_on_dataset
from dl_lib.evaluation.scores.evaluator import SemSegEvaluator
from tests.helpers.evaluation import IGNORE, NAMES, FakeModel, batches_of, make_samples


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of two runs, one with one dataset, one with two; the second dataset has no ground truth."""
    folder = tmp_path_factory.mktemp("runs")
    for name, sets in (("first", ["some_val"]), ("second", ["some_val", "some_test"])):
        results = {dataset: evaluate(dataset, seed=len(name), labelled="val" in dataset) for dataset in sets}
        write_report(results, output_dir=folder / name, targets={}, shown={}, route=None, parameters=1234567)
    return folder


def evaluate(dataset, *, seed, labelled):
    evaluator = SemSegEvaluator(dataset, class_names=NAMES, ignore_value=IGNORE)
    result = inference_on_dataset(FakeModel(), batches_of(make_samples(3, seed=seed)), evaluator)
    return result if labelled else replace(result, metrics=None, confusion=None)


def results_of(folder):
    return json.loads((folder / "results.json").read_text())["datasets"]


def compare(capsys, *words):
    main([str(word) for word in words])
    return capsys.readouterr().out


def markdown_rows(text):
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|") and not line.startswith(("|:", "|-"))
    ]


def test_every_cell_is_a_value_of_its_run(runs, tmp_path, capsys):
    printed = compare(capsys, runs / "first", runs / "second", "--output", tmp_path / "new")
    rows = markdown_rows((tmp_path / "new" / "comparison.md").read_text())
    assert rows[0] == [
        *("dataset", "run", "mIoU", "fwIoU", "mACC", "pACC"),
        *("expected", "real", "complete", "executed", "s", "parameters"),
    ]
    assert [row[:2] for row in rows[1:]] == [["some_val", "first"], ["some_val", "second"], ["some_test", "second"]]
    for dataset, run, *cells in rows[1:]:
        values = results_of(runs / run)[dataset]
        costs = [values["costs_gflops"][kind]["avg"] for kind in ("expected", "real", "real_complete", "executed")]
        assert [float(cell) for cell in cells[4:8]] == pytest.approx(costs, abs=5.1e-7)  # 6 decimals below 1 GFLOP
        assert float(cells[8]) == pytest.approx(values["seconds_per_image"], abs=5.1e-5)
        assert cells[9] == "1,234,567"
        if dataset == "some_val":
            scores = [values[name] for name in ("mIoU", "fwIoU", "mACC", "pACC")]
            assert [float(cell) for cell in cells[:4]] == pytest.approx([100 * score for score in scores], abs=0.0051)
        else:
            assert cells[:4] == ["-"] * 4
    for row in rows:
        assert re.search(r"\s+".join(map(re.escape, row)), printed)
    written = json.loads((tmp_path / "new" / "comparison.json").read_text())
    assert [(one["run"], one["dataset"], one["parameters"]) for one in written] == [
        *(("first", "some_val", 1234567), ("second", "some_val", 1234567), ("second", "some_test", 1234567)),
    ]
    assert written[2]["results"] == results_of(runs / "second")["some_test"]


def test_class_table(runs, tmp_path, capsys):
    compare(capsys, runs / "second", runs / "first", "--classes", "--output", tmp_path)
    rows = markdown_rows((tmp_path / "comparison.md").read_text())
    table = rows[4:]
    assert table[0] == ["IoU (%) on some_val", "second", "first"]  # in the order of the command line
    expected = [results_of(runs / run)["some_val"]["classes"] for run in ("second", "first")]
    for name, cells in zip(NAMES[:3], (row[1:] for row in table[1:]), strict=False):
        assert [float(cell) for cell in cells] == pytest.approx(
            [100 * run[name]["IoU"] for run in expected], abs=0.0051
        )
    assert table[4] == ["never", "-", "-"]
    assert len(table) == 1 + len(NAMES)  # none for the dataset without ground truth


def test_runs_with_the_same_name_are_named_by_path(runs, tmp_path, capsys):
    other = tmp_path / "first"
    other.mkdir()
    (other / "results.json").write_bytes((runs / "first" / "results.json").read_bytes())
    printed = compare(capsys, runs / "first", other, runs / "second")
    assert str(runs / "first") in printed and str(other) in printed and f"{runs}/second" not in printed


def test_evaluations_of_a_run_are_named_after_it(runs, tmp_path, capsys):
    content = (runs / "first" / "results.json").read_bytes()
    for name in ("one/evaluations/val", "one/evaluations/.val.partial", "two", "two/evaluations/flipped"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "results.json").write_bytes(content)
    folders = [tmp_path / name for name in ("one", "two", "two/evaluations/flipped")]
    compare(capsys, *folders, "--output", tmp_path)
    rows = markdown_rows((tmp_path / "comparison.md").read_text())
    assert [row[1] for row in rows[1:]] == ["one/val", "two", "two/flipped", "two/flipped"]


def test_names_are_escaped(runs, tmp_path, capsys):
    text = (runs / "first" / "results.json").read_text()
    (tmp_path / "a|b").mkdir()
    (tmp_path / "a|b" / "results.json").write_text(text.replace("some_val", "\\u001b[31m").replace("disc", "<i>"))
    printed = compare(capsys, tmp_path / "a|b", "--classes", "--output", tmp_path)
    assert "\x1b" not in printed and r"\x1b[31m" in printed and "<i>" in printed
    markdown = (tmp_path / "comparison.md").read_text()
    assert r"a\|b" in markdown and r"\\x1b\[31m" in markdown and "&lt;i&gt;" in markdown and "<i>" not in markdown


def test_results_without_the_number_of_parameters(runs, tmp_path, capsys):
    content = json.loads((runs / "first" / "results.json").read_text())
    del content["parameters"]
    (tmp_path / "results.json").write_text(json.dumps(content))
    assert re.search(r"some_val .* -\n", compare(capsys, tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "RUN must be a folder with a results.json; evaluate the run with dl_lib evaluate"),
        ("{", "is not valid JSON"),
        ("[]", "scores in [0, 1]; evaluate the run again. Received: list"),
        ('{"datasets": 3}', "Received: datasets=3"),
        ('{"datasets": {"a": {"mIoU": 0.5}}}', "must have datasets, each"),
        ('{"datasets": {"a": {"seconds_per_image": 1, "costs_gflops": {"expected": {}}}}}', "must have datasets, each"),
        ('{"datasets": {}, "parameters": "many"}', "must have datasets, each"),
        ("[" * 100_000, "is not valid JSON"),
        (os.mkfifo, "results.json cannot be read (not a regular file but a pipe, device or socket)"),
        (os.mkdir, "(Is a directory)"),
    ],
)
def test_folders_without_usable_results(tmp_path, capsys, content, message):
    if callable(content):
        content(tmp_path / "results.json")
    elif content is not None:
        (tmp_path / "results.json").write_text(content)
    with pytest.raises(SystemExit) as caught:
        main([str(tmp_path)])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("dl_lib compare-runs: error: ") and message in error and error.count("\n") == 1


def test_a_file_among_the_runs_is_named(tmp_path, capsys):
    figure = tmp_path / "metrics.png"
    figure.touch()
    with pytest.raises(SystemExit):
        main([str(figure)])
    assert "RUN must be a folder with a results.json" in (error := capsys.readouterr().err) and str(figure) in error
