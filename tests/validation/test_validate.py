"""Validation: each problem is reported with its key and value, all in one list, and valid configs pass."""

import re
from dataclasses import replace

import pytest
import torch

from dl_lib.config import ConfigError, get_cfg
from dl_lib.data.catalog import DatasetCatalog, DatasetMeta
from dl_lib.data.errors import DataError
from dl_lib.validation import validate_config

SMALL = ["MODEL.BACKBONE.LAYER_NUM=3", "MODEL.BACKBONE.CELL_NUM_LIST=[2,3,4]"]


def valid(*overrides):
    cfg = get_cfg()
    cfg.merge_from_list(
        [
            "MODEL.SEM_SEG_HEAD.NUM_CLASSES=11",
            "DATASETS.TRAIN=[digit_scenes_train]",
            "DATASETS.TEST=[digit_scenes_val]",
            *overrides,
        ]
    )
    return cfg


def problems(*overrides, **settings):
    with pytest.raises(ConfigError) as caught:
        validate_config(valid(*overrides), **settings)
    return str(caught.value)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        SMALL,
        [
            "MODEL.BACKBONE.LAYER_NUM=2",
            "MODEL.BACKBONE.CELL_NUM_LIST=[2,3]",
            "MODEL.BACKBONE.MAX_STRIDE=16",
            "MODEL.SEM_SEG_HEAD.IN_FEATURES=[layer_0,layer_1,layer_2]",
            "INPUT.CROP_SIZE=[16,48]",
        ],
        ["INPUT.CROP_SIZE=[]"],
        ["INPUT.SCALE_RANGE_TRAIN=[0.5,2]", "INPUT.MAX_SIZE_TRAIN=1500", "INPUT.CROP_MAX_CLASS_RATIO=0.75"],
        ["INPUT.PHOTOMETRIC.ENABLED=True", "INPUT.BLUR_PROB=0.5", "INPUT.BACKEND=pil", "INPUT.ROTATION_DEGREES=10"],
        ["DATALOADER.CACHE=memmap", "DATALOADER.ON_ERROR=skip", "DATALOADER.MAX_SKIPPED=0"],
        ["INPUT.CROP_SIZE=[32,32]", "SOLVER.IMS_PER_BATCH=2"],
        ["INPUT.CROP_SIZE=[128,256]", "MODEL.GATE.SMALL_GATE=True", "SOLVER.IMS_PER_BATCH=1"],
        ["SOLVER.CHECKPOINT_KEEP_LAST=2", "SOLVER.CHECKPOINT_KEEP_EVERY=1000", "SOLVER.BEST_METRIC_MODE=min"],
        ["DATASETS.TEST=[]", "SEED=-1", "INPUT.MIN_SIZE_TRAIN=[]", "INPUT.MIN_SIZE_TEST=0"],
        ["MODEL.BUDGET.CONSTRAIN=True", "MODEL.BUDGET.LOSS_WEIGHT=0.5", "MODEL.BUDGET.LOSS_MU=1"],
        ["MODEL.BACKBONE.CELL_TYPE=[Bottleneck_3x3]", "MODEL.BACKBONE.INIT_CHANNEL=12"],
        ["MODEL.BACKBONE.CELL_TYPE=[rex_block_3x3]", "MODEL.BACKBONE.NORM=GN", "SOLVER.IMS_PER_BATCH=1"],
    ],
)
def test_valid_configs_pass(overrides):
    validate_config(valid(*overrides))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("MODEL.BACKBONE.LAYER_NUM=15", r"LAYER_NUM must equal the number of entries of CELL_NUM_LIST; set it to 16"),
        ("MODEL.BACKBONE.CELL_NUM_LIST=[2,4]", "CELL_NUM_LIST: cells_per_layer: layer 2 must have 2 or 3 cells"),
        ("MODEL.BACKBONE.CELL_NUM_LIST=[]", "CELL_NUM_LIST: cells_per_layer must have at least one entry"),
        ("MODEL.BACKBONE.MAX_STRIDE=16", "MAX_STRIDE must be 32, the stride of the coarsest cells"),
        ("MODEL.BACKBONE.INIT_CHANNEL=15", "INIT_CHANNEL must be even"),
        ("MODEL.BACKBONE.INIT_CHANNEL=0", r"INIT_CHANNEL must be in \[2, 1024\]"),
        (
            "MODEL.BACKBONE.CELL_TYPE=[sep_conv3x3]",
            r"CELL_TYPE must contain only .*nearest to 'sep_conv3x3': sep_conv_3x3",
        ),
        ("MODEL.BACKBONE.CELL_TYPE=[]", "CELL_TYPE must have at least 1 element"),
        ("MODEL.TEMP_ANNEAL_RATE=0", r"TEMP_ANNEAL_RATE must be in \(0, 1\]"),
        ("MODEL.BACKBONE.DROP_PROB=1", r"DROP_PROB must be in \[0, 1\)"),
        ("MODEL.BACKBONE.NORM=BatchNorm", "NORM must be one of BN, "),
        ("MODEL.SEM_SEG_HEAD.NORM=syncbn", "SEM_SEG_HEAD.NORM must be .*nearest to 'syncbn': SyncBN"),
        ("MODEL.BACKBONE.NAME=DynamicNetwrok", "BACKBONE.NAME must be .*nearest to .*: DynamicNetwork"),
        ("MODEL.META_ARCHITECTURE=DynamicNet", "META_ARCHITECTURE must be .*nearest to .*: DynamicNet4Seg"),
        ("MODEL.SEM_SEG_HEAD.NAME=Decoder", "HEAD.NAME must be one of .*SemSegDecoderHead"),
        ("MODEL.SEM_SEG_HEAD.IN_FEATURES=[layer_1,layer_0,layer_2,layer_3]", "IN_FEATURES must be .*finest first"),
        ("MODEL.SEM_SEG_HEAD.IN_FEATURES=[layer_0]", r"IN_FEATURES must be .*'layer_3'.*4 scales"),
        (
            "MODEL.SEM_SEG_HEAD.NUM_CLASSES=19",
            "NUM_CLASSES must be 11, .* of the dataset digit_scenes_train",
        ),
        (
            "MODEL.SEM_SEG_HEAD.IGNORE_VALUE=254",
            "IGNORE_VALUE must be 255, .* of the dataset digit_scenes_val",
        ),
        ("MODEL.SEM_SEG_HEAD.IGNORE_VALUE=3", r"IGNORE_VALUE must not be a class id \(0 to 10\)"),
        ("MODEL.GATE.UNREACHED=skipped", "UNREACHED must be one of skip, run, published .*: skip"),
        ("MODEL.BUDGET.LOSS_MU=1.5", r"LOSS_MU must be in \[0, 1\]"),
        ("MODEL.BUDGET.LOSS_WEIGHT=-1", r"BUDGET.LOSS_WEIGHT must be in \[0, 1000000\]"),
        ("MODEL.DEVICE=gpu", "DEVICE must be auto, cpu, cuda"),
        ("MODEL.LOSS.CLASS_WEIGHTS=[1,2]", "CLASS_WEIGHTS must have one weight for each of the 11 classes"),
        (
            "MODEL.LOSS.CLASS_WEIGHTS=[-1]",
            r"WEIGHTS must contain only values in \[0, 1000000\], or \[\] \(equal",
        ),
        ("MODEL.PIXEL_MEAN=[1,2]", "PIXEL_MEAN must have 3 elements"),
        ("MODEL.PIXEL_STD=[1,0,1]", r"PIXEL_STD must contain only values in \[0\.001, 1000\]"),
        (
            "MODEL.PIXEL_MEAN=[0.4,0.5,0.5]",
            r"PIXEL_MEAN must have the scale .*; multiply both by 255",
        ),
        (
            "DATASETS.TRAIN=[digit_scenes_trian]",
            "TRAIN contains 'digit_scenes_trian', .*; nearest: digit_scenes_train",
        ),
        ("DATASETS.TEST=[mine_val]", "TEST contains 'mine_val', which is not a registered dataset"),
        ("DATASETS.TRAIN=[voc_2012_sem_seg_test]", "TRAIN contains voc_2012_sem_seg_test, which has no labels"),
        ("DATASETS.TEST=[voc_2012_sem_seg_test]", "TEST contains voc_2012_sem_seg_test, which has no labels"),
        ("DATASETS.TRAIN=[]", "TRAIN must name a dataset to train on"),
        ("DATASETS.TEST=[digit_scenes_val,digit_scenes_val]", "TEST must not contain a value twice"),
        ("DATALOADER.NUM_WORKERS=-1", r"NUM_WORKERS must be in \[1, 1024\], or 0"),
        ("DATALOADER.MAX_SKIPPED=-1", r"MAX_SKIPPED must be in \[0, 1000000000\]"),
        ("DATALOADER.CACHE=mmap", "CACHE must be one of none, memmap .*: memmap"),
        ("DATALOADER.ON_ERROR=ignore", "ON_ERROR must be one of raise, skip"),
        ("INPUT.FORMAT=bgr", "FORMAT must be one of BGR, RGB .*: BGR"),
        ("INPUT.FLIP_PROB=2", r"FLIP_PROB must be in \[0, 1\]"),
        ("INPUT.CROP_SIZE=[100,128]", r"CROP_SIZE must be multiples of 32, .* use \[96, 128\]"),
        ("INPUT.CROP_SIZE=[8,32]", r"use \[32, 32\]"),
        ("INPUT.CROP_SIZE=[128]", r"CROP_SIZE must have 2 elements, or \[\]"),
        ("INPUT.CROP_IMAGE_PAD_VALUE=256", r"CROP_IMAGE_PAD_VALUE must be in \[0, 255\]"),
        ("INPUT.MIN_SIZE_TRAIN=[0]", r"MIN_SIZE_TRAIN must contain only values in \[1, 16384\]"),
        ("INPUT.SCALE_RANGE_TRAIN=[0,2]", r"SCALE_RANGE_TRAIN must contain only values in \[0\.05, 20\]"),
        ("INPUT.SCALE_RANGE_TRAIN=[2,0.5]", "SCALE_RANGE_TRAIN must be in ascending order"),
        ("INPUT.SCALE_RANGE_TRAIN=[1]", "SCALE_RANGE_TRAIN must have 2 elements"),
        ("INPUT.BLUR_SIGMA=[0,2]", r"BLUR_SIGMA must contain only values in \[0\.01, 100\]"),
        ("INPUT.BLUR_PROB=2", r"BLUR_PROB must be in \[0, 1\]"),
        ("INPUT.BACKEND=cv", "BACKEND must be one of cv2, pil .*: cv2"),
        ("INPUT.ROTATION_DEGREES=181", r"ROTATION_DEGREES must be in \[0, 180\]"),
        ("INPUT.CROP_MAX_CLASS_RATIO=0", r"CROP_MAX_CLASS_RATIO must be in \(0, 1\), or 1"),
        ("INPUT.PHOTOMETRIC.BRIGHTNESS=256", r"BRIGHTNESS must be in \[0, 255\]"),
        ("INPUT.PHOTOMETRIC.CONTRAST=1.5", r"CONTRAST must be in \[0, 1\]"),
        ("INPUT.PHOTOMETRIC.SATURATION=-1", r"SATURATION must be in \[0, 1\]"),
        ("INPUT.PHOTOMETRIC.HUE_DEGREES=190", r"HUE_DEGREES must be in \[0, 180\]"),
        ("SOLVER.IMS_PER_BATCH=0", r"IMS_PER_BATCH must be in \[1, 65536\]"),
        ("SOLVER.OPTIMIZER.NAME=Adam", "OPTIMIZER.NAME must be one of SGD, AdamW"),
        ("SOLVER.LR_SCHEDULER.NAME=polylr", "LR_SCHEDULER.NAME must be .*nearest to 'polylr': PolyLR"),
        ("SOLVER.OPTIMIZER.BASE_LR=0", r"BASE_LR must be in \(0, 1000\]"),
        ("SOLVER.CHECKPOINT_PERIOD=-1", r"CHECKPOINT_PERIOD must be in \[1, 1000000000\], or 0"),
        ("SOLVER.CHECKPOINT_KEEP_LAST=-1", r"KEEP_LAST must be in \[1, 1000000000\], or 0"),
        ("SOLVER.CHECKPOINT_KEEP_EVERY=-1", r"KEEP_EVERY must be in \[1, 1000000000\], or 0"),
        ("SOLVER.CHECKPOINT_KEEP_EVERY=1000", "KEEP_EVERY must be 0 with SOLVER.CHECKPOINT_KEEP_LAST=0"),
        ("SOLVER.BEST_METRIC_MODE=higher", "BEST_METRIC_MODE must be one of max, min"),
        ("SOLVER.LR_SCHEDULER.MAX_ITER=0", r"MAX_ITER must be in \[1, 1000000000\]"),
        ("TEST.EVAL_PERIOD=-5", r"EVAL_PERIOD must be in \[1, 1000000000\], or 0"),
        ("TEST.EXECUTION=spares", "EXECUTION must be .*nearest to 'spares': sparse"),
        ("SEED=-2", r"SEED must be in \[0, 4294967295\], or -1"),
        ("PROCESS_TIMEOUT_SECONDS=0", r"PROCESS_TIMEOUT_SECONDS must be in \(0, 1000000\]"),
        ("SOLVER.OPTIMIZER.MOMENTUM=1e999", r"MOMENTUM must be in \[0, 1\)"),
    ],
)
def test_each_problem_names_key_and_value(override, message):
    listed = problems(override)
    assert listed.startswith("invalid config: ")
    assert re.search(message, listed, flags=re.IGNORECASE), listed
    key = override.partition("=")[0]
    assert f"Received: {key}=" in listed or "Received: cells_per_layer=" in listed


