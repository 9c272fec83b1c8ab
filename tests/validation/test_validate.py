"""Validation: each mistake is found and named, several together, and a sound configuration passes."""

import re

import pytest
import torch

from dl_lib.config import ConfigError, get_cfg
from dl_lib.data.catalog import DatasetCatalog, DatasetMeta
from dl_lib.validation import validate_config
from dl_lib.validation.report import Interval

SMALL = ["MODEL.BACKBONE.LAYER_NUM=3", "MODEL.BACKBONE.CELL_NUM_LIST=[2,3,4]"]


def sound(*overrides):
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
        validate_config(sound(*overrides), **settings)
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
def test_sound_configurations_pass(overrides):
    validate_config(sound(*overrides))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("MODEL.BACKBONE.LAYER_NUM=15", r"LAYER_NUM must equal the number of entries of CELL_NUM_LIST; set it to 16"),
        ("MODEL.BACKBONE.CELL_NUM_LIST=[2,4]", r"CELL_NUM_LIST: layer 2 can hold"),
        ("MODEL.BACKBONE.CELL_NUM_LIST=[]", r"CELL_NUM_LIST: a lattice needs"),
        ("MODEL.BACKBONE.MAX_STRIDE=16", r"MAX_STRIDE: the coarsest cells .* stride 32.*set MAX_STRIDE to 32"),
        ("MODEL.BACKBONE.INIT_CHANNEL=15", "INIT_CHANNEL: .*positive even number"),
        ("MODEL.BACKBONE.INIT_CHANNEL=0", "INIT_CHANNEL: .*positive even number"),
        ("MODEL.BACKBONE.CELL_TYPE=[sep_conv3x3]", r"no operation is called 'sep_conv3x3'\. Nearest: sep_conv_3x3"),
        ("MODEL.BACKBONE.CELL_TYPE=[]", "a cell needs an operation"),
        ("MODEL.TEMP_ANNEAL_RATE=0", r"TEMP_ANNEAL_RATE: out of range\. Expected a number in \(0, 1\]"),
        ("MODEL.BACKBONE.DROP_PROB=1", r"DROP_PROB: out of range\. Expected a number in \[0, 1\)"),
        ("MODEL.BACKBONE.NORM=BatchNorm", "NORM: no norm has this name"),
        ("MODEL.SEM_SEG_HEAD.NORM=syncbn", "SEM_SEG_HEAD.NORM: no norm .*Nearest: .*SyncBN"),
        ("MODEL.BACKBONE.NAME=DynamicNetwrok", "BACKBONE.NAME: no backbone .*Nearest: DynamicNetwork"),
        ("MODEL.META_ARCHITECTURE=DynamicNet", "META_ARCHITECTURE: no model .*Nearest: DynamicNet4Seg"),
        ("MODEL.SEM_SEG_HEAD.NAME=Decoder", "HEAD.NAME: no head .*SemSegDecoderHead"),
        ("MODEL.SEM_SEG_HEAD.IN_FEATURES=[layer_1,layer_0,layer_2,layer_3]", "IN_FEATURES: .*finest first"),
        ("MODEL.SEM_SEG_HEAD.IN_FEATURES=[layer_0]", r"IN_FEATURES: .*4 scales.*'layer_3'"),
        ("MODEL.SEM_SEG_HEAD.NUM_CLASSES=19", "NUM_CLASSES: the data set digit_scenes_train has 11 classes"),
        ("MODEL.SEM_SEG_HEAD.IGNORE_VALUE=254", "IGNORE_VALUE: the data set digit_scenes_val marks .* with 255"),
        ("MODEL.SEM_SEG_HEAD.IGNORE_VALUE=3", "IGNORE_VALUE: a class would be left out"),
        ("MODEL.GATE.UNREACHED=skipped", "UNREACHED: .*Nearest: skip"),
        ("MODEL.BUDGET.LOSS_MU=1.5", r"LOSS_MU: out of range\. Expected a number in \[0, 1\]"),
        ("MODEL.BUDGET.LOSS_WEIGHT=-1", "BUDGET.LOSS_WEIGHT: out of range. Expected a number not below 0"),
        ("MODEL.DEVICE=gpu", "DEVICE: no device has this name.*auto, cpu, cuda"),
        ("MODEL.PIXEL_MEAN=[1,2]", "PIXEL_MEAN: .*three numbers"),
        ("MODEL.PIXEL_STD=[1,0,1]", "PIXEL_STD: .*above 0"),
        ("DATASETS.TRAIN=[digit_scenes_trian]", "under 'digit_scenes_trian' .*Nearest: digit_scenes_train"),
        ("DATASETS.TEST=[mine_val]", r"TEST: no data set is registered under 'mine_val' \(yet\)"),
        ("DATASETS.TRAIN=[voc_2012_sem_seg_test]", r"TRAIN: the data set voc_2012_sem_seg_test has no labels"),
        ("DATASETS.TEST=[voc_2012_sem_seg_test]", r"TEST: the data set voc_2012_sem_seg_test has no labels"),
        ("DATASETS.TRAIN=[]", "TRAIN: there is nothing to train on"),
        ("DATASETS.TEST=[digit_scenes_val,digit_scenes_val]", "TEST: a data set is evaluated once"),
        ("DATALOADER.NUM_WORKERS=-1", "NUM_WORKERS: out of range"),
        ("DATALOADER.MAX_SKIPPED=-1", "MAX_SKIPPED: out of range"),
        ("DATALOADER.CACHE=mmap", "CACHE: no cache .*Nearest: memmap"),
        ("DATALOADER.ON_ERROR=ignore", "ON_ERROR: no way .*raise, skip"),
        ("INPUT.FORMAT=bgr", "FORMAT: no channel order .*Nearest: BGR"),
        ("INPUT.FLIP_PROB=2", "FLIP_PROB: out of range"),
        ("INPUT.CROP_SIZE=[100,128]", r"CROP_SIZE: .*stride 32 .*multiples of 32, such as \[96, 128\]"),
        ("INPUT.CROP_SIZE=[8,32]", r"such as \[32, 32\]"),
        ("INPUT.CROP_SIZE=[128]", r"CROP_SIZE: a crop has two sides"),
        ("INPUT.CROP_IMAGE_PAD_VALUE=256", r"CROP_IMAGE_PAD_VALUE: out of range\. Expected a number in \[0, 255\]"),
        ("INPUT.MAX_SIZE_TRAIN=2000", "MAX_SIZE_TRAIN: .*at least 2048"),
        ("INPUT.MAX_SIZE_TEST=512", "MAX_SIZE_TEST: .*at least 1024"),
        ("INPUT.MIN_SIZE_TRAIN=[0]", "MIN_SIZE_TRAIN: a size is in pixels"),
        ("INPUT.SCALE_RANGE_TRAIN=[0,2]", r"SCALE_RANGE_TRAIN: a range has two ends.*\[lowest, highest\], both above"),
        ("INPUT.SCALE_RANGE_TRAIN=[2,0.5]", "SCALE_RANGE_TRAIN: a range has two ends"),
        ("INPUT.SCALE_RANGE_TRAIN=[1]", "SCALE_RANGE_TRAIN: a range has two ends"),
        ("INPUT.SCALE_RANGE_TRAIN=[a,b]", "SCALE_RANGE_TRAIN: a range has two ends"),
        ("INPUT.BLUR_SIGMA=[0,2]", "BLUR_SIGMA: a range has two ends"),
        ("INPUT.BLUR_PROB=2", "BLUR_PROB: out of range"),
        ("INPUT.BACKEND=cv", "BACKEND: no way of resizing .*Nearest: cv2"),
        ("INPUT.ROTATION_DEGREES=181", "ROTATION_DEGREES: out of range"),
        ("INPUT.CROP_MAX_CLASS_RATIO=0", r"CROP_MAX_CLASS_RATIO: out of range\. Expected a number in \(0, 1\]"),
        ("INPUT.PHOTOMETRIC.BRIGHTNESS=256", "BRIGHTNESS: out of range"),
        ("INPUT.PHOTOMETRIC.CONTRAST=1.5", "CONTRAST: out of range"),
        ("INPUT.PHOTOMETRIC.SATURATION=-1", "SATURATION: out of range"),
        ("INPUT.PHOTOMETRIC.HUE_DEGREES=190", "HUE_DEGREES: out of range"),
        ("SOLVER.IMS_PER_BATCH=0", "IMS_PER_BATCH: out of range"),
        ("SOLVER.OPTIMIZER.NAME=Adam", "OPTIMIZER.NAME: no optimizer .*AdamW"),
        ("SOLVER.LR_SCHEDULER.NAME=polylr", "LR_SCHEDULER.NAME: .*Nearest: PolyLR"),
        ("SOLVER.OPTIMIZER.BASE_LR=0", "BASE_LR: out of range. Expected a number above 0"),
        ("SOLVER.CHECKPOINT_PERIOD=-1", "CHECKPOINT_PERIOD: out of range"),
        ("SOLVER.CHECKPOINT_KEEP_LAST=-1", "KEEP_LAST: out of range"),
        ("SOLVER.CHECKPOINT_KEEP_EVERY=-1", "KEEP_EVERY: out of range"),
        ("SOLVER.CHECKPOINT_KEEP_EVERY=1000", "KEEP_EVERY: .*KEEP_LAST=0 keeps all.*Give the number"),
        ("SOLVER.BEST_METRIC_MODE=higher", "BEST_METRIC_MODE: no way to compare scores .*max, min"),
        ("SOLVER.LR_SCHEDULER.MAX_ITER=0", "MAX_ITER: out of range"),
        ("TEST.EVAL_PERIOD=-5", "EVAL_PERIOD: out of range"),
        ("TEST.EXECUTION=spares", "EXECUTION: .*Nearest: sparse"),
        ("SEED=-2", "SEED: out of range"),
        ("PROCESS_TIMEOUT_SECONDS=0", "PROCESS_TIMEOUT_SECONDS: out of range. Expected a number above 0"),
        ("SOLVER.OPTIMIZER.MOMENTUM=1e999", "MOMENTUM must be finite"),
    ],
)
def test_each_mistake_is_named_with_its_key_and_value(override, message):
    listed = problems(override)
    assert listed.startswith("the configuration cannot be used: ")
    assert re.search(message, listed, flags=re.IGNORECASE), listed
    key = override.partition("=")[0]
    assert f"Received: {key}=" in listed or "Received: cells_per_layer=" in listed


