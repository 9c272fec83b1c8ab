"""Errors of optional packages that are not installed."""

import importlib

import pytest

from dl_lib.utils.extras import MissingExtraError, is_installed, requires_extra


def test_a_failed_import_names_the_extra():
    message = (
        r"^onnx needs absent_package, which could not be imported; install with: pip install 'dl_lib\[onnx\]'\. "
        r"Received: ModuleNotFoundError=\"No module named 'absent_package'\"$"
    )
    with (
        pytest.raises(MissingExtraError, match=message),
        requires_extra("onnx", feature="onnx", packages="absent_package"),
    ):
        import absent_package  # noqa: F401


def test_a_folder_of_the_name_is_no_installed_package(tmp_path, monkeypatch):
    (tmp_path / "absent_package").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not is_installed("absent_package")
    (tmp_path / "absent_package" / "__init__.py").touch()
    importlib.invalidate_caches()
    assert is_installed("absent_package")
    assert not is_installed("another_absent_package")
