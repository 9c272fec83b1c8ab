"""Preprocessing inside ONNX files: graphs before and after that of the network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dl_lib.inference.exporting.metadata import INPUT_NAME, LABELS, LOGITS, ExportMetadata
from dl_lib.inference.exporting.preprocessing import CHANNELS
from dl_lib.inference.exporting.requirements import import_onnx
from dl_lib.inference.exporting.signature import TensorType, input_type, output_types

__all__ = ["NETWORK_LOGITS", "add_preprocessing"]

NETWORK_LOGITS = "network_logits"  # output of the graph to wrap
_PREFIX = "network_"
_SHARED = (INPUT_NAME, f"{_PREFIX}{INPUT_NAME}", NETWORK_LOGITS, LOGITS, LABELS)  # with the network, or from outside

_NORMALIZE = """
  channels = Constant<value = int64[3] {{{channels}}}>()
  mean = Constant<value = float[1, 3, 1, 1] {{{mean}}}>()
  std = Constant<value = float[1, 3, 1, 1] {{{std}}}>()
  planes = Transpose<perm = [0, 3, 1, 2]>(image)
  ordered = Gather<axis = 1>(planes, channels)
  floats = Cast<to = 1>(ordered)
  centered = Sub(floats, mean)
  normalized = Div(centered, std)
"""
_PAD = """
  sides = Constant<value = int64[2] {{2, 3}}>()
  divisor = Constant<value = int64[1] {{{divisor}}}>()
  size = Shape<start = {first_side}, end = {end_side}>(image)
  negative = Neg(size)
  missing = Mod(negative, divisor)
  none = Constant<value = int64[2] {{0, 0}}>()
  pads = Concat<axis = 0>(none, missing)
  zero = Constant<value = float {{0}}>()
  network_image = Pad({source}, pads, zero, sides)
"""
_CROP = """
  cropped = Slice(network_logits, none, size, sides)
"""
_LABEL = """
  indices = ArgMax<axis = 1, keepdims = 0>({source})
  labels = Cast<to = {dtype}>(indices)
"""


def add_preprocessing(model: Any, metadata: ExportMetadata, *, divisor: int) -> Any:
    """Return the ONNX model (`onnx.ModelProto`) with padding to any size and preprocessing, as its metadata say.

    Args:
        model: Model of a network from `image` to `network_logits` and other outputs.
        metadata: Metadata of the result; images are padded and logits cropped if they have no size.
        divisor: Divisor of the sides of the network's input.
    """
    onnx = import_onnx()
    network = onnx.compose.add_prefix(
        model,
        _PREFIX,
        rename_nodes=False,
        rename_edges=False,
        rename_outputs=False,
        rename_initializers=False,
        rename_value_infos=False,
        rename_functions=False,
    )
    before, after = _graphs(metadata, divisor=divisor)
    graph, whole = network.graph, onnx.ModelProto()
    whole.CopyFrom(network)
    whole.graph.ClearField("node")
    whole.graph.node.extend([*before, *graph.node, *after])
    dimension = graph.input[0].type.tensor_type.shape.dim[0]
    batch = dimension.dim_param or dimension.dim_value
    main, tensor = next(iter(output_types(metadata, size=metadata.size or (None, None)).items()))
    whole.graph.input[0].CopyFrom(_value_info(INPUT_NAME, input_type(metadata), batch=batch))
    whole.graph.output[0].CopyFrom(_value_info(main, tensor, batch=batch))
    return whole


def _graphs(metadata: ExportMetadata, *, divisor: int) -> tuple[list[Any], list[Any]]:
    """Return the nodes before and after those of the network."""
    before, after, source, logits = "", "", INPUT_NAME, NETWORK_LOGITS
    if metadata.with_preprocessing:
        before += _NORMALIZE.format(
            channels=_listed(CHANNELS[metadata.channel_order]),
            mean=_listed(metadata.pixel_mean),
            std=_listed(metadata.pixel_std),
        )
        source = "normalized"
    if metadata.size is None:
        first_side = 1 if metadata.with_preprocessing else 2
        before += _PAD.format(divisor=divisor, first_side=first_side, end_side=first_side + 2, source=source)
        after += _CROP
        logits = "cropped"
    else:
        before += f"{_PREFIX}{INPUT_NAME} = Identity({source})\n"
    if metadata.with_preprocessing:
        dtype = import_onnx().helper.np_dtype_to_tensor_dtype(output_types(metadata, size=(None, None))[LABELS].dtype)
        after += _LABEL.format(source=logits, dtype=int(dtype))
    else:
        after += f"logits = Identity({logits})\n"
    return _parse(before), _parse(after)


def _parse(text: str) -> list[Any]:
    """Return the nodes; their intermediate results get names that the network does not use."""
    onnx = import_onnx()
    nodes = list(onnx.parser.parse_graph(f"wrapper () => () {{ {text} }}").node)
    for node in nodes:
        for names in (node.input, node.output):
            names[:] = [name if name in _SHARED else f"wrapper_{name}" for name in names]
    return nodes


def _listed(values: Iterable[float]) -> str:
    return ", ".join(map(str, values))


def _value_info(name: str, tensor: TensorType, *, batch: int | str) -> Any:
    """Return the declaration of an input or output whose sides have names if they are unknown."""
    onnx = import_onnx()
    names = iter(("height", "width"))
    shape = [batch, *(next(names) if length is None else length for length in tensor.shape[1:])]
    return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(tensor.dtype), shape)
