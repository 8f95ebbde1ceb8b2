"""Keys and values of a batch, kept from one pass to the next."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trimask.devices import send
from trimask.errors import UserError
from trimask.vocabulary.batch import Batch


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BlockCache:
    """The keys and values of one block, and which positions a pass renews: None for all."""

    keys: Float[Tensor, "positions heads head_dim"]
    values: Float[Tensor, "positions heads head_dim"]
    active: Int[Tensor, "active"] | None

    def renew(
        self, k: Float[Tensor, "active heads head_dim"], v: Float[Tensor, "active heads head_dim"]
    ) -> tuple[Float[Tensor, "positions heads head_dim"], Float[Tensor, "positions heads head_dim"]]:
        """Write the keys and values of the active positions in place; return those of all positions."""
        if self.active is None:
            self.keys.copy_(k)
            self.values.copy_(v)
            return k, v  # as without a cache, to the bit: memory laid out otherwise may be rounded otherwise
        self.keys.index_copy_(0, self.active, k)
        self.values.index_copy_(0, self.active, v)
        return self.keys, self.values


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class KeyValueCache:
    """Keys (normalized if the model does so, and rotated) and values of every block, for all positions of a
    batch. Passes overwrite those that they compute. Holds 2 × depth × width numbers a position.

    Attributes:
        is_filled: which positions have been computed; on the host.
    """

    keys: Float[Tensor, "blocks positions heads head_dim"]
    values: Float[Tensor, "blocks positions heads head_dim"]
    is_filled: Bool[Tensor, "positions"]

    @classmethod
    def empty(
        cls,
        *,
        num_blocks: int,
        num_positions: int,
        num_heads: int,
        head_dim: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> "KeyValueCache":
        """Return a cache of which no position is computed yet."""
        # Zeros, since a mask multiplies the values of other documents by 0.
        keys, values = torch.zeros(
            2, num_blocks, num_positions, num_heads, head_dim, device=device, dtype=dtype
        ).unbind(0)
        return cls(keys=keys, values=values, is_filled=torch.zeros(num_positions, dtype=torch.bool))

    def select(self, positions: Int[Tensor, "chosen"]) -> "KeyValueCache":
        """Return a cache of these positions in this order, as when rows leave the batch."""
        chosen = send(positions, self.keys.device)
        return KeyValueCache(
            keys=self.keys.index_select(1, chosen),
            values=self.values.index_select(1, chosen),
            is_filled=self.is_filled[positions],
        )

    def followed_by(self, other: "KeyValueCache") -> "KeyValueCache":
        """Return a cache of these positions and then those of `other`, as when rows join the batch."""
        return KeyValueCache(
            keys=torch.cat([self.keys, other.keys], 1),
            values=torch.cat([self.values, other.values], 1),
            is_filled=torch.cat([self.is_filled, other.is_filled]),
        )

    def check(self, batch: Batch, active: Int[Tensor, "active"] | None) -> Int[Tensor, "active"] | None:
        """Return the active positions of a pass over `batch`, None for all, and note that they are computed.

        Raises:
            UserError: see `Denoiser.forward`.
        """
        assert not torch.is_grad_enabled(), "a cache has no gradients: call the denoiser in inference mode"
        num_positions = len(self.is_filled)
        if num_positions != batch.num_positions:
            raise UserError(f"a cache of {num_positions} positions for a batch of {batch.num_positions}")
        if active is None:
            self.is_filled.fill_(True)
            return None
        if not len(active):
            raise UserError("no position is active: there is nothing to compute")
        if active[0] < 0 or active[-1] >= num_positions or not (active.diff() > 0).all():
            raise UserError(
                f"active positions must ascend within 0…{num_positions - 1}, each once: sort them"
            )
        is_filled = self.is_filled.index_fill(0, active, True)
        self._check_documents(batch, active.contiguous(), is_filled)
        self.is_filled.copy_(is_filled)
        return None if len(active) == num_positions else active.contiguous()

    def _check_documents(
        self, batch: Batch, active: Int[Tensor, "active"], is_filled: Bool[Tensor, "positions"]
    ) -> None:
        """Check that no active position attends to one that was never computed."""
        if is_filled.all():
            return
        starts = batch.cu_positions[1:]
        missing = (~is_filled).nonzero()[:, 0]
        is_of_active = torch.isin(
            torch.searchsorted(starts, missing, right=True), torch.searchsorted(starts, active, right=True)
        )
        if is_of_active.any():
            raise UserError(
                f"position {int(missing[is_of_active][0])} was never computed: the first pass over a "
                "document must compute all of it"
            )

    def blocks(self, active: Int[Tensor, "active"] | None) -> list[BlockCache]:
        """Return the cache of each block, for a pass over the `active` positions."""
        active = None if active is None else send(active, self.keys.device)
        return [
            BlockCache(keys=keys, values=values, active=active)
            for keys, values in zip(self.keys, self.values, strict=True)
        ]
