"""Saving and loading of models and what belongs to their training."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from fvcore.common.checkpoint import Checkpointer as FvcoreCheckpointer
from torch import nn

from dl_lib.checkpoint.conversion.released import is_released
from dl_lib.checkpoint.errors import CheckpointError
from dl_lib.checkpoint.files import make_path_manager, read_checkpoint, save_checkpoint
from dl_lib.checkpoint.folder import RunFolder
from dl_lib.checkpoint.newest import find_newest, read_if_valid
from dl_lib.checkpoint.resume_check import ResumeConflictError, changes, resume_conflicts
from dl_lib.checkpoint.retention import prune, remove_leftovers
from dl_lib.checkpoint.space import writing_error
from dl_lib.checkpoint.weights import load_weights
from dl_lib.utils.comm import is_main_process
from dl_lib.utils.names import nearest_names
from dl_lib.utils.run_files import CHECKPOINT_SUFFIX

__all__ = ["Checkpointer"]


class Checkpointer(FvcoreCheckpointer):
    """fvcore's checkpointer, with files that are never torn, never executed, and never loaded in part.

    Weights of the published DynamicRouting code are recognised by their key names and load like our own.

    Args:
        model: the model; a parallel wrapper is taken off.
        save_dir: the run's folder, a local one; "" saves nothing.
        save_to_disk: whether this process writes; by default the main process does.
        config: the whole configuration, flat; every file keeps it, and a run goes on only if it does not contradict.
        checkpointables: named objects with `state_dict()` and `load_state_dict()`: optimizer, schedule, ...
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
        self.path_manager = make_path_manager()
        self.logger = logging.getLogger(__name__)  # fvcore's own would be outside this library's log

    def save(self, name: str, *, last: bool = True, **kwargs: Any) -> None:
        """Writes `<save_dir>/<name>.pth` with its checksum and then names it the last checkpoint, all atomically.

        After an error the run should stop, as one that cannot save is lost anyway: older checkpoints are as they were.

        Args:
            name: the file's name, without folder and suffix.
            last: whether a run that is resumed goes on from this one.
            kwargs: further plain values to keep; `load` returns them. `iteration` tells how far the run was.

        Raises:
            ValueError: if `name` is no plain file name, or a key of `kwargs` is taken.
            CheckpointError: if something could not be read again, or the system refuses to write.
            NoSpaceError: if there is no room.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        if not name or os.path.basename(name) != name:
            raise ValueError(f"a checkpoint's name has no folder: save_dir gives that. Received: name={name!r}")
        content = self._content(kwargs)
        file_name = f"{name}{CHECKPOINT_SUFFIX}"
        path = self._folder.place(file_name)
        self.logger.info("Saving %s", path)
        try:
            os.makedirs(self.save_dir, exist_ok=True)
            remove_leftovers(self._folder)  # before, as they take the room that is needed
            save_checkpoint(content, path)
            self._folder.adopt(file_name)
            if last:
                self.tag_last_checkpoint(file_name)
        except OSError as error:
            raise writing_error(error, path=path) from error

    def prune(self, *, iteration: int, keep_last: int, keep_every: int) -> None:
        """Deletes this run's old checkpoints, see `retention.prune`."""
        if self.save_dir and self.save_to_disk:
            prune(self._folder, iteration=iteration, keep_last=keep_last, keep_every=keep_every)

    def load(
        self,
        path: str | os.PathLike[str],
        checkpointables: Sequence[str] | None = None,
        *,
        allow_missing_keys: Sequence[str] = (),
        allow_unexpected_keys: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Loads all of the model, and checkpointables; on an error by name or shape the model stays as it was.

        Args:
            path: a file or http(s) address; "" loads nothing.
            checkpointables: names of those to load, which the file must hold. None means all that the file holds
                (none of a file of the published code: its optimizer numbers its parameters differently).
            allow_missing_keys: parts of the model that need not come from the file, see `load_weights`.
            allow_unexpected_keys: parts of the file that the model need not have a place for, see there.

        Returns:
            What else the file holds.

        Raises:
            CheckpointError: if the file is missing, damaged or unsafe, or lacks a checkpointable.
            CheckpointMismatchError: if weights differ by name or shape; lists what is left over on both sides.
        """
        if not path:
            self.logger.info("No checkpoint given: the model keeps its initialisation")
            return {}
        path = os.fspath(path)
        content = self._load_file(self._fetch(path))
        return self._take_over(
            content,
            checkpointables,
            path=path,
            allow_missing_keys=allow_missing_keys,
            allow_unexpected_keys=allow_unexpected_keys,
        )

    def resume_or_load(
        self,
        path: str,
        *,
        resume: bool = True,
        allow_missing_keys: Sequence[str] = (),
        allow_unexpected_keys: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Goes on from the run's newest sound checkpoint with all checkpointables, or loads the weights in `path`.

        Args:
            path: weights to start from where there is nothing to go on from, or `resume` is false; may be "".
            resume: go on where there is a checkpoint; it must then hold all of the model and all checkpointables.
            allow_missing_keys: parts of the model that need not come from the file at `path`, see `load`.
            allow_unexpected_keys: parts of the file at `path` that the model need not have a place for, see `load`.

        Raises:
            ResumeConflictError: if the checkpoint is of another network than the configuration's.
            CheckpointError: as `load` and `find_newest` do.
        """
        if resume and self.has_checkpoint():
            newest = find_newest(self._folder)
            self._compare(newest.content.pop("config", {}), path=newest.path)
            return self._take_over(newest.content, list(self.checkpointables), path=newest.path)
        return self.load(
            path, checkpointables=[], allow_missing_keys=allow_missing_keys, allow_unexpected_keys=allow_unexpected_keys
        )

    def has_checkpoint(self) -> bool:
        """Whether `save_dir` holds a run to go on from; whether its checkpoints are sound is not looked at."""
        return bool(self.save_dir) and self._folder.holds_run()

    def get_checkpoint_file(self) -> str:
        """Path of the newest sound checkpoint in `save_dir`, which is read for it; "" if there is no run.

        Raises:
            CheckpointError: if there is a run without any sound checkpoint.
        """
        return find_newest(self._folder).path if self.has_checkpoint() else ""

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Names the last checkpoint of `save_dir`, atomically."""
        self._folder.tag(last_filename_basename)

    def read_own(self, name: str) -> dict[str, Any]:
        """What this run saved under a name; empty if it did not, or if the file is not sound (with a warning)."""
        if not self.save_dir or f"{name}{CHECKPOINT_SUFFIX}" not in self._folder.own():
            return {}
        found = read_if_valid(self._folder.place(f"{name}{CHECKPOINT_SUFFIX}"))
        return found.content if found else {}

    def archive_earlier_run(self) -> str:
        """Makes the folder a new run's: checkpoints in it stay, but none of them is this run's any more.

        Returns:
            Path of the one that would have been gone on from, as far as names tell; "" if there is none.
        """
        if not self.save_dir:
            return ""
        earlier = self._folder.presumed_last()
        self._folder.archive()
        return self._folder.place(earlier) if earlier else ""

    @property
    def _folder(self) -> RunFolder:
        return RunFolder(self.save_dir)

    def _content(self, values: Mapping[str, Any]) -> dict[str, Any]:
        content = {"model": self.model.state_dict(), "config": self.config}
        content.update((key, part.state_dict()) for key, part in self.checkpointables.items())
        taken = sorted(content.keys() & values.keys())
        if taken:
            raise ValueError(f"these keys hold the model and the checkpointables already. Received: keys={taken}")
        return {**content, **values}

    def _compare(self, saved: Mapping[str, Any], *, path: str) -> None:
        """Refuses a configuration that contradicts the saved one, and warns of what else is new."""
        if against := resume_conflicts(saved, self.config):
            raise ResumeConflictError(against, path=path)
        for difference in changes(saved, self.config):
            self.logger.warning("%s: %r applies", difference, difference.present)

    def _load_file(self, f: str) -> dict[str, Any]:
        return read_checkpoint(f)

    def _take_over(
        self,
        content: dict[str, Any],
        checkpointables: Sequence[str] | None,
        *,
        path: str,
        allow_missing_keys: Sequence[str] = (),
        allow_unexpected_keys: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Loads what was read; returns the rest of it."""
        self.logger.info("Loading %s", path)
        names = self._choose(content, checkpointables, path=path)
        load_weights(
            self.model,
            content.pop("model"),
            path=path,
            allow_missing_keys=allow_missing_keys,
            allow_unexpected_keys=allow_unexpected_keys,
        )
        for name in names:
            try:
                self.checkpointables[name].load_state_dict(content.pop(name))
            except (ValueError, KeyError, RuntimeError) as error:
                raise CheckpointError(
                    f"the checkpoint's {name!r} does not fit this run's: {error}. Received: path={path!r}"
                ) from error
        return content

    def _fetch(self, path: str) -> str:
        """A local copy of what `path` names."""
        if "://" in path:
            return self.path_manager.get_local_path(path)
        if os.path.exists(path):
            return path
        folder, name = os.path.split(path)
        folder = folder or os.curdir
        there = nearest_names(name, os.listdir(folder)) if os.path.isdir(folder) else "the folder does not exist either"
        raise CheckpointError(f"there is no such checkpoint in its folder; {there}. Received: path={path!r}")

    def _choose(self, checkpoint: Mapping[str, Any], names: Sequence[str] | None, *, path: str) -> Sequence[str]:
        unknown = sorted(set(names or ()) - self.checkpointables.keys())
        if unknown:
            raise KeyError(
                f"no checkpointables of these names; there are {list(self.checkpointables)}. "
                f"Received: checkpointables={unknown}"
            )
        released = is_released(checkpoint["model"])
        held = [] if released else [name for name in self.checkpointables if name in checkpoint]
        absent = [name for name in (self.checkpointables if names is None else names) if name not in held]
        if absent and names is not None:
            raise CheckpointError(
                f"the checkpoint does not hold {absent}, which this run would go on with. To start from its weights "
                f"only, name it as MODEL.WEIGHTS and do not resume. Received: path={path!r} with {sorted(checkpoint)}"
            )
        if absent:
            self.logger.warning("Not in %s, so they stay as they are: %s", path, ", ".join(absent))
        return held if names is None else names
