"""Optional packages, which the extras of the package install."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

__all__ = ["TRACKER_EXTRAS", "MissingExtraError", "install_command", "is_installed", "requires_extra"]

TRACKER_EXTRAS = ("wandb", "mlflow")  # each the name of an experiment tracker, of its package and of the extra


class MissingExtraError(ImportError):
    """A feature needs packages of an extra that is not installed."""


def install_command(extra: str) -> str:
    """Return the command that installs the packages of an extra."""
    return f"pip install 'dl_lib[{extra}]'"


def is_installed(package: str) -> bool:
    """Return whether a package is installed, without importing it; a plain folder of its name does not count."""
    spec = find_spec(package)
    return spec is not None and spec.origin is not None


@contextmanager
def requires_extra(extra: str, *, feature: str, packages: str) -> Iterator[None]:
    """Name the extra if an import inside the context fails.

    Args:
        extra: Name of the extra in pyproject.toml.
        feature: Whatever needs the packages, the subject of the error.
        packages: Names of the packages, for the reader of the error.

    Raises:
        MissingExtraError: If an import fails.
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(
            f"{feature} needs {packages}, which could not be imported; install with: {install_command(extra)}. "
            f"Received: {type(error).__name__}={str(error)!r}"
        ) from error
