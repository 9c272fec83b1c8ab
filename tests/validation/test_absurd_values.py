"""Absurd values of every config key: an error with the accepted range, never a traceback or a hang."""

import math

import pytest

from dl_lib.config import ConfigError, get_cfg
from dl_lib.config.declarations import KEYS
from dl_lib.validation import validate_config

SOUND = ["MODEL.SEM_SEG_HEAD.NUM_CLASSES=11", "DATASETS.TRAIN=[digit_scenes_train]", "INPUT.CROP_SIZE=[256, 256]"]
NUMBERS = ["1e308", "-1e308", "1e22", "1e400", "9" * 4000, "9" * 5000]
OTHERS = ["nan", "inf", "None", "[]", "{}", "''", "x" * 500, "[" * 100, "(" * 500, "-" * 500 + "1", "[[1], [2]]"]
LISTS = ["[{a: 1}]", f"[{'x, ' * 1100}]", f"[{'1, ' * 1100}]", '["\\udcff"]', "[{a: '\\udcff'}]"]
NUMERIC = [name for name, key in KEYS.items() if (key.items or type(key.default)) in (int, float)]


def problem(key, text):
    """Return the message for a value that is given on a command line, or None if it is accepted."""
    try:
        cfg = get_cfg()
        cfg.merge_from_list([*SOUND, f"{key}={text}"])
        validate_config(cfg)
    except ConfigError as error:
        return str(error)
    return None


def test_the_config_without_absurd_values_is_sound():
    assert problem("SEED", "1") is None


@pytest.mark.parametrize("key", NUMERIC)
def test_every_number_has_limits_that_its_error_states(key):
    declared = KEYS[key]
    limits = declared.interval
    assert declared.resolve_choices() or (limits is not None and math.isfinite(limits.high))
    for text in NUMBERS:
        message = problem(key, text if declared.items is None else f"[{', '.join([text] * (declared.length or 1))}]")
        assert message is not None, text[:30]
        assert key in message
        if limits is not None and (declared.items is None or len(text) <= 4300):  # Python's limit inside a list
            assert str(limits) in message, text[:30]
        assert len(message) < 3000
    kind = declared.items or type(declared.default)
    for number in (limits.low - 1, limits.high + 1) if limits is not None else ():
        value = kind(number) if declared.items is None else [kind(number)] * (declared.length or 1)
        assert str(limits) in (declared.problem(value) or f"special: {limits}")


@pytest.mark.parametrize("key", KEYS)
def test_other_values_are_accepted_or_end_in_a_short_error(key):
    for text in OTHERS + LISTS * (KEYS[key].items is not None):
        assert len(problem(key, text) or "") < 6000