def test_everything_is_listed_at_once():
    listed = problems("SEED=-2", "INPUT.FORMAT=GBR", "INPUT.CROP_SIZE=[100,100]", "DATASETS.TRAIN=[nothing]", *SMALL)
    assert "4 problems" in listed
    assert [line[:5] for line in listed.splitlines()[1:]] == [f"  {number}. " for number in range(1, 5)]


def test_a_crop_is_chosen_only_where_there_is_one():
    listed = problems("INPUT.CROP_SIZE=[]", "INPUT.CROP_MAX_CLASS_RATIO=0.75")
    assert "CROP_MAX_CLASS_RATIO: there is no crop to choose. Give INPUT.CROP_SIZE" in listed


def test_small_gates_need_four_pixels_at_the_coarsest_stride():
    small_gate = "MODEL.GATE.SMALL_GATE=True"
    assert "sides of at least 128" in problems(small_gate, "INPUT.CROP_SIZE=[96,256]")
    validate_config(sound(small_gate, "INPUT.CROP_SIZE=[128,128]"))
    validate_config(sound(small_gate, "INPUT.CROP_SIZE=[96,96]", "MODEL.GATE.GATE_ON=False"))


def test_a_single_value_per_channel_cannot_be_normalised():
    single = ["INPUT.CROP_SIZE=[32,32]", "MODEL.BACKBONE.NORM=BN", "MODEL.SEM_SEG_HEAD.NORM=BN"]
    assert "needs two values" in problems(*single, "SOLVER.IMS_PER_BATCH=1")
    assert "needs two values" in problems(*single, "SOLVER.IMS_PER_BATCH=2", world_size=2)
    validate_config(sound(*single, "SOLVER.IMS_PER_BATCH=4"), world_size=2)
    for norm in ("GN", "FrozenBN"):
        norms = [f"MODEL.BACKBONE.NORM={norm}", f"MODEL.SEM_SEG_HEAD.NORM={norm}"]
        validate_config(sound("INPUT.CROP_SIZE=[32,32]", "SOLVER.IMS_PER_BATCH=1", *norms))
    mixed = ["MODEL.BACKBONE.NORM=GN", "MODEL.SEM_SEG_HEAD.NORM=BN", "SOLVER.IMS_PER_BATCH=1"]
    assert "SEM_SEG_HEAD.NORM=BN needs two values" in problems("INPUT.CROP_SIZE=[32,32]", *mixed)


