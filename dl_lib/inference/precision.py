"""Precisions of optimized models."""

from __future__ import annotations

import torch

__all__ = ["BFLOAT16_DEVICES", "has_bfloat16"]

BFLOAT16_DEVICES = "a processor with AVX-512 BF16 or AMX, or a GPU with bfloat16 instructions"


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a device has bfloat16 instructions; without them, bfloat16 is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
