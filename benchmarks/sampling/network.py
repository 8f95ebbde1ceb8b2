"""What a twin sees of a model: the tokens to begin with, and logits for partly masked tokens.

A twin is written against `Network` alone, so that it runs on the exact oracle of the tests as on a denoiser.
Two networks stand before a denoiser: `VocabularyNetwork` for samplers that know one vocabulary, and
`CodeNetwork` for those that know the codes of one span.
"""

import math
from dataclasses import dataclass
from typing import Protocol, final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trimask.model.denoiser import Denoiser
from trimask.vocabulary.batch import Batch
from trimask.vocabulary.layout import Vocabulary
from trimask.vocabulary.slots import SlotTables


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Canvas:
    """The slots to fill.

    Attributes:
        tokens: what sampling begins with: conditions in place, masks at the targets.
        is_target: the slots to fill.
        mask_id: the token that masks each slot.
    """

    tokens: Int[Tensor, "rows slots"]
    is_target: Bool[Tensor, "rows slots"]
    mask_id: Int[Tensor, "rows slots"]

    def masked(self, z: Int[Tensor, "rows slots"]) -> Bool[Tensor, "rows slots"]:
        return self.is_target & (z == self.mask_id)

    def blocks(self, length: int) -> Int[Tensor, "rows slots"]:
        """Return the number of each target's block of `length` targets, counted from the left; -1
        elsewhere.
        """
        number = (self.is_target.long().cumsum(1) - 1) // length
        return torch.where(self.is_target, number, -1)


class Network(Protocol):
    """Predicts the token of each slot of a canvas."""

    @property
    def canvas(self) -> Canvas: ...

    def logits(self, z: Int[Tensor, "rows slots"]) -> Float[Tensor, "rows slots vocabulary"]:
        """Return unnormalized log p(token | z); -inf for a token that a slot cannot have."""
        ...


@final
class Count:
    """Passes through the network, and position-passes: the positions that each pass computes, summed."""

    def __init__(self) -> None:
        self.passes = self.positions = 0

    def add(self, positions: int) -> None:
        self.passes += 1
        self.positions += positions


@final
class Head:
    """The denoiser's output over the whole vocabulary, as the rivals' models have it.

    A slot's range is known here and not there, so tokens of other ranges get -inf: added as a bias, which
    costs next to nothing. Where nothing is drawn, any range serves.
    """

    def __init__(self, denoiser: Denoiser, batch: Batch):
        self.weight = denoiser.unembedding.weight
        ranges = batch.range_index[batch.maskable].unique().tolist()
        self.range_index = torch.where(batch.maskable, batch.range_index, ranges[0])
        self.bias: dict[int, Tensor] = {}
        for index in ranges:
            token_range = denoiser.vocabulary.ranges[index]
            self.bias[index] = torch.full((denoiser.vocabulary.size,), -math.inf)
            self.bias[index][token_range.start : token_range.stop] = 0

    def __call__(
        self, hidden: Float[Tensor, "rows some width"], slots: slice | Int[Tensor, "some"]
    ) -> Float[Tensor, "rows some vocabulary"]:
        """Return the logits at `slots` of each row."""
        if len(self.bias) == 1:
            return F.linear(hidden, self.weight, next(iter(self.bias.values())))
        range_index = self.range_index[:, slots]
        logits = hidden.new_empty(*hidden.shape[:2], len(self.weight))
        for index, bias in self.bias.items():
            here = range_index == index
            logits[here] = F.linear(hidden[here], self.weight, bias)
        return logits


@final
class VocabularyNetwork:
    """A denoiser as the rivals' language models are: logits over the whole vocabulary at every slot."""

    def __init__(self, denoiser: Denoiser, batch: Batch, count: Count):
        self.denoiser, self.batch, self.count = denoiser, batch, count
        self.head = Head(denoiser, batch)
        self.canvas = masked_canvas(batch, denoiser.vocabulary)
        self.position = batch.position.clamp(min=0)  # padding computes what nobody reads

    def logits(self, z: Int[Tensor, "rows slots"]) -> Float[Tensor, "rows slots vocabulary"]:
        self.count.add(self.batch.num_positions)
        return self.head(self.denoiser(z, self.batch)[self.position], slice(None))


@final
class CodeNetwork:
    """A denoiser as models of one span are, such as aMUSEd's: the canvas is the targets alone, a token is a
    code of its codebook, and one more id is the mask.

    All targets must have ranges of one size, and all rows as many targets.
    """

    def __init__(self, denoiser: Denoiser, batch: Batch, count: Count):
        self.denoiser, self.batch, self.count = denoiser, batch, count
        rows = len(batch.tokens)
        self.range_index = batch.range_index[batch.maskable].view(rows, -1)
        ranges = denoiser.vocabulary.ranges
        (self.size,) = {ranges[index].size for index in self.range_index.unique().tolist()}
        self.start = torch.tensor([token_range.start for token_range in ranges])[self.range_index]
        self.mask_id = masked_canvas(batch, denoiser.vocabulary).mask_id[batch.maskable].view(rows, -1)
        codes = torch.full_like(self.start, self.size)
        self.canvas = Canvas(tokens=codes, is_target=torch.ones_like(codes, dtype=torch.bool), mask_id=codes)

    def tokens(self, codes: Int[Tensor, "rows targets"]) -> Int[Tensor, "rows slots"]:
        """Put the codes, or masks, where they belong in the batch."""
        z = self.batch.tokens.clone()
        here = torch.where(codes == self.size, self.mask_id, codes + self.start)
        z[self.batch.maskable] = here.flatten()
        return z

    def logits(self, z: Int[Tensor, "rows targets"]) -> Float[Tensor, "rows targets codes"]:
        self.count.add(self.batch.num_positions)
        hidden = self.denoiser(self.tokens(z), self.batch)
        hidden = hidden[self.batch.position[self.batch.maskable]].view(*z.shape, -1)
        logits = hidden.new_empty(*z.shape, self.size)
        for index in self.range_index.unique().tolist():
            here = self.range_index == index
            logits[here] = self.denoiser.logits(hidden[here], index)
        return logits


def masked_canvas(batch: Batch, vocabulary: Vocabulary) -> Canvas:
    """Mask all targets of a batch."""
    mask_id = SlotTables(vocabulary, batch.tokens.device).mask_id(batch.range_index)
    tokens = torch.where(batch.maskable, mask_id, batch.tokens)
    return Canvas(tokens=tokens, is_target=batch.maskable, mask_id=mask_id)
