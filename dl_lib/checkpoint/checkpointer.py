"""Checkpointer for models and training state."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from fvcore.common.checkpoint import Checkpointer as FvcoreCheckpointer
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dl_lib.checkpoint.errors import CheckpointError, write_error
from dl_lib.checkpoint.files import read_checkpoint, save_checkpoint
from dl_lib.checkpoint.folder import RunFolder
from dl_lib.checkpoint.locate import is_address, local_weights
from dl_lib.checkpoint.newest import find_newest, read_if_valid
from dl_lib.checkpoint.resume_check import ResumeConflictError, resume_changes, resume_conflicts
from dl_lib.checkpoint.state_check import check_optimizer_state, check_scheduler_state, check_state, is_plain
from dl_lib.checkpoint.weights import convert_weights, load_weights
from dl_lib.utils.comm import is_main_process
from dl_lib.utils.run_files import CHECKPOINT_SUFFIX

__all__ = ["Checkpointer"]


class Checkpointer(FvcoreCheckpointer):
    """fvcore's Checkpointer with atomic writes, safe loading (no code execution) and strict matching of keys.

    Weights of other code bases are recognised by their key names and load directly, see `CONVERTER_REGISTRY`.

    Args:
        model: Model to save and load; a parallel wrapper is removed.
        save_dir: Output folder of the run, a local path; "" disables saving.
        save_to_disk: Whether this process writes; defaults to the main process only.
        config: Flat configuration to store in every checkpoint; a run with a conflicting configuration cannot resume.
        checkpointables: Objects with `state_dict()` and `load_state_dict()`, such as the optimizer.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str | os.PathLike[str] = "",
        *,
        save_to_disk: bool | None = None,
        config: Mapping[str, Any] | None = None,
        **checkpointables: Any,
    ) -> None:
        to_disk = is_main_process() if save_to_disk is None else save_to_disk
        super().__init__(model, os.fspath(save_dir), save_to_disk=to_disk, **checkpointables)
        self.config = dict(config or {})
        self.logger = logging.getLogger(__name__)  # fvcore's own logger is not part of this library's log

    def save(self, name: str, *, last: bool = True, **kwargs: Any) -> None:
        """Write `<save_dir>/<name>.pth` with its checksum file, then `last_checkpoint`, all atomically.

        An error leaves older checkpoints unchanged. The run should then stop, because further progress could be lost.

        Args:
            name: File name without folder and suffix.
            last: Whether a resumed run continues from this checkpoint.
            kwargs: Further plain values to store, which `load` returns; `iteration` is the training progress.

        Raises:
            ValueError: If `name` contains a folder, or a key of `kwargs` is already in use.
            CheckpointError: If a value could not be loaded again, or the write fails.
            NoSpaceError: If the disk or a quota is full.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        if not name or os.path.basename(name) != name:
            raise ValueError(
                f"name must be a file name without a folder; save_dir sets the folder. Received: name={name!r}"
            )
        content = self._content(kwargs)
        file_name = f"{name}{CHECKPOINT_SUFFIX}"
        path = self._folder.join(file_name)
        self.logger.info("Saving checkpoint to %s", path)
        try:
            os.makedirs(self.save_dir, exist_ok=True)
            self._folder.remove_leftovers()  # first, as their space may be needed
            save_checkpoint(content, path)
            if last:
                self.tag_last_checkpoint(file_name)
        except OSError as error:
            raise write_error(error, path=path) from error

    def prune(self, *, iteration: int, keep_last: int, keep_every: int) -> None:
        """Delete old checkpoints of this run, see `RunFolder.prune`."""
        if self.save_dir and self.save_to_disk:
            self._folder.prune(iteration=iteration, keep_last=keep_last, keep_every=keep_every)

    def load(
        self,
        path: str | os.PathLike[str],
        checkpointables: Sequence[str] | None = None,
        *,
        allow_missing_keys: Sequence[str] = (),
        allow_unexpected_keys: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Load the model and checkpointables; a key or size mismatch leaves the model unchanged.

        Args:
            path: File or http(s) URL; "" loads nothing.
            checkpointables: Names of the checkpointables to load, all of which must be in the file. None loads those
                that the file contains; none from another code base, whose optimizers order the parameters differently.
            allow_missing_keys: Parts of the model that may be missing from the file, see `load_weights`.
            allow_unexpected_keys: Parts of the file that the model need not have, see `load_weights`.

        Returns:
            Remaining content of the file.

        Raises:
            CheckpointError: If the file is missing, damaged or unsafe, or lacks a checkpointable.
            CheckpointMismatchError: If keys are missing or unexpected, or shapes differ; the message lists them.
        """
        if not path:
            self.logger.info("No checkpoint given; the model keeps its initialization")
            return {}
        path = os.fspath(path)
        allowed = {"allow_missing_keys": allow_missing_keys, "allow_unexpected_keys": allow_unexpected_keys}
        return self._load_content(_read_weights(path), checkpointables, path=path, **allowed)

    def resume_or_load(
        self,
        path: str,
        *,
        resume: bool = True,
        allow_missing_keys: Sequence[str] = (),
        allow_unexpected_keys: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Resume from the run's newest valid checkpoint with all checkpointables, or load only the weights in `path`.

        Args:
            path: Initial weights if there is no checkpoint to resume from, or `resume` is false; may be "".
            resume: Resume if there is a checkpoint, which must then contain the whole model and all checkpointables.
            allow_missing_keys: Parts of the model that may be missing from `path`, see `load_weights`.
            allow_unexpected_keys: Parts of `path` that the model need not have, see `load_weights`.

        Raises:
            ResumeConflictError: If the checkpoint belongs to another network than the configured one.
            CheckpointError: As in `load` and `find_newest`.
        """
        if resume and self.has_checkpoint():
            newest, content = find_newest(self._folder)
            self._compare_config(content.pop("config", {}), path=newest)
            return self._load_content(content, list(self.checkpointables), path=newest)
        return self.load(
            path, checkpointables=[], allow_missing_keys=allow_missing_keys, allow_unexpected_keys=allow_unexpected_keys
        )

    def has_checkpoint(self) -> bool:
        """Return whether `save_dir` holds a run to resume; its checkpoints are not validated."""
        return bool(self.save_dir) and self._folder.holds_run()

    def get_checkpoint_file(self) -> str:
        """Return the path of the newest valid checkpoint in `save_dir`, after reading it; "" if there is no run.

        Raises:
            CheckpointError: If there is a run without a valid checkpoint.
        """
        return find_newest(self._folder)[0] if self.has_checkpoint() else ""

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Write `last_checkpoint` in `save_dir` atomically."""
        self._folder.tag(last_filename_basename)

    def read_own(self, name: str) -> dict[str, Any]:
        """Return the content of this run's checkpoint; empty if there is none or it is invalid.

        Args:
            name: File name without `.pth`.

        Raises:
            UnreadableCheckpointError: If the operating system refuses to read the file.
        """
        if not self.save_dir or f"{name}{CHECKPOINT_SUFFIX}" not in self._folder.checkpoints():
            return {}
        return read_if_valid(self._folder.join(f"{name}{CHECKPOINT_SUFFIX}")) or {}

    @property
    def _folder(self) -> RunFolder:
        return RunFolder(self.save_dir)

    def _content(self, values: Mapping[str, Any]) -> dict[str, Any]:
        content = {"model": self.model.state_dict(), "config": self.config}
        content.update((key, part.state_dict()) for key, part in self.checkpointables.items())
        taken = sorted(content.keys() & values.keys())
        if taken:
            raise ValueError(f"these keys are reserved; use other names for extra values. Received: keys={taken}")
        return {**content, **values}

    def _compare_config(self, saved: Mapping[str, Any], *, path: str) -> None:
        """Refuse a conflicting configuration, and log a warning for each permitted change."""
        if not isinstance(saved, Mapping) or not is_plain(saved):
            raise CheckpointError(
                f"cannot resume: the checkpoint's 'config' must be a dict of config keys and plain values. "
                f"Received: path={path!r} with {type(saved).__name__}"
            )
        if conflicts := resume_conflicts(saved, self.config):
            raise ResumeConflictError(conflicts, path=path)
        for difference in resume_changes(saved, self.config):
            self.logger.warning("%s; using %r", difference, difference.present)

    def _load_content(
        self, content: dict[str, Any], checkpointables: Sequence[str] | None, *, path: str, **allowed: Sequence[str]
    ) -> dict[str, Any]:
        """Load the content of a file, with the allowed keys of `load_weights`, and return the rest of it."""
        self.logger.info("Loading checkpoint from %s", path)
        weights = convert_weights(content.pop("model"), model=self.model, path=path)
        names = self._select(content, checkpointables, path=path, is_foreign=bool(weights.original_names))
        load_weights(self.model, weights, path=path, **allowed)
        for name in names:
            try:
                _load_state(self.checkpointables[name], content.pop(name), name=name)
            except KeyError as error:
                raise CheckpointError(
                    f"cannot resume: the checkpoint's {name!r} state has no {error}, so another version of dl_lib has "
                    f"written it; to use its weights, set MODEL.WEIGHTS to this file in a new OUTPUT_DIR. "
                    f"Received: path={path!r}"
                ) from error
            except (ValueError, RuntimeError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
                raise CheckpointError(
                    f"cannot resume: the checkpoint's {name!r} state does not match this run: {error}; restore the "
                    f"config of that run, or set MODEL.WEIGHTS to this file in a new OUTPUT_DIR to use its weights. "
                    f"Received: path={path!r}"
                ) from error
        return content

    def _select(
        self, content: Mapping[str, Any], names: Sequence[str] | None, *, path: str, is_foreign: bool
    ) -> Sequence[str]:
        """Return the names of the checkpointables to load."""
        unknown = sorted(set(names or ()) - self.checkpointables.keys())
        if unknown:
            raise KeyError(
                f"unknown checkpointables; expected names of {list(self.checkpointables)}. "
                f"Received: checkpointables={unknown}"
            )
        available = [] if is_foreign else [name for name in self.checkpointables if name in content]
        missing = [name for name in (self.checkpointables if names is None else names) if name not in available]
        if missing and names is not None:
            raise CheckpointError(
                f"cannot resume: the checkpoint does not contain {missing}. To load only its weights, set "
                f"MODEL.WEIGHTS to this file and start without --resume. "
                f"Received: path={path!r} with {sorted(map(str, ['model', *content]))}"
            )
        if missing:
            self.logger.warning("Checkpointables not loaded from %s: %s", path, ", ".join(missing))
        return available if names is None else names


def _read_weights(path: str) -> dict[str, Any]:
    """Read a file or address; an invalid download is removed from the cache, so that it can be repeated."""
    local_path = local_weights(path)
    try:
        return read_checkpoint(local_path)
    except CheckpointError:
        if is_address(path):
            with suppress(OSError):
                os.remove(local_path)
        raise


def _load_state(part: Any, state: Any, *, name: str) -> None:
    """Load the state of a checkpointable after a check of its types, which `load_state_dict` need not make."""
    check_state(state, like=part.state_dict(), name=name)
    if isinstance(part, LRScheduler):
        check_scheduler_state(state, scheduler=part)
    if not isinstance(part, Optimizer):
        part.load_state_dict(state)
        return
    check_optimizer_state(state, optimizer=part)
    present = part.param_groups
    part.load_state_dict(state)  # replaces the groups
    for group, before in zip(part.param_groups, present, strict=True):
        group.update({**before, **group})  # settings that an earlier version of torch did not save
