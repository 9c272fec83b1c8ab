"""Merging: bases, empty sections, errors that change nothing, and round trips through YAML."""

import copy
import logging
import pickle

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dl_lib.config import CfgNode, ConfigError, get_cfg
from dl_lib.config.declarations import KEYS
from dl_lib.config.defaults import DEFAULTS


def write(path, text):
    path.write_text(text)
    return path


def test_get_cfg_returns_an_independent_copy():
    before = copy.deepcopy(DEFAULTS)
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.CELL_TYPE.append("conv_3x3_basic")
    cfg.SEED = 7
    assert before == DEFAULTS
    assert isinstance(cfg.MODEL.GATE, CfgNode)


def test_a_base_is_relative_to_the_file_that_overrides_it(tmp_path):
    (tmp_path / "bases").mkdir()
    write(tmp_path / "bases" / "root.yaml", "SEED: 1\nSOLVER: {OPTIMIZER: {BASE_LR: 0.5, MOMENTUM: 0.5}}")
    write(tmp_path / "bases" / "middle.yaml", "_BASE_: root.yaml\nSOLVER: {OPTIMIZER: {MOMENTUM: 0.6}}")
    write(tmp_path / "other.yaml", "LOG_PERIOD: 9\nSEED: 2")
    top = write(tmp_path / "top.yaml", "_BASE_: [bases/middle.yaml, other.yaml]\nSOLVER: {OPTIMIZER: {NAME: SGD}}")
    cfg = get_cfg()
    cfg.merge_from_file(top)
    optimizer = cfg.SOLVER.OPTIMIZER
    assert (cfg.SEED, cfg.LOG_PERIOD, optimizer.BASE_LR, optimizer.MOMENTUM) == (2, 9, 0.5, 0.6)


def test_a_file_cannot_be_its_own_base(tmp_path):
    write(tmp_path / "a.yaml", "_BASE_: b.yaml")
    write(tmp_path / "b.yaml", "_BASE_: ../" + tmp_path.name + "/a.yaml")
    with pytest.raises(ConfigError, match="must not be its own base"):
        get_cfg().merge_from_file(tmp_path / "a.yaml")


def test_a_section_and_a_value_cannot_share_a_key(tmp_path):
    write(tmp_path / "base.yaml", "SOLVER: 3")
    top = write(tmp_path / "top.yaml", "_BASE_: base.yaml\nSOLVER: {GRAD_CLIP: 1.0}")
    for path in (top, tmp_path / "base.yaml"):
        with pytest.raises(ConfigError, match=r"base\.yaml cannot be merged: SOLVER is a section"):
            get_cfg().merge_from_file(path)
    with pytest.raises(ConfigError, match=r"SEED must have a value of type int"):
        get_cfg().merge_from_file(write(tmp_path / "empty.yaml", "SEED:"))


@pytest.mark.parametrize("text", ["", "# nothing\n", "MODEL:\nSOLVER: {}\n", "MODEL:\n  GATE:\n"])
def test_empty_files_and_sections_change_nothing(tmp_path, text):
    cfg = get_cfg()
    cfg.merge_from_file(write(tmp_path / "empty.yaml", text))
    assert cfg == DEFAULTS


def test_an_empty_section_keeps_the_values_of_its_base(tmp_path):
    write(tmp_path / "base.yaml", "MODEL: {GATE: {SMALL_GATE: true}}")
    cfg = get_cfg()
    cfg.merge_from_file(write(tmp_path / "top.yaml", "_BASE_: base.yaml\nMODEL:\n"))
    assert cfg.MODEL.GATE.SMALL_GATE is True


@pytest.mark.parametrize(
    "text", ["SEED: !!python/object/apply:os.getpid []", "SEED: [", "- SEED", "just text", "_BASE_: {a: 1}"]
)
def test_only_safe_yaml_is_read(tmp_path, text):
    path = write(tmp_path / "bad.yaml", text)
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        get_cfg().merge_from_file(path)
    with pytest.raises(ConfigError, match=r"Received: allow_unsafe=True"):
        get_cfg().merge_from_file(path, allow_unsafe=True)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"No such file.*absent\.yaml"):
        get_cfg().merge_from_file(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("BASE_LR", "SOLVER.OPTIMIZER.BASE_LR"),
        ("MODEL.SMALL_GATE", "MODEL.GATE.SMALL_GATE"),
        ("MODEL.BACKBONE.LAYERNUM", "MODEL.BACKBONE.LAYER_NUM"),
        ("model.backbone.layer_num", "MODEL.BACKBONE.LAYER_NUM"),
        ("SOLVER.MAX_ITER", "SOLVER.LR_SCHEDULER.MAX_ITER"),
        ("MODEL.SEM_SEG_HEAD.NORMS", "MODEL.SEM_SEG_HEAD.NORM"),
    ],
)
def test_an_unknown_key_is_answered_with_the_most_similar_one_first(tmp_path, key, near):
    expected = rf"unknown key {key}; nearest: {near}\b"
    with pytest.raises(ConfigError, match=expected):
        get_cfg().merge_from_list([key, "3"])
    nested = 3
    for part in reversed(key.split(".")):
        nested = {part: nested}
    with pytest.raises(ConfigError, match=expected):
        get_cfg().merge_from_file(write(tmp_path / "a.yaml", yaml.safe_dump(nested)))


