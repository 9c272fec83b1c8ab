"""Use the conditional convolutions in a plain PyTorch model and training loop.

    python examples/layers_in_pytorch.py

They take the arguments of `nn.Conv2d`. Their kernels depend on the image: CondConv2d (arXiv 1904.04971) and
DynamicConv2d (arXiv 1912.03458) mix several kernels, whose weights follow from the input.
"""

import torch
from torch import nn

from dl_lib.layers import CondConv2d, DynamicConv2d, KernelAttention

STEPS = 20


def main() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        CondConv2d(16, 32, 3, stride=2, padding=1, num_experts=4),
        nn.ReLU(),
        DynamicConv2d(32, 32, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 2),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    images = torch.randn(16, 3, 32, 32)
    labels = torch.arange(16) % 2
    images[labels == 1, 0] += 1  # class 1 is redder

    for step in range(STEPS):
        for module in model.modules():
            if isinstance(module, KernelAttention):  # of DynamicConv2d: the softmax temperature falls to 1
                module.anneal(step / STEPS, anneal_rate=0.5)
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step in (0, STEPS - 1):
            print(f"step {step + 1}/{STEPS}: loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
