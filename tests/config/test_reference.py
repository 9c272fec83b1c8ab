"""Reference of the keys: docs/config.md is up to date, keys are described, configs are compared."""

import subprocess
import sys
from pathlib import Path

import pytest

from dl_lib.config import ConfigError, get_cfg
from dl_lib.config.declarations import KEYS
from dl_lib.config.reference import config_diff, config_reference_markdown, describe_keys

PAGE = Path(__file__).parents[2] / "docs" / "config.md"


RUN = """
import sys
from dl_lib.config import reference
for arguments in ("--check PAGE", "--check STALE", "STALE", "--check STALE"):
    sys.argv = ["reference", *(word.replace("PAGE", PAGE).replace("STALE", STALE) for word in arguments.split())]
    try:
        reference.main()
        print("up to date")
    except SystemExit as error:
        print(error)
"""


def test_the_page_is_up_to_date_and_a_stale_one_is_reported_and_replaced(tmp_path):
    # In a subprocess: other tests register components, which the page would list.
    stale = tmp_path / "config.md"
    stale.write_text(PAGE.read_text().replace("Learning rate that", "Rate that"))
    code = f"PAGE, STALE = {str(PAGE)!r}, {str(stale)!r}\n{RUN}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    message = f"{stale} is stale; run: python -m dl_lib.config.reference {stale}"
    assert done.stdout.splitlines() == ["up to date", message, "up to date", "up to date"], done.stderr
    assert stale.read_text() == PAGE.read_text()


def test_the_page_has_a_row_and_an_anchor_for_each_key():
    page = config_reference_markdown()
    rows = [line for line in page.splitlines() if line.startswith("| <a")]
    assert [row.split('"')[1] for row in rows] == list(KEYS)
    assert all(row.replace("\\|", "").count(" | ") == 3 for row in rows)


def test_a_key_is_described():
    assert describe_keys("solver.optimizer.weight_decay_bias").splitlines() == [
        "SOLVER.OPTIMIZER.WEIGHT_DECAY_BIAS = -1.0",
        "    Weight decay of biases outside normalization layers.",
        "    float; in [0, 100]; -1: same as WEIGHT_DECAY, as published",
    ]
    assert "one of BN, SyncBN" in describe_keys("MODEL.BACKBONE.NORM")


@pytest.mark.parametrize("prefix", ["MODEL.GATE", "MODEL.GATE."])
def test_a_section_is_described_key_by_key(prefix):
    heads = [line.split(" = ")[0] for line in describe_keys(prefix).splitlines() if line and not line.startswith(" ")]
    assert heads == [name for name in KEYS if name.startswith("MODEL.GATE.")]


def test_without_a_prefix_all_keys_are_described():
    assert describe_keys().count(" = ") >= len(KEYS)


def test_an_unknown_key_is_answered_with_similar_ones():
    with pytest.raises(ConfigError, match=r"nearest: SOLVER\.OPTIMIZER\.BASE_LR.* Received: BASE_LR$"):
        describe_keys("BASE_LR")
    with pytest.raises(ConfigError, match=r"sections: MODEL, .* Received: qqq$"):
        describe_keys("qqq")


def test_a_renamed_key_is_answered_with_its_new_name():
    with pytest.raises(ConfigError, match=r"renamed; use VIS_PERIOD\. Received: pictures_period$"):
        describe_keys("pictures_period")


def test_differences_of_two_configs():
    a, b = get_cfg(), get_cfg()
    assert config_diff(a, b) == ""
    b.merge_from_list(["SEED=3", "MODEL.BACKBONE.NORM=GN"])
    assert config_diff(a, b) == "MODEL.BACKBONE.NORM: 'SyncBN' -> 'GN'\nSEED: 0 -> 3"
    del b["SEED"]
    assert "SEED: 0 -> (no such key)" in config_diff(a, b)
