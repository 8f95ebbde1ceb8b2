"""What the range of a slot says of it, looked up on the device."""

from typing import final

import torch
from jaxtyping import Int
from torch import Tensor

from trimask.vocabulary.layout import Vocabulary


@final
class SlotTables:
    """Modality, codebook and mask token by range index. Special tokens and padding have range −1: they have
    neither modality nor codebook (−1), and `pad` for a mask, which they never are.
    """

    def __init__(self, vocabulary: Vocabulary, device: torch.device):
        # The last entry answers for range −1.
        codebooks = [token_range.codebook for token_range in vocabulary.ranges]
        self._modality = torch.tensor([*vocabulary.modality_of_range.tolist(), -1], device=device)
        self._codebook = torch.tensor([*codebooks, -1], device=device)
        self._mask_id = torch.tensor([*vocabulary.mask_of_range.tolist(), vocabulary.pad], device=device)

    def modality(self, range_index: Int[Tensor, "*slots"]) -> Int[Tensor, "*slots"]:
        """Number of each slot's modality in the vocabulary."""
        return self._modality[range_index]

    def codebook(self, range_index: Int[Tensor, "*slots"]) -> Int[Tensor, "*slots"]:
        return self._codebook[range_index]

    def mask_id(self, range_index: Int[Tensor, "*slots"]) -> Int[Tensor, "*slots"]:
        """The token that masks each slot."""
        return self._mask_id[range_index]
