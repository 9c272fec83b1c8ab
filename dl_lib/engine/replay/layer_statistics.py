"""Statistics of the outputs and gradients of every module of a model, in one or several passes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

__all__ = ["LayerObserver", "LayerStatistics"]


@dataclass(frozen=True)
class LayerStatistics:
    """Statistics of a module, over all its calls.

    Attributes:
        name: Name in the model.
        kind: Name of the class.
        is_leaf: Whether it has no submodules.
        minimum: Smallest finite value of the outputs; None without a finite value, like the next three.
        maximum: Largest finite value.
        mean: Mean of the finite values.
        std: Standard deviation of the finite values.
        non_finite: Ratio of the values that are NaN or infinite, in [0, 1].
        inputs_are_finite: Whether all inputs were finite.
        output_gradient: L2 norm of the gradient of the outputs; None without a gradient.
        weight_gradient: L2 norm of the gradient of its own parameters, before clipping; None without a gradient.
        backward_position: Position in the order of the backward pass, from 0; None without a gradient of the outputs.
    """

    name: str
    kind: str
    is_leaf: bool
    minimum: float | None
    maximum: float | None
    mean: float | None
    std: float | None
    non_finite: float
    inputs_are_finite: bool
    output_gradient: float | None
    weight_gradient: float | None
    backward_position: int | None


class _Sums:
    """Running sums over the outputs and gradients of a module."""

    def __init__(self) -> None:
        self.num_values = self.num_finite = 0
        self.minimum, self.maximum = math.inf, -math.inf
        self.total = self.total_squares = 0.0
        self.inputs_are_finite = True
        self.squared_gradient: float | None = None
        self.backward_position: int | None = None

    def add(self, values: Tensor) -> None:
        finite = values[values.isfinite()].double()
        self.num_values += values.numel()
        self.num_finite += finite.numel()
        if finite.numel():
            self.minimum = min(self.minimum, finite.min().item())
            self.maximum = max(self.maximum, finite.max().item())
            self.total += finite.sum().item()
            self.total_squares += finite.square().sum().item()

    def statistics(
        self, module: nn.Module, *, name: str, scale: float, weight_gradient: float | None
    ) -> LayerStatistics:
        has_finite = self.num_finite > 0
        mean = self.total / self.num_finite if has_finite else None
        variance = 0.0 if mean is None else max(0.0, self.total_squares / self.num_finite - mean**2)
        gradient = self.squared_gradient
        return LayerStatistics(
            name=name,
            kind=type(module).__name__,
            is_leaf=next(module.children(), None) is None,
            minimum=self.minimum if has_finite else None,
            maximum=self.maximum if has_finite else None,
            mean=mean,
            std=math.sqrt(variance) if has_finite else None,
            non_finite=1 - self.num_finite / self.num_values if self.num_values else 0.0,
            inputs_are_finite=self.inputs_are_finite,
            output_gradient=None if gradient is None else math.sqrt(gradient) / scale,
            weight_gradient=weight_gradient,
            backward_position=self.backward_position,
        )


class LayerObserver:
    """Context manager that observes all calls of the modules of a model, and the gradients of their outputs.

    The order of the modules is that in which their first calls return: a module follows its submodules.

    Args:
        model: Model; copies of it, such as those on the meta device that measure costs, are not observed.
    """

    def __init__(self, model: nn.Module) -> None:
        self._names = {module: name for name, module in model.named_modules() if name}
        self._sums: dict[nn.Module, _Sums] = {}
        self._num_gradients = 0

    def __enter__(self) -> LayerObserver:
        self._handle = register_module_forward_hook(self._observe)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.remove()

    def statistics(
        self, parameter_norms: Mapping[nn.Parameter, float], *, gradient_scale: float = 1.0
    ) -> tuple[LayerStatistics, ...]:
        """Return the statistics of all modules that were called.

        Args:
            parameter_norms: L2 norms of the gradients of the parameters, unscaled.
            gradient_scale: Loss scale of the backward pass, by which the gradients of the outputs are divided.
        """
        found = []
        for module, sums in self._sums.items():
            norms = [parameter_norms[p] for p in module.parameters(recurse=False) if p in parameter_norms]
            weight_gradient = math.hypot(*norms) if norms else None
            found.append(
                sums.statistics(module, name=self._names[module], scale=gradient_scale, weight_gradient=weight_gradient)
            )
        return tuple(found)

    def _observe(self, module: nn.Module, inputs: object, output: object) -> None:
        outputs = list(_tensors(output)) if module in self._names else []
        if not outputs:
            return
        sums = self._sums.setdefault(module, _Sums())
        for values in outputs:
            sums.add(values.detach())
            if values.requires_grad:
                values.register_hook(lambda gradient: self._add_gradient(sums, gradient))
        if sums.num_finite < sums.num_values:
            sums.inputs_are_finite &= all(bool(values.isfinite().all()) for values in _tensors(inputs))

    def _add_gradient(self, sums: _Sums, gradient: Tensor) -> None:
        if sums.backward_position is None:
            sums.backward_position = self._num_gradients
            self._num_gradients += 1
        sums.squared_gradient = (sums.squared_gradient or 0.0) + gradient.double().square().sum().item()


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the floating-point tensors in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        if value.is_floating_point() and not value.is_meta:
            yield value
    elif isinstance(value, (tuple, list)):
        for element in value:
            yield from _tensors(element)
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
