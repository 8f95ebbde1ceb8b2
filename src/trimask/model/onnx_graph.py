"""A denoiser's blocks and final norm as a graph for ONNX Runtime.

The graph is written node by node, not traced: that takes milliseconds, needs no exporter, and names the fused
kernels that ONNX Runtime has for each part (its operators of the domain `com.microsoft`).
"""

import enum
from dataclasses import dataclass
from typing import Any, cast, final

import numpy as np
import torch
from jaxtyping import Float, Float32, Int8
from torch import Tensor, nn

from trimask.model.attention import Attention
from trimask.model.block import Block, SwiGLU
from trimask.model.denoiser import Denoiser
from trimask.model.segments import ConditionAttention

_OPSET, _IR_VERSION = 21, 10  # read by ONNX Runtime since 1.20
_MICROSOFT = "com.microsoft"
_LARGEST_WEIGHT = 63
_LARGEST_INPUT = 127
_SMALLEST = 1e-30  # stands for the largest of a row of zeros


class OnnxPrecision(enum.Enum):
    """How linear layers multiply: in float32, or as 8-bit integers.

    INT8: weights are rounded once, per output channel; inputs in each pass, per position. A range per
    position, unlike one per call [L: ONNX Runtime's dynamic quantization], leaves a document's result
    independent of the others, at a sixth of the cost in nats [D: 0.002 for 0.012 a token of text]. Weights
    take 7 of their 8 bits: processors without VNNI add two products in 16 bits, which larger weights would
    overflow [L: ONNX Runtime's reduce_range].
    """

    FP32 = "fp32"
    INT8 = "int8"


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Graph:
    """A serialized ONNX model, and its matrices, which stay outside it: a model has at most 2 GB.

    Inputs, for documents of one length: `h`, embedding sums (documents × length × width); `places`, the row
    of `cos` and `sin` (rows × half a head) of each position; and where conditions attend to themselves alone
    `bias`, added to the scores of each document (documents × 1 × length × length). Output: `hidden`.
    """

    model: bytes
    matrices: dict[str, np.ndarray]


