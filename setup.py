"""Build step that copies the shipped configs into the wheel; all metadata is in pyproject.toml."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("configs", "playground")  # installed as dl_lib/model_zoo/{configs,playground}; relative `_BASE_` still holds


class BuildPyWithConfigs(build_py):
    """`build_py` that also copies the base configs and the playground."""

    def run(self) -> None:
        """Build the package; an editable installation reads the configs from the checkout instead."""
        super().run()
        if self.editable_mode:
            return
        for folder in SHIPPED:
            target = Path(self.build_lib, "dl_lib", "model_zoo", folder)
            shutil.rmtree(target, ignore_errors=True)  # an earlier build may have left deleted experiments
            shutil.copytree(folder, target, ignore=shutil.ignore_patterns("output", "__pycache__", "*.log"))


setup(cmdclass={"build_py": BuildPyWithConfigs})