def test_all_problems_are_listed_at_once():
    listed = problems("SEED=-2", "INPUT.FORMAT=GBR", "INPUT.CROP_SIZE=[100,100]", "DATASETS.TRAIN=[nothing]", *SMALL)
    assert "4 problems" in listed
    assert [line[:5] for line in listed.splitlines()[1:]] == [f"  {number}. " for number in range(1, 5)]


def test_longer_edges_cannot_be_below_the_shorter_ones():
    listed = problems("INPUT.MIN_SIZE_TRAIN=[512,5000]", "INPUT.MIN_SIZE_TEST=1024", "INPUT.MAX_SIZE_TEST=512")
    assert "MAX_SIZE_TRAIN must be at least 5000, the shorter edge (INPUT.MIN_SIZE_TRAIN)" in listed
    assert "MAX_SIZE_TEST must be at least 1024, the shorter edge (INPUT.MIN_SIZE_TEST)" in listed


def test_a_class_ratio_needs_a_crop():
    listed = problems("INPUT.CROP_SIZE=[]", "INPUT.CROP_MAX_CLASS_RATIO=0.75")
    assert "CROP_MAX_CLASS_RATIO must be 1 without a crop; set INPUT.CROP_SIZE" in listed


def test_small_gates_need_four_pixels_at_the_coarsest_stride():
    small_gate = "MODEL.GATE.SMALL_GATE=True"
    assert "must be at least 128 in both directions" in problems(small_gate, "INPUT.CROP_SIZE=[96,256]")
    validate_config(valid(small_gate, "INPUT.CROP_SIZE=[128,128]"))
    validate_config(valid(small_gate, "INPUT.CROP_SIZE=[96,96]", "MODEL.GATE.GATE_ON=False"))


