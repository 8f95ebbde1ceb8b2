"""Each order, count and corrector samples its exact law: enumerated on the oracle, and compared by χ²."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

from oracle import Oracle
from sampling.laws import Codes, Law, Twin, entropy, margin
from sampling.oracle_predictor import OraclePredictor
from trimask.sampling import (
    Ancestral,
    CalibratedConfidence,
    Checkerboard,
    CoarseFirst,
    Confidence,
    Cosine,
    EntropyBound,
    FactorRule,
    FirstHitting,
    FrechetBound,
    Halton,
    LargestMargin,
    LargestProbability,
    LeftToRight,
    LowestEntropy,
    PathPlanning,
    ReMDMCap,
    ReMDMConfidence,
    ReMDMLoop,
    ReMDMRescale,
    SamplerConfig,
    StableAndSure,
    Temperature,
    Threshold,
    TokenEditing,
    sample,
)

ORACLE = Oracle.random(vocabulary_size=3, length=4, seed=3, sharpness=2.0)
NUMBER = 1000
COUNTS = (1, 2, 1)  # what three uniform steps reveal of four slots: 4 -> round(8/3) -> round(4/3) -> 0
TIMES = (1.0, 2 / 3, 1 / 3, 0.0)
TWIN = Twin(ORACLE)


def frequencies(config: SamplerConfig, shape: Mapping[str, Any], seed: int = 5) -> Counter[Codes]:
    predictor = OraclePredictor(ORACLE, **shape)
    document = predictor.document()
    tokens = np.stack(sample(predictor, [document] * NUMBER, config, seed=seed))
    codes = predictor.codes(torch.from_numpy(tokens), torch.from_numpy(document.maskable).expand(NUMBER, -1))
    return Counter(tuple(row) for row in codes.tolist())


def p_value(found: Counter[Codes], law: Law) -> float:
    """Of the χ² test, with rare outcomes in one cell."""
    assert set(found) <= set(law) and math.isclose(sum(law.values()), 1, abs_tol=1e-9)
    cells = sorted(law, key=lambda x: law[x])
    common = [x for x in cells if law[x] * NUMBER >= 5]
    rare = [x for x in cells if x not in common]
    observed = [found[x] for x in common] + [sum(found[x] for x in rare)]
    expected = [law[x] * NUMBER for x in common] + [sum(law[x] for x in rare) * NUMBER]
    if not expected[-1]:
        observed, expected = observed[:-1], expected[:-1]
    return float(scipy.stats.chisquare(observed, expected).pvalue)


def in_steps(kernel: Callable[[int], Any]) -> Law:
    return TWIN.run([kernel(count) for count in COUNTS])


def log_p(p: np.ndarray, code: int, mean: np.ndarray) -> float:
    return math.log(p[code])


def calibrated(p: np.ndarray, code: int, mean: np.ndarray) -> float:
    return math.log(p[code]) - math.log(mean[code])


def random_ranks(*groups: tuple[int, ...]) -> list[list[float]]:
    """All rankings in which slots of one group come before those of the next."""
    found = []
    for parts in itertools.product(*(itertools.permutations(group) for group in groups)):
        order = [slot for part in parts for slot in part]
        found.append([float(order.index(slot)) for slot in range(len(order))])
    return found


def bounded(nats: float) -> Callable[[list[np.ndarray]], list[bool]]:
    def accept(ps: list[np.ndarray]) -> list[bool]:
        h = [entropy(p) for p in ps]
        return [sum(h[: k + 1]) - max(h[: k + 1]) <= nats for k in range(len(h))]

    return accept


def factored(factor: float) -> Callable[[list[np.ndarray]], list[bool]]:
    def accept(ps: list[np.ndarray]) -> list[bool]:
        number = max((n for n, p in enumerate(ps, 1) if (n + 1) * (1 - p.max()) < factor), default=0)
        return [place < number for place in range(len(ps))]

    return accept


def frechet(risk: float) -> Callable[[list[np.ndarray]], list[bool]]:
    return lambda ps: [sum(1 - p.max() for p in ps[: k + 1]) <= risk for k in range(len(ps))]


def sure(probability: float) -> Callable[[list[np.ndarray]], list[bool]]:
    return lambda ps: [p.max() >= probability for p in ps]


def largest(p: np.ndarray) -> float:
    return float(p.max())


def lowest_entropy(p: np.ndarray) -> float:
    return -entropy(p)


def remasked(sigma: Callable[[float, float], float]) -> Law:
    """ReMDM's chain over four uniform steps."""
    times = [1 - k / 4 for k in range(4)] + [0.0]
    kernels = [TWIN.flips(t, s, sigma(t, s) if s else 0.0) for t, s in itertools.pairwise(times)]
    return TWIN.run(kernels)


def largest_sigma(t: float, s: float) -> float:
    return min(1.0, s / (1 - t)) if t < 1 else 1.0


