"""Renamed keys and values: an error with the new name, from a file and from the command line."""

import pytest
import yaml

from dl_lib.config import ConfigError, get_cfg
from dl_lib.config.declarations import KEYS
from dl_lib.config.errors import REMOVED_KEYS, RENAMED_KEYS, RENAMED_VALUES

VALUES = [(key, old, new) for key, renamed in RENAMED_VALUES.items() for old, new in renamed.items()]


def merge(how, tmp_path, key, value):
    if how == "override":
        get_cfg().merge_from_list([key, str(value)])
        return
    nested = value
    for part in reversed(key.split(".")):
        nested = {part: nested}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(nested))
    get_cfg().merge_from_file(path)


@pytest.mark.parametrize("how", ["override", "file"])
@pytest.mark.parametrize(("old", "new"), RENAMED_KEYS.items())
def test_an_old_key_is_answered_with_the_new_one(tmp_path, how, old, new):
    with pytest.raises(ConfigError, match=rf"{old} has been renamed; use {new}\. Received: {old}="):
        merge(how, tmp_path, old, 3)


@pytest.mark.parametrize("how", ["override", "file"])
@pytest.mark.parametrize(("key", "old", "new"), VALUES)
def test_an_old_value_is_answered_with_the_new_one(tmp_path, how, key, old, new):
    with pytest.raises(ConfigError, match=rf"{key}: {old} has been renamed; use {new}\. Received: {key}='{old}'$"):
        merge(how, tmp_path, key, old)


def test_the_table_names_old_keys_and_new_ones():
    assert set(RENAMED_KEYS.values()) <= set(KEYS)
    assert set(RENAMED_VALUES) <= set(KEYS)
    assert not {*RENAMED_KEYS, *REMOVED_KEYS} & set(KEYS)
    assert all(new in KEYS[key].resolve_choices() for key, _, new in VALUES)
    assert all(old not in KEYS[key].resolve_choices() for key, old, _ in VALUES)