def test_a_single_value_per_channel_cannot_be_normalized():
    single = ["INPUT.CROP_SIZE=[32,32]", "MODEL.BACKBONE.NORM=BN", "MODEL.SEM_SEG_HEAD.NORM=BN"]
    assert "normalizes a single value" in problems(*single, "SOLVER.IMS_PER_BATCH=1")
    assert "normalizes a single value" in problems(*single, "SOLVER.IMS_PER_BATCH=2", world_size=2)
    assert "normalizes a single value" in problems(*single, "SOLVER.IMS_PER_BATCH=2", "SOLVER.ACCUMULATION_STEPS=2")
    validate_config(valid(*single, "SOLVER.IMS_PER_BATCH=4"), world_size=2)
    for norm in ("FrozenBN", "GN"):
        norms = [f"MODEL.BACKBONE.NORM={norm}", f"MODEL.SEM_SEG_HEAD.NORM={norm}"]
        validate_config(valid("INPUT.CROP_SIZE=[32,32]", "SOLVER.IMS_PER_BATCH=1", *norms))
    assert "groups of one of 32 channels" in problems(
        "INPUT.CROP_SIZE=[32,32]", *norms, "MODEL.BACKBONE.INIT_CHANNEL=8"
    )
    mixed = ["MODEL.BACKBONE.NORM=GN", "MODEL.SEM_SEG_HEAD.NORM=BN", "SOLVER.IMS_PER_BATCH=1"]
    assert "SEM_SEG_HEAD.NORM=BN normalizes a single value" in problems("INPUT.CROP_SIZE=[32,32]", *mixed)


