"""Description of a model to export: classes and preprocessing, which its weights do not contain."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from dl_lib.config import CfgNode
from dl_lib.config.choices import ChannelOrder
from dl_lib.data.catalog import DatasetMeta
from dl_lib.data.datasets.configured import configured_meta
from dl_lib.inference.exporting.metadata import EvaluationResize

__all__ = ["ModelDescription"]


@dataclass(frozen=True)
class ModelDescription:
    """Classes and preprocessing of a model.

    Attributes:
        meta: Classes and their colors.
        channel_order: Channel order of the images.
        test_resize: Resize in evaluation; None if images keep their size.
        config_digest: SHA-256 of the config; empty if there is none.
    """

    meta: DatasetMeta
    channel_order: ChannelOrder
    test_resize: EvaluationResize | None = None
    config_digest: str = ""

    @classmethod
    def from_config(cls, cfg: CfgNode) -> ModelDescription:
        """Return the description of the model of a config, with the classes of its first dataset."""
        inputs = cfg.INPUT
        resize = EvaluationResize(inputs.MIN_SIZE_TEST, inputs.MAX_SIZE_TEST, inputs.BACKEND)
        # Paths differ between machines.
        text = cfg.with_values({"OUTPUT_DIR": "", "MODEL.WEIGHTS": ""}).dump()
        return cls(
            meta=configured_meta(cfg),
            channel_order=inputs.FORMAT,
            test_resize=resize if inputs.MIN_SIZE_TEST else None,
            config_digest=hashlib.sha256(text.encode()).hexdigest(),
        )
