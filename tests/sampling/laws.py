"""The exact law of the samples of a sampler on the oracle, by enumeration: slow twins of the sampler's parts.

A state is a tuple of codes with `oracle.mask_id` where a slot is masked, and what else a law remembers. A
kernel maps a state to the states after one step, with their probabilities.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from oracle import Oracle

Codes = tuple[int, ...]
Law = dict[Codes, float]
Kernel = Callable[[Any], Iterable[tuple[float, Any]]]


class Twin:
    """The oracle's conditionals, state by state."""

    def __init__(self, oracle: Oracle, *, temperature: float = 1.0) -> None:
        self.oracle, self.temperature = oracle, temperature
        self._seen: dict[Codes, np.ndarray] = {}

    def p(self, z: Codes) -> np.ndarray:
        """p(x_i = v | z), slots × codes."""
        if z not in self._seen:
            self._seen[z] = self.oracle.probabilities(torch.tensor([z]))[0].numpy()
        return self._seen[z]

    def masked(self, z: Codes) -> list[int]:
        return [i for i, code in enumerate(z) if code == self.oracle.mask_id]

    def reveal(self, z: Codes, chosen: Sequence[int]) -> Iterator[tuple[float, Codes]]:
        """Draw codes at the chosen slots, independently given z."""
        p = self.p(z) ** (1 / self.temperature)
        p = p / p.sum(1, keepdims=True)
        for codes in itertools.product(range(self.oracle.vocabulary_size), repeat=len(chosen)):
            after, probability = list(z), 1.0
            for slot, code in zip(chosen, codes, strict=True):
                after[slot] = code
                probability *= p[slot, code]
            yield probability, tuple(after)

    def hide(self, z: Codes, hidden: Iterable[int]) -> Codes:
        hidden = set(hidden)
        return tuple(self.oracle.mask_id if i in hidden else code for i, code in enumerate(z))

    def start(self) -> Codes:
        return (self.oracle.mask_id,) * self.oracle.length

    def run(self, kernels: Sequence[Kernel], start: Any = None) -> dict[Any, float]:
        """The law of the states after some steps."""
        law: dict[Any, float] = {self.start() if start is None else start: 1.0}
        for kernel in kernels:
            after: dict[Any, float] = defaultdict(float)
            for state, probability in law.items():
                for factor, new in kernel(state):
                    if factor:
                        after[new] += probability * factor
            law = dict(after)
        return law

    def run_until_full(self, kernel: Callable[[Codes], Iterable[tuple[float, Codes]]]) -> Law:
        def unless_full(z: Codes) -> Iterable[tuple[float, Codes]]:
            return kernel(z) if self.masked(z) else [(1.0, z)]

        return self.run([unless_full] * self.oracle.length)

    # Which slots are next.

    def random(self, count: int) -> Kernel:
        """Any `count` of the masked slots are equally likely."""

        def kernel(z: Codes) -> Iterator[tuple[float, Codes]]:
            subsets = list(itertools.combinations(self.masked(z), count))
            for chosen in subsets:
                for probability, after in self.reveal(z, chosen):
                    yield probability / len(subsets), after

        return kernel

    def independent(self, share: float) -> Kernel:
        """Every masked slot is revealed with probability `share`."""

        def kernel(z: Codes) -> Iterator[tuple[float, Codes]]:
            masked = self.masked(z)
            for size in range(len(masked) + 1):
                for chosen in itertools.combinations(masked, size):
                    weight = share**size * (1 - share) ** (len(masked) - size)
                    for probability, after in self.reveal(z, chosen):
                        yield weight * probability, after

        return kernel

    def ranked(self, ranks: Iterable[Sequence[float]], count: int) -> Kernel:
        """The masked slots of the smallest rank; each of several rankings is equally likely."""
        ranks = list(ranks)

        def kernel(z: Codes) -> Iterator[tuple[float, Codes]]:
            for rank in ranks:
                chosen = sorted(self.masked(z), key=lambda slot: rank[slot])[:count]
                for probability, after in self.reveal(z, chosen):
                    yield probability / len(ranks), after

        return kernel

    def scored(self, score: Callable[[np.ndarray], float], count: int, *, block: int = 99) -> Kernel:
        """The masked slots of the largest score of their distribution; block by block."""

        def kernel(z: Codes) -> Iterator[tuple[float, Codes]]:
            p = self.p(z)
            chosen = sorted(self.masked(z), key=lambda slot: (slot // block, -score(p[slot])))[:count]
            yield from self.reveal(z, chosen)

        return kernel

    def drawn(self, score: Callable[[np.ndarray, int, np.ndarray], float], count: int) -> Kernel:
        """Draw all masked slots, and keep those of the largest score of the drawn code."""

        def kernel(z: Codes) -> Iterator[tuple[float, Codes]]:
            p, masked = self.p(z), self.masked(z)
            mean = p[masked].mean(0) if masked else p.mean(0)
            for probability, full in self.reveal(z, masked):
                best = sorted(masked, key=lambda slot: -score(p[slot], full[slot], mean))[:count]
                yield probability, tuple(full[i] if i in best else code for i, code in enumerate(z))

        return kernel

    def adaptive(
        self,
        score: Callable[[np.ndarray], float],
        accept: Callable[[list[np.ndarray]], list[bool]],
        *,
        block: int = 99,
    ) -> Kernel:
        """In order of the score, the slots that a rule accepts; the first if none."""

        def kernel(z: Codes) -> Iterator[tuple[float, Codes]]:
            p, masked = self.p(z), self.masked(z)
            masked = [slot for slot in masked if slot // block == masked[0] // block]
            ordered = sorted(masked, key=lambda slot: -score(p[slot]))
            accepted = accept([p[slot] for slot in ordered])
            chosen = [slot for slot, yes in zip(ordered, accepted, strict=True) if yes] or ordered[:1]
            yield from self.reveal(z, chosen)

        return kernel

    def flips(self, t: float, s: float, sigma: float) -> Kernel:
        """ReMDM: reveal each masked slot, and hide each revealed one, independently."""
        share = (t - s + sigma * (1 - t)) / t

        def kernel(z: Codes) -> Iterator[tuple[float, Codes]]:
            visible = [i for i in range(len(z)) if i not in self.masked(z)]
            for size in range(len(visible) + 1):
                for hidden in itertools.combinations(visible, size):
                    weight = sigma**size * (1 - sigma) ** (len(visible) - size)
                    for probability, after in self.independent(share)(z):
                        yield weight * probability, self.hide(after, hidden)

        return kernel

    def without(self, z: Codes, slot: int) -> np.ndarray:
        """p(x_slot = v | the other visible codes)."""
        return self.p(self.hide(z, [slot]))[slot]

    def planned(self, strength: float, number_after: int) -> Kernel:
        """P2: draw all masked slots; of all slots, those of the smallest log p are masked afterwards."""

        def kernel(z: Codes) -> Iterator[tuple[float, Codes]]:
            p, masked = self.p(z), self.masked(z)
            for probability, full in self.reveal(z, masked):
                score = [
                    math.log(p[i][full[i]]) if i in masked else strength * math.log(self.without(z, i)[z[i]])
                    for i in range(len(z))
                ]
                hidden = sorted(range(len(z)), key=lambda i: score[i])[:number_after]
                yield (
                    probability,
                    tuple(self.oracle.mask_id if i in hidden else c for i, c in enumerate(full)),
                )

        return kernel

    def edited(self, kernel: Kernel, limit: float) -> Kernel:
        """A step; before it, a code is replaced where one is at least so probable given the others."""

        def edit(z: Codes) -> Iterator[tuple[float, Codes]]:
            better = {
                i: int(self.without(z, i).argmax())
                for i in range(len(z))
                if i not in self.masked(z) and self.without(z, i).max() >= limit
            }
            for probability, after in kernel(z):
                yield probability, tuple(better.get(i, int(code)) for i, code in enumerate(after))

        return edit

    def stable(self, probability: float, limit: float) -> Law:
        """KLASS: the slots that are sure and whose prediction hardly moved twice, or the most probable."""

        def moved(now: Codes, before: Codes | None, slot: int) -> float:
            if before is None:
                return math.inf
            p, q = self.p(now)[slot], self.p(before)[slot]
            return float((p * np.log(p / q)).sum())

        def kernel(state: tuple[Codes, Codes | None, Codes | None]) -> Iterator[tuple[float, Any]]:
            z, last, older = state
            masked = self.masked(z)
            if not masked:
                yield 1.0, (z, None, None)
                return
            p = self.p(z)
            chosen = [
                slot
                for slot in masked
                if p[slot].max() >= probability
                and moved(z, last, slot) < limit
                and last is not None
                and moved(last, older, slot) < limit
            ]
            chosen = chosen or [max(masked, key=lambda slot: p[slot].max())]
            for weight, after in self.reveal(z, chosen):
                yield weight, (after, z, last)

        states = self.run([kernel] * (self.oracle.length + 1), start=(self.start(), None, None))
        return {state[0]: weight for state, weight in states.items()}

    def unsure(self, t: float, s: float, scale: float) -> Kernel:
        """ReMDM's confidence variant; a state is (codes, the probability of each when it was drawn)."""
        limit = min(1.0, s / (1 - t)) if t < 1 else 1.0

        def kernel(state: tuple[Codes, tuple[float, ...]]) -> Iterator[tuple[float, Any]]:
            z, drawn = state
            masked = self.masked(z)
            visible = [i for i in range(len(z)) if i not in masked]
            weights = np.exp([-drawn[i] for i in visible])
            shares = weights / weights.sum() * scale * limit if len(visible) else []
            p, outcomes = self.p(z), list(self.independent((t - s) / t)(z))
            for flags in itertools.product((False, True), repeat=len(visible)):
                chance = math.prod(q if f else 1 - q for f, q in zip(flags, shares, strict=True))
                hidden = [i for i, f in zip(visible, flags, strict=True) if f]
                for weight, after in outcomes:
                    codes = self.hide(after, hidden)
                    now = [p[i][after[i]] if z[i] != after[i] else drawn[i] for i in range(len(z))]
                    kept = [0.0 if i in self.masked(codes) else now[i] for i in range(len(z))]
                    yield chance * weight, (codes, tuple(kept))

        return kernel


class GuidedTwin(Twin):
    """Conditionals under guidance: base + Σ w_i · (log p_i − base), normalized, state by state.

    A weight is a function of the share that is revealed.
    """

    def __init__(self, base: Oracle, terms: Sequence[tuple[Oracle, Callable[[float], float]]]) -> None:
        super().__init__(base)
        self.terms = [(Twin(oracle), weight) for oracle, weight in terms]

    def p(self, z: Codes) -> np.ndarray:
        found, masked = super().p(z).copy(), self.masked(z)
        if masked:
            revealed = 1 - len(masked) / len(z)
            base = np.log(found[masked])
            terms = [weight(revealed) * (np.log(twin.p(z)[masked]) - base) for twin, weight in self.terms]
            mixed = np.exp(base + sum(terms))
            found[masked] = mixed / mixed.sum(1, keepdims=True)
        return found


def entropy(p: np.ndarray) -> float:
    return float(-(p * np.log(p)).sum())


def margin(p: np.ndarray) -> float:
    best = np.sort(p)[::-1]
    return float(best[0] - best[1])


def nats(oracle: Oracle, law: Law) -> float:
    """−Σ p log q, in nats per sequence."""
    pairs = zip(oracle.sequences.tolist(), oracle.probability.tolist(), strict=True)
    return -sum(p * math.log(law[tuple(x)]) for x, p in pairs)
