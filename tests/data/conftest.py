"""Fixtures of the tests of datasets: dataset root, catalog and log."""

import logging

import pytest

from dl_lib.data import DatasetCatalog


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Empty dataset root."""
    monkeypatch.setenv("DL_DATASETS", str(tmp_path))
    return tmp_path


@pytest.fixture
def own_catalog(monkeypatch):
    """Remove the datasets that a test registers."""
    monkeypatch.setattr(DatasetCatalog, "_entries", dict(DatasetCatalog._entries))


@pytest.fixture
def log(caplog, monkeypatch):
    """Records of the library's log, also after `setup_logger` has stopped their propagation."""
    monkeypatch.setattr(logging.getLogger("dl_lib"), "propagate", True)
    return caplog
