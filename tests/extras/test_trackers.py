"""wandb in offline mode and MLflow's local store: what they hold after a run that was killed and resumed."""

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import cv2
import pytest

from dl_lib.engine.trackers import MLflowTracker

pytestmark = [
    pytest.mark.extras,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),  # of SQLAlchemy, by MLflow
]

ROOT = Path(__file__).parents[2]
SET = "two_digit_scenes"
NET = f"""
import os
import signal
import time

from torch.utils.data import Subset

from dl_lib.data import DatasetCatalog
from dl_lib.engine.hooks import HOOK_REGISTRY, Hook

scenes = DatasetCatalog.get("digit_scenes_val")
DatasetCatalog.register("{SET}", lambda: Subset(scenes, range(2)), DatasetCatalog.meta("digit_scenes_val"))


class Killer(Hook):
    def before_step(self, trainer):
        if trainer.iteration == 5 and trainer.start_iteration == 0:
            time.sleep(3)  # wandb writes its file every second
            os.kill(os.getpid(), signal.SIGKILL)


@HOOK_REGISTRY.register()
def killer(cfg):
    return Killer()
"""
CONFIG = f"""
_BASE_: {ROOT / "playground" / "Quickstart" / "config.yaml"}
MODEL:
  DEVICE: cpu
  BACKBONE: {{LAYER_NUM: 2, CELL_NUM_LIST: [2, 3], MAX_STRIDE: 16, INIT_CHANNEL: 8}}
  SEM_SEG_HEAD: {{IN_FEATURES: [layer_0, layer_1, layer_2]}}
  BUDGET: {{CONSTRAIN: False, SPREAD: 0.0}}
DATASETS: {{TRAIN: [{SET}], TEST: [{SET}]}}
DATALOADER: {{NUM_WORKERS: 0}}
INPUT: {{CROP_SIZE: [64, 64]}}
SOLVER: {{IMS_PER_BATCH: 2, CHECKPOINT_PERIOD: 4, LR_SCHEDULER: {{MAX_ITER: 6, WARMUP_ITERS: 2}}}}
TEST: {{EVAL_PERIOD: 0, PRECISE_BN: {{ENABLED: False}}}}
LOG_PERIOD: 1
VIS_PERIOD: 2
TRACKERS: [wandb, mlflow]
"""
ITERATIONS = [1, 2, 3, 4, 5, 6]
FIGURES = {f"{SET}/sample": [2, 4, 6], f"{SET}/route": [2, 4, 6], f"{SET}/mean_route": [6]}
# Of a computer that is neither a test machine, on which MLflow sends nothing, nor logged in.
UNSET = ("PYTEST_", "WANDB_", "MLFLOW_", "CI", "GITHUB_", "DO_NOT_TRACK", "NO_PROXY", "no_proxy")


def train(folder, *words, proxy, **variables):
    """Run `dl_lib train` in a folder, with all traffic to other machines through a proxy."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(UNSET)}
    address = "http://{}:{}".format(*proxy.getsockname())
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), address)
    home = {"HOME": str(folder.parent / "home"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment = {**inherited, **home, **proxies, **variables}
    command = [sys.executable, "-m", "dl_lib.cli.main", "train", "OUTPUT_DIR=run", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@contextmanager
def silent_proxy():
    """Socket through which other machines would be reached; nothing answers."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.setblocking(False)
        yield proxy


