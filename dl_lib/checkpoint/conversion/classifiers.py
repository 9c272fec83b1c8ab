"""Converter for weights of published classifiers: ReXNet (clovaai, timm) and torchvision's ResNet and MobileNetV3.

Formats are recognised by key names. Sources of the names: github.com/clovaai/rexnet, timm and torchvision. Keys of the
backbone are placed under `backbone`, all others under `head`, as in `ReXNetClassifier`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from torch import Tensor, nn

from dl_lib.checkpoint.conversion.registry import Translation

__all__ = ["ClassifierConverter", "translate_classifier"]

_TIMM_PARTS = {
    "conv_exp.conv": "expand.conv",
    "conv_exp.bn": "expand.norm",
    "conv_dw.conv": "depthwise.conv",
    "conv_dw.bn": "depthwise.norm",
    "se.fc1": "squeeze.reduce",
    "se.bn": "squeeze.norm",
    "se.fc2": "squeeze.expand",
    "conv_pwl.conv": "project.conv",
    "conv_pwl.bn": "project.norm",
}
_EXPANSION = {"0": "expand.conv", "1": "expand.norm", "3": "depthwise.conv", "4": "depthwise.norm"}
# The original repository numbers the layers of a block; the largest number determines the meaning of all numbers.
_UPSTREAM_PARTS: Mapping[int, Mapping[str, str]] = {
    4: {"0": "depthwise.conv", "1": "depthwise.norm", "3": "project.conv", "4": "project.norm"},
    7: {**_EXPANSION, "6": "project.conv", "7": "project.norm"},
    8: {
        **_EXPANSION,
        "5.fc.0": "squeeze.reduce",
        "5.fc.1": "squeeze.norm",
        "5.fc.3": "squeeze.expand",
        "7": "project.conv",
        "8": "project.norm",
    },
}
_UPSTREAM_LITE_HEAD = {"0": "hidden.conv", "1": "hidden.norm", "4": "classifier"}
_UPSTREAM_FIRST_BLOCK = 3  # after convolution, norm and activation of the stem
_UPSTREAM_BLOCK = re.compile(r"features\.(\d+)\.out\.(\d+)(.*)\.(\w+)")

_RESNET = re.compile(r"(conv1|bn1|layer[1-4])\.")
_MOBILENET = re.compile(r"features\.(\d+\..+)")

Rename = Callable[[str], str | None]  # key of the file -> key of this library; None without a counterpart


class ClassifierConverter:
    """Converter for published classifiers, see `translate_classifier`."""

    def recognises(self, weights: Mapping[str, Tensor], *, model: nn.Module) -> bool:
        return _find_rename(list(weights)) is not None

    def translate(self, file: Translation, *, model: nn.Module) -> Translation:
        return translate_classifier(file.weights)


def translate_classifier(state_dict: Mapping[str, Tensor]) -> Translation:
    """Translate the state dict of a supported classifier; linear weights become 1×1 convolution weights."""
    rename = _find_rename(list(state_dict))
    assert rename is not None
    weights: dict[str, Tensor] = {}
    original_names: dict[str, str] = {}
    untranslated: dict[str, str] = {}
    for key, value in state_dict.items():
        name = rename(key)
        if name is None:
            untranslated[key] = "not a key of this classifier"
            continue
        is_linear = name == "head.classifier.weight" and value.ndim == 2
        weights[name], original_names[name] = value[:, :, None, None] if is_linear else value, key
    return Translation(weights, original_names, untranslated)


def _find_rename(keys: list[str]) -> Rename | None:
    """Return the renaming function of the format; None if it is unknown."""
    present = set(keys)
    if "features.0.conv_dw.conv.weight" in present:
        return _timm(keys)
    if "features.3.out.0.weight" in present:
        return _upstream(keys)
    if {"conv1.weight", "layer1.0.conv1.weight"} <= present:
        return lambda key: f"backbone.body.{key}" if _RESNET.match(key) else f"head.{key}"
    if {"features.0.0.weight", "features.1.block.0.0.weight"} <= present:
        return _mobilenet
    return None


def _mobilenet(key: str) -> str:
    features = _MOBILENET.fullmatch(key)
    return f"backbone.body.{features[1]}" if features else f"head.{key}"


def _timm(keys: list[str]) -> Rename:
    blocks = {key.split(".")[1] for key in keys if ".conv_dw." in key}

    def rename(key: str) -> str | None:
        module, _, kind = key.rpartition(".")
        if module in ("stem.conv", "stem.bn"):
            return f"backbone.{module.replace('bn', 'norm')}.{kind}"
        if module == "head.fc":
            return f"head.classifier.{kind}"
        parts = module.split(".", 2)
        if len(parts) < 3 or parts[0] != "features":
            return None
        _, number, part = parts
        if number in blocks:
            name = _TIMM_PARTS.get(part)
            return name and f"backbone.blocks.{number}.{name}.{kind}"
        name = {"conv": "conv", "bn": "norm"}.get(part)
        return name and f"head.expand.{name}.{kind}"

    return rename


def _upstream(keys: list[str]) -> Rename:
    largest: dict[str, int] = {}
    for key in keys:
        if block := _UPSTREAM_BLOCK.fullmatch(key):
            largest[block[1]] = max(largest.get(block[1], 0), int(block[2]))
    after = max(map(int, largest)) + 1
    outside = {
        "features.0": "backbone.stem.conv",
        "features.1": "backbone.stem.norm",
        f"features.{after}": "head.expand.conv",
        f"features.{after + 1}": "head.expand.norm",
    }
    is_lite = "output.4.weight" in keys
    output = _UPSTREAM_LITE_HEAD if is_lite else {"1": "classifier"}
    outside |= {f"output.{number}": f"head.{name}" for number, name in output.items()}

    def rename(key: str) -> str | None:
        block = _UPSTREAM_BLOCK.fullmatch(key)
        if block is None:
            module, _, kind = key.rpartition(".")
            return outside[module] + f".{kind}" if module in outside else None
        number, first, rest, kind = block.groups()
        name = _UPSTREAM_PARTS.get(largest[number], {}).get(first + rest)
        return name and f"backbone.blocks.{int(number) - _UPSTREAM_FIRST_BLOCK}.{name}.{kind}"

    return rename
