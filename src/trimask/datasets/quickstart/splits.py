"""Splits by stable hashes: membership is a pure function of a name, so that adding data moves nothing."""

import hashlib

SPLITS = ("train", "composition", "validation", "test")


def hash_fraction(*names: str) -> float:
    """A uniform number in [0, 1) that depends on the names alone: the first 52 bits of SHA-256, over 2^52."""
    digest = hashlib.sha256("\x1f".join(names).encode()).hexdigest()
    return int(digest[:13], 16) / 16**13


def hash_split(kind: str, name: str, *, fraction: float) -> str:
    """Split of one unit (base emoji, sentence, year): `fraction` each to validation and test, else train."""
    position = hash_fraction("split", kind, name)
    if position < fraction:
        return "validation"
    return "test" if position < 2 * fraction else "train"


def withheld_variants(base: str, variants: list[str], *, fraction: float, at_most: int = 2) -> set[str]:
    """The few variants of a training base that are kept from training to test compositions.

    fraction * len(variants) of them in expectation, rounded at random by the hash of the base and never more
    than `at_most`; the base picture itself is not among `variants`, so something of each base always stays in
    training.
    """
    expected = fraction * len(variants)
    count = int(expected) + (hash_fraction("composition", base) < expected - int(expected))
    ranked = sorted(variants, key=lambda variant: hash_fraction("composition", variant))
    return set(ranked[: min(count, at_most)])
