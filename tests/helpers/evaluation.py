"""Fake model with outputs determined by its inputs, and samples for it."""

import torch
from torch import nn

from dl_lib.evaluation.scores.prediction import read_outputs

NAMES = ("background", "disc", "bar", "never")
IGNORE = 255
NUM_CLASSES = len(NAMES)
NUM_EDGES = 5


def make_samples(count, *, seed=0):
    """Return samples with labels of various sizes, different from their images; class 3 does not occur."""
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for index in range(count):
        size = (9 + index % 4, 11 + index % 3)
        label = torch.randint(0, 3, size, generator=generator)
        label[torch.rand(size, generator=generator) < 0.1] = IGNORE
        samples.append(
            {
                "image": (torch.rand(3, 32 + 32 * (index % 2), 64, generator=generator) * 255).byte(),
                "index": index,
                "sem_seg": label,
                "image_id": f"image_{index}",
                "file_name": f"images/image_{index}.png",
                "height": size[0],
                "width": size[1],
            }
        )
    return samples


class Batches(list):
    """Batches of a test loader."""

    skipped = ()

    @property
    def dataset(self):
        return [sample for batch in self for sample in batch]


def batches_of(samples, *, size=1):
    return Batches(samples[start : start + size] for start in range(0, len(samples), size))


def predictions_of(samples, *, model=None):
    """Return the predictions of a fake model without calling it."""
    model = model or FakeModel()
    outputs = [model.output(sample) for sample in samples]
    return read_outputs(samples, outputs, num_classes=NUM_CLASSES, seconds=0.0)


class FakeModel(nn.Module):
    """Model that is correct on two of three pixels; costs and gates depend on the image. Asserts inference mode."""

    def __init__(self, *, gates=True, num_classes=NUM_CLASSES):
        super().__init__()
        self.gates = gates
        self.num_classes = num_classes
        self.frozen = nn.BatchNorm2d(3).eval()
        self.trained = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout())

    def forward(self, batched_inputs):
        assert not any(module.training for module in self.modules())
        assert torch.is_inference_mode_enabled()
        return [self.output(sample) for sample in batched_inputs]

    def output(self, sample):
        label, image = sample["sem_seg"], sample["image"]
        shown = torch.where(label == IGNORE, 3, label)
        shown.flatten()[::3] = (shown.flatten()[::3] + 1) % 4
        mean = float(image.double().mean())
        costs = {
            "expt_flops": mean,
            "real_flops": 2 * mean,
            "real_flops_complete": 3 * mean,
            "executed_flops": 4 * mean,
        }
        logits = nn.functional.one_hot(shown, self.num_classes).permute(2, 0, 1).float()
        output = {"sem_seg": logits, "flops": costs}
        if self.gates:
            output["gates"] = (image.flatten()[:NUM_EDGES] / 255 - 0.5).relu()
        return output
