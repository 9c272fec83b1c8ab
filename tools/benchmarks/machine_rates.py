"""Rates of the machine that bound the speed of networks: matrix products, convolutions, and copies in memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from harness import Settings
from torch.nn.functional import conv2d
from torch.utils.benchmark import Timer

MATMUL_SIDE = 2048
COPY_BYTES = 2**28  # more than the caches hold


@dataclass(frozen=True)
class MachineRates:
    """Highest measured rates with float32.

    Attributes:
        matmul: GMAC/s of a product of two square matrices.
        convolution: GMAC/s of the same product as a 1x1 convolution, for which torch may use another library.
        copy: GB/s that a copy in memory reads and writes.
    """

    matmul: float
    convolution: float
    copy: float

    @classmethod
    def measure(cls, settings: Settings) -> MachineRates:
        """Measure the rates on the device of the settings; takes seconds."""
        gmadds = MATMUL_SIDE**3 / 1e9
        a, b = torch.rand(2, MATMUL_SIDE, MATMUL_SIDE, device=settings.device)
        x = a.view(1, 32, MATMUL_SIDE // 32, MATMUL_SIDE).permute(0, 3, 1, 2)  # in channels-last order
        source, target = torch.rand(2, COPY_BYTES // 4, device=settings.device)
        return cls(
            matmul=gmadds / _seconds("torch.mm(a, b)", torch=torch, a=a, b=b),
            convolution=gmadds / _seconds("conv2d(x, w)", conv2d=conv2d, x=x, w=b[:, :, None, None]),
            copy=2 * COPY_BYTES / 1e9 / _seconds("a.copy_(b)", a=target, b=source),
        )

    @property
    def peak(self) -> float:
        """Higher rate of multiply-adds, in GMAC/s."""
        return max(self.matmul, self.convolution)

    def bound_seconds(self, *, madds: int, num_bytes: int) -> float:
        """Return the least time for this many multiply-adds, and for reading and writing this many bytes."""
        return max(1e-9 * madds / self.peak, 1e-9 * num_bytes / self.copy)

    def __str__(self) -> str:
        return (
            f"matrix product {self.matmul:.1f} GMAC/s, as a convolution {self.convolution:.1f} GMAC/s, "
            f"copy {self.copy:.1f} GB/s"
        )


def _seconds(statement: str, **names: object) -> float:
    timer = Timer(statement, globals=names, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=1).median
