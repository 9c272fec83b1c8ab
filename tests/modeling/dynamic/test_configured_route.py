"""`MODEL.BACKBONE.ROUTE`: names, files and entries, and networks that train, resume and evaluate with it."""

import signal

import pytest

from dl_lib.config import ConfigError, get_cfg
from dl_lib.modeling.dynamic.configured_route import configured_route, embed_route_file
from dl_lib.modeling.dynamic.lattice import Lattice
from dl_lib.modeling.dynamic.route import Route
from dl_lib.validation import validate_config
from tests.helpers import small_run
from tests.helpers.forked import run_forked
from tests.helpers.tiny_model import TINY

CHAIN = [f"layer{layer}_stride4.keep" for layer in range(5)]


def configured(*overrides):
    cfg = get_cfg()
    cfg.merge_from_list([*TINY, *overrides])
    return cfg


def test_text_is_a_list_of_one(tmp_path, monkeypatch):
    assert configured("MODEL.BACKBONE.ROUTE=all_open").MODEL.BACKBONE.ROUTE == ["all_open"]
    assert configured("MODEL.BACKBONE.ROUTE", "all_open").MODEL.BACKBONE.ROUTE == ["all_open"]
    assert configured("MODEL.BACKBONE.ROUTE=[layer0_stride4.keep=0.5]").MODEL.BACKBONE.ROUTE == [
        "layer0_stride4.keep=0.5"
    ]


def test_default_is_the_whole_lattice_with_the_gates_of_the_config():
    lattice = Lattice(configured().MODEL.BACKBONE.CELL_NUM_LIST)
    assert configured_route(configured()) == Route.whole(lattice, gated=True)
    assert configured_route(configured("MODEL.GATE.GATE_ON=False")) == Route.whole(lattice, gated=False)


def test_file_becomes_part_of_the_config(tmp_path, monkeypatch):
    monkeypatch.setenv("ROUTES", str(tmp_path))
    route = Route.parse(Lattice(configured().MODEL.BACKBONE.CELL_NUM_LIST), CHAIN)
    (tmp_path / "route.json").write_text(route.to_json())
    cfg = configured("MODEL.BACKBONE.ROUTE", "$ROUTES/route.json")
    assert configured_route(cfg) == route
    embed_route_file(cfg)
    (tmp_path / "route.json").unlink()
    assert cfg.MODEL.BACKBONE.ROUTE == CHAIN
    assert configured_route(cfg) == route


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["MODEL.BACKBONE.ROUTE=all_opne"], "nearest: all_open. Received: MODEL.BACKBONE.ROUTE=\\['all_opne'\\]"),
        (["MODEL.BACKBONE.ROUTE=missing.json"], "cannot be read: No such file.*; use .*missing.json"),
        (["MODEL.BACKBONE.ROUTE=other.json"], "use the MODEL.BACKBONE.CELL_NUM_LIST of the file, \\[2, 2\\]"),
        (["MODEL.BACKBONE.ROUTE=[layer1_stride4.keep]"], "an edge of the source cell"),
        (["MODEL.BACKBONE.ROUTE", [*CHAIN[:-1], "layer4_stride4.kep"]], "nearest: layer4_stride4.keep"),
        (["MODEL.BACKBONE.ROUTE", [*CHAIN[:-1], "layer4_stride4.keep=gate"], "MODEL.GATE.GATE_ON=False"], "GATE_ON"),
        (["MODEL.BACKBONE.CELL_NUM_LIST=[3,3,4,4]"], "MODEL.BACKBONE.CELL_NUM_LIST: .*layer 1 must have"),
    ],
)
def test_invalid_routes_name_the_key(tmp_path, monkeypatch, overrides, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.json").write_text(Route.whole(Lattice([2, 2]), gated=False).to_json())
    with pytest.raises(ConfigError, match=message):
        configured_route(configured(*overrides))


@pytest.mark.parametrize(
    ("route", "is_fixed"), [(CHAIN, True), ([*CHAIN[:-1], "layer4_stride4.keep=gate"], False), (["all_open"], True)]
)
def test_budget_requires_learned_gates(route, is_fixed):
    budget = ["MODEL.BUDGET.CONSTRAIN=True", "MODEL.BUDGET.LOSS_WEIGHT=0.5", "INPUT.CROP_SIZE=[128,128]"]
    cfg = configured(*budget, "MODEL.BACKBONE.ROUTE", route)
    try:
        validate_config(cfg)
        problems = ""
    except ConfigError as error:
        problems = str(error)
    assert ("with MODEL.BACKBONE.ROUTE=" in problems and "the cost is constant" in problems) == is_fixed


def test_invalid_route_is_a_problem_of_the_config():
    with pytest.raises(ConfigError, match=r"MODEL\.BACKBONE\.ROUTE: layer2_stride4\.keep leads to no output"):
        validate_config(configured("MODEL.BACKBONE.ROUTE", CHAIN[:3]))


def test_killed_run_resumes_bit_exactly(tmp_path):
    chain = [f"layer{layer}_stride4.keep" for layer in range(3)]
    route = [*chain[:2], "layer1_stride4.down=0.5", "layer2_stride8.keep=0.25", chain[2]]
    overrides = ["MODEL.BACKBONE.ROUTE", route, "MODEL.BUDGET.CONSTRAIN", False]
    assert run_forked(small_run.train, tmp_path / "reference", overrides) == 0
    killed = run_forked(small_run.train_and_kill, tmp_path / "run", "PeriodicCheckpointer", 5, overrides)
    assert killed == -signal.SIGKILL
    assert run_forked(small_run.train, tmp_path / "run", overrides) == 0
    small_run.assert_same_run(tmp_path / "run", tmp_path / "reference")
    assert not any("gate" in key for key in small_run.final_state(tmp_path / "run")["model"])
