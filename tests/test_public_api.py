"""Public names: what users of the library import from its packages."""

import importlib

import pytest

NAMES = {
    "dl_lib": ["Predictor"],
    "dl_lib.inference": ["ModelDescription", "OnnxModel", "export", "fold_batch_norms", "optimize"],
    "dl_lib.config": ["get_cfg", "CfgNode", "ConfigError"],
    "dl_lib.modeling": ["build_model", "build_backbone", "ReXNetClassifier"],
    "dl_lib.checkpoint": ["Checkpointer"],
    "dl_lib.layers": ["CondConv2d", "DynamicConv2d", "KernelAttention", "ConvAWS2d", "SAConv2d", "SPConv2d"],
    "dl_lib.data": ["DatasetCatalog", "build_test_loader", "register_folder_sem_seg", "register_coco_sem_seg"],
    "dl_lib.engine": ["DefaultTrainer", "default_setup"],
    "dl_lib.launch.launch": ["launch"],
}


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in NAMES.items() for name in names])
def test_public_name(module, name):
    imported = importlib.import_module(module)
    assert callable(getattr(imported, name)) or name == "DatasetCatalog"
    assert name in imported.__all__
