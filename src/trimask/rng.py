"""Named random streams: every random number is a pure function of (seed, names, sample, position).

Three kinds. `generator` gives a NumPy generator for host-side work (prompts, initialisation seeds).
`shuffled` reads a shuffle at one place without making the rest of it. `key` / `fold` / `uniform` give
counter-based uniforms on tensors, one independent stream per sample: sample 17 draws the same numbers at any
batch size, on any number of processes and on any device, because nothing is consumed from a shared state.
"""

import hashlib

import numpy as np
import torch
from jaxtyping import Float64, Int
from torch import Tensor

# SplitMix64 (Steele, Lea & Flood 2014), with the constants as signed 64-bit integers: torch has no
# full uint64 arithmetic.
_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_MULTIPLIER_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MULTIPLIER_2 = 0x94D049BB133111EB - (1 << 64)
_ALL_BITS = (1 << 64) - 1
_ROUNDS = 8


def key(seed: int, *names: str | int) -> int:
    """A signed 64-bit key for the stream `names` under `seed`; different names give unrelated keys."""
    digest = hashlib.blake2b(repr((seed, *names)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A NumPy generator for the stream `names` under `seed`."""
    return np.random.Generator(np.random.Philox(key=key(seed, *names) & _ALL_BITS))


def fold(stream_key: int, indices: Int[Tensor, "*n"]) -> Int[Tensor, "*n"]:
    """One key per sample: `indices` are the samples' global indices, so keys do not depend on the batch."""
    return _mix(_mix(indices.to(torch.int64) * _GOLDEN + stream_key) ^ stream_key)


def uniform(keys: Int[Tensor, "*n"], count: int) -> Float64[Tensor, "*n count"]:
    """`count` uniforms in [0, 1) for each key, with all 53 bits of a float64.

    Float64 because float32 uniforms lower the temperature of categorical draws silently (arXiv 2409.02908).
    """
    counters = torch.arange(1, count + 1, device=keys.device, dtype=torch.int64) * _GOLDEN
    bits = _mix(keys[..., None] + counters)
    return _shift_right(bits, 11).to(torch.float64) * 2.0**-53


def permute_index(place: int, length: int, stream_key: int) -> int:
    """What stands at `place` of a random order of 0 … length - 1, in O(1) time and memory.

    A Feistel network of eight rounds permutes the smallest 4^b >= max(length, 64); results past the end are
    permuted again until one falls inside, which keeps it a permutation (Black & Rogaway 2002).
    """
    assert 0 <= place < length
    bits = max(((length - 1).bit_length() + 1) // 2, 3)
    mask = (1 << bits) - 1
    while True:
        left, right = place >> bits, place & mask
        for number in range(_ROUNDS):
            bits_of_round = _mix_int(stream_key + right * _GOLDEN + number * _MULTIPLIER_1)
            left, right = right, left ^ (bits_of_round & mask)
        place = left << bits | right
        if place < length:
            return place


def _mix_int(x: int) -> int:
    """As `_mix`, for one Python integer."""
    x &= _ALL_BITS
    x = (x ^ (x >> 30)) * _MULTIPLIER_1 & _ALL_BITS
    x = (x ^ (x >> 27)) * _MULTIPLIER_2 & _ALL_BITS
    return x ^ (x >> 31)


def _mix(x: Int[Tensor, "*n"]) -> Int[Tensor, "*n"]:
    x = (x ^ _shift_right(x, 30)) * _MULTIPLIER_1
    x = (x ^ _shift_right(x, 27)) * _MULTIPLIER_2
    return x ^ _shift_right(x, 31)


def _shift_right(x: Int[Tensor, "*n"], bits: int) -> Int[Tensor, "*n"]:
    """Logical shift: torch's `>>` on int64 keeps the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
