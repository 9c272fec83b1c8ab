from dl_lib.layers.conv import conv2d, conv_norm_act, separable_conv
from dl_lib.layers.norm import NORMS, make_norm

__all__ = ["NORMS", "conv2d", "conv_norm_act", "make_norm", "separable_conv"]
