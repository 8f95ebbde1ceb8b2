"""The denoiser: partly masked tokens in, logits over one codebook's range out."""

import math
from dataclasses import dataclass, replace
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from trimask import rng
from trimask.devices import send
from trimask.errors import UserError
from trimask.model.attention import AttentionBackend, Documents, QKNorm
from trimask.model.block import Block, feed_forward_width
from trimask.model.cache import BlockCache, KeyValueCache
from trimask.model.head import Normalization, weighted_cross_entropy
from trimask.model.parametrization import Parametrization, Standard, TensorRule
from trimask.model.rope import rotary_angles
from trimask.model.segments import ConditionAttention
from trimask.vocabulary.batch import Batch
from trimask.vocabulary.layout import TokenRange, Vocabulary

_LARGEST = 100_000  # more than any model that fits a machine
_LARGEST_BASE = 1e12


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class DenoiserConfig:
    """Size of the transformer, and its parametrization. `width` = num_heads × head_dim; the
    feed-forward is 8/3 × width wide, rounded up to 32.

    Attributes:
        condition_attention: what conditions attend to.
        qk_norm: how queries and keys are normalized.
        normalization: what the logits of a slot are normalized over, in the loss and in the bound.
    """

    width: int
    depth: int
    num_heads: int
    rope_base: float = 10_000.0
    parametrization: Parametrization = Standard()
    condition_attention: ConditionAttention = ConditionAttention.FULL
    qk_norm: QKNorm = QKNorm.RMS
    normalization: Normalization = Normalization.CODEBOOK

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.num_heads) < 1:
            raise UserError(
                f"width {self.width}, depth {self.depth}, num_heads {self.num_heads}: each must be at least 1"
            )
        if max(self.width, self.depth, self.num_heads) > _LARGEST:
            raise UserError(
                f"width {self.width}, depth {self.depth}, num_heads {self.num_heads}: each may be at most "
                f"{_LARGEST:,}"
            )
        if not 1 <= self.rope_base <= _LARGEST_BASE:
            raise UserError(f"rope_base is {self.rope_base:g}: give a number from 1 to {_LARGEST_BASE:g}")
        if self.width % (4 * self.num_heads):
            raise UserError(
                f"width {self.width} with {self.num_heads} heads: the head dimension must be a multiple of 4 "
                f"(try width {4 * self.num_heads * math.ceil(self.width / (4 * self.num_heads))})"
            )
        self.parametrization.check(width=self.width, num_heads=self.num_heads)

    @property
    def head_dim(self) -> int:
        return self.width // self.num_heads

    @property
    def hidden(self) -> int:
        return feed_forward_width(self.width)

    def resized(self, *, width: int | None = None, depth: int | None = None) -> "DenoiserConfig":
        """Return the config with another width or depth and the same head dimension.

        UserError: the width is not a multiple of it.
        """
        width, depth = width or self.width, depth or self.depth
        if width % self.head_dim:
            raise UserError(f"width {width} is not a multiple of the head dimension {self.head_dim}")
        return replace(self, width=width, depth=depth, num_heads=width // self.head_dim)

    def rule(self, name: str) -> TensorRule:
        """Return the initialization and optimizer factors of the parameter `name`."""
        return self.parametrization.rule(name, width=self.width, depth=self.depth)


class Denoiser(nn.Module):
    """Pre-RMSNorm, QK-norm, SwiGLU, RoPE, no biases, no time input, untied embeddings [L: Quokka,
    Complete(d)P; D: combination].

    `forward` returns hidden states; `logits` maps those of chosen slots to logits over one codebook's range.
    No method returns logits over the whole vocabulary, since a slot's modality and codebook are always known;
    losses may be normalized over all codes (`DenoiserConfig.normalization`).
    `attention_backend` None selects the best for the device.
    """

    def __init__(self, config: DenoiserConfig, vocabulary: Vocabulary):
        super().__init__()
        self.config = config
        self.vocabulary = vocabulary
        # Not drawn here: on the meta device, drawing imports a compiler, which takes seconds.
        self.embedding = nn.Embedding.from_pretrained(
            torch.zeros(vocabulary.size, config.width), freeze=False
        )
        multiplier = config.parametrization.residual_multiplier(config.depth)
        self.blocks = nn.ModuleList(
            Block(config.width, config.num_heads, residual_multiplier=multiplier, qk_norm=config.qk_norm)
            for _ in range(config.depth)
        )
        self.final_norm = nn.RMSNorm(config.width)
        self.unembedding = nn.Linear(config.width, vocabulary.size, bias=False)
        self.attention_backend: AttentionBackend | None = None

    @torch.no_grad()
    def initialize(self, seed: int) -> None:
        """Fill every parameter from named streams of `seed` by its rule (`DenoiserConfig.rule`); if sharded,
        this rank's shard only.
        """
        for name, parameter in self.named_parameters():
            rule = self.config.rule(name)
            if rule.init_std == 0:
                parameter.fill_(rule.init_mean)
                continue
            draw = rng.generator(seed, "init", name).standard_normal(tuple(parameter.shape), dtype="float32")
            fill(parameter, torch.from_numpy(draw).mul_(rule.init_std).add_(rule.init_mean))

    @torch.no_grad()
    def take(self, other: "Denoiser") -> None:
        """Copy the weights of `other`, unsharded, of the same size, and equal in all processes."""
        weights = dict(other.named_parameters())
        for name, parameter in self.named_parameters():
            fill(parameter, weights[name])

    def forward(
        self,
        tokens: Int[Tensor, "rows slots"],
        batch: Batch,
        at: Int[Tensor, "kept"] | None = None,
        *,
        cache: KeyValueCache | None = None,
        active: Int[Tensor, "active"] | None = None,
    ) -> Float[Tensor, "kept width"]:
        """Return the final hidden states for `tokens` (the batch's, partly masked) at all positions, or only
        those in `at`, which saves the last block most of its work on the others.

        Keep the batch on the host even for a model on a GPU: shapes are computed there, and nothing waits for
        the GPU.

        Args:
            cache: keys and values of the batch from earlier passes: those of active positions are renewed,
                the others attended to as they are. Within `torch.inference_mode()`.
            active: positions to compute, in order, on the host; None for all. Hidden states are returned at
                these, or at those of them that `at` names.

        Raises:
            UserError: active positions without a cache, or none, out of order or not the batch's; `at` that
                are not active; a cache of another batch, or without keys of a document that is computed.
        """
        if cache is not None:
            active = cache.check(batch, active)
        elif active is not None:
            raise UserError("active positions attend to earlier passes: give their cache")
        device = self.embedding.weight.device
        h = self.embed(tokens, batch, active)
        coordinates = batch.coordinates if active is None else batch.coordinates[active]
        cos, sin = rotary_angles(send(coordinates, device), self.config.head_dim, self.config.rope_base)
        backend = self.attention_backend or AttentionBackend.suited(device, h.dtype)
        is_full = self.config.condition_attention is ConditionAttention.FULL
        prefixes = None if is_full or not batch.prefix_length.any() else batch.prefix_length
        documents = Documents.of(batch.cu_positions, backend, device, prefixes=prefixes, active=active)
        if at is not None:
            at = send(at if active is None else _places(at, active), device)
        kept = None if cache is None else cache.blocks(active)
        return self.transform(h, cos=cos, sin=sin, documents=documents, at=at, kept=kept)

    def transform(
        self,
        h: Float[Tensor, "active width"],
        *,
        cos: Float[Tensor, "active 1 half"],
        sin: Float[Tensor, "active 1 half"],
        documents: Documents,
        at: Int[Tensor, "kept"] | None = None,
        kept: list[BlockCache] | None = None,
    ) -> Float[Tensor, "kept width"]:
        """Return the final hidden states for what the first block receives: all that `forward` does on the
        device alone, but for embedding.
        """
        for number, block in enumerate(self.blocks):
            is_last = block is self.blocks[-1]
            h = block(
                h,
                cos=cos,
                sin=sin,
                documents=documents,
                at=at if is_last else None,
                cache=None if kept is None else kept[number],
            )
        return self.final_norm(h)

    def empty_cache(self, batch: Batch) -> KeyValueCache:
        """Return a cache for `batch`, of which no position is computed yet."""
        weight = self.embedding.weight
        return KeyValueCache.empty(
            num_blocks=self.config.depth,
            num_positions=batch.num_positions,
            num_heads=self.config.num_heads,
            head_dim=self.config.head_dim,
            device=weight.device,
            dtype=weight.dtype,
        )

    def embed(
        self, tokens: Int[Tensor, "rows slots"], batch: Batch, active: Int[Tensor, "active"] | None = None
    ) -> Float[Tensor, "active width"]:
        """Return what the first block receives: the sum of the embeddings of slots that share a position, at
        the active positions (None for all). In slot order: deterministic, unlike atomic additions on a GPU.
        """
        chosen = batch.position >= 0
        positions = torch.arange(batch.num_positions, device=chosen.device)
        if active is not None:
            is_active = torch.zeros(batch.num_positions, dtype=torch.bool).index_fill(0, active, True)
            chosen, positions = chosen & is_active[batch.position.clamp(min=0)], active
        position, order = batch.position[chosen].sort(stable=True)
        starts = torch.searchsorted(position, positions)
        slots = chosen.flatten().nonzero()[:, 0][order]
        device = self.embedding.weight.device
        # Tokens that are drawn on a GPU stay there, with the batch on the host.
        tokens = tokens.flatten().index_select(0, send(slots, tokens.device))
        tokens, starts = send(tokens, device), send(starts, device)
        return F.embedding_bag(tokens, self.embedding.weight, starts, mode="sum")

    def logits(self, hidden: Float[Tensor, "slots width"], range_index: int) -> Float[Tensor, "slots codes"]:
        """Return logits over the codebook range `range_index` for slots with these hidden states."""
        token_range = self.vocabulary.ranges[range_index]
        return F.linear(hidden, self.unembedding.weight[token_range.start : token_range.stop])

    def cross_entropy(
        self, tokens: Int[Tensor, "rows slots"], batch: Batch, is_predicted: Bool[Tensor, "rows slots"]
    ) -> Float[Tensor, "predicted"]:
        """Return −log p(clean token | `tokens`) in nats at the slots `is_predicted`, in row-major order.

        Logits are computed at those slots only, those of one codebook at a time.
        """
        hidden = self.forward(tokens, batch)
        target, position = batch.tokens[is_predicted], batch.position[is_predicted]
        range_index = batch.range_index[is_predicted]
        losses = torch.zeros(len(target), device=hidden.device)
        for token_range in self.vocabulary.ranges:
            chosen = (range_index == token_range.index).nonzero().squeeze(1)
            if len(chosen):
                rows = hidden[send(position[chosen], hidden.device)]
                # Ranges follow one another, so their logits side by side are those of all codes.
                over = self._normalized_over[token_range.index]
                within = [
                    each.index for each in self.vocabulary.ranges if over.start <= each.start < over.stop
                ]
                parts = [self.logits(rows, index) for index in within]
                logits = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
                right = send(target[chosen] - over.start, hidden.device)
                loss = F.cross_entropy(logits.float(), right, reduction="none")
                losses = losses.index_copy(0, send(chosen, hidden.device), loss)
        return losses

    def weighted_loss(
        self,
        tokens: Int[Tensor, "rows slots"],
        batch: Batch,
        is_predicted: Bool[Tensor, "rows slots"],
        scale: Float[Tensor, "predicted"],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "predicted"]]:
        """Return Σ scale · `cross_entropy`, and the detached `cross_entropy`: the fast path for training.

        At most a chunk of logits is held, and the last block skips positions that no slot reads. The loss has
        (zero) gradients even if no slot is predicted.
        """
        at, row = batch.position[is_predicted].unique(return_inverse=True)
        if not len(at):  # what scales float8 products has no largest of nothing
            at = at.new_zeros(1)
        return weighted_cross_entropy(
            self.forward(tokens, batch, at),
            self.unembedding.weight,
            position=row,
            target=batch.tokens[is_predicted],
            range_index=batch.range_index[is_predicted],
            scale=scale,
            ranges=self._normalized_over,
        )

    @property
    def _normalized_over(self) -> tuple[TokenRange, ...]:
        return self.config.normalization.widen(self.vocabulary.ranges)


def _places(at: Int[Tensor, "kept"], active: Int[Tensor, "active"]) -> Int[Tensor, "kept"]:
    """Find the positions `at` among the active ones."""
    places = torch.searchsorted(active, at.contiguous()).clamp(max=len(active) - 1)
    missing = at[active[places] != at]
    if len(missing):
        raise UserError(f"position {int(missing[0])} is not active: its hidden state is not computed")
    return places


def fill(parameter: Tensor, value: Tensor) -> None:
    """Copy the full tensor `value`, equal in all processes, into `parameter`, which may be sharded."""
    if hasattr(parameter, "device_mesh"):
        from torch.distributed.tensor import DTensor, distribute_tensor  # takes half a second to import

        assert isinstance(parameter, DTensor)
        whole = value.to(parameter.device)
        value = distribute_tensor(whole, parameter.device_mesh, parameter.placements, src_data_rank=None)
    parameter.copy_(value)