def test_bottlenecks_need_channels_divisible_by_four():
    assert "divisible by 4" in problems("MODEL.BACKBONE.CELL_TYPE=[Bottleneck_5x5]", "MODEL.BACKBONE.INIT_CHANNEL=10")
    validate_config(valid("MODEL.BACKBONE.INIT_CHANNEL=10"))


def test_an_evaluation_is_not_checked_for_training():
    opts = ["SOLVER.IMS_PER_BATCH=16", "DATASETS.TRAIN=[]", "MODEL.BACKBONE.NORM=SyncBN"]
    listed = problems(*opts, world_size=3)
    assert "IMS_PER_BATCH" in listed
    assert "must name a dataset to train on" in listed
    validate_config(valid(*opts), world_size=3, purpose="evaluation")
    assert "NUM_CLASSES" in problems("MODEL.SEM_SEG_HEAD.NUM_CLASSES=4", purpose="evaluation")
    words = ["DATASETS.TRAIN=[]", "DATASETS.TEST=[cityscapes_fine_sem_seg_test]", "MODEL.SEM_SEG_HEAD.NUM_CLASSES=19"]
    unlabelled = valid(*words)
    validate_config(unlabelled, purpose="evaluation")


def test_evaluation_during_training_needs_a_dataset():
    opts = ["TEST.EVAL_PERIOD=5", "DATASETS.TEST=[]"]
    assert "TEST.EVAL_PERIOD must be 0 without a dataset in DATASETS.TEST" in problems(*opts)


