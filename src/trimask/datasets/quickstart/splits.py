"""Splits by stable hashes: the split is a function of a name, so adding data does not change it."""

import hashlib

SPLITS = ("train", "composition", "validation", "test")


def hash_fraction(*names: str) -> float:
    """Hash names to a uniform number in [0, 1): the first 52 bits of SHA-256, divided by 2^52."""
    digest = hashlib.sha256("\x1f".join(names).encode()).hexdigest()
    return int(digest[:13], 16) / 16**13


def hash_split(kind: str, name: str, *, fraction: float) -> str:
    """Return the split of a unit (base emoji, sentence, year): `fraction` each for validation and test."""
    position = hash_fraction("split", kind, name)
    if position < fraction:
        return "validation"
    return "test" if position < 2 * fraction else "train"


def withheld_variants(base: str, variants: list[str], *, fraction: float, at_most: int = 2) -> set[str]:
    """Choose the variants of a training base that are held out to test compositions.

    Their number is fraction * len(variants), rounded at random by the hash of the base, and at most
    `at_most`. `variants` must not include the base picture itself, which always stays in training.
    """
    expected = fraction * len(variants)
    count = int(expected) + (hash_fraction("composition", base) < expected - int(expected))
    ranked = sorted(variants, key=lambda variant: hash_fraction("composition", variant))
    return set(ranked[: min(count, at_most)])
