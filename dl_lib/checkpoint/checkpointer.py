"""Saving and loading of models and what belongs to their training."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from fvcore.common.checkpoint import Checkpointer as FvcoreCheckpointer
from torch import Tensor, nn

from dl_lib.checkpoint.files import CheckpointError, make_path_manager, read_checkpoint, save_checkpoint
from dl_lib.checkpoint.matching import CheckpointMismatchError, describe_share, find_mismatch, keys_by_part
from dl_lib.checkpoint.released import is_released, translate_released
from dl_lib.utils.comm import is_main_process
from dl_lib.utils.files import LAST_CHECKPOINT_NAME, write_atomically
from dl_lib.utils.names import nearest_names

__all__ = ["Checkpointer"]


class Checkpointer(FvcoreCheckpointer):
    """fvcore's checkpointer, with files that are never torn, never executed, and never loaded in part.

    Weights of the published DynamicRouting code are recognised by their key names and load like our own.

    Args:
        model: the model; a parallel wrapper is taken off.
        save_dir: the run's folder, a local one; "" saves nothing.
        save_to_disk: whether this process writes; by default the main process does.
        checkpointables: named objects with `state_dict()` and `load_state_dict()`: optimizer, schedule, ...
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str | os.PathLike[str] = "",
        *,
        save_to_disk: bool | None = None,
        **checkpointables: Any,
    ) -> None:
        to_disk = is_main_process() if save_to_disk is None else save_to_disk
        super().__init__(model, os.fspath(save_dir), save_to_disk=to_disk, **checkpointables)
        self.path_manager = make_path_manager()
        self.logger = logging.getLogger(__name__)  # fvcore's own would be outside this library's log

    def save(self, name: str, **kwargs: Any) -> None:
        """Writes `<save_dir>/<name>.pth` and then names it the last checkpoint, both atomically.

        Args:
            name: the file's name, without folder and suffix.
            kwargs: further plain values to keep (e.g. `iteration`); `load` returns them.

        Raises:
            ValueError: if `name` is no plain file name, if a key of `kwargs` is taken, or if something could not be
                read again. An older file of that name then stays as it is.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        if not name or os.path.basename(name) != name:
            raise ValueError(f"a checkpoint's name has no folder: save_dir gives that. Received: name={name!r}")
        content = {"model": self.model.state_dict()}
        content.update((key, part.state_dict()) for key, part in self.checkpointables.items())
        taken = sorted(content.keys() & kwargs.keys())
        if taken:
            raise ValueError(f"these keys hold the model and the checkpointables already. Received: keys={taken}")
        path = os.path.join(self.save_dir, f"{name}.pth")
        self.logger.info("Saving %s", path)
        os.makedirs(self.save_dir, exist_ok=True)
        save_checkpoint({**content, **kwargs}, path)
        self.tag_last_checkpoint(f"{name}.pth")

    def load(
        self,
        path: str | os.PathLike[str],
        checkpointables: Sequence[str] | None = None,
        *,
        may_lack: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Loads all of the model, and checkpointables; on an error by name or shape the model stays as it was.

        Args:
            path: a file or http(s) address; "" loads nothing.
            checkpointables: names of those to load, which the file must hold. None means all that the file holds
                (none of a file of the published code: its optimizer numbers its parameters differently).
            may_lack: parts of the model that the file need not hold, by components of the model's keys: "gate",
                "sem_seg_head". What it lacks of them stays as it is, and the log counts it.

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
        self.logger.info("Loading %s", path)
        checkpoint = self._load_file(self._fetch(path))
        released = is_released(checkpoint["model"])
        names = self._choose(checkpoint, checkpointables, released=released, path=path)
        self._load_weights(checkpoint.pop("model"), released=released, path=path, may_lack=may_lack)
        for name in names:
            try:
                self.checkpointables[name].load_state_dict(checkpoint.pop(name))
            except (ValueError, KeyError, RuntimeError) as error:
                raise CheckpointError(
                    f"the checkpoint's {name!r} does not fit this run's: {error}. Received: path={path!r}"
                ) from error
        return checkpoint

    def resume_or_load(self, path: str, *, resume: bool = True, may_lack: Sequence[str] = ()) -> dict[str, Any]:
        """Goes on from the folder's last checkpoint with all checkpointables, or loads the weights in `path`.

        Args:
            path: weights to start from where there is nothing to go on from, or `resume` is false; may be "".
            resume: go on where there is a checkpoint; it must then hold all of the model and all checkpointables.
            may_lack: parts of the model that the file at `path` need not hold, see `load`.
        """
        if resume and self.has_checkpoint():
            return self.load(self.get_checkpoint_file(), checkpointables=list(self.checkpointables))
        return self.load(path, checkpointables=[], may_lack=may_lack)

    def has_checkpoint(self) -> bool:
        """Whether `save_dir` holds a checkpoint to go on from."""
        return bool(self.get_checkpoint_file())

    def get_checkpoint_file(self) -> str:
        """Path of the last checkpoint in `save_dir`; "" if there is none."""
        tag = os.path.join(self.save_dir, LAST_CHECKPOINT_NAME)
        if not self.save_dir or not os.path.exists(tag):
            return ""
        with open(tag, encoding="utf-8") as file:
            name = file.read().strip()
        return os.path.join(self.save_dir, name) if name else ""

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Names the last checkpoint of `save_dir`, atomically."""
        write_atomically(os.path.join(self.save_dir, LAST_CHECKPOINT_NAME), last_filename_basename)

    def _load_file(self, f: str) -> dict[str, Any]:
        return read_checkpoint(f)

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

    def _choose(
        self, checkpoint: Mapping[str, Any], names: Sequence[str] | None, *, released: bool, path: str
    ) -> Sequence[str]:
        unknown = sorted(set(names or ()) - self.checkpointables.keys())
        if unknown:
            raise KeyError(
                f"no checkpointables of these names; there are {list(self.checkpointables)}. "
                f"Received: checkpointables={unknown}"
            )
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

    def _load_weights(
        self, weights: Mapping[str, Tensor], *, released: bool, path: str, may_lack: Sequence[str]
    ) -> None:
        original_names: Mapping[str, str] = {}
        untranslated: Mapping[str, str] = {}
        if released:
            translation = translate_released(weights, cell_types=self._cell_types(path))
            weights, original_names = translation.weights, translation.original_names
            untranslated = translation.untranslated
            self.logger.info("%d keys of the published code translated", len(translation.original_names))
        own = self.model.state_dict()
        found = find_mismatch(weights, model=own)
        lacking = keys_by_part(found.missing, parts=may_lack)
        allowed = {key for keys in lacking.values() for key in keys}
        missing = tuple(key for key in found.missing if key not in allowed)
        mismatch = dataclasses.replace(found, missing=missing, untranslated=untranslated)
        if mismatch:
            raise CheckpointMismatchError(mismatch, path=path, original_names=original_names)
        for part, keys in lacking.items():
            share = describe_share(keys, part=part, model=own)
            self.logger.info("Not in %s, as it may be, so they keep their initialisation: %s", path, share)
        self.model.load_state_dict({**own, **{key: weights[key] for key in weights if key in own}}, strict=True)

    def _cell_types(self, path: str) -> Sequence[str]:
        cell_types = getattr(getattr(self.model, "backbone", None), "cell_types", None)
        if cell_types is None:
            raise CheckpointError(
                f"these are weights of the published dynamic network, and the model is none: it has no "
                f"backbone.cell_types. Received: model={type(self.model).__name__}, path={path!r}"
            )
        return cell_types
