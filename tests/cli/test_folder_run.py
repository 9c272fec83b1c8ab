"""Run on a folder dataset with file name patterns, a split list and a label map: train, resume and evaluate."""

import csv

import numpy as np
from PIL import Image

from tests.helpers.forked import run_command
from tests.helpers.small_run import SMALL

CONFIG = """
DATASETS:
  TRAIN: [masks]
  TEST: [masks]
  FOLDERS:
    - NAME: masks
      IMAGES: data
      LABELS: data
      SPLIT: train.txt
      LABEL_PATTERN: "{name}_mask.npy"
      CLASSES: [a, b, c]
      LABEL_MAP: {0-6: ignore, 7: a, 8: 1, 300: c}
"""


def test_all_steps_see_mapped_labels(tmp_path, monkeypatch):
    monkeypatch.setenv("DL_DATASETS", str(tmp_path))
    (tmp_path / "data").mkdir()
    rng = np.random.default_rng(0)
    labels = [rng.choice([3, 7, 8, 300], (6, 8)).repeat(8, 0).repeat(8, 1) for _ in range(4)]
    for number, label in enumerate(labels):
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8)).save(tmp_path / "data" / f"{number}.png")
        np.save(tmp_path / "data" / f"{number}_mask.npy", label)
    (tmp_path / "train.txt").write_bytes("\ufeff0\r\n1.png\r\n2\r\n3\r\n".encode())
    (tmp_path / "config.yaml").write_text(CONFIG)
    small = dict(zip(SMALL[::2], SMALL[1::2], strict=True))
    settings = {
        **{key: value for key, value in small.items() if not key.startswith(("DATASETS", "SOLVER.BEST", "TEST"))},
        **{"MODEL.SEM_SEG_HEAD.NUM_CLASSES": 3, "SOLVER.LR_SCHEDULER.MAX_ITER": 2, "DATALOADER.CACHE": "memmap"},
        **{"INPUT.ROTATION_DEGREES": 10.0, "TEST.VALIDATION_LOSS": True, "OUTPUT_DIR": "run"},
    }
    words = [f"{key}={value}" for key, value in settings.items()]
    run_command("train", "--config-file", "config.yaml", *words, cwd=tmp_path)
    # The label map of the written config and of the checkpoint has integer keys.
    printed = run_command("train", "--resume", "--config-file", "run", "SOLVER.LR_SCHEDULER.MAX_ITER=3", cwd=tmp_path)
    assert "Resuming from iteration 2/3" in "\n".join(printed)
    with (tmp_path / "run" / "confusion.csv").open() as file:
        rows = list(csv.reader(file))
    counts = [sum(int(float(value)) for value in row[1:]) for row in rows if row[0] in ("a", "b", "c")]
    assert counts == [int((np.array(labels) == raw).sum()) for raw in (7, 8, 300)]
