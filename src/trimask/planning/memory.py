"""Memory of a device by part, at each moment of an update that can be the peak.

All parts are computed from shapes. The sum over the parts at the peak is the memory of tensors; process and
allocator overheads are added (`Hardware`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from trimask.model.attention import QKNorm
from trimask.model.denoiser import DenoiserConfig
from trimask.model.flops import block_parameters, count_parameters
from trimask.planning.hardware import Hardware
from trimask.planning.kept import (
    count_kept_after_attention,
    count_kept_by_block,
    count_recomputed_by_block,
    gathers,
    is_loop,
)
from trimask.training.compute import ComputeConfig, Precision
from trimask.vocabulary.layout import Vocabulary

_FP32 = 4
_CHUNK_BYTES = {False: 16 * 2**20, True: 2**30}  # of logits at once, on CPUs and GPUs: model/head.py
_MIN_CHUNK_ROWS = 128
_SLOT_BYTES = 8 * 12  # of a row's slot on the host: ids, numbers, masks, and the numbers they are drawn from


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """The moment of peak memory in an update.

    Attributes:
        name: when it occurs.
        parts: bytes by part.
    """

    name: str
    parts: Mapping[str, int]

    @property
    def total(self) -> int:
        return sum(self.parts.values())


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryModel:
    """The memory of one of `num_devices` devices that run the same updates.

    Attributes:
        has_average: whether the run keeps an average of its weights.
    """

    model: DenoiserConfig
    vocabulary: Vocabulary
    compute: ComputeConfig
    hardware: Hardware
    num_devices: int
    has_average: bool = False

    @property
    def precision(self) -> Precision:
        return self.compute.precision or (Precision.BF16 if self.hardware.is_gpu else Precision.FP32)

    @property
    def is_sharded(self) -> bool:
        """A single CPU process holds plain tensors; GPUs always shard."""
        return self.hardware.is_gpu or self.num_devices > 1

    @property
    def group(self) -> int:
        """Devices that jointly hold one copy of the model."""
        return self.num_devices // self.compute.replicas

    @property
    def element(self) -> int:
        """Bytes of a number in the products."""
        return _FP32 if self.precision is Precision.FP32 else 2

    @property
    def _block(self) -> int:
        """Parameters of one block."""
        return (block_parameters(self.model) - self.model.width) // self.model.depth

    @property
    def _table(self) -> int:
        """Parameters of the embedding; the unembedding has as many."""
        return self.vocabulary.size * self.model.width

    def state(self) -> dict[str, int]:
        """Return the bytes held between updates, by part."""
        shard = -(-count_parameters(self.model, self.vocabulary).total // self.group)
        held = {"fp32 parameters": _FP32 * shard, "AdamW moments": 2 * _FP32 * shard}
        return held | ({"average of the weights": _FP32 * shard} if self.has_average else {})

    def checkpoint_bytes(self) -> int:
        """Return the bytes of a checkpoint: parameters, both moments and any average, in fp32, over all
        devices."""
        copies = 4 if self.has_average else 3
        return copies * _FP32 * count_parameters(self.model, self.vocabulary).total

    def fullest(self, *, slots: int, positions: Sequence[int], read: Sequence[int] | None = None) -> Moment:
        """Return the moment of peak memory in an update.

        Args:
            slots: of the rows of the device's part of the batch.
            positions: of each pass. The first makes gradients, the others add to them.
            read: by the loss, of these; the last block has no others. None for all, as where all is masked.
        """
        passes = list(zip(positions, positions if read is None else read, strict=True))
        moments = [Moment(name="the update", parts=self.state() | {"gradients": self._gradients()})]
        for number, (of_pass, of_loss) in enumerate(passes):
            moments += self._of_pass(of_pass, of_loss, adds=number > 0)
        fullest = max(moments, key=lambda moment: moment.total)
        parts = fullest.parts if self.hardware.is_gpu else {**fullest.parts, "batch": slots * _SLOT_BYTES}
        return Moment(name=fullest.name, parts={name: size for name, size in parts.items() if size})

    def _of_pass(self, positions: int, read: int, *, adds: bool) -> Iterator[Moment]:
        yield self._at_head(positions, read, adds)
        for number in range(self.model.depth):
            yield self._at_block(number, positions, read, adds)
        yield self._at_embedding(positions, adds)

    def _gradients(self) -> int:
        """Return the bytes of all gradients in fp32, as used by the update."""
        return self.state()["fp32 parameters"]

    def _gathered(self, num_blocks: int) -> int:
        """Return the bytes of gathered parameters: tables and final norm for the whole pass, plus the blocks
        being computed or prefetched, or all blocks without resharding.
        """
        if not self.is_sharded:
            return 0
        held = self.model.depth if not self.compute.reshard else min(num_blocks, self.model.depth)
        return self.element * (2 * self._table + self.model.width + held * self._block)

    def _per_position(self) -> tuple[int, int, int, int]:
        """Return the bytes per position that a block keeps, recomputes, and has in flight in backward (two
        gradients of its residual stream; gate and up as parts and as a whole), and those kept after
        attention.
        """
        backend = self.compute.attention
        where = {"is_gpu": self.hardware.is_gpu, "is_half": self.precision is not Precision.FP32}
        shared = {
            "is_gpu": self.hardware.is_gpu,
            "is_looped": is_loop(backend, **where),
            "is_compiled": self.compute.compile,
        }
        how = shared | {
            "is_gathered": gathers(self.model.condition_attention, backend, **where),
            "has_qk_norm": self.model.qk_norm is QKNorm.RMS,
        }
        sizes = {
            "width": self.model.width,
            "hidden": self.model.hidden,
            "num_heads": self.model.num_heads,
            "element": self.element,
        }
        kept = count_kept_by_block(self.compute.recompute, **how).num_bytes(**sizes)
        again = count_recomputed_by_block(self.compute.recompute, **how).num_bytes(**sizes)
        after = count_kept_after_attention(self.compute.recompute, **shared).num_bytes(**sizes)
        return kept, again, self.element * (2 * self.model.width + 2 * self.model.hidden), after

    def activations(self, positions: int, read: int | None = None) -> int:
        """Return the activations after a forward pass: those of the blocks, and the final norm's input,
        output and, on a CPU, intermediates.
        """
        read = positions if read is None else read
        kept, _, _, after = self._per_position()
        ends = self.element * self.model.width * (2 if self.hardware.is_gpu else 3)
        blocks = positions * self.model.depth * kept - (positions - read) * after
        return blocks + read * ends + self._around(positions)

    def _around(self, positions: int) -> int:
        """Return the bytes kept outside of blocks: cosines and sines in fp32, and token indices."""
        return positions * (_FP32 * self.model.head_dim + 4 * 8)

    def _at_head(self, positions: int, read: int, adds: bool) -> Moment:
        """Return the memory between forward and backward: all activations, the unembedding's gradient, and a
        chunk of logits."""
        width, element = self.model.width, self.element
        widened = self.model.normalization.widen(self.vocabulary.ranges)
        largest = max(token_range.size for token_range in widened)
        rows = max(_MIN_CHUNK_ROWS, _CHUNK_BYTES[self.hardware.is_gpu] // (_FP32 * largest))
        rows = min(rows, read)
        logits = rows * (largest * (_FP32 if element == _FP32 else _FP32 + element) + 4 * width * element)
        # In half precision a range's gradient is summed in fp32, and each chunk's comes in half.
        logits += 0 if element == _FP32 else largest * width * (_FP32 + element)
        return Moment(
            name="the head, between forward and backward pass",
            parts={
                **self.state(),
                "gradients": self._gradients() if adds else 0,
                "gathered parameters": self._gathered(1),
                "gradients before reduction": element * self._table,
                "activations": self.activations(positions, read),
                "head": logits + read * element * width,  # and the gradient of what it reads
            },
        )

    def _at_block(self, number: int, positions: int, read: int, adds: bool) -> Moment:
        """Return the memory in the backward pass of block `number`: it and earlier blocks still hold their
        activations."""
        kept, again, in_flight, after = self._per_position()
        done = self.model.depth - 1 - number
        computed, spared = (positions, 0) if done else (read, (positions - read) * after)
        if self.is_sharded:
            # In its precision, and in fp32 on the way to those who keep it: this one's and the last one's.
            # The unembedding's waits for the embedding's.
            before = (self.element + 2 * _FP32) * self._block + self.element * self._table
            part = self._block * done // self.group
            gradients = self._gradients() if adds else _FP32 * part
        elif adds:
            before = _FP32 * 2 * self.model.width * self.model.hidden  # of one matrix, to be added
            gradients = self._gradients()
        else:
            before = 0
            gradients = _FP32 * (self._table + (done + 1) * self._block)
        return Moment(
            name=f"backward through block {number + 1} of {self.model.depth}",
            parts={
                **self.state(),
                "gradients": gradients,
                "gathered parameters": self._gathered(2),
                "gradients before reduction": before,
                "activations": positions * (number + 1) * kept
                + computed * again
                - spared
                + self._around(positions),
                "backward pass": computed * in_flight,
            },
        )

    def _at_embedding(self, positions: int, adds: bool) -> Moment:
        """Return the memory at the end of backward: the tables' gradients are complete and reduced
        together."""
        if self.is_sharded:
            before = (self.element + _FP32) * 2 * self._table
            blocks = _FP32 * (self._block * self.model.depth // self.group)
            gradients = self._gradients() if adds else blocks
        else:
            before = _FP32 * self._table if adds else 0
            gradients = self._gradients()
        return Moment(
            name="backward through the embedding",
            parts={
                **self.state(),
                "gradients": gradients,
                "gathered parameters": self._gathered(0),
                "gradients before reduction": before,
                "activations": self._around(positions),
                "backward pass": positions * self.element * self.model.width,
            },
        )