def looped() -> Law:
    """Down to 0.4 masked, some steps there with a σ of 0.3, and down to none."""

    def held(t: float) -> float:
        return 0.4 + 0.6 * (t - 0.75) / 0.25 if t >= 0.75 else 0.4 * min(t / 0.25, 1.0)

    times = [held(1 - k / 4) for k in range(4)] + [0.0]
    steps = [(t, s, 0.3 if t == s else 0.0) for t, s in itertools.pairwise(times)]
    return TWIN.run([TWIN.flips(*step) for step in steps])


def by_confidence() -> Law:
    kernels = [TWIN.unsure(t, s, 0.8) for t, s in itertools.pairwise(TIMES)]
    law: Law = {}
    for (codes, _), weight in TWIN.run(kernels, start=(TWIN.start(), (0.0,) * 4)).items():
        law[codes] = law.get(codes, 0.0) + weight
    return law


STEPS: dict[str, Any] = {"num_steps": 3}
FOUR: dict[str, Any] = {"num_steps": 4, "count": Ancestral()}
WITHOUT: dict[str, Any] = {"leaves_one_out": True}
PICTURE = {"grid": (2, 2)}
FRAMES = {"num_codebooks": 2}
LAWS: dict[str, tuple[SamplerConfig, Mapping[str, Any], Callable[[], Law]]] = {
    "random": (SamplerConfig(**STEPS), {}, lambda: in_steps(TWIN.random)),
    "random, cosine": (
        SamplerConfig(num_steps=3, grid=Cosine()),
        {},
        lambda: TWIN.run([TWIN.random(count) for count in (1, 1, 2)]),
    ),
    "random, temperature": (
        SamplerConfig(num_steps=3, filters=(Temperature(value=0.5),)),
        {},
        lambda: Twin(ORACLE, temperature=0.5).run(
            [Twin(ORACLE, temperature=0.5).random(count) for count in COUNTS]
        ),
    ),
    "ancestral": (
        SamplerConfig(**STEPS, count=Ancestral()),
        {},
        lambda: TWIN.run([TWIN.independent((t - s) / t) for t, s in itertools.pairwise(TIMES)]),
    ),
    "first hitting": (SamplerConfig(count=FirstHitting()), {}, lambda: TWIN.run([TWIN.random(1)] * 4)),
    "left to right": (
        SamplerConfig(**STEPS, order=LeftToRight()),
        {},
        lambda: in_steps(lambda count: TWIN.ranked([range(4)], count)),
    ),
    "halton": (
        SamplerConfig(**STEPS, order=Halton()),
        PICTURE,
        # Points (0, 0), (1/2, 1/3), (1/4, 2/3), (3/4, 1/9): cells 0, 2, 1, 2, …; 3 comes last.
        lambda: in_steps(lambda count: TWIN.ranked([[0, 2, 1, 3]], count)),
    ),
    "checkerboard": (
        SamplerConfig(**STEPS, order=Checkerboard()),
        PICTURE,
        lambda: in_steps(lambda count: TWIN.ranked(random_ranks((0, 3), (1, 2)), count)),
    ),
    "coarse first": (
        SamplerConfig(**STEPS, order=CoarseFirst()),
        FRAMES,
        lambda: in_steps(lambda count: TWIN.ranked(random_ranks((0, 2), (1, 3)), count)),
    ),
    "blocks": (
        SamplerConfig(**STEPS, block_length=2),
        {},
        lambda: in_steps(lambda count: TWIN.ranked(random_ranks((0, 1), (2, 3)), count)),
    ),
    "entropy": (
        SamplerConfig(**STEPS, order=LowestEntropy()),
        {},
        lambda: in_steps(lambda count: TWIN.scored(lowest_entropy, count)),
    ),
    "entropy in blocks": (
        SamplerConfig(**STEPS, order=LowestEntropy(), block_length=3),
        {},
        lambda: in_steps(lambda count: TWIN.scored(lowest_entropy, count, block=3)),
    ),
    "margin": (
        SamplerConfig(**STEPS, order=LargestMargin()),
        {},
        lambda: in_steps(lambda count: TWIN.scored(margin, count)),
    ),
    "largest probability": (
        SamplerConfig(**STEPS, order=LargestProbability()),
        {},
        lambda: in_steps(lambda count: TWIN.scored(largest, count)),
    ),
    "confidence": (
        SamplerConfig(**STEPS, order=Confidence()),
        {},
        lambda: in_steps(lambda count: TWIN.drawn(log_p, count)),
    ),
    "calibrated confidence": (
        SamplerConfig(**STEPS, order=CalibratedConfidence()),
        {},
        lambda: in_steps(lambda count: TWIN.drawn(calibrated, count)),
    ),
    "threshold": (
        SamplerConfig(count=Threshold(probability=0.7), order=LargestProbability()),
        {},
        lambda: TWIN.run_until_full(TWIN.adaptive(largest, sure(0.7))),
    ),
    "threshold in blocks": (
        SamplerConfig(count=Threshold(probability=0.7), order=LargestProbability(), block_length=2),
        {},
        lambda: TWIN.run_until_full(TWIN.adaptive(largest, sure(0.7), block=2)),
    ),
    "entropy bound": (
        SamplerConfig(count=EntropyBound(nats=0.5), order=LowestEntropy()),
        {},
        lambda: TWIN.run_until_full(TWIN.adaptive(lowest_entropy, bounded(0.5))),
    ),
    "factor": (
        SamplerConfig(count=FactorRule(factor=1.0), order=LargestProbability()),
        {},
        lambda: TWIN.run_until_full(TWIN.adaptive(largest, factored(1.0))),
    ),
    "stable and sure": (
        SamplerConfig(count=StableAndSure(probability=0.6, nats=0.05), order=LargestProbability()),
        {},
        lambda: TWIN.stable(0.6, 0.05),
    ),
    "ReMDM, cap": (
        SamplerConfig(**FOUR, corrector=ReMDMCap(cap=0.3)),
        {},
        lambda: remasked(lambda t, s: min(0.3, largest_sigma(t, s))),
    ),
    "ReMDM, rescale": (
        SamplerConfig(**FOUR, corrector=ReMDMRescale(scale=0.5)),
        {},
        lambda: remasked(lambda t, s: 0.5 * largest_sigma(t, s)),
    ),
    "ReMDM, confidence": (
        SamplerConfig(**STEPS, count=Ancestral(), corrector=ReMDMConfidence(scale=0.8)),
        {},
        by_confidence,
    ),
    "ReMDM, loop": (
        SamplerConfig(**FOUR, corrector=ReMDMLoop(start=0.75, stop=0.25, level=0.4, cap=0.3)),
        {},
        looped,
    ),
    "path planning": (
        SamplerConfig(num_steps=4, order=Confidence(), corrector=PathPlanning(strength=1.5)),
        WITHOUT,
        lambda: TWIN.run([TWIN.planned(1.5, number) for number in (3, 2, 1, 0)]),
    ),
    "token editing": (
        SamplerConfig(num_steps=4, corrector=TokenEditing(probability=0.6)),
        WITHOUT,
        lambda: TWIN.run([TWIN.edited(TWIN.random(1), 0.6)] * 4),
    ),
    "frechet": (
        SamplerConfig(count=FrechetBound(risk=0.5), order=LargestProbability()),
        {},
        lambda: TWIN.run_until_full(TWIN.adaptive(largest, frechet(0.5))),
    ),
}


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("name", LAWS)
def test_samples_follow_the_law(name: str) -> None:
    config, shape, law = LAWS[name]
    assert p_value(frequencies(config, shape), law()) > 1e-3


