"""Named random streams: every random number is a pure function of (seed, names, sample, position).

Three kinds. `generator` gives a NumPy generator for host-side work (prompts, initialisation seeds).
`permute_index` evaluates a random permutation at one index without computing the rest. `key` / `fold` /
`uniform` give counter-based uniforms on tensors, one independent stream per sample: sample 17 draws the same
numbers at any batch size, on any number of processes and on any device, because there is no shared state.
"""

import hashlib

import numpy as np
import torch
from jaxtyping import Float64, Int
from torch import Tensor

# SplitMix64 (Steele, Lea & Flood 2014). The constants are signed 64-bit integers, since torch lacks full
# uint64 arithmetic.
_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_MULTIPLIER_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MULTIPLIER_2 = 0x94D049BB133111EB - (1 << 64)
_ALL_BITS = (1 << 64) - 1
_UNSIGNED_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ROUNDS = 8


def key(seed: int, *names: str | int) -> int:
    """Derive a signed 64-bit key for the stream `names` under `seed`; other names give unrelated keys."""
    digest = hashlib.blake2b(repr((seed, *names)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """Make a NumPy generator for the stream `names` under `seed`."""
    return np.random.Generator(np.random.Philox(key=key(seed, *names) & _ALL_BITS))


def fold(stream_key: int, indices: Int[Tensor, "*n"]) -> Int[Tensor, "*n"]:
    """Derive a key per sample from the samples' global `indices`: keys do not depend on the batch."""
    return _mix(_mix(indices.to(torch.int64) * _GOLDEN + stream_key) ^ stream_key)


def uniform(keys: Int[Tensor, "*n"], count: int) -> Float64[Tensor, "*n count"]:
    """Draw `count` uniforms in [0, 1) for each key, with all 53 bits of a float64.

    Float32 uniforms would silently lower the temperature of categorical draws (arXiv 2409.02908).
    """
    counters = torch.arange(1, count + 1, device=keys.device, dtype=torch.int64) * _GOLDEN
    bits = _mix(keys[..., None] + counters)
    return _shift_right(bits, 11).to(torch.float64) * 2.0**-53


def uniform_at(stream_key: int, places: Int[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
    """Draw the uniforms that `uniform` gives at `places` for the key `stream_key`, on the host."""
    with np.errstate(over="ignore"):
        bits = (
            np.uint64(stream_key & _ALL_BITS) + (places.astype(np.uint64) + np.uint64(1)) * _UNSIGNED_GOLDEN
        )
        for shift, multiplier in ((30, _MULTIPLIER_1), (27, _MULTIPLIER_2)):
            bits = (bits ^ (bits >> np.uint64(shift))) * np.uint64(multiplier & _ALL_BITS)
    return ((bits ^ (bits >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def fold_index(stream_key: int, index: int) -> int:
    """Return `fold(stream_key, index)` for one index, on the host."""
    inner = _mix_int(index * _GOLDEN + stream_key) ^ (stream_key & _ALL_BITS)
    return _signed(_mix_int(inner))


def permute_index(place: int, length: int, stream_key: int) -> int:
    """Return the image of `place` under a random permutation of 0 … length - 1, in O(1) time and memory.

    A Feistel network of eight rounds permutes the smallest 4^b >= max(length, 64). Results of at least
    `length` are permuted again until one is below it, which keeps it a permutation (Black & Rogaway 2002).
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


def _signed(x: int) -> int:
    """Read 64 bits as a signed integer."""
    return x - (1 << 64) if x >> 63 else x


def _mix_int(x: int) -> int:
    """`_mix` for one Python integer."""
    x &= _ALL_BITS
    x = (x ^ (x >> 30)) * _MULTIPLIER_1 & _ALL_BITS
    x = (x ^ (x >> 27)) * _MULTIPLIER_2 & _ALL_BITS
    return x ^ (x >> 31)


def _mix(x: Int[Tensor, "*n"]) -> Int[Tensor, "*n"]:
    x = (x ^ _shift_right(x, 30)) * _MULTIPLIER_1
    x = (x ^ _shift_right(x, 27)) * _MULTIPLIER_2
    return x ^ _shift_right(x, 31)


def _shift_right(x: Int[Tensor, "*n"], bits: int) -> Int[Tensor, "*n"]:
    """Shift logically: torch's `>>` on int64 keeps the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
