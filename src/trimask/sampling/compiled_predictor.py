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
_LONGEST = 1024
"""Bounds on the positions of a document are at least this: code is compiled for each, and the kernel for
variable lengths takes little longer for a larger one, where documents are few."""


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
        if twin.attention_backend is AttentionBackend.FLEX:
            record = None
        self._recordings = None if record is None else Recordings(record)
        self._plain = twin.transform
        replaced: Any = self._transform
        twin.transform = replaced

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

    def _transform(
        self,
        h: Float[Tensor, "active width"],
        *,
        cos: Float[Tensor, "active 1 half"],
        sin: Float[Tensor, "active 1 half"],
        documents: Documents,
        at: Int[Tensor, "kept"] | None = None,
        kept: list[BlockCache] | None = None,
    ) -> Float[Tensor, "kept width"]:
        longest, longest_keys = (max(n, _LONGEST) for n in (documents.longest, documents.longest_keys))
        documents = replace(documents, longest=longest, longest_keys=longest_keys)
        if self._recordings is None or kept is not None or at is not None:
            return self._plain(h, cos=cos, sin=sin, documents=documents, at=at, kept=kept)

        def compute(h: Tensor, cos: Tensor, sin: Tensor, *tensors: Tensor | None) -> Tensor:
            described = replace(documents, **dict(zip(_TENSORS, tensors, strict=True)))
            return self._plain(h, cos=cos, sin=sin, documents=described)

        key: Hashable = (documents.runs, longest, longest_keys)
        tensors = [getattr(documents, name) for name in _TENSORS]
        return self._recordings.compute(compute, [h, cos, sin, *tensors], key)
