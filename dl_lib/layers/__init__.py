"""Layers: convolutions with norm and activation, norms, drop path, and convolutions with conditional kernels."""

from dl_lib.layers.aws_conv import ConvAWS2d
from dl_lib.layers.cond_conv import CondConv2d, ExpertRouting
from dl_lib.layers.conv import conv2d, conv_norm_act, separable_conv
from dl_lib.layers.dynamic_conv import DynamicConv2d, KernelAttention, annealed_temperature
from dl_lib.layers.feature_maps import ShapeSpec, drop_path
from dl_lib.layers.norm import BATCH_NORMS, NORMS, SYNCHRONIZED_NORMS, make_norm
from dl_lib.layers.sac import SAConv2d
from dl_lib.layers.sp_conv import SPConv2d

__all__ = [
    "BATCH_NORMS",
    "NORMS",
    "SYNCHRONIZED_NORMS",
    "CondConv2d",
    "ConvAWS2d",
    "DynamicConv2d",
    "ExpertRouting",
    "KernelAttention",
    "SAConv2d",
    "SPConv2d",
    "ShapeSpec",
    "annealed_temperature",
    "conv2d",
    "conv_norm_act",
    "drop_path",
    "make_norm",
    "separable_conv",
]
