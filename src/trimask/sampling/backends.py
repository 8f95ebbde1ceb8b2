"""What computes a denoiser's predictions, by name.

A backend of your own needs no name: `Generator(denoiser, predictor=…)` takes any `Predictor`.
"""

from collections.abc import Callable, Mapping
from functools import partial

from trimask.errors import UserError
from trimask.model.denoiser import Denoiser
from trimask.model.onnx_graph import OnnxPrecision
from trimask.sampling.compiled_predictor import CompiledPredictor
from trimask.sampling.onnx_predictor import OnnxPredictor, check_installed
from trimask.sampling.predictor import DenoiserPredictor, Predictor

TORCH, COMPILED = "torch", "torch-compiled"
_ONNX: Mapping[str, Callable[[Denoiser], Predictor]] = {
    "onnx": partial(OnnxPredictor, precision=OnnxPrecision.FP32),
    "onnx-int8": partial(OnnxPredictor, precision=OnnxPrecision.INT8),
}
BACKENDS: Mapping[str, Callable[[Denoiser], Predictor]] = {
    TORCH: DenoiserPredictor,
    COMPILED: CompiledPredictor,
    **_ONNX,
}


def find_backend(name: str) -> Callable[[Denoiser], Predictor]:
    """Return what makes a predictor of a denoiser.

    Raises:
        UserError: no such backend. ImportError: its extra is not installed; the message has the remedy.
    """
    if name not in BACKENDS:
        raise UserError(f"unknown backend {name!r}: choose one of {', '.join(BACKENDS)}")
    if name in _ONNX:
        check_installed()
    return BACKENDS[name]
