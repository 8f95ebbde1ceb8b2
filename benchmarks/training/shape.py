"""The work that every system does: sizes, the batch, and the FLOPs that an update of it needs."""

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """A transformer and a batch of text, all of it target. `vocabulary` counts every token that the head has
    logits for.
    """

    width: int
    depth: int
    num_heads: int
    rows: int = 8
    length: int = 256
    vocabulary: int = 8192

    @property
    def hidden(self) -> int:
        """Width of a SwiGLU feed-forward with as many weights as one of 4 × width without a gate."""
        return 32 * -(-self.width * 8 // 96)

    @property
    def tokens(self) -> int:
        return self.rows * self.length

    def needed_flops(self, matrix_parameters: int) -> float:
        """FLOPs that one update needs: forward, and twice that backward, with half of the tokens masked.

        6 × matrix parameters × tokens, attention's two products 12 × length × width × depth × tokens, and the
        head where tokens are masked, 6 × width × vocabulary × tokens / 2. After the last attention, only the
        masked half is read: the last block's output projection and feed-forward count for that half.

        `matrix_parameters`: weights of the blocks' matrices through which every token goes.
        """
        masked = self.tokens / 2
        spared = (matrix_parameters / self.depth - 3 * self.width**2) * (self.tokens - masked)
        attention = 2 * self.length * self.width * self.depth * self.tokens
        head = self.width * self.vocabulary * masked
        return 6 * (matrix_parameters * self.tokens - spared + attention + head)


SIZES = {
    "1M": Shape(width=128, depth=5, num_heads=2),
    "5M": Shape(width=256, depth=6, num_heads=4),
    "15M": Shape(width=384, depth=8, num_heads=6),
    "5M-50k": Shape(width=256, depth=6, num_heads=4, vocabulary=50_257),
}
"""By parameters outside the embedding and the head, roughly; heads have 64 dimensions. The last has the
vocabulary that MDLM's text models are trained on.
"""

TINY = Shape(width=64, depth=1, num_heads=1, rows=1, length=16, vocabulary=64)
"""To load all code before anything is measured."""
