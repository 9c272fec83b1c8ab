"""Code in the README, on a tiny run in place of that of `make quickstart`."""

import contextlib
import io
import re
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import Subset

from dl_lib.cli import evaluate
from dl_lib.data import DatasetCatalog
from tests.helpers.prediction_run import make_run
from tests.helpers.training import restore_logging

README = Path(__file__).parents[2] / "README.md"
SCENES = "varied_digit_scenes_val"


def test_python_code_predicts_the_labels_of_an_evaluation(tmp_path, monkeypatch):
    scenes, meta = DatasetCatalog.get(SCENES), DatasetCatalog.meta(SCENES)
    entries = {name: entry for name, entry in DatasetCatalog._entries.items() if name != SCENES}
    monkeypatch.setattr(DatasetCatalog, "_entries", entries)
    DatasetCatalog.register(SCENES, lambda: Subset(scenes, range(2)), meta)
    monkeypatch.chdir(tmp_path)
    datasets = {"DATASETS.TRAIN": [SCENES], "DATASETS.TEST": [SCENES]}
    run = make_run(Path("output/Quickstart"), overrides={**datasets, "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 11})
    with restore_logging():
        evaluate.main(["--config-file", "output/Quickstart", "TEST.SAVE_PREDICTIONS=[label_png]"])
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    names, printed = {}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, names)
    assert len(printed.getvalue().splitlines()) == 4
    first = min((run / "evaluations").rglob("predictions/*/*/*.png"))
    found = names["predictor"](names["image"]).classes
    np.testing.assert_array_equal(found, np.asarray(Image.open(first)))
    assert names["overlay"].shape == names["image"].shape and (names["overlay"] != names["image"]).any()
