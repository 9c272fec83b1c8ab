"""Command `dl_lib plot-metrics` on complete, truncated and invalid metrics files."""

import json

import pytest

from dl_lib.cli.plot_metrics import main
from dl_lib.utils.metrics_file import MetricsFileError, Series, read_metrics


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


def test_reading_metrics(tmp_path):
    folder = make_run(tmp_path / "run", [*lines(), {"iteration": 110, "toy/mIoU": 0.5}])
    path = folder / "metrics.json"
    path.write_text(path.read_text() + '{"iteration": 120, "total_l')  # a line being written
    scalars = read_metrics(folder)
    assert scalars["toy/mIoU"] == Series((110,), (0.5,))
    assert scalars["total_loss"] == Series((20, 40, 60, 80, 100), tuple(1 / i for i in range(20, 120, 20)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no metrics yet"),
        ("[1]\n", "line 1: expected a JSON object"),
        ('{"total_loss": 1}\n', "line 1: expected"),
        ('{"iteration": 1, "a": "b"}\n', "line 1: expected"),
        ('{"iteration": 1, "a": NaN}\n', "line 1: expected"),
        ('{"iteration": 1, "a": 1}\nxyz\n', "line 2: expected.*Received: xyz"),
    ],
)
def test_invalid_metrics_files(tmp_path, content, message):
    folder = make_run(tmp_path / "run", [])
    (folder / "metrics.json").write_text(content)
    with pytest.raises(MetricsFileError, match=message):
        read_metrics(folder)


def test_errors(tmp_path, capsys):
    folder = make_run(tmp_path / "run", lines())
    assert "cannot read metrics.json" in rejected(capsys, tmp_path)
    assert "RUN: each run must be given once" in rejected(capsys, folder, f"{folder}/../run")
    assert "nearest: total_loss. Received: totalloss" in rejected(capsys, folder, "--metrics", "totalloss")
    assert "RUN: at most 6 runs" in rejected(capsys, *([folder] * 7))
    assert "must be a number in [0, 1). Received: 1" in rejected(capsys, folder, "--smoothing", "1")
    assert "must end in one of .png, .svg, .pdf. Received: x.gif" in rejected(capsys, folder, "--output", "x.gif")
    assert not (tmp_path / "output").exists()
