"""Config keys of an experiment, declared with `add_keys`."""

import sys

import pytest

from dl_lib.cli.config import main
from dl_lib.config import ConfigError, add_keys, defaults, get_cfg
from dl_lib.config.declarations import KEYS
from dl_lib.config.key import Reference, key
from dl_lib.config.reference import describe_keys
from dl_lib.validation import validate_config

WIDTH = key("MODEL.MY_HEAD.WIDTH", 8, "Number of channels.", range="[1, inf)")
MODE = key("MY_MODE", "fast", "Mode.", choices=("fast", "slow"))


@pytest.fixture(autouse=True)
def declared(monkeypatch):
    """Undo declarations after each test."""
    before = dict(KEYS)
    monkeypatch.setattr(defaults, "DEFAULTS", defaults.DEFAULTS.clone())
    yield
    KEYS.clear()
    KEYS.update(before)


def test_own_keys_are_merged_validated_described_and_written():
    add_keys(WIDTH, MODE)
    add_keys(WIDTH)  # an equal declaration, as in a copy of net.py
    cfg = get_cfg()
    assert cfg.MODEL.MY_HEAD.WIDTH == 8
    cfg.merge_from_list(["MODEL.MY_HEAD.WIDTH=16", "DATASETS.TRAIN=[digit_scenes_val]", "DATASETS.TEST=[]"])
    cfg.merge_from_list(["MODEL.SEM_SEG_HEAD.NUM_CLASSES=11"])
    validate_config(cfg)
    cfg.merge_from_list(["MODEL.MY_HEAD.WIDTH=0", "MY_MODE=slwo"])
    with pytest.raises(ConfigError, match=r"2 problems\n.*WIDTH must be >= 1\..*\n.*MY_MODE must be one of fast, slow"):
        validate_config(cfg)
    with pytest.raises(ConfigError, match=r"MODEL\.MY_HEAD\.WIDTH must be of type int"):
        cfg.merge_from_list(["MODEL.MY_HEAD.WIDTH=wide"])
    assert "WIDTH: 0" in cfg.dump()
    assert describe_keys("MY_MODE").splitlines()[0] == "MY_MODE = 'fast'"


NET = """
from dl_lib.config import add_keys
from dl_lib.config.key import key
add_keys(key("MY_WIDTH", 8, "Number of channels.", range="[1, inf)"))
"""


def test_own_keys_are_listed_and_compared_by_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "net", raising=False)
    for name, net, content in (("a", NET, "MY_WIDTH: 9"), ("b", NET.replace("8", "16"), "SEED: 1")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "net.py").write_text(net)
        (tmp_path / name / "config.yaml").write_text(content)
    main(["my_width", "--config-file", str(tmp_path / "a")])
    assert capsys.readouterr().out == "MY_WIDTH = 8\n    Number of channels.\n    int; >= 1\n"
    main(["--diff", str(tmp_path / "a"), str(tmp_path / "b")])
    assert capsys.readouterr().out == "SEED: 0 -> 1\nMY_WIDTH: 9 -> 16\n"
    sys.modules.pop("net", None)


def test_a_key_that_is_no_longer_declared_is_an_error_that_names_the_way_to_declare_it():
    with pytest.raises(ConfigError, match=r"unknown key MODEL\.MY_HEAD\.WIDTH.*declare it in net\.py with add_keys"):
        get_cfg().merge_from_other_cfg({"MODEL": {"MY_HEAD": {"WIDTH": 8}}})


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        (key("SEED", 1, "Seed."), "SEED is the name of another config key"),
        (key("MODEL", 1, "Model."), r"MODEL must not contain a key, or be part of one: MODEL\.META_ARCHITECTURE"),
        (key("SEED.OTHER", 1, "Seed."), r"SEED\.OTHER must not contain a key, or be part of one: SEED\."),
        (key("PICTURES_PERIOD", 1, "Renamed."), "is the name of another config key"),
        (key("my head", 1, "Lower case."), r"must be upper case, such as MODEL\.MY_HEAD\.WIDTH"),
        (key("MY_KEY", None, "None."), r"the default of MY_KEY must be a bool.*Received: MY_KEY=None"),
    ],
)
def test_unusable_declarations_change_nothing(declaration, message):
    with pytest.raises(ConfigError, match=message):
        add_keys(WIDTH, declaration)
    assert "MODEL.MY_HEAD.WIDTH" not in {**KEYS, **get_cfg().flat()}


def test_the_type_of_an_empty_list_is_required():
    with pytest.raises(ValueError, match=r"items must be the type of the elements.*Received: MY_LIST=\[\]"):
        key("MY_LIST", [], "List.")


def test_names_must_be_registered():
    assert [name for name, found in KEYS.items() if found.choices and not found.resolve_choices()] == [
        *("MODEL.LOSS.EXTRA", "INPUT.EXTRA_AUGMENTATIONS", "EXTRA_HOOKS")
    ]
    for name in ("MODEL.LOSS.EXTRA", "INPUT.EXTRA_AUGMENTATIONS", "EXTRA_HOOKS"):
        problem = KEYS[name].problem(["absent"])
        assert problem.startswith(f"{name} must contain only values registered in dl_lib.")
        assert problem.endswith(f"REGISTRY, which is empty; register it in net.py. Received: {name}=['absent']")
    names = key("MY_NAMES", [], "Names.", items=str, choices=Reference("dl_lib.modeling:SEM_SEG_HEADS_REGISTRY"))
    assert "from ASPPHead, SemSegDecoderHead" in names.problem(["absent"])
