"""Own code of experiments: net.py files of a config and its bases, their import, and their copies in a run folder.

The net.py of the config is the module `net`. Those of its bases are submodules of this module, named after their path,
so that a data loader worker which does not share memory with its parent can import them as well.
"""

from __future__ import annotations

import ast
import hashlib
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder, all_suffixes
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from dl_lib.config import ConfigError
from dl_lib.config.layers import ConfigLayer
from dl_lib.config.paths import config_folder
from dl_lib.utils.files import write_atomically
from dl_lib.utils.run_files import BASES_NAME

__all__ = ["code_digest", "copy_nets", "find_nets", "import_nets", "import_nets_of"]

NET_NAME = "net.py"

__path__: list[str] = []  # Python imports submodules of packages only; `_BaseNetFinder` finds them


def find_nets(folders: Iterable[Path]) -> tuple[Path, ...]:
    """Return the net.py files in the folders of config files, in their order and each once, as absolute paths."""
    found: dict[Path, None] = {}
    for folder in folders:
        for path in (*sorted(folder.glob(f"{BASES_NAME}/*/{NET_NAME}")), folder / NET_NAME):
            if path.is_file():
                found[path.resolve()] = None
    return tuple(found)


def import_nets_of(layers: Iterable[ConfigLayer]) -> tuple[Path, ...]:
    """Import the net.py files of a config and its bases, see `import_nets`; return their paths."""
    net_files = find_nets(layer.folder for layer in layers)
    import_nets(net_files)
    return net_files


def import_nets(net_files: Sequence[Path]) -> None:
    """Import net.py files, those of bases first; a second call for the same code does nothing.

    Their folders are added to `sys.path`, so that they can import modules from there.

    Raises:
        ConfigError: If two files import different modules of the same name from their folders.
    """
    _check_names(net_files)
    for net_file in net_files:
        is_last = net_file == net_files[-1]
        _import(net_file, name="net" if is_last else f"{__name__}.{os.fsencode(net_file).hex()}")


def copy_nets(net_files: Sequence[Path], run_folder: Path) -> None:
    """Copy net.py files, and the modules they import from their folders, so that the config there can be run again."""
    targets = [run_folder / BASES_NAME / f"{number:02}" for number in range(len(net_files) - 1)] + [run_folder]
    for net_file, target in zip(net_files, targets, strict=False):
        for path in (net_file, *_local_modules(net_file, among=net_files).values()):
            for file in _files(path):
                copy = target / file.relative_to(path.parent)
                if not (copy.exists() and copy.samefile(file)):
                    write_atomically(copy, file.read_bytes())
    for earlier in (run_folder / BASES_NAME).glob("*"):
        if earlier not in targets:
            shutil.rmtree(earlier)


def code_digest(net_files: Sequence[Path]) -> str | None:
    """Return the SHA-256 of net.py files and the modules they import from their folders; None without any."""
    if not net_files:
        return None
    digest = hashlib.sha256()
    for net_file in net_files:
        for module in (net_file, *_local_modules(net_file, among=net_files).values()):
            for path, content in _code(module).items():
                digest.update(f"{path} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _local_modules(net_file: Path, *, among: Sequence[Path]) -> dict[str, Path]:
    """Return the files and package folders that a net.py imports from its folder, also indirectly, by module name.

    A module that is not in its folder may be in that of another net.py of the same config.
    """
    folders = [str(net_file.parent), *(str(other.parent) for other in reversed(among))]
    found: dict[str, Path] = {}
    pending = [net_file]
    while pending:
        for name in _imported_names(pending.pop()):
            path = None if name in found or name in ("net", "dl_lib") else _find_module(name, folders)
            if path is not None:
                found[name] = path
                pending += _files(path)
    return found


def _import(net_file: Path, *, name: str) -> None:
    if any(file.is_file() and file.read_bytes() == net_file.read_bytes() for file in _imported_files()):
        return  # the copy in the run folder, too
    spec = spec_from_file_location(name, net_file)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.path.insert(0, str(net_file.parent))
    sys.modules[name] = module
    try:
        with config_folder(net_file.parent):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]  # no partially initialized module
        raise


def _imported_files() -> list[Path]:
    """Return the net.py files that this process has imported."""
    modules = (module for name, module in sys.modules.items() if name == "net" or name.startswith(f"{__name__}."))
    return [Path(file) for module in modules if (file := getattr(module, "__file__", None))]


def _check_names(net_files: Sequence[Path]) -> None:
    """Raise ConfigError if a module name stands for different files, of which Python would load the first only."""
    first: dict[str, Path] = {}
    for net_file in net_files if len(net_files) > 1 else ():
        for name, path in _local_modules(net_file, among=net_files).items():
            other = first.setdefault(name, path)
            if _code(other) != _code(path):
                raise ConfigError(
                    f"{NET_NAME}: a config and its base must not import different modules of the same name, of which "
                    f"Python loads only one; rename one. Received: modules={other} and {path}"
                )


def _code(module: Path) -> dict[Path, bytes]:
    """Return the content of the file of a module, or of the modules of a package, by relative path."""
    return {file.relative_to(module.parent): file.read_bytes() for file in _files(module)}


def _imported_names(path: Path) -> Iterator[str]:
    """Yield the names before the first dot of all modules that a Python file imports, also inside functions."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # reported by the import itself; a compiled module
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "import_module"):
            yield from (
                str(value.value).partition(".")[0] for value in node.args[:1] if isinstance(value, ast.Constant)
            )


def _find_module(name: str, folders: Sequence[str]) -> Path | None:
    """Return the file or package folder of a top-level module that lies in one of the folders, or None."""
    spec = PathFinder.find_spec(name, folders)
    if spec is None:
        return None
    if spec.submodule_search_locations is None:
        return Path(spec.origin) if spec.origin else None
    package = Path(next(iter(spec.submodule_search_locations)))
    return package if any(package.glob("*.py")) else None  # else any folder would count as a namespace package


def _files(module: Path) -> list[Path]:
    """Return the file of a module, or the modules of a package."""
    suffixes = tuple(suffix for suffix in all_suffixes() if suffix != ".pyc")
    inside = sorted(module.rglob("*")) if module.is_dir() else [module]
    return [file for file in inside if file.name.endswith(suffixes) and file.is_file()]


class _BaseNetFinder:
    """Importer of the submodules of this module, whose names encode the path of a net.py."""

    @staticmethod
    def find_spec(fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        package, _, encoded = fullname.rpartition(".")
        return spec_from_file_location(fullname, os.fsdecode(bytes.fromhex(encoded))) if package == __name__ else None


sys.meta_path.append(_BaseNetFinder)
