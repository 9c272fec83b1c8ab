"""Command `dl_lib predict`: mixed inputs, interrupted and resumed predictions, exit statuses."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import Base as Tag

from dl_lib.cli import predict
from dl_lib.data import DatasetCatalog
from dl_lib.prediction.predictor import Predictor
from dl_lib.prediction.saving.kinds import FORMATS
from dl_lib.prediction.saving.writer import RECORDS_NAME, OutputWriter
from dl_lib.utils.files import WriteError
from dl_lib.utils.folder_lock import locked_folder
from dl_lib.utils.run_files import LOCK_NAME, LOG_NAME
from tests.helpers.prediction_run import CLASSES, make_dataset, make_run
from tests.helpers.training import restore_logging
from tests.helpers.videos import COLORS, write_video

ROOT = Path(__file__).parents[2]
SHAPES = {"RGB": (7, 11, 3), "L": (7, 11), "RGBA": (9, 4, 4)}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run") / "run", data=make_dataset(tmp_path_factory.mktemp("data")))


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Folder with images of all kinds, a damaged one, a text file and a video."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(DatasetCatalog, "_entries", dict(DatasetCatalog._entries))
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    images = {mode: Image.fromarray(rng.integers(0, 256, shape).astype(np.uint8)) for mode, shape in SHAPES.items()}
    exif = Image.Exif()
    exif[Tag.Orientation] = 6
    images["RGB"].save(folder / "a.png")
    images["RGB"].save(folder / "a.jpg", exif=exif)
    images["L"].save(folder / "sub/a.png")
    images["RGBA"].save(folder / "sub/rgba.png")
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:90])
    (folder / "notes.txt").write_text("no image")
    write_video(folder / "clip.mp4")
    return folder


def run(*words):
    """Predict; return the exit status."""
    with restore_logging():
        try:
            predict.main([*map(str, words)])
        except SystemExit as exit:
            return exit.code
    return 0


def content_of(folder):
    """Return the content of all files but the log, without the measured seconds."""
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: [{**json.loads(line), "seconds": 0} for line in path.read_text().splitlines()]
        if path.suffix == ".jsonl"
        else path.read_bytes()
        for name, path in files.items()
        if name not in (LOG_NAME, LOCK_NAME)
    }


def names_in(folder):
    return [json.loads(line)["file"] for line in (folder / RECORDS_NAME).read_text().splitlines()]


def test_mixed_folder(run_folder, photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(run_folder, photos, "--output", out, "--save", ",".join(FORMATS)) == 1
    printed = capsys.readouterr()
    assert printed.out.count("WARNING") == 2 and not printed.err
    assert f"Skipped {photos}/broken.png: damaged or truncated" in printed.out
    assert f"Ignored 1 file that is neither an image nor a video by its suffix: {photos}/notes.txt" in printed.out
    assert f"Predicted {4 + len(COLORS)} images in " in printed.out and f"1 failed: {out}\n" in printed.out
    assert names_in(out) == ["a.jpg", "a.png", "clip.mp4", "sub/a.png", "sub/rgba.png"]
    upright = json.loads((out / RECORDS_NAME).read_text().splitlines()[0])
    assert (upright["height"], upright["width"]) == (11, 7), "EXIF orientation is applied"
    assert set(upright["class_fractions"]) <= set(CLASSES) and upright["gflops"]["real"] > 0 and upright["open_edges"]
    assert np.load(out / "probabilities/sub/a.png.npy").shape == (len(CLASSES), 7, 11)
    assert cv2.imread(str(out / "labels/sub/rgba.png.png")).shape == (9, 4, 3)
    assert cv2.imread(str(out / "overlays/a.jpg.jpg")).shape == (11, 7, 3)
    assert len(list((out / "labels/clip.mp4").iterdir())) == len(COLORS)
    capture = cv2.VideoCapture(str(out / "overlays/clip.mp4.mp4"))
    assert (capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)) == (len(COLORS), 5)
    capture.release()


def test_inputs_of_several_folders_keep_their_paths(run_folder, photos, tmp_path):
    assert (
        run(run_folder, photos / "a.png", "photos/sub/*.png", "photos/a.png", "--output", "out", "--batch-size", 2) == 0
    )
    assert names_in(tmp_path / "out") == ["a.png", "sub/a.png", "sub/rgba.png"]
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"labels", "overlays", "predict.json"}
    assert not (tmp_path / "out/probabilities").exists()


def test_output_inside_the_input_is_not_predicted(run_folder, photos):
    words = (run_folder, photos / "sub", "--output", photos / "sub/out", "--save", "overlays")
    assert run(*words) == 0
    before = content_of(photos / "sub/out")
    assert run(*words, "--resume") == 0
    assert content_of(photos / "sub/out") == before


def interrupt(monkeypatch, *, after, error):
    """Raise an error while the files of the next image are written."""
    written = []
    write = OutputWriter._record

    def record(self, values):
        written.append(values)
        if len(written) > after:
            raise error
        write(self, values)

    monkeypatch.setattr(OutputWriter, "_record", record)


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), 130), (WriteError(28, "No space left on device", "out/x"), 2)]
)
def test_a_stopped_prediction_is_resumed_to_the_same_files(
    run_folder, photos, tmp_path, monkeypatch, capsys, error, status
):
    (photos / "broken.png").unlink()
    words = (run_folder, photos, "--save", ",".join(FORMATS), "TEST.EXECUTION=dense")
    assert run(*words, "--output", "whole") == 0
    for after in (2, 1):
        with monkeypatch.context() as patch:
            interrupt(patch, after=after, error=error)
            assert run(*words, "--output", "out", "--resume") == status
            assert "repeat the command with --resume to predict the rest" in capsys.readouterr().out
    with (tmp_path / "out" / RECORDS_NAME).open("a") as lines:
        lines.write('{"file": "sub/a.p')  # of a killed process
    assert run(*words, "--output", "out") == 2
    assert "add --resume" in capsys.readouterr().err
    assert run(*words, "--output", "out", "--resume") == 0
    assert "Resuming: 2 of 5 inputs remain" in capsys.readouterr().out
    assert content_of(tmp_path / "out") == content_of(tmp_path / "whole")


def test_a_defect_does_not_suggest_to_resume(run_folder, photos, monkeypatch, capsys):
    interrupt(monkeypatch, after=0, error=RuntimeError("a defect"))
    with pytest.raises(RuntimeError, match=r"^a defect$"):
        run(run_folder, photos / "sub", "--output", "out")
    assert "repeat the command" not in capsys.readouterr().out


def test_ctrl_c_keeps_complete_files(run_folder, photos, tmp_path):
    for number in range(300):
        shutil.copy(photos / "a.png", photos / f"{number:04}.png")
    command = [sys.executable, "-m", "dl_lib.cli.main", "predict", str(run_folder), "photos", "--output", "out"]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE)
    records = tmp_path / "out" / RECORDS_NAME
    while process.poll() is None and not records.exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 130 and b"interrupted by Ctrl-C" in printed and b"Traceback" not in printed
    assert not list((tmp_path / "out").rglob("*.partial*"))
    assert set(names_in(tmp_path / "out")) <= {path.name[:-4] for path in (tmp_path / "out/labels").iterdir()}


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["missing", "--output", "out"], "no such file or folder; check the path. Received: input='missing'"),
        (["photos/*.bmp", "--output", "out"], "no file matches this pattern"),
        (["photos", "--output", "photos", "--resume"], "no valid predict.json"),
        (["photos", "--output", "out", "--save", "masks"], "--save: must be some of labels, overlays"),
        (["photos", "--output", "out", "TEST.EXECUTE", "dense"], "unknown key TEST.EXECUTE; nearest"),
        (["TEST.EXECUTION=dense", "--output", "out"], "arguments are required: INPUT"),
        (["photos"], "arguments are required: --output"),
        (["photos", "--output", "out", "--runtime", "onnx", "--device", "cuda"], "remove overrides and --device"),
        (["photos", "--output", "http://host/out"], "must be a local path"),
    ],
)
def test_user_errors(run_folder, photos, tmp_path, capsys, words, problem):
    assert run(run_folder, *words) == 2
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "words", "problem"),
    [
        (
            "model.onnx",
            [],
            "error: RUN: a file of dl_lib export --format onnx needs --runtime onnx; add it. Received: ",
        ),
        ("model_final.pth", [], "error: RUN: a checkpoint has no config; give its run folder, and choose the "),
        ("model.safetensors", [], "choose the checkpoint by MODEL.WEIGHTS=model.safetensors. Received: RUN="),
        (
            "model.pt2",
            [],
            "error: RUN: an exported file has no config; give the folder of the run it was exported from",
        ),
        (None, ["--runtime", "onnx"], "error: --runtime onnx: RUN must be a file of dl_lib export --format onnx; "),
        (None, ["--output", "photos"], "error: --output: this folder is not empty; "),
        (None, ["--output", "photos/a.png"], "error: --output: this folder cannot be created or written (Not a dir"),
    ],
)
def test_run_and_output_are_checked_before_inputs_are_listed(
    run_folder, photos, tmp_path, monkeypatch, capsys, name, words, problem
):
    monkeypatch.setattr("dl_lib.prediction.inputs.find_files", None)
    if name is not None:
        (tmp_path / name).write_bytes(b"\x80\0")
    assert run(name or run_folder, "photos", "--output", "out", *words) == 2
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_prediction_is_not_resumed_under_other_settings_or_by_two_processes(run_folder, photos, capsys):
    words = (run_folder, photos / "sub", "--output", "out", "--resume")
    assert run(*words) == 0
    for changed in (["TEST.EXECUTION=dense"], ["--save", "labels"], [photos / "a.png"]):
        assert run(*words, *changed) == 2
        assert "this folder holds predictions under other settings" in capsys.readouterr().err
    (run_folder / "net.py").write_text("ADDED = 1\n")
    assert run(*words) == 2
    assert "code_sha256 was None, not " in capsys.readouterr().err
    (run_folder / "net.py").unlink()
    with locked_folder("out"):
        assert run(*words) == 2
    assert "--output: another process is writing to this folder" in capsys.readouterr().err


def test_names_that_cannot_be_output_files_fail_alone(run_folder, photos, tmp_path, capsys):
    shutil.copy(photos / "a.png", photos / "sub/b\n.png")
    assert run(run_folder, photos / "sub", "--output", "out") == 1
    assert r"becomes the name of the output" in capsys.readouterr().out
    assert names_in(tmp_path / "out") == ["a.png", "rgba.png"]


def test_exported_files_are_predicted_without_their_run(run_folder, photos, tmp_path, monkeypatch, capsys):
    def from_run(cls, file, **options):
        assert file == "model.onnx" and options == {"probabilities": False}
        return cls.from_run(run_folder, **options)

    monkeypatch.setattr(Predictor, "from_onnx", classmethod(from_run))
    (tmp_path / "model.onnx").write_text("weights")
    words = ("--runtime", "onnx", "model.onnx", photos / "sub", "--output", "out")
    assert run(*words) == 0
    assert names_in(tmp_path / "out") == ["a.png", "rgba.png"]
    (tmp_path / "model.onnx").write_text("other weights")
    assert run(*words, "--resume") == 2
    assert "this folder holds predictions under other settings" in capsys.readouterr().err
