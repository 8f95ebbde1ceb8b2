"""A denoiser computed by ONNX Runtime, for sampling on CPUs: the same predictions in less time."""

from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from trimask.errors import UserError
from trimask.model.denoiser import Denoiser
from trimask.model.onnx_graph import Graph, OnnxPrecision, import_onnx, write_graph
from trimask.model.rope import rotary_angles
from trimask.model.segments import ConditionAttention
from trimask.sampling.predictor import Prediction, predict_from
from trimask.vocabulary.batch import Batch
from trimask.vocabulary.layout import Vocabulary

_ONLY_ERRORS = 3  # ONNX Runtime's level of messages


@final
class OnnxPredictor:
    """The denoiser as a predictor whose blocks and final norm run in ONNX Runtime; embeddings and logits stay
    in torch. Documents of one length are computed in one call.

    It holds a copy of the blocks' weights as they are now, and as many threads as torch has now
    (`torch.set_num_threads`). FP32 equals `DenoiserPredictor` up to rounding. With INT8 too, a prediction
    does not depend on the other documents of the batch. See `OnnxPrecision`.

    Raises:
        ImportError: onnx or onnxruntime is missing. UserError: the denoiser is not on the CPU.
    """

    def __init__(self, denoiser: Denoiser, precision: OnnxPrecision = OnnxPrecision.FP32):
        device = denoiser.embedding.weight.device
        if device.type != "cpu":
            raise UserError(f"the ONNX backends are for CPUs, and the model is on {device}: use torch there")
        self.denoiser = denoiser
        self.device = device
        self._graph = write_graph(denoiser, precision)  # kept: the session reads its matrices where they are
        self._session = _start_session(self._graph)

    @property
    def vocabulary(self) -> Vocabulary:
        return self.denoiser.vocabulary

    def __call__(self, z: Int[Tensor, "rows slots"], batch: Batch) -> Prediction:
        return predict_from(self.denoiser, self._hidden(z, batch), batch.position.flatten())

    @torch.no_grad()
    def _hidden(self, z: Int[Tensor, "rows slots"], batch: Batch) -> Float[Tensor, "positions width"]:
        config = self.denoiser.config
        embedded = self.denoiser.embed(z, batch).float()
        cos, sin = rotary_angles(batch.coordinates, config.head_dim, config.rope_base)
        given = {"cos": cos[:, 0].numpy(), "sin": sin[:, 0].numpy()}
        lengths, starts = batch.cu_positions.diff(), batch.cu_positions[:-1]
        hidden = torch.empty_like(embedded)
        for length in lengths.unique().tolist():
            alike = lengths == length
            places = starts[alike, None] + torch.arange(length)
            given |= {"h": embedded[places].numpy(), "places": places.numpy()}
            if config.condition_attention is ConditionAttention.PREFIX:
                given["bias"] = _prefix_bias(batch.prefix_length[alike], length)
            (found,) = self._session.run(None, given)
            hidden[places] = torch.from_numpy(found)
        return hidden


def check_installed() -> None:
    """Raise ImportError, with the remedy, if the extra `onnx` is not installed."""
    import_onnx()
    _import_runtime()


def _prefix_bias(
    prefix_length: Int[Tensor, "documents"], length: int
) -> Float[np.ndarray, "documents 1 length length"]:
    """Return what is added to attention scores: a prefix's positions see no position after it."""
    is_in_prefix = torch.arange(length) < prefix_length[:, None]
    is_hidden = is_in_prefix[:, None, :, None] & ~is_in_prefix[:, None, None, :]
    return torch.where(is_hidden, torch.finfo(torch.float32).min, 0.0).numpy()


def _start_session(graph: Graph) -> Any:
    runtime = _import_runtime()
    options = runtime.SessionOptions()
    options.log_severity_level = _ONLY_ERRORS
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    # Threads that wait in a loop would take the processor from torch's, which work in turn with them.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    names = list(graph.matrices)
    values = [runtime.OrtValue.ortvalue_from_numpy(graph.matrices[name]) for name in names]
    options.add_external_initializers(names, values)
    return runtime.InferenceSession(graph.model, options, providers=["CPUExecutionProvider"])


def _import_runtime() -> Any:
    try:
        import onnxruntime  # pyright: ignore[reportMissingImports]  (an extra)
    except ImportError as error:
        raise ImportError("this backend needs onnxruntime: pip install 'trimask[onnx]'") from error
    return onnxruntime
