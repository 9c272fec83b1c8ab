"""Errors of optional packages that are not installed."""

import pytest

from dl_lib.utils.extras import MissingExtraError, requires_extra


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