def is_used(proxy):
    try:
        proxy.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def experiment(folder):
    folder.mkdir()
    (folder.parent / "home").mkdir()
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "net.py").write_text(NET)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folder of a run that was killed after the fifth iteration and resumed from the fourth."""
    folder = experiment(tmp_path_factory.mktemp("trackers") / "Small")
    changed = "SOLVER.OPTIMIZER.WEIGHT_DECAY=0.25"
    with silent_proxy() as proxy:
        killed = train(folder, "EXTRA_HOOKS=[killer]", proxy=proxy)
        assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
        resumed = train(folder, "--resume", "EXTRA_HOOKS=[killer]", changed, proxy=proxy)
        assert resumed.returncode == 0, resumed.stdout + resumed.stderr
        assert not is_used(proxy)
    assert "disabled" not in killed.stdout + resumed.stdout
    assert "WARNING: wandb has no API key: recording offline" in resumed.stdout
    return folder / "run"


def metrics_of(run):
    lines = map(json.loads, (run / "metrics.json").read_text().splitlines())
    return {line.pop("iteration"): line for line in lines}


def wandb_records(path):
    """Read a .wandb file: protobuf messages in the log format of LevelDB, blocks of 32 KiB with parts of records."""
    from wandb.proto.wandb_internal_pb2 import Record

    content = path.read_bytes()
    position, message = 7, b""  # after the header of the file
    while position < len(content):
        left = 2**15 - position % 2**15
        if left < 7:
            position += left  # padding
            continue
        _, length, kind = struct.unpack("<IHB", content[position : position + 7])
        message += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole record, or last part
            yield Record.FromString(message)
            message = b""


def rows(records):
    """Return the history by step, as a dict of values by name, and those of images by `name.attribute`."""
    return {
        record.history.step.num: {
            ".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item
        }
        for record in records
        if record.WhichOneof("record_type") == "history"
    }


def test_wandb_holds_each_iteration_once_under_one_id(run):
    files = sorted(run.glob("wandb/offline-run-*/run-*.wandb"))
    parts = [list(wandb_records(file)) for file in files]
    run_id = json.loads((run / "tracker_wandb.json").read_text())["run_id"]
    assert [file.name for file in files] == [f"run-{run_id}.wandb"] * 2
    assert [list(rows(part)) for part in parts] == [ITERATIONS[:5], ITERATIONS[5:]]
    history = rows(parts[0]) | rows(parts[1])
    for iteration, metrics in metrics_of(run).items():
        assert history[iteration]["total_loss"] == metrics["total_loss"]
    assert history[6][f"{SET}/mIoU"] == metrics_of(run)[6][f"{SET}/mIoU"]
    shown = {name: [iteration for iteration, row in history.items() if f"{name}.path" in row] for name in FIGURES}
    assert shown == FIGURES
    image = cv2.imread(str(files[1].parent / "files" / history[6][f"{SET}/mean_route.path"]))
    assert image.shape[:2] == (history[6][f"{SET}/mean_route.height"], history[6][f"{SET}/mean_route.width"])
    exits = [[record.exit.exit_code for record in part if record.WhichOneof("record_type") == "exit"] for part in parts]
    assert exits == [[], [0]]


def test_wandb_has_the_config_and_the_final_metrics(run):
    records = list(wandb_records(max(run.glob("wandb/offline-run-*/run-*.wandb"))))
    configs = [record.config for record in records if record.WhichOneof("record_type") == "config"]
    values = {item.key: json.loads(item.value_json) for config in configs for item in config.update}
    assert values["SOLVER.OPTIMIZER.WEIGHT_DECAY"] == 0.25
    assert values["INPUT.CROP_SIZE"] == "[64, 64]"
    summaries = [record.summary for record in records if record.WhichOneof("record_type") == "summary"]
    final = {item.key: json.loads(item.value_json) for summary in summaries for item in summary.update if item.key}
    assert final[f"{SET}/mIoU"] == metrics_of(run)[6][f"{SET}/mIoU"]


def test_mlflow_holds_each_iteration_once_under_one_id(run):
    from mlflow import MlflowClient  # here, as it takes seconds

    client = MlflowClient(f"sqlite:///{run}/mlflow/mlflow.db")
    run_id = json.loads((run / "tracker_mlflow.json").read_text())["run_id"]
    (experiment,) = client.search_experiments(filter_string="name = 'dl_lib'")
    (tracked,) = client.search_runs([experiment.experiment_id])
    assert (tracked.info.run_id, tracked.info.status, tracked.info.run_name) == (run_id, "FINISHED", "run")
    lines = metrics_of(run)
    for name in ("total_loss", "learning_rate"):
        found = [(metric.step, metric.value) for metric in client.get_metric_history(run_id, name)]
        assert found == [(iteration, lines[iteration][name]) for iteration in ITERATIONS]
    assert tracked.data.metrics[f"{SET}/mIoU"] == lines[6][f"{SET}/mIoU"]
    assert tracked.data.params["INPUT.CROP_SIZE"] == "[64, 64]"
    assert tracked.data.params["SOLVER.OPTIMIZER.WEIGHT_DECAY"] != "0.25"
    tags = {key: value for key, value in tracked.data.tags.items() if not key.startswith("mlflow.")}
    assert tags == {"SOLVER.OPTIMIZER.WEIGHT_DECAY": "0.25"}
    images = [file.path for file in client.list_artifacts(run_id, "images") if file.path.endswith(".png")]
    shown = {name: sorted(_step(path) for path in images if f"{name.replace('/', '~')}+" in path) for name in FIGURES}
    assert shown == FIGURES
    for path in images:
        assert cv2.imread(str(run / "mlflow" / "artifacts" / run_id / "artifacts" / path)).shape[1] > 100


def _step(path):
    return int(path.split("+step+")[1].split("+")[0])


def test_a_value_changed_back_is_a_tag_as_well(run):
    tracker, run_id = MLflowTracker(run), json.loads((run / "tracker_mlflow.json").read_text())["run_id"]
    for value in ("0.0001", "0.25"):
        hparams = {"SOLVER.OPTIMIZER.WEIGHT_DECAY": value}
        assert tracker.open(run_id=run_id, written=6, hparams=hparams) == run_id
        assert tracker._client.get_run(run_id).data.tags["SOLVER.OPTIMIZER.WEIGHT_DECAY"] == value
        tracker.close(completed=True)


def test_mlflow_stores_that_would_write_elsewhere_are_refused(run, tmp_path):
    run_id = json.loads((run / "tracker_mlflow.json").read_text())["run_id"]
    shutil.copytree(run / "mlflow", tmp_path / "copy" / "mlflow")
    with pytest.raises(ValueError, match=r"the run folder has moved, .* Received: artifact_uri="):
        MLflowTracker(tmp_path / "copy").open(run_id=run_id, written=6, hparams={})
    with pytest.raises(ValueError, match=r"must not contain \? or %; use another OUTPUT_DIR, .* Received: .*50%"):
        MLflowTracker(tmp_path / "50%").open(run_id=None, written=0, hparams={})


def test_trackers_that_cannot_be_reached_end_no_run(tmp_path):
    folder = experiment(tmp_path / "Small")
    variables = {
        **{"WANDB_API_KEY": "0" * 40, "WANDB_INIT_TIMEOUT": "5", "MLFLOW_TRACKING_URI": "http://tracking.invalid"},
        **{"MLFLOW_HTTP_REQUEST_TIMEOUT": "2", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"},
    }
    schedule = ["SOLVER.LR_SCHEDULER.MAX_ITER=2", "SOLVER.LR_SCHEDULER.WARMUP_ITERS=0"]
    with silent_proxy() as proxy:
        done = train(folder, *schedule, "DATASETS.TEST=[]", "VIS_PERIOD=0", proxy=proxy, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        assert is_used(proxy)
    for name in ("wandb", "mlflow"):
        assert done.stdout.count(f"WARNING: Tracker {name} failed to start and is disabled") == 1
        assert not (folder / "run" / f"tracker_{name}.json").exists()
    assert list(metrics_of(folder / "run")) == [1, 2]
