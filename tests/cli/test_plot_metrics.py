"""`dl_lib plot-metrics` on files as trainings write them, whole, cut off and damaged."""

import json

import cv2
import pytest

from dl_lib.cli.plot_metrics import main
from dl_lib.config import ConfigError
from dl_lib.plots.metrics import Series, read_metrics


def make_run(folder, lines):
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def lines(factor=1.0):
    return [{"iteration": i, "total_loss": factor / i, "executed_gflops": 1.0} for i in range(20, 120, 20)]


def plot(capsys, *argv):
    main([str(word) for word in argv])
    return capsys.readouterr().out


def refused(capsys, *argv):
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in argv])
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_runs_become_one_picture(tmp_path, capsys):
    folders = [make_run(tmp_path / name / "run", lines(factor)) for name, factor in (("a", 1), ("b", 2))]
    said = plot(capsys, *folders, "--output", tmp_path / "x" / "metrics.png", "--smoothing", "0.5")
    assert "not drawn (--metrics draws them): executed_gflops" in said
    height, width, _ = cv2.imread(str(tmp_path / "x" / "metrics.png")).shape
    assert f"{width} x {height} pixels" in said
    said = plot(capsys, *folders, "--output", tmp_path / "x.png", "--metrics", "executed*,*loss")
    assert "not drawn" not in said


def test_what_is_read(tmp_path):
    folder = make_run(tmp_path / "run", [*lines(), {"iteration": 110, "toy/mIoU": 0.5}])
    path = folder / "metrics.json"
    path.write_text(path.read_text() + '{"iteration": 120, "total_l')  # a run that is just writing
    scalars = read_metrics(folder)
    assert scalars["toy/mIoU"] == Series((110,), (0.5,))
    assert scalars["total_loss"] == Series((20, 40, 60, 80, 100), tuple(1 / i for i in range(20, 120, 20)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "nothing has been written down yet"),
        ("[1]\n", "line 1 is none that a training writes"),
        ('{"total_loss": 1}\n', "line 1 is none"),
        ('{"iteration": 1, "a": "b"}\n', "line 1 is none"),
        ('{"iteration": 1, "a": NaN}\n', "line 1 is none"),
        ('{"iteration": 1, "a": 1}\nxyz\n', "line 2 is none.*Received: xyz"),
    ],
)
def test_what_is_no_metrics_file_is_refused(tmp_path, content, message):
    folder = make_run(tmp_path / "run", [])
    (folder / "metrics.json").write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_metrics(folder)


def test_what_cannot_be_drawn_is_refused(tmp_path, capsys):
    folder = make_run(tmp_path / "run", lines())
    assert "there are no metrics in this folder" in refused(capsys, tmp_path)
    assert "a run stands there twice" in refused(capsys, folder, f"{folder}/../run")
    assert "nearest: total_loss. Received: totalloss" in refused(capsys, folder, "--metrics", "totalloss")
    assert "colours for up to 6 runs" in refused(capsys, *([folder] * 7))
    assert "must be a number in [0, 1). Received: 1" in refused(capsys, folder, "--smoothing", "1")
    assert not (tmp_path / "output").exists()