@pytest.mark.usefixtures("unchecked_shapes")
def test_steps_that_are_skipped_leave_the_law_alone() -> None:
    """Many steps, most of which reveal nothing: each has random numbers of its own."""
    config = SamplerConfig(num_steps=12, count=Ancestral())
    times = [1 - k / 12 for k in range(12)] + [0.0]
    law = TWIN.run([TWIN.independent((t - s) / t) for t, s in itertools.pairwise(times)])
    assert p_value(frequencies(config, {}), law) > 1e-3
    numbers: list[int] = []
    predictor = OraclePredictor(ORACLE)
    sample(
        predictor,
        [predictor.document()] * NUMBER,
        config,
        seed=7,
        callback=lambda event: numbers.append(len(event.revealed)) if event.number == 1 else None,
    )
    # The first pass that reveals anything reveals k slots at once as often as the first such step does.
    first, reached = np.zeros(5), 1.0
    for t, s in itertools.pairwise(times):
        p = (t - s) / t
        chances = np.array([math.comb(4, k) * p**k * (1 - p) ** (4 - k) for k in range(5)])
        first, reached = first + reached * chances * (np.arange(5) > 0), reached * chances[0]
    expected = first[1:] * NUMBER
    observed = np.bincount(numbers, minlength=5)[1:]
    assert (
        scipy.stats.chisquare(observed[:3], expected[:3] * observed[:3].sum() / expected[:3].sum()).pvalue
        > 1e-3
    )


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("name", ["ancestral", "entropy", "confidence", "threshold"])
def test_the_comparison_would_notice_the_wrong_law(name: str) -> None:
    found = frequencies(*LAWS["random"][:2])
    assert p_value(found, LAWS[name][2]()) < 1e-6 or name == "ancestral"
    exact = {tuple(x): p for x, p in zip(ORACLE.sequences.tolist(), ORACLE.probability.tolist(), strict=True)}
    assert p_value(found, exact) < 1e-6  # three steps are not exact
