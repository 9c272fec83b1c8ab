"""Command `dl_lib find-lr` on a small network: files, suggestion, errors."""

import csv

import cv2
import pytest

from dl_lib.cli.find_lr import main
from tests.helpers.small_run import SMALL, register
from tests.helpers.training import restore_logging


def find_lr(tmp_path, *words):
    register()
    (tmp_path / "config.yaml").write_text("{}\n")
    small = [str(word) for word in SMALL]
    with restore_logging():
        main(["--config-file", str(tmp_path), *words, *small, "OUTPUT_DIR", str(tmp_path / "run")])


def test_table_figure_and_suggestion(tmp_path, capsys):
    find_lr(tmp_path, "--low", "1e-4", "--high", "10", "--iterations", "11")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["find_lr.csv", "find_lr.png"]
    rows = list(csv.DictReader((tmp_path / "run" / "find_lr.csv").read_text().splitlines()))
    rates = [float(row["learning_rate"]) for row in rows]
    assert rates == pytest.approx([1e-4 * 10 ** (i / 2) for i in range(len(rates))])
    assert float(rows[0]["loss"]) == float(rows[0]["smoothed_loss"]) > 0
    assert cv2.imread(str(tmp_path / "run" / "find_lr.png")).shape[2] == 3
    assert "Suggestion" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--low", "1", "--high", "0.1"], "--low must be less than --high. Received: --low=1, --high=0.1"),
        (["--iterations", "9"], "must be an integer in [10, 1000000]. Received: 9"),
        (["--low", "0"], "must be a finite number greater than 0. Received: 0"),
        (["--high", "inf"], "must be a finite number greater than 0. Received: inf"),
        (["--smoothing", "x"], "must be a number in [0, 1). Received: x"),
        (["MODEL.WEIGHTS=nothing.pth"], "no such checkpoint"),
    ],
)
def test_errors(tmp_path, capsys, words, message):
    with pytest.raises(SystemExit) as ended:
        find_lr(tmp_path, *words)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