def write_graph(denoiser: Denoiser, precision: OnnxPrecision) -> Graph:
    """Write the graph of a denoiser's blocks and final norm.

    Raises:
        ImportError: the package onnx is missing.
    """
    writer = _Writer(precision)
    num_heads, head_dim = denoiser.config.num_heads, denoiser.config.head_dim
    writer.constant("heads", np.array([0, 0, num_heads, head_dim]))
    writer.constant("flat", np.array([0, 0, denoiser.config.width]))
    inputs = {
        "h": (np.float32, ["documents", "length", denoiser.config.width]),
        "places": (np.int64, ["documents", "length"]),
        "cos": (np.float32, ["rows", head_dim // 2]),
        "sin": (np.float32, ["rows", head_dim // 2]),
    }
    if denoiser.config.condition_attention is ConditionAttention.PREFIX:
        inputs["bias"] = (np.float32, ["documents", 1, "length", "length"])
    h = "h"
    for number, block in enumerate(denoiser.blocks):
        h = _write_block(writer, cast(Block, block), h, f"block{number}", has_bias="bias" in inputs)
    writer.norm(h, denoiser.final_norm, "hidden")
    output = {"hidden": (np.float32, ["documents", "length", denoiser.config.width])}
    return Graph(model=writer.serialize(inputs, output), matrices=writer.matrices)


def quantize_channels(
    weight: Float[np.ndarray, "outputs inputs"],
) -> tuple[Int8[np.ndarray, "outputs inputs"], Float32[np.ndarray, "outputs"]]:
    """Return integers within ±63 and the scale of each output: weight ≈ integers × scale."""
    largest = np.maximum(np.abs(weight).max(axis=1), _SMALLEST)
    scale = (largest / _LARGEST_WEIGHT).astype(np.float32)
    return np.rint(weight / scale[:, None]).astype(np.int8), scale


def _write_block(writer: "_Writer", block: Block, h: str, name: str, *, has_bias: bool) -> str:
    # The residual multiplier is part of the matrix before it.
    multiplier = block.residual_multiplier
    x = writer.norm(h, block.attention_norm, f"{name}.attention_norm")
    attended = _write_attention(writer, block.attention, x, f"{name}.attention", has_bias=has_bias)
    out = writer.linear(attended, block.attention.out.weight * multiplier, f"{name}.attention.out")
    h = writer.node("Add", [h, out], f"{name}.attended")
    x = writer.norm(h, block.feed_forward_norm, f"{name}.feed_forward_norm")
    inner = _write_swiglu(writer, block.feed_forward, x, f"{name}.feed_forward")
    down = writer.linear(inner, block.feed_forward.down.weight * multiplier, f"{name}.feed_forward.down")
    return writer.node("Add", [h, down], f"{name}.out")


def _write_attention(writer: "_Writer", attention: Attention, x: str, name: str, *, has_bias: bool) -> str:
    qkv = writer.linear(x, attention.qkv.weight, f"{name}.qkv")
    q, k, v = writer.split(qkv, 3, f"{name}.split")
    num_heads = attention.qkv.weight.shape[1] // attention.head_dim
    q = _write_turn(writer, q, attention.q_norm, num_heads, f"{name}.q")
    k = _write_turn(writer, k, attention.k_norm, num_heads, f"{name}.k")
    inputs = [q, k, v, "", "", "bias"] if has_bias else [q, k, v]
    return writer.node("MultiHeadAttention", inputs, f"{name}.attend", _MICROSOFT, num_heads=num_heads)


def _write_turn(writer: "_Writer", x: str, norm: nn.Module, num_heads: int, name: str) -> str:
    if isinstance(norm, nn.RMSNorm):
        x = writer.node("Reshape", [x, "heads"], f"{name}.heads")
        x = writer.norm(x, norm, f"{name}.norm")
        x = writer.node("Reshape", [x, "flat"], f"{name}.flat")
    inputs = [x, "places", "cos", "sin"]
    return writer.node("RotaryEmbedding", inputs, f"{name}.turned", _MICROSOFT, num_heads=num_heads)


def _write_swiglu(writer: "_Writer", feed_forward: SwiGLU, x: str, name: str) -> str:
    both = writer.linear(x, feed_forward.gate_up.weight, f"{name}.gate_up")
    gate, up = writer.split(both, 2, f"{name}.split")
    gate = writer.node("QuickGelu", [gate], f"{name}.silu", _MICROSOFT, alpha=1.0)
    return writer.node("Mul", [gate, up], f"{name}.gated")


@final
class _Writer:
    """Collects nodes, small constants, and matrices by name. Methods return the name of their output."""

    def __init__(self, precision: OnnxPrecision):
        self.onnx = import_onnx()
        self.precision = precision
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.matrices: dict[str, np.ndarray] = {}
        if precision is OnnxPrecision.INT8:
            self.constant("last", np.array([-1]))
            self.constant("smallest", np.array(_SMALLEST, np.float32))
            self.constant("input_scale", np.array(1 / _LARGEST_INPUT, np.float32))
            self.constant("input_zero", np.array(_LARGEST_INPUT + 1, np.uint8))

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants.append(self.onnx.numpy_helper.from_array(value, name))
        return name

    def node(
        self, operator: str, inputs: list[str], output: str, domain: str | None = None, **attributes: Any
    ) -> str:
        self.nodes.append(self.onnx.helper.make_node(operator, inputs, [output], domain=domain, **attributes))
        return output

    def split(self, x: str, parts: int, name: str) -> list[str]:
        names = [f"{name}{number}" for number in range(parts)]
        self.nodes.append(self.onnx.helper.make_node("Split", [x], names, axis=-1, num_outputs=parts))
        return names

    def norm(self, x: str, norm: nn.RMSNorm, name: str) -> str:
        weight = self.constant(f"{name}.weight", _array(norm.weight))
        epsilon = torch.finfo(torch.float32).eps if norm.eps is None else norm.eps
        return self.node("SimplifiedLayerNormalization", [x, weight], name, axis=-1, epsilon=epsilon)

    def linear(self, x: str, weight: Float[Tensor, "outputs inputs"], name: str) -> str:
        if self.precision is OnnxPrecision.INT8:
            return self._integer_linear(x, _array(weight), name)
        return self.node("MatMul", [x, self._matrix(f"{name}.weight", _array(weight))], name)

    def _integer_linear(self, x: str, weight: Float32[np.ndarray, "outputs inputs"], name: str) -> str:
        """Divide each row of x by its largest magnitude, multiply as integers, and undo the division."""
        integers, scale = quantize_channels(weight)
        magnitudes = self.node("Abs", [x], f"{name}.magnitudes")
        largest = self.node("ReduceMax", [magnitudes, "last"], f"{name}.largest", keepdims=1)
        largest = self.node("Max", [largest, "smallest"], f"{name}.divisor")
        factor = self.node("Reciprocal", [largest], f"{name}.factor")
        scaled = self.node("Mul", [x, factor], f"{name}.scaled")
        rounded = self.node("QuantizeLinear", [scaled, "input_scale", "input_zero"], f"{name}.rounded")
        inputs = [rounded, self._matrix(f"{name}.weight", integers), "input_scale"]
        inputs += [self.constant(f"{name}.scale", scale), "input_zero"]
        product = self.node("MatMulIntegerToFloat", inputs, f"{name}.product", _MICROSOFT)
        return self.node("Mul", [product, largest], name)

    def _matrix(self, name: str, weight: np.ndarray) -> str:
        self.matrices[name] = np.ascontiguousarray(weight.T)
        return name

    def serialize(self, inputs: dict[str, Any], output: dict[str, Any]) -> bytes:
        helper = self.onnx.helper
        values = [
            [helper.make_tensor_value_info(name, _type(helper, kind), shape) for name, (kind, shape) in each]
            for each in (inputs.items(), output.items())
        ]
        matrices = [self._declare(name, matrix) for name, matrix in self.matrices.items()]
        graph = helper.make_graph(self.nodes, "blocks", *values, [*self.constants, *matrices])
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
        return model.SerializeToString()

    def _declare(self, name: str, matrix: np.ndarray) -> Any:
        """Return a tensor whose data ONNX Runtime is given beside the model."""
        tensor = self.onnx.TensorProto(name=name, dims=matrix.shape)
        tensor.data_type = _type(self.onnx.helper, matrix.dtype)
        tensor.data_location = self.onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="given")
        return tensor


def _type(helper: Any, kind: Any) -> int:
    return helper.np_dtype_to_tensor_dtype(np.dtype(kind))


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()


def import_onnx() -> Any:
    """Import onnx.

    Raises:
        ImportError: it is not installed; the message names the extra.
    """
    try:
        import onnx  # pyright: ignore[reportMissingImports]  (an extra)
        import onnx.helper  # pyright: ignore[reportMissingImports]
        import onnx.numpy_helper  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError("this backend needs onnx: pip install 'trimask[onnx]'") from error
    return onnx