def test_all_problems_of_a_file_are_listed_and_nothing_is_merged(tmp_path):
    path = write(tmp_path / "a.yaml", "SEED: 5\nSEEED: 1\nLOG_PERIOD: often\nMODEL: {GATE: 3, NONE: {SUCH: 1}}")
    cfg = get_cfg()
    with pytest.raises(ConfigError) as caught:
        cfg.merge_from_file(path)
    message = str(caught.value)
    assert "4 problems" in message
    for part in ("SEEED", "LOG_PERIOD must be of type int", "MODEL.GATE is a section", "MODEL.NONE.SUCH"):
        assert part in message
    assert cfg == DEFAULTS


def test_a_removed_key_is_ignored_with_a_warning(tmp_path, caplog):
    cfg = get_cfg()
    with caplog.at_level(logging.WARNING):
        cfg.merge_from_file(write(tmp_path / "a.yaml", "INPUT: {FIX_SIZE_FOR_FLOPS: [768, 768]}"))
        cfg.merge_from_list(["INPUT.FIX_SIZE_FOR_FLOPS", "[1024, 2048]"])
    assert cfg == DEFAULTS
    assert [record.message for record in caplog.records] == [
        "Deprecated config key (ignoring): INPUT.FIX_SIZE_FOR_FLOPS"
    ] * 2


def test_a_problem_in_a_base_is_reported_under_the_file_it_stands_in(tmp_path):
    write(tmp_path / "base.yaml", "SEEED: 1\nLOG_PERIOD: often")
    top = write(tmp_path / "top.yaml", "_BASE_: base.yaml\nVIS: 1")
    with pytest.raises(ConfigError) as caught:
        get_cfg().merge_from_file(top)
    in_base, in_top = str(caught.value).split(f"\n{top} cannot be merged: ")
    assert in_base.startswith(f"{tmp_path / 'base.yaml'} cannot be merged: 2 problems\n  1. unknown key SEEED")
    assert in_top.startswith("unknown key VIS;")


def test_a_frozen_config_cannot_be_merged_into():
    cfg = get_cfg()
    cfg.freeze()
    with pytest.raises(ConfigError, match="frozen"):
        cfg.merge_from_list(["SEED=1"])


@pytest.mark.parametrize("is_frozen", [True, False])
def test_a_copy_with_other_values_is_frozen(is_frozen):
    cfg = get_cfg()
    if is_frozen:
        cfg.freeze()
    copy = cfg.with_values({"SEED": 5, "MODEL.WEIGHTS": "~/$HOME.pth"})
    assert copy.is_frozen() and copy.MODEL.is_frozen() and cfg.MODEL.is_frozen() == is_frozen
    assert copy.flat() == {**get_cfg().flat(), "SEED": 5, "MODEL.WEIGHTS": "~/$HOME.pth"} and cfg == get_cfg()


def test_a_frozen_config_survives_pickling():
    cfg = get_cfg()
    cfg.freeze()
    other = pickle.loads(pickle.dumps(cfg))
    assert other == cfg
    assert other.is_frozen()
    assert other.MODEL.is_frozen()


def _strategies():
    by_type = {
        bool: st.booleans(),
        int: st.integers(-(10**6), 10**6),
        float: st.floats(allow_nan=False, allow_infinity=False, width=32),
        str: st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f\x85"), max_size=12)
        | st.sampled_from(["None", "1", "true", "'quoted'", "[1, 2]", "1e3", "a: b", "null", "~", ""]),
    }
    for key, declared in KEYS.items():
        if declared.items in by_type:
            yield key, st.lists(by_type[declared.items], max_size=4)
        elif declared.is_path:
            yield key, by_type[str].filter(lambda path: not path.startswith("~"))  # gets a `./`
        elif declared.items is None:
            yield key, by_type[type(declared.default)]


@settings(deadline=None)  # wall time depends on the load
@given(st.fixed_dictionaries({}, optional=dict(_strategies())))
def test_a_dump_restores_every_value(values):
    cfg = get_cfg()
    cfg.merge_from_list([part for pair in values.items() for part in pair if pair[0] not in _texts()])
    for key in values.keys() & _texts():
        section, _, name = key.rpartition(".")
        cfg._section(section)[name] = values[key]
    again = get_cfg()
    again.merge_from_other_cfg(yaml.safe_load(cfg.dump()))
    assert again == cfg
    assert {key: type(value) for key, value in again.flat().items()} == {
        key: type(value) for key, value in DEFAULTS.flat().items()
    }


def _texts():
    """Return the keys of type str, whose overrides may lose their quotes."""
    return {key for key, value in DEFAULTS.flat().items() if isinstance(value, str)}