def test_bottlenecks_have_a_quarter_of_the_channels():
    assert "a multiple of 4" in problems("MODEL.BACKBONE.CELL_TYPE=[Bottleneck_5x5]", "MODEL.BACKBONE.INIT_CHANNEL=10")
    validate_config(sound("MODEL.BACKBONE.INIT_CHANNEL=10"))


def test_an_evaluation_needs_less_than_a_training():
    opts = ["SOLVER.IMS_PER_BATCH=16", "DATASETS.TRAIN=[]", "MODEL.BACKBONE.NORM=SyncBN"]
    listed = problems(*opts, world_size=3)
    assert "IMS_PER_BATCH" in listed
    assert "nothing to train on" in listed
    validate_config(sound(*opts), world_size=3, purpose="evaluation")
    assert "NUM_CLASSES" in problems("MODEL.SEM_SEG_HEAD.NUM_CLASSES=4", purpose="evaluation")
    unlabelled = sound("DATASETS.TEST=[cityscapes_fine_sem_seg_test]", "MODEL.SEM_SEG_HEAD.NUM_CLASSES=19")
    validate_config(unlabelled, purpose="evaluation")


def test_evaluating_during_the_training_needs_a_data_set():
    opts = ["TEST.EVAL_PERIOD=5", "DATASETS.TEST=[]"]
    assert "there is nothing to evaluate on" in problems(*opts)


