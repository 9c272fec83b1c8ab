from pathlib import Path

import pytest

from dl_lib.data.errors import MissingDataError
from dl_lib.data.files import datasets_root, ensure_exists, resolve_path


def test_the_environment_names_the_root(monkeypatch, tmp_path):
    monkeypatch.setenv("DL_DATASETS", str(tmp_path))
    assert datasets_root() == tmp_path
    assert resolve_path("mine/images") == tmp_path / "mine" / "images"
    assert resolve_path(tmp_path / "elsewhere") == tmp_path / "elsewhere"
    monkeypatch.setenv("HOME", "/home/me")
    assert resolve_path("~/images") == Path("/home/me/images")
    monkeypatch.setenv("DL_DATASETS", "~/data")
    assert datasets_root() == Path("/home/me/data")


@pytest.mark.parametrize("value", [None, ""])
def test_without_it_the_root_is_in_the_current_folder(monkeypatch, value):
    monkeypatch.delenv("DL_DATASETS", raising=False)
    if value is not None:
        monkeypatch.setenv("DL_DATASETS", value)
    assert datasets_root() == Path("datasets")


def test_what_is_missing_is_named_with_the_layout_and_the_way_to_mend_it(monkeypatch, tmp_path):
    monkeypatch.setenv("DL_DATASETS", str(tmp_path))
    assert ensure_exists(tmp_path, layout="anything") == tmp_path
    with pytest.raises(MissingDataError) as caught:
        ensure_exists(tmp_path / "absent", layout="a folder called absent")
    message = str(caught.value)
    assert "Expected a folder called absent; datasets/README.md" in message
    assert message.endswith(f"Received: DL_DATASETS={str(tmp_path)!r}, path={str(tmp_path / 'absent')!r}")
