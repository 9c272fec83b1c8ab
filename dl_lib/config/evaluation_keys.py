"""Keys of `TEST`, and the keys of a run at the top level."""

from __future__ import annotations

from dl_lib.config.choices import AbsentRule, Execution, InferencePrecision, PredictionFormat
from dl_lib.config.key import Reference, key

__all__ = ["EVALUATION_KEYS"]

_TEST = (
    key(
        "TEST.EVAL_PERIOD",
        0,
        "Interval between evaluations during training.",
        unit="iterations",
        range="[1, 1000000000]",
        special={0: "after the last iteration only"},
    ),
    key(
        "TEST.VALIDATION_LOSS",
        False,
        "Compute the losses on `DATASETS.TEST`, without the budget loss, with each evaluation during training.",
    ),
    key(
        "TEST.EXECUTION",
        "sparse",
        "Evaluation: run only the open cells and transitions of a routed network (`sparse`), all of them (`dense`), or "
        "all of them as one graph (`compiled`, also for static networks). Compilation takes 10 to 120 seconds for each "
        "input size and needs a C++ compiler; it pays for many small images of one size.",
        choices=Execution,
    ),
    key(
        "TEST.OPTIMIZE",
        True,
        "Evaluate a faster copy of the model, in which batch norms and ReLUs are part of the convolutions before them; "
        "results are equal up to rounding.",
    ),
    key(
        "TEST.PRECISION",
        "float32",
        "Precision of weights and feature maps in evaluation; gates, costs and the resizing of logits stay in float32. "
        "`bf16` needs a processor or GPU with bfloat16 instructions.",
        choices=InferencePrecision,
    ),
    key(
        "TEST.ABSENT_CLASSES",
        "exclude",
        "Classes without ground truth in the mean IoU: leave them out (`exclude`), or count 0 if they are predicted "
        "(`zero_if_predicted`, as in the published evaluator).",
        choices=AbsentRule,
    ),
    key("TEST.BOUNDARY_IOU", False, "Compute the boundary IoU of each class (arXiv 2103.16562)."),
    key(
        "TEST.OFFICIAL_SCORES",
        False,
        "Compute the scores of the dataset's official script as well: Cityscapes only, with cityscapesScripts.",
    ),
    key(
        "TEST.REPORT_DATA",
        True,
        "Write the images and counts that `dl_lib report` shows, `report_data.npz`: thumbnails, the worst and the most "
        "expensive images, pixels of each class in each image, calibration of the confidence.",
    ),
    key(
        "TEST.SAVE_PREDICTIONS",
        [],
        "Formats in which predictions are saved: label images (`label_png`) or COCO run-length encoding (`coco_rle`).",
        choices=PredictionFormat,
        items=str,
    ),
    key(
        "TEST.SLIDING.WINDOW",
        [],
        "Height and width of the windows of sliding-window evaluation.",
        unit="pixels",
        range="[1, 16384]",
        special={(): "whole image"},
        items=int,
        length=2,
    ),
    key(
        "TEST.SLIDING.OVERLAP",
        0.33,
        "Minimum overlap of adjacent windows, as a fraction of the window.",
        range="[0, 1)",
    ),
    key(
        "TEST.MULTI_SCALE.SCALES",
        [1.0],
        "Scales, relative to the test size, whose logits are averaged.",
        range="[0.05, 20]",
        max_length=32,
        min_length=1,
        order="unique",
    ),
    key("TEST.MULTI_SCALE.FLIP", False, "Average the logits with those of the horizontally flipped image."),
    key(
        "TEST.PRECISE_BN.ENABLED",
        False,
        "Recompute the running statistics of batch norms before each evaluation (precise BN).",
    ),
    key(
        "TEST.PRECISE_BN.NUM_ITER",
        200,
        "Number of training batches for precise BN.",
        unit="batches",
        range="[1, 1000000]",
    ),
)

_RUN = (
    key(
        "OUTPUT_DIR",
        "",
        "Run folder, relative to the current directory: checkpoints, logs, metrics and results.",
        special={"": "`./output/` and the name of the experiment folder or config file"},
        is_path=True,
    ),
    key(
        "PROCESS_TIMEOUT_SECONDS",
        1800.0,
        "Timeout of collectives; must exceed the longest work that a single process does alone.",
        unit="seconds",
        range="(0, 1000000]",
    ),
    key(
        "SEED",
        0,
        "Seed of all random number generators.",
        range="[0, 4294967295]",
        special={-1: "draw a seed and log it"},
    ),
    key(
        "LOG_PERIOD",
        20,
        "Interval between logged metrics. Losses, costs and times in the log, `metrics.json` and `TRACKERS` are "
        "medians over the iterations since the previous multiple of it.",
        unit="iterations",
        range="[1, 1000000000]",
    ),
    key(
        "VIS_PERIOD",
        0,
        "Interval between figures of a test sample in `TRACKERS` (image, label, prediction, route); a multiple of "
        "`LOG_PERIOD`. Evaluations add the mean route.",
        unit="iterations",
        range="[1, 1000000000]",
        special={0: "no figures"},
    ),
    key(
        "TRACKERS",
        ["tensorboard"],
        "Experiment trackers that receive metrics, figures and the config, next to `metrics.json`; own ones are "
        "registered in `net.py`.",
        choices=Reference("dl_lib.engine.trackers:TRACKER_REGISTRY"),
        order="unique",
    ),
    key(
        "EXTRA_HOOKS",
        [],
        "Registered hooks of training, in the order in which they run: after the evaluation and before the writers.",
        choices=Reference("dl_lib.engine.hooks:HOOK_REGISTRY"),
        items=str,
        order="unique",
    ),
)

EVALUATION_KEYS = (*_TEST, *_RUN)
