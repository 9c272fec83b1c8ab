from dl_lib.modeling.backbones import rexnet, torchvision_nets  # they register what they hold
from dl_lib.modeling.backbones.rexnet_classifier import ReXNetClassifier
from dl_lib.modeling.build import build_model
from dl_lib.modeling.dynamic.network import DynamicNetwork
from dl_lib.modeling.heads.aspp import ASPPHead
from dl_lib.modeling.heads.decoder import SemSegDecoderHead
from dl_lib.modeling.heads.fpn import SemanticFPNHead
from dl_lib.modeling.losses.budget import BudgetConstraint
from dl_lib.modeling.meta_arch.dynamic4seg import DynamicNet4Seg
from dl_lib.modeling.meta_arch.semantic_segmentor import SemanticSegmentor
from dl_lib.modeling.registries import BACKBONE_REGISTRY, META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY

__all__ = [
    "BACKBONE_REGISTRY",
    "META_ARCH_REGISTRY",
    "SEM_SEG_HEADS_REGISTRY",
    "ASPPHead",
    "BudgetConstraint",
    "DynamicNet4Seg",
    "DynamicNetwork",
    "ReXNetClassifier",
    "SemSegDecoderHead",
    "SemanticFPNHead",
    "SemanticSegmentor",
    "build_model",
    "rexnet",
    "torchvision_nets",
]
