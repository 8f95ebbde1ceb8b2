"""What names the random streams of a result: its inputs, and its number among those with the same inputs."""

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

from trimask import rng
from trimask.vocabulary.sequence import Sequence as Document


def derive_key(document: Document, number: int) -> int:
    """Return the key of the random streams of a result: a function of what is given and its number."""
    return rng.key(number, *_identify(document))


def number_alike(documents: Sequence[Document]) -> list[int]:
    """Number the documents that have the same inputs 0, 1, …"""
    seen: Counter[tuple[str, ...]] = Counter()
    numbers = []
    for document in documents:
        numbers.append(seen[_identify(document)])
        seen[_identify(document)] += 1
    return numbers


def _identify(document: Document) -> tuple[str, ...]:
    """Identify what is given: the task, all clean tokens, and the places of the others."""
    given = np.where(document.maskable, -1, document.tokens).astype(np.int64)
    return (document.task.name, hashlib.blake2b(given.tobytes(), digest_size=16).hexdigest())
