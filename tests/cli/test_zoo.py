"""The comparison of a playground's experiments: what is trained, and what the table says."""

import json
import subprocess
from pathlib import Path

import cv2
import pytest

from dl_lib.cli.zoo import main
from dl_lib.config import get_cfg
from dl_lib.modeling import build_model

ZOO = Path(__file__).parents[2] / "playground" / "Zoo"
EXPERIMENTS = [str(ZOO / "Digits.SPConv"), str(ZOO / "Digits.ReXNetLite")]


def test_a_table_of_costs_times_and_scores(tmp_path, capsys):
    for seed, score in enumerate((0.5, 0.6, 0.7)):
        folder = tmp_path / "runs" / f"Digits.SPConv-seed{seed}"
        folder.mkdir(parents=True)
        (folder / "results.json").write_text(json.dumps({"datasets": {"digit_scenes_val": {"mIoU": score}}}))
    output = tmp_path / "zoo.md"
    words = ["--runs", str(tmp_path / "runs"), "--size", "64x96", "--repeats", "1", "--output", str(output)]
    main(["table", *EXPERIMENTS, *words, "--picture", str(tmp_path / "zoo.png")])
    assert cv2.imread(str(tmp_path / "zoo.png")) is not None
    assert output.read_text() in capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in output.read_text().splitlines()[2:4]]
    for row, folder in zip(rows, EXPERIMENTS, strict=True):
        parameters = sum(p.numel() for p in build(folder).parameters())
        assert row[:2] == [Path(folder).name, f"{parameters:,}"] and float(row[3]) > 0
    assert rows[0][2] == f"{build(EXPERIMENTS[0]).costs.table(64, 96).dense / 1e9:.3f}"
    assert rows[0][4:] == ["60.00 ± 10.00", "3"] and rows[1][4:] == ["-", "-"]


def build(folder):
    cfg = get_cfg()
    cfg.merge_from_file(Path(folder) / "config.yaml")
    return build_model(cfg)


def test_what_is_finished_is_not_trained_again(tmp_path, monkeypatch):
    """Stands in for trainings, which tests of whole runs are about."""
    lines = []
    monkeypatch.setattr(
        subprocess, "run", lambda words, **o: lines.append(words[3:]) or subprocess.CompletedProcess([], 0)
    )
    done = tmp_path / "Digits.SPConv-seed1"
    done.mkdir()
    (done / "results.json").write_text("{}")
    main(["train", *EXPERIMENTS, "--runs", str(tmp_path), "--seeds", "1,4", "--iterations", "7"])
    assert [(Path(line[1]).name, *line[2:]) for line in lines] == [
        (name, f"SEED={seed}", f"OUTPUT_DIR={tmp_path}/{name}-seed{seed}", "SOLVER.LR_SCHEDULER.MAX_ITER=7")
        for name, seed in (("Digits.ReXNetLite", 1), ("Digits.SPConv", 4), ("Digits.ReXNetLite", 4))
    ]


def test_a_training_that_fails_and_results_that_cannot_be_read(tmp_path, monkeypatch, capsys):
    failed = subprocess.CompletedProcess([], 3)
    monkeypatch.setattr(subprocess, "run", lambda words, **options: failed)
    with pytest.raises(SystemExit, match="2"):
        main(["train", EXPERIMENTS[0], "--runs", str(tmp_path)])
    assert "this training ended with status 3" in capsys.readouterr().err
    (tmp_path / "Digits.SPConv-seed0").mkdir()
    with pytest.raises(SystemExit, match="2"):
        main(["table", EXPERIMENTS[0], "--runs", str(tmp_path)])
    assert "expected a run's results.json" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["digits", "cityscapes"])
def test_the_page_shows_the_tables_that_were_written(name):
    docs = Path(__file__).parents[2] / "docs"
    table = [line for line in (docs / "zoo" / f"{name}.md").read_text().splitlines() if line.startswith("|")]
    assert len(table) == 10
    assert "\n".join(table) in (docs / "zoo.md").read_text()
