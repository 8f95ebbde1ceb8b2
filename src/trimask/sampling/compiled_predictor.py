"""The denoiser as a predictor, with compiled blocks, and CUDA graphs where shapes stay the same."""

from collections.abc import Hashable
from dataclasses import replace
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trimask.model.attention import AttentionBackend, Documents
from trimask.model.cache import BlockCache, KeyValueCache
from trimask.model.compilation import check_compiler, compile_blocks, share_weights
from trimask.model.denoiser import Denoiser
from trimask.sampling.predictor import DenoiserPredictor, Prediction
from trimask.sampling.recordings import GraphRecorder, Record, Recordings
from trimask.vocabulary.batch import Batch
from trimask.vocabulary.layout import Vocabulary

_TENSORS = ("boundaries", "key_boundaries", "keys")


@final
class CompiledPredictor:
    """`DenoiserPredictor` in less time, with the same results up to rounding; compiling takes a minute or so.

    On a GPU, passes over all positions are recorded (`Recordings`): a batch has the same shapes from one step
    to the next, until a sequence leaves or joins. Passes on kept keys and values compute other positions each
    time, and FlexAttention has another mask: both are compiled only.

    Args:
        compiles: whether blocks are compiled.
        record: records on the device; None for CUDA graphs on a GPU, and nothing on a CPU.

    Raises:
        UserError: there is nothing to compile with.
    """

    def __init__(self, denoiser: Denoiser, *, compiles: bool = True, record: Record | None = None):
        twin = share_weights(denoiser)
        self._inner = DenoiserPredictor(twin)
        if twin.attention_backend is None:
            twin.attention_backend = AttentionBackend.suited(self.device, twin.embedding.weight.dtype)
        if compiles:
            check_compiler(self.device)
            compile_blocks(twin)
        if record is None and self.device.type == "cuda":
            record = GraphRecorder(self.device)
        if record is not None and twin.attention_backend is not AttentionBackend.FLEX:
            self._recordings, self._transform = Recordings(record), twin.transform
            recorded: Any = self._recorded
            twin.transform = recorded

    @property
    def vocabulary(self) -> Vocabulary:
        return self._inner.vocabulary

    @property
    def device(self) -> torch.device:
        return self._inner.device

    @torch.inference_mode()
    def __call__(self, z: Int[Tensor, "rows slots"], batch: Batch) -> Prediction:
        return self._inner(z, batch)

    def empty_cache(self, batch: Batch) -> KeyValueCache:
        return self._inner.empty_cache(batch)

    @torch.inference_mode()
    def predict_some(
        self,
        z: Int[Tensor, "rows slots"],
        batch: Batch,
        at: Int[Tensor, "kept"],
        *,
        cache: KeyValueCache | None = None,
        active: Int[Tensor, "active"] | None = None,
    ) -> Prediction:
        if cache is None:  # of all positions: the number of those in `at` is another one in each step
            return self._inner(z, batch)
        return self._inner.predict_some(z, batch, at, cache=cache, active=active)

    def _recorded(
        self,
        h: Float[Tensor, "active width"],
        *,
        cos: Float[Tensor, "active 1 half"],
        sin: Float[Tensor, "active 1 half"],
        documents: Documents,
        at: Int[Tensor, "kept"] | None = None,
        kept: list[BlockCache] | None = None,
    ) -> Float[Tensor, "kept width"]:
        if kept is not None or at is not None:
            return self._transform(h, cos=cos, sin=sin, documents=documents, at=at, kept=kept)

        def compute(h: Tensor, cos: Tensor, sin: Tensor, *tensors: Tensor | None) -> Tensor:
            described = replace(documents, **dict(zip(_TENSORS, tensors, strict=True)))
            return self._transform(h, cos=cos, sin=sin, documents=described)

        key: Hashable = (documents.runs, documents.longest, documents.longest_keys)
        tensors = [getattr(documents, name) for name in _TENSORS]
        return self._recordings.compute(compute, [h, cos, sin, *tensors], key)
