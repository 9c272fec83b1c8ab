"""Models: backbones, routed networks, heads, losses and meta-architectures, and the registries that configs use."""

from dl_lib.modeling.backbones import torchvision_nets  # registers its backbones
from dl_lib.modeling.backbones.base import Backbone
from dl_lib.modeling.backbones.rexnet import ReXNet
from dl_lib.modeling.backbones.rexnet_classifier import ReXNetClassifier
from dl_lib.modeling.build import (
    BACKBONE_REGISTRY,
    LOSS_REGISTRY,
    META_ARCH_REGISTRY,
    SEM_SEG_HEADS_REGISTRY,
    build_backbone,
    build_model,
)
from dl_lib.modeling.costs.costs import Costs
from dl_lib.modeling.dynamic.network import DynamicNetwork
from dl_lib.modeling.dynamic.ops import CELL_OPERATIONS
from dl_lib.modeling.heads.aspp import ASPPHead
from dl_lib.modeling.heads.base import SemSegHead
from dl_lib.modeling.heads.decoder import SemSegDecoderHead
from dl_lib.modeling.heads.fpn import SemanticFPNHead
from dl_lib.modeling.losses.budget import BudgetConstraint, TargetBudget
from dl_lib.modeling.meta_arch.base import SegmentationModel
from dl_lib.modeling.meta_arch.dynamic4seg import DynamicNet4Seg
from dl_lib.modeling.meta_arch.semantic_segmentor import SemanticSegmentor

__all__ = [
    "BACKBONE_REGISTRY",
    "CELL_OPERATIONS",
    "LOSS_REGISTRY",
    "META_ARCH_REGISTRY",
    "SEM_SEG_HEADS_REGISTRY",
    "ASPPHead",
    "Backbone",
    "BudgetConstraint",
    "Costs",
    "DynamicNet4Seg",
    "DynamicNetwork",
    "ReXNet",
    "ReXNetClassifier",
    "SegmentationModel",
    "SemSegDecoderHead",
    "SemSegHead",
    "SemanticFPNHead",
    "SemanticSegmentor",
    "TargetBudget",
    "build_backbone",
    "build_model",
    "torchvision_nets",
]
