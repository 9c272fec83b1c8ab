"""Command `dl_lib plot-metrics` on runs and on invalid arguments."""

import json

import pytest

from dl_lib.cli.plot_metrics import main


def make_run(folder, lines):
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def lines(factor=1.0):
    return [{"iteration": i, "total_loss": factor / i, "executed_gflops": 1.0} for i in range(20, 120, 20)]


def plot(capsys, *argv):
    main([str(word) for word in argv])
    return capsys.readouterr().out


def rejected(capsys, *argv):
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in argv])
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_figure_of_two_runs(tmp_path, capsys):
    folders = [make_run(tmp_path / name / "run", lines(factor)) for name, factor in (("a", 1), ("b", 2))]
    printed = plot(capsys, *folders, "--output", tmp_path / "x" / "metrics.png", "--smoothing", "0.5")
    assert "Omitted (select them with --metrics): executed_gflops" in printed
    assert str(tmp_path / "x" / "metrics.png") in printed
    assert (tmp_path / "x" / "metrics.png").read_bytes().startswith(b"\x89PNG")
    printed = plot(capsys, *folders, "--output", tmp_path / "x.svg", "--metrics", "executed*,*loss")
    assert "Omitted" not in printed and (tmp_path / "x.svg").read_text().startswith("<?xml")


def test_errors(tmp_path, capsys):
    folder = make_run(tmp_path / "run", lines())
    assert "cannot read metrics.json" in rejected(capsys, tmp_path)
    assert "RUN: each run must be given once" in rejected(capsys, folder, f"{folder}/../run")
    assert "nearest: total_loss. Received: totalloss" in rejected(capsys, folder, "--metrics", "totalloss")
    (tmp_path / "loop").symlink_to("loop")
    assert "metrics.json: Too many levels of symbolic links" in rejected(capsys, tmp_path / "loop")
    assert "RUN: at most 6 runs" in rejected(capsys, *([folder] * 7))
    assert "must be a number in [0, 1). Received: 1" in rejected(capsys, folder, "--smoothing", "1")
    assert "must end in one of .png, .svg, .pdf. Received: x.gif" in rejected(capsys, folder, "--output", "x.gif")
    assert not (tmp_path / "output").exists()
