"""Run folder as training and evaluation leave it, of a fake model: results, metrics, config and log."""

import json

from dl_lib.config import get_cfg, write_config
from dl_lib.evaluation.runner.run import inference_on_dataset
from dl_lib.evaluation.scores.evaluator import SemSegEvaluator
from dl_lib.evaluation.scores.report_collector import ReportCollector
from tests.helpers.evaluation import IGNORE, NAMES, batches_of, make_samples
from tests.helpers.reports import ModelOfLattice, write

LOG = """[2026-01-01 10:00:00,000] INFO dl_lib.engine.setup: Environment:
python  3.11.7
torch   2.14.1
[2026-01-01 10:00:01,000] INFO dl_lib.engine.defaults: seed 0
"""


def make_evaluated_run(folder, *, names=NAMES, datasets=("some_val",), num_images=12, seed=0, ids=(), overrides=()):
    """Write the folder; return it. `ids` replace the names of the first images."""
    results = {}
    for dataset in datasets:
        samples = make_samples(num_images, seed=seed)
        for sample, image_id in zip(samples, ids, strict=False):
            sample["image_id"] = image_id
        colors = [(50 * index, 0, 100) for index in range(len(names))]
        report = ReportCollector(
            thumbnail_indices=range(num_images), class_colors=colors, ignore_value=IGNORE, channel_order="BGR"
        )
        evaluator = SemSegEvaluator(dataset, class_names=names, ignore_value=IGNORE, report=report)
        results[dataset] = inference_on_dataset(ModelOfLattice(), batches_of(samples), evaluator)
    write(results, folder)
    lines = [{"iteration": 20 * n, "total_loss": 1 / n, "iteration_seconds": 0.5} for n in range(1, 5)]
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    cfg = get_cfg()
    cfg.merge_from_list(["SOLVER.LR_SCHEDULER.MAX_ITER", 80, *overrides])
    write_config(cfg, folder)
    (folder / "log.txt").write_text(LOG)
    return folder