def test_the_best_checkpoint_needs_scores():
    listed = problems("SOLVER.BEST_METRIC=digit_scenes_val/mIoU", "DATASETS.TEST=[]")
    assert 'BEST_METRIC must be "" without a dataset in DATASETS.TEST' in listed
    validate_config(valid("SOLVER.BEST_METRIC=digit_scenes_val/mIoU"))


def test_each_gpu_process_has_its_own_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert "names a GPU that torch does not find; it finds 2" in problems("MODEL.DEVICE=cuda:2")
    assert "must not be one GPU with 2 processes" in problems("MODEL.DEVICE=cuda:1", world_size=2)
    validate_config(valid("MODEL.DEVICE=cuda:1"))
    for device in ("auto", "cuda", "cpu"):
        validate_config(valid(f"MODEL.DEVICE={device}"), world_size=2)


def test_a_budget_needs_weight_gates_and_time():
    assert "BUDGET.LOSS_WEIGHT must be > 0" in problems("MODEL.BUDGET.CONSTRAIN=True")
    budget = ["MODEL.BUDGET.CONSTRAIN=True", "MODEL.BUDGET.LOSS_WEIGHT=1"]
    assert "BUDGET.FLOPS_ALL=0 requires INPUT.CROP_SIZE" in problems(*budget, "INPUT.CROP_SIZE=[]")
    validate_config(valid(*budget, "INPUT.CROP_SIZE=[]", "MODEL.BUDGET.FLOPS_ALL=1000"))
    assert "the cost is constant" in problems(*budget, "MODEL.GATE.GATE_ON=False")
    assert "training ends before the budget loss" in problems(*budget, "MODEL.BUDGET.UNUPDATE_RATE=1")
    target = ["MODEL.BUDGET.CONSTRAIN=True", "MODEL.BUDGET.CONTROL=target"]
    assert "BUDGET.TARGET must be > 0" in problems(*target)
    assert "BUDGET.TARGET must be at most 1" in problems(*target, "MODEL.BUDGET.TARGET=40")
    target += ["MODEL.BUDGET.TARGET=0.5"]
    assert "GATE.KIND must be soft or hard" in problems(*target, "MODEL.GATE.KIND=sigmoid")
    spread = [*target, "MODEL.BUDGET.SPREAD=0.2", "SOLVER.IMS_PER_BATCH=4"]
    validate_config(valid(*spread, "SOLVER.ACCUMULATION_STEPS=2"), world_size=2)
    assert "BUDGET.SPREAD requires at least two images" in problems(*spread, "SOLVER.ACCUMULATION_STEPS=4")
    validate_config(valid(*target, "INPUT.CROP_SIZE=[]"))
    gflops = [*target, "MODEL.BUDGET.TARGET_UNIT=gflops"]
    assert "TARGET_UNIT=gflops requires INPUT.CROP_SIZE" in problems(*gflops, "INPUT.CROP_SIZE=[]")
    assert "CONSTRAIN must be False with" in problems(*target, "MODEL.GATE.GATE_ON=False")
    assert "CONSTRAIN must be False, and MODEL.BUDGET.SPREAD 0, with" in problems(*spread, "MODEL.GATE.GATE_ON=False")