def test_the_best_checkpoint_needs_scores():
    listed = problems("SOLVER.BEST_METRIC=digit_scenes_val/mIoU", "DATASETS.TEST=[]")
    assert "BEST_METRIC: there is nothing that gives scores" in listed
    validate_config(sound("SOLVER.BEST_METRIC=digit_scenes_val/mIoU"))


def test_several_gpu_processes_have_a_gpu_each(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert "each of the 2 processes has a GPU of its own" in problems("MODEL.DEVICE=cuda:1", world_size=2)
    validate_config(sound("MODEL.DEVICE=cuda:1"))
    for device in ("auto", "cuda", "cpu"):
        validate_config(sound(f"MODEL.DEVICE={device}"), world_size=2)


def test_a_budget_needs_weight_gates_and_time():
    assert "with weight 0 the budget" in problems("MODEL.BUDGET.CONSTRAIN=True")
    budget = ["MODEL.BUDGET.CONSTRAIN=True", "MODEL.BUDGET.LOSS_WEIGHT=1"]
    assert "BUDGET.FLOPS_ALL=0 measures the lattice" in problems(*budget, "INPUT.CROP_SIZE=[]")
    validate_config(sound(*budget, "INPUT.CROP_SIZE=[]", "MODEL.BUDGET.FLOPS_ALL=1000"))
    assert "the cost is the same whatever is learnt" in problems(*budget, "MODEL.GATE.GATE_ON=False")
    assert "ends before the budget" in problems(*budget, "MODEL.BUDGET.UNUPDATE_RATE=1")


def test_the_batch_is_shared_equally():
    assert "divisible by the number of processes (3); use 6 or 9" in problems(world_size=3)
    validate_config(sound(), world_size=4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_a_gpu_that_is_not_there_is_noticed():
    assert "torch sees no GPU" in problems("MODEL.DEVICE=cuda:1")


def test_types_are_checked_even_where_values_were_set_by_hand():
    cfg = sound()
    cfg.SEED = "one"
    cfg.MODEL.GATES_ON = True
    cfg.INPUT.CROP_SIZE = [64.5, 64]
    del cfg.MODEL["GATE"]
    with pytest.raises(ConfigError) as caught:
        validate_config(cfg)
    known = "unknown key MODEL.GATES_ON. Nearest known: MODEL.GATE.GATE_ON"
    for part in ("SEED must be of type int", "INPUT.CROP_SIZE[0] must be", "MODEL.GATE.GATE_ON is missing", known):
        assert part in str(caught.value)


def test_a_data_set_of_the_user_is_checked_against_the_model():
    name = "validation_test_set"
    meta = DatasetMeta(class_names=("a", "b"), class_colors=((0, 0, 0), (1, 1, 1)), ignore_value=200)
    if name not in DatasetCatalog.names():
        DatasetCatalog.register(name, lambda: [], meta)
    listed = problems(f"DATASETS.TRAIN=[{name}]", "DATASETS.TEST=[]")
    assert f"the data set {name} has 2 classes" in listed
    assert f"the data set {name} marks ignored pixels with 200" in listed
    validate_config(
        sound(
            f"DATASETS.TRAIN=[{name}]",
            "DATASETS.TEST=[]",
            "MODEL.SEM_SEG_HEAD.NUM_CLASSES=2",
            "MODEL.SEM_SEG_HEAD.IGNORE_VALUE=200",
        )
    )


@pytest.mark.parametrize(
    ("interval", "inside", "outside", "text"),
    [
        (Interval(0, 1), [0, 0.5, 1], [-1e-9, 1.1], "a number in [0, 1]"),
        (Interval(0, 1, open_high=True), [0, 0.999], [1], "a number in [0, 1)"),
        (Interval(0, open_low=True), [1e-9, 1e9], [0], "a number above 0"),
        (Interval(-1), [-1, 5], [-2], "a number not below -1"),
    ],
)
def test_intervals(interval, inside, outside, text):
    assert all(value in interval for value in inside)
    assert not any(value in interval for value in outside)
    assert str(interval) == text


def test_norms_on_maps_of_one_pixel_need_two_images():
    rex_block = ["MODEL.BACKBONE.CELL_TYPE=[rex_block_3x3]", "SOLVER.IMS_PER_BATCH=2"]
    validate_config(sound(*rex_block))
    text = problems(*rex_block, "SOLVER.ACCUMULATION_STEPS=2")
    assert "NORM: rex_block_3x3 has norms on maps of one pixel" in text and "FrozenBN or GN" in text
    text = problems("MODEL.BACKBONE.CELL_TYPE=[spconv_3x3]", "MODEL.BACKBONE.INIT_CHANNEL=2")
    assert "spconv_3x3 makes two groups and a rest. Expected at least 4" in text
