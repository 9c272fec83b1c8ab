"""Overrides: both spellings are equivalent, types follow the key, nothing is executed."""

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dl_lib.config import ConfigError, apply_overrides, get_cfg
from dl_lib.config.overrides import parse_overrides

PAIRS = [
    ("SEED", "7", 7),
    ("SOLVER.OPTIMIZER.BASE_LR", "1", 1.0),
    ("SOLVER.OPTIMIZER.BASE_LR", "5e-4", 5e-4),
    ("MODEL.GATE.GATE_INIT_BIAS", "-1.5", -1.5),
    ("MODEL.GATE.SMALL_GATE", "True", True),
    ("MODEL.GATE.SMALL_GATE", "true", True),
    ("MODEL.CHANNELS_LAST", "auto", "auto"),
    ("MODEL.CHANNELS_LAST", "true", "True"),
    ("MODEL.CHANNELS_LAST", "False", "False"),
    ("INPUT.CROP_SIZE", "(64, 128)", [64, 128]),
    ("INPUT.CROP_SIZE", "[64,128]", [64, 128]),
    ("INPUT.CROP_SIZE", "[]", []),
    ("INPUT.SCALE_RANGE_TRAIN", "[1, 2]", [1.0, 2.0]),
    ("MODEL.LOSS.CLASS_WEIGHTS", "[1, 0.5]", [1.0, 0.5]),
    ("MODEL.PIXEL_MEAN", "[1, 2.5, 3]", [1.0, 2.5, 3.0]),
    ("DATASETS.TEST", "[digit_scenes_val]", ["digit_scenes_val"]),
    ("DATASETS.TEST", "('a', 'b')", ["a", "b"]),
    ("MODEL.WEIGHTS", "run=3/model.pth", "run=3/model.pth"),
    ("MODEL.WEIGHTS", "2024", "2024"),
    ("MODEL.WEIGHTS", "", ""),
    ("MODEL.WEIGHTS", "'a b'", "a b"),
    ("OUTPUT_DIR", "None", "None"),
]


@pytest.mark.parametrize(("key", "text", "expected"), PAIRS)
@pytest.mark.parametrize("spelling", ["apart", "joined"])
def test_values_take_the_type_of_their_key(key, text, expected, spelling):
    cfg = get_cfg()
    apply_overrides(cfg, [key, text] if spelling == "apart" else [f"{key}={text}"])
    value = cfg.flat()[key]
    assert value == expected
    assert type(value) is type(expected)
    if isinstance(expected, list):
        assert [type(element) for element in value] == [type(element) for element in expected]


@settings(deadline=None)  # wall time depends on the load
@given(st.lists(st.tuples(st.sampled_from([pair[:2] for pair in PAIRS]), st.booleans())))
def test_spellings_mix(choices):
    mixed = [word for (key, text), joined in choices for word in ([f"{key}={text}"] if joined else [key, text])]
    assert parse_overrides(mixed) == [pair for pair, _ in choices]


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["SEED", "1.5"], r"SEED must be of type int, not float\. Received: SEED='1.5'"),
        (["SEED", "1.0"], "write 1"),
        (["SEED=True"], "type int, not bool"),
        (["SOLVER.OPTIMIZER.BASE_LR=False"], "type float, not bool"),
        (["SOLVER.OPTIMIZER.BASE_LR=fast"], "type float, not str"),
        (["SEED=None"], "SEED must have a value of type int"),
        (["DATASETS.TEST=digit_scenes_val"], r"write \[digit_scenes_val\]"),
        (["DATASETS.TEST=[1]"], r"DATASETS\.TEST\[0\] must be of type str"),
        (["INPUT.CROP_SIZE=[64, a]"], r"INPUT\.CROP_SIZE\[1\] must be of type int"),
        (["INPUT.CROP_IMAGE_PAD_VALUE=0.5"], "must be of type int"),
        (["INPUT.SCALE_RANGE_TRAIN=[a, b]"], r"INPUT\.SCALE_RANGE_TRAIN\[0\] must be of type float"),
        (["SOLVER.LR_SCHEDULER.STEPS=[2.5]"], r"SOLVER\.LR_SCHEDULER\.STEPS\[0\] must be of type int"),
        (["TEST.SAVE_PREDICTIONS=[1]"], r"TEST\.SAVE_PREDICTIONS\[0\] must be of type str"),
        (["TEST.SLIDING.WINDOW=[512.5, 64]"], r"TEST\.SLIDING\.WINDOW\[0\] must be of type int"),
        (["MODEL.ALLOW_MISSING_KEYS=gate"], r"write \[gate\]"),
        (["MODEL.GATE={'SMALL_GATE': True}"], "is a section"),
        (["SEED"], "'SEED' has no value"),
        (["MODEL.CONV.STAGES", "[c4,", "c5]", "SEED", "1"], r"must be quoted.* Received: '\[c4,', .* 'c5\]'"),
        (["SEED=1", "INPUT.CROP_SIZE=(64,", "128)"], r"must be quoted.* Received: '\(64,', and later '128\)'"),
        (
            ["MODEL.CONV.KERNELS", "(larger, 1x1)"],
            r"not str\. Received: MODEL\.CONV\.KERNELS='\(larger, 1x1\)'",
        ),
        (["SEED=1", "LOG_PERIOD"], "'LOG_PERIOD' has no value"),
        ([3, "SEED"], "override 1 must be the name of a key"),
        (["_BASE_", "a.yaml"], "unknown key _BASE_"),
    ],
)
def test_errors_name_key_and_value(opts, message):
    with pytest.raises(ConfigError, match=message):
        apply_overrides(get_cfg(), opts)


@pytest.mark.parametrize(
    "text", ["__import__('os').system('true')", "!!python/object/apply:os.getpid []", "[x for x in (1,)]", "(" * 500]
)
def test_nothing_is_executed(text):
    with pytest.raises(ConfigError, match="must be of type int"):
        apply_overrides(get_cfg(), ["SEED", text])
    cfg = get_cfg()
    apply_overrides(cfg, ["MODEL.WEIGHTS", text])
    assert cfg.flat()["MODEL.WEIGHTS"] == text


def test_values_other_than_text_are_kept():
    cfg = get_cfg()
    cfg.merge_from_list(["SEED", 4, "INPUT.CROP_SIZE", (32, 64), "MODEL.WEIGHTS", "a"])
    assert (cfg.SEED, cfg.INPUT.CROP_SIZE, cfg.MODEL.WEIGHTS) == (4, [32, 64], "a")


@settings(deadline=None)  # wall time depends on the load
@given(st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False)))
def test_numbers_are_read_as_python_reads_them(number):
    cfg = get_cfg()
    apply_overrides(cfg, [f"SOLVER.OPTIMIZER.BASE_LR={number!r}"])
    assert cfg.flat()["SOLVER.OPTIMIZER.BASE_LR"] == float(ast.literal_eval(repr(number)))