def test_the_batch_is_divisible_by_the_number_of_processes():
    assert "divisible by the number of processes (3); use 6 or 9" in problems(world_size=3)
    validate_config(valid(), world_size=4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_missing_gpu_is_reported():
    assert "needs a GPU and torch finds none" in problems("MODEL.DEVICE=cuda:1")


def test_types_of_assigned_values_are_checked():
    cfg = valid()
    cfg.SEED = "one"
    cfg.LOG_PERIOD = 0
    cfg.MODEL.GATES_ON = True
    cfg.INPUT.CROP_SIZE = [64.5, 64]
    del cfg.MODEL["GATE"]
    with pytest.raises(ConfigError) as caught:
        validate_config(cfg)
    known = "unknown key MODEL.GATES_ON; nearest: MODEL.GATE.GATE_ON"
    for part in (
        "SEED must be of type int",
        "INPUT.CROP_SIZE[0] must be",
        "MODEL.GATE.GATE_ON is missing",
        known,
        "PERIOD must be in [1, 1000000000]",
    ):
        assert part in str(caught.value)


def test_a_user_dataset_is_checked_against_the_model():
    name = "validation_test_set"
    meta = DatasetMeta(class_names=("a", "b"), class_colors=((0, 0, 0), (1, 1, 1)), ignore_value=200)
    if name not in DatasetCatalog.names():
        DatasetCatalog.register(name, lambda: [], meta)
    listed = problems(f"DATASETS.TRAIN=[{name}]", "DATASETS.TEST=[]")
    assert f"NUM_CLASSES must be 2, the number of classes of the dataset {name}" in listed
    assert f"IGNORE_VALUE must be 200, the ignore value of the dataset {name}" in listed
    validate_config(
        valid(
            f"DATASETS.TRAIN=[{name}]",
            "DATASETS.TEST=[]",
            "MODEL.SEM_SEG_HEAD.NUM_CLASSES=2",
            "MODEL.SEM_SEG_HEAD.IGNORE_VALUE=200",
        )
    )


@pytest.fixture
def named(monkeypatch):
    """Register datasets with the given class names."""
    monkeypatch.setattr(DatasetCatalog, "_entries", dict(DatasetCatalog._entries))
    monkeypatch.setattr(DatasetCatalog, "_loaded_metas", {})

    def register(name, classes, *, lazily=False, colors=0, **arguments):
        meta = DatasetMeta(tuple(classes), tuple((colors, 0, 0) for _ in classes), **arguments)
        DatasetCatalog.register(name, lambda: [], (lambda: meta) if lazily else meta)

    return register


@pytest.mark.parametrize(
    ("train", "test", "differing"),
    [
        (["abc", "acb"], [], "v0 has the same"),
        (["abc"], ["acb"], "1: 'b' in t0, 'c' in v0; 2: 'c' in t0, 'b' in v0. Received: DATASETS.TEST=['v0']"),
        (["abc"], ["abc", "abx"], "2: 'c' in t0, 'x' in v1"),
        (["abc"], ["ab"], "2: 'c' in t0, '' in v0"),
        (["abc", "aBc"], ["abc"], "1: 'b' in t0, 'B' in t1"),
        ([], ["abc", "cba"], "0: 'a' in v0, 'c' in v1; 2: 'c' in v0, 'a' in v1"),
        (["abcdefghijklm"], ["bcdefghijklma"], "9: 'j' in t0, 'k' in v0 and 3 more"),
    ],
)
@pytest.mark.parametrize("lazily", [False, True])  # the classes of COCO files are read when they are needed
def test_all_datasets_have_the_same_class_names(named, train, test, differing, lazily):
    sets = {"t": train, "v": test}
    for key, classes in sets.items():
        for number, names in enumerate(classes):
            named(f"{key}{number}", names, lazily=lazily)
    names = {key: f"[{','.join(f'{key}{number}' for number in range(len(classes)))}]" for key, classes in sets.items()}
    words = [f"MODEL.SEM_SEG_HEAD.NUM_CLASSES={len((train + test)[0])}"]
    words += [f"DATASETS.TRAIN={names['t']}", f"DATASETS.TEST={names['v']}"]
    for purpose in ("training", "evaluation") if train else ("evaluation",):
        listed = problems(*words, purpose=purpose)
        assert "all datasets of a run must have the same class names in the same order" in listed
        assert differing.replace("v0 has the same", "t1, which has the same classes in another order than t0") in listed
        assert ("set it to []" in listed) == (purpose == "evaluation")


def test_an_evaluation_without_the_training_dataset(named):
    named("v0", ("a", "b", "e\u0301"), colors=1)  # é in Unicode normal form D
    words = ["MODEL.SEM_SEG_HEAD.NUM_CLASSES=3", "DATASETS.TEST=[v0]"]
    validate_config(valid(*words, "DATASETS.TRAIN=[absent]"), purpose="evaluation")
    named(
        "t0", ("a", "b", "\u00e9"), labelled=False, ignore_value=200
    )  # neither is used by an evaluation, and colors may differ
    validate_config(valid(*words, "DATASETS.TRAIN=[t0]"), purpose="evaluation")
    named("damaged", "abc")
    DatasetCatalog._entries["damaged"] = replace(DatasetCatalog._entries["damaged"], meta=raise_data_error)
    validate_config(valid(*words, "DATASETS.TRAIN=[damaged]"), purpose="evaluation")
    assert "classes of damaged cannot be read: no file" in problems(*words, "DATASETS.TRAIN=[damaged]")


def raise_data_error():
    raise DataError("no file")


def test_a_single_class_is_refused_with_the_binary_setup(named):
    named("one", "f")
    words = ["DATASETS.TRAIN=[one]", "DATASETS.TEST=[]"]
    for classes in (1, 2):
        listed = problems(*words, f"MODEL.SEM_SEG_HEAD.NUM_CLASSES={classes}")
        assert "DATASETS.TRAIN contains one, which has one class, 'f'; a binary task has two classes" in listed
        assert "CLASSES: [background, object]" in listed and "{0: 0, 255: 1}" in listed
        assert "NUM_CLASSES must be 1," not in listed
    listed = problems("MODEL.SEM_SEG_HEAD.NUM_CLASSES=1")
    assert "NUM_CLASSES must be in [2, 10000]" in listed
    assert "NUM_CLASSES leaves nothing to learn: a binary task" in listed
    assert "must be in [2, 10000]" in problems("MODEL.SEM_SEG_HEAD.NUM_CLASSES=1", purpose="evaluation")


def test_batch_norms_on_1x1_feature_maps_need_two_images():
    rex_block = ["MODEL.BACKBONE.CELL_TYPE=[rex_block_3x3]", "SOLVER.IMS_PER_BATCH=2"]
    validate_config(valid(*rex_block))
    text = problems(*rex_block, "SOLVER.ACCUMULATION_STEPS=2")
    assert "NORM must be FrozenBN, GN" in text and "rex_block_3x3 normalizes 1x1 feature maps" in text
    text = problems("MODEL.BACKBONE.CELL_TYPE=[spconv_3x3]", "MODEL.BACKBONE.INIT_CHANNEL=2")
    assert "INIT_CHANNEL must be at least 4 with spconv_3x3" in text
