from dl_lib.modeling.build import build_model
from dl_lib.modeling.dynamic.network import DynamicNetwork
from dl_lib.modeling.heads.decoder import SemSegDecoderHead
from dl_lib.modeling.losses.budget import BudgetConstraint
from dl_lib.modeling.meta_arch.dynamic4seg import DynamicNet4Seg
from dl_lib.modeling.registries import BACKBONE_REGISTRY, META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY

__all__ = [
    "BACKBONE_REGISTRY",
    "META_ARCH_REGISTRY",
    "SEM_SEG_HEADS_REGISTRY",
    "BudgetConstraint",
    "DynamicNet4Seg",
    "DynamicNetwork",
    "SemSegDecoderHead",
    "build_model",
]
