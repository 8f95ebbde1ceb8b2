"""Guidance by several conditions and by a negative one: its formula, its law, its cost, and what it leaves
alone.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oracle import Oracle
from sampling.laws import GuidedTwin, Law, Twin, nats
from sampling.oracle_predictor import ConditionalPredictor
from sampling.test_laws import COUNTS, NUMBER, p_value
from sampling.test_recompute import RENEWING, equal
from sampling.test_sampler_loop import DOCUMENTS, PREDICTOR, Spy
from trimask.errors import UserError
from trimask.sampling import (
    Branch,
    Confidence,
    Everything,
    Guidance,
    GuidanceRamp,
    IntervalGuidance,
    LinearGuidance,
    LowestEntropy,
    Needed,
    Recompute,
    SamplerConfig,
    measure_profile,
    measure_sampler_likelihood,
    sample,
)
from trimask.sampling.guidance import NO_GUIDANCE
from trimask.sampling.passes import Passes
from trimask.sampling.predictor import Predictor
from trimask.sampling.row import Row, make_rows
from trimask.vocabulary.batch import make_batch
from trimask.vocabulary.sequence import Sequence, drop_conditions, exchange_conditions

pytestmark = pytest.mark.usefixtures("unchecked_shapes")  # other tests check them


def table(seed: int) -> Oracle:
    return Oracle.random(vocabulary_size=3, length=4, seed=seed, sharpness=1.0)


# Conditions of one, two and three codes, and none.
A, B, C = (0,), (1, 0), (1, 1, 0)
LABELLED = ConditionalPredictor({(A,): table(1), (B,): table(2), (C,): table(3), (None,): table(4)})
PAIRED = ConditionalPredictor({(A, B): table(1), (A, None): table(2), (None, None): table(3)})


def constant(weight: float) -> Callable[[float], float]:
    return lambda revealed: weight


def labelled(guidance: Guidance = NO_GUIDANCE) -> tuple[ConditionalPredictor, Sequence, Guidance]:
    return LABELLED, LABELLED.document(A), guidance


def of(label: tuple[int, ...], weight: float) -> Branch:
    return Branch(document=LABELLED.document(label), weight=weight)


WITHOUT_SECOND = drop_conditions(PAIRED.document(A, B), PAIRED.vocabulary, ["label1"])
LAWS: dict[str, tuple[tuple[ConditionalPredictor, Sequence, Guidance], SamplerConfig, GuidedTwin]] = {
    "one condition": (
        labelled(),
        SamplerConfig(num_steps=3, guidance_scale=2.5),
        GuidedTwin(table(4), [(table(1), constant(2.5))]),
    ),
    "two conditions": (
        labelled(Guidance(branches=(of(B, 1.5),))),
        SamplerConfig(num_steps=3, guidance_scale=2.0),
        GuidedTwin(table(4), [(table(1), constant(2.0)), (table(2), constant(1.5))]),
    ),
    "two conditions, one led away from, no scale": (
        labelled(Guidance(branches=(of(B, 1.0), of(C, -0.5)))),
        SamplerConfig(num_steps=3),
        GuidedTwin(
            table(4), [(table(1), constant(1.0)), (table(2), constant(1.0)), (table(3), constant(-0.5))]
        ),
    ),
    "a negative condition": (
        labelled(Guidance(base=LABELLED.document(C))),
        SamplerConfig(num_steps=3, guidance_scale=3.0),
        GuidedTwin(table(3), [(table(1), constant(3.0))]),
    ),
    "both, linear": (
        labelled(Guidance(base=LABELLED.document(C), branches=(of(B, 2.0),))),
        SamplerConfig(num_steps=3, guidance_scale=3.0, guidance_ramp=LinearGuidance()),
        GuidedTwin(table(3), [(table(1), lambda r: 1 + 2 * r), (table(2), lambda r: 2 * r)]),
    ),
    "both, on an interval": (
        labelled(Guidance(base=LABELLED.document(B), branches=(of(C, 1.0),))),
        SamplerConfig(num_steps=3, guidance_scale=2.0, guidance_ramp=IntervalGuidance(start=0.2, stop=0.5)),
        GuidedTwin(
            table(2),
            [
                (table(1), lambda r: 2.0 if 0.2 <= r < 0.5 else 1.0),
                (table(3), lambda r: 1.0 if 0.2 <= r < 0.5 else 0.0),
            ],
        ),
    ),
    # Scales of 3 and 1.5: ∅ + 1.5 · (first − ∅) + 3 · (both − first).
    "a scale for each of two conditions": (
        (PAIRED, PAIRED.document(A, B), Guidance(branches=(Branch(document=WITHOUT_SECOND, weight=-1.5),))),
        SamplerConfig(num_steps=3, guidance_scale=3.0),
        GuidedTwin(table(3), [(table(1), constant(3.0)), (table(2), constant(1.5 - 3.0))]),
    ),
}


def frequencies(name: str) -> Counter[tuple[int, ...]]:
    (predictor, document, guidance), config, _ = LAWS[name]
    tokens = np.stack(sample(predictor, [document] * NUMBER, config, seed=5, guidance=[guidance] * NUMBER))
    is_target = torch.from_numpy(document.maskable).expand(NUMBER, -1)
    return Counter(tuple(row) for row in predictor.codes(torch.from_numpy(tokens), is_target).tolist())


def random_law(twin: Twin) -> Law:
    return twin.run([twin.random(count) for count in COUNTS])


@pytest.mark.parametrize("name", LAWS)
def test_samples_follow_the_law(name: str) -> None:
    found = frequencies(name)
    assert p_value(found, random_law(LAWS[name][2])) > 1e-3
    assert p_value(found, random_law(Twin(table(1)))) < 1e-6  # that of the own condition alone is noticed


@pytest.mark.parametrize("name", LAWS)
def test_the_likelihood_is_that_of_the_law(name: str) -> None:
    """In a fixed order without noise, exactly."""
    (predictor, document, guidance), config, twin = LAWS[name]
    config = replace(config, order=LowestEntropy())
    law = twin.run([twin.scored(lambda p: float((p * np.log(p)).sum()), count) for count in COUNTS])
    oracle = table(1)
    start = predictor.vocabulary.ranges_of("made")[0].start
    documents = []
    for codes in oracle.sequences.numpy():
        tokens = document.tokens.copy()
        tokens[document.maskable] = codes + start
        documents.append(replace(document, tokens=tokens))
    found = measure_sampler_likelihood(
        predictor, documents, config, guidance=[guidance] * len(documents), batch_size=50
    )
    assert float(found.nats["made"] @ oracle.probability.numpy()) == pytest.approx(nats(oracle, law))


def test_the_profile_has_guidance() -> None:
    """Of a single step, it is the cross-entropy at all masked."""
    (predictor, document, guidance), config, twin = LAWS["both, linear"]
    config = replace(config, guidance_ramp=replace(IntervalGuidance(), stop=1.0), recompute=Needed())
    twin = GuidedTwin(table(3), [(table(1), constant(3.0)), (table(2), constant(2.0))])
    profile = measure_profile(predictor, [document] * 3, config, num_levels=2, guidance=[guidance] * 3)
    expected = -np.log(twin.p(twin.start())[:, 0]).mean()
    assert profile.cross_entropy() == pytest.approx([expected])


# A network: of its documents, some have conditions; the branches have others, of other lengths.
TEXT, SPEECH = {"text": np.array([[3], [1]])}, {"speech": np.ones((2, 2), dtype=np.int64)}


def guide(document: Sequence) -> Guidance:
    """A negative condition, and a further one; each longer or shorter than the document's own."""
    if "text" in document.task.condition:
        other, long = TEXT, {"text": np.arange(11)[:, None] % 5}
    elif "speech" in document.task.condition:
        other, long = SPEECH, {"speech": np.zeros((8, 2), dtype=np.int64)}
    else:
        return NO_GUIDANCE
    changed = [exchange_conditions(document, PREDICTOR.vocabulary, codes) for codes in (other, long)]
    return Guidance(base=changed[0], branches=(Branch(document=changed[1], weight=0.7),))


GUIDANCE = [guide(document) for document in DOCUMENTS]
CONFIGS = [
    SamplerConfig(num_steps=5, guidance_scale=2.0),
    SamplerConfig(num_steps=4, order=Confidence(noise_temperature=1.0), guidance_scale=3.0),
    SamplerConfig(num_steps=5, guidance_scale=2.0, guidance_ramp=IntervalGuidance(start=0.1, stop=0.7)),
    SamplerConfig(num_steps=4, order=LowestEntropy()),
]


def test_branches_have_conditions_of_other_lengths() -> None:
    for document, guidance in zip(DOCUMENTS, GUIDANCE, strict=True):
        for other in [guidance.base, *(branch.document for branch in guidance.branches)]:
            assert other is None or other.num_positions != document.num_positions
    assert sum(guidance is not NO_GUIDANCE for guidance in GUIDANCE) == 3


def predict(predictor: Predictor, rows: list[Row], z: torch.Tensor, weights: np.ndarray) -> torch.Tensor:
    """Log-probabilities at the first codebook's targets of row 0."""
    batch = make_batch([row.document for row in rows], range(len(rows)))
    passes = Passes(predictor)
    passes.arrange(rows, batch, [None] * len(rows))
    maskable = batch.maskable.numpy()
    prediction = passes.predict(z, weights, maskable, maskable)
    index = int(batch.range_index[0][batch.maskable[0]][0])
    slots = ((batch.range_index == index) & batch.maskable)[0].nonzero()[:, 0]
    return prediction(slots, index)


@pytest.mark.parametrize("place", [0, 2, 4])
@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_the_formula(place: int, scale: float) -> None:
    """Against passes over each document alone, with some targets revealed."""
    document, guidance = DOCUMENTS[place], GUIDANCE[place]
    vocabulary, config = PREDICTOR.vocabulary, SamplerConfig(num_steps=2, guidance_scale=2.0)
    start, stop = document.spans[document.task.targets_of(list(document.spans))[0]]
    codes = document.tokens[start:stop].copy()
    codes[3:] = vocabulary.mask_of_range[document.range_index[start:stop]][3:]

    def alone(each: Sequence) -> torch.Tensor:
        tokens, first = each.tokens.copy(), each.maskable.nonzero()[0][0]
        tokens[first : first + len(codes)] = codes
        (row,) = make_rows(vocabulary, [each], SamplerConfig(num_steps=2), seed=0)
        one = np.ones((1, 1, len(tokens)))
        return predict(PREDICTOR, [row], torch.from_numpy(tokens)[None], one)

    assert guidance.base is not None
    own, base, other = (alone(d) for d in (document, guidance.base, guidance.branches[0].document))
    rows = make_rows(vocabulary, [document, DOCUMENTS[3]], config, seed=0, guidance=[guidance, NO_GUIDANCE])
    batch = make_batch([row.document for row in rows], range(2))
    z = batch.tokens.clone()
    z[0, start:stop] = torch.from_numpy(codes)
    weights = np.zeros((2, *z.shape))
    weights[0] = 1
    weights[0, 0, start:stop], weights[1, 0, start:stop] = scale, 0.7
    found = predict(PREDICTOR, rows, z, weights)
    expected = torch.log_softmax(base + scale * (own - base) + 0.7 * (other - base), dim=-1)
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, own, atol=1e-3)


def test_what_does_not_guide_costs_nothing_and_changes_nothing() -> None:
    """A scale of 1 is exactly unguided, bit for bit, whatever base there is; so is a weight of 0."""
    for config in (SamplerConfig(num_steps=4), SamplerConfig(num_steps=4, order=Confidence())):
        plain, spy = Spy(), Spy()
        expected = sample(plain, DOCUMENTS, config, seed=2)
        nothing = [replace(each, branches=()) for each in GUIDANCE]
        assert equal(sample(spy, DOCUMENTS, config, seed=2, guidance=nothing), expected)
        assert spy.rows == plain.rows
        zeros = [replace(g, branches=tuple(replace(b, weight=0.0) for b in g.branches)) for g in GUIDANCE]
        assert equal(sample(spy, DOCUMENTS, config, seed=2, guidance=zeros), expected)
        assert spy.rows == 2 * plain.rows
        nats = [
            measure_sampler_likelihood(PREDICTOR, DOCUMENTS, SamplerConfig(num_steps=4), guidance=each)
            for each in (None, nothing, zeros)
        ]
        for name, one in nats[0].nats.items():
            assert np.array_equal(one, nats[1].nats[name]) and np.array_equal(one, nats[2].nats[name])


def rows_of(config: SamplerConfig, guidance: Guidance, place: int = 0) -> list[int]:
    spy = Spy()
    sample(spy, [DOCUMENTS[place]], config, seed=0, guidance=[guidance])
    return spy.rows


def test_all_branches_take_one_pass() -> None:
    plain = SamplerConfig(num_steps=2)
    scaled = replace(plain, guidance_scale=2.0)
    base_alone = replace(GUIDANCE[0], branches=())
    assert rows_of(plain, NO_GUIDANCE) == [1, 1]
    assert rows_of(scaled, NO_GUIDANCE) == rows_of(scaled, base_alone) == [1, 1, 1, 1]
    assert rows_of(plain, GUIDANCE[0]) == rows_of(scaled, GUIDANCE[0]) == [1, 2, 1, 2]
    assert rows_of(replace(scaled, guidance_ramp=LinearGuidance()), GUIDANCE[0]) == [1, 1, 2]


@final
@dataclass(frozen=True)
class Falling(GuidanceRamp):
    def scale(self, guidance_scale: float, revealed: float) -> float:
        return 1 + (guidance_scale - 1) * (1 - revealed)


def test_a_scale_of_1_is_not_asked_for() -> None:
    @final
    @dataclass(frozen=True)
    class Stubborn(GuidanceRamp):
        def scale(self, guidance_scale: float, revealed: float) -> float:
            return 3.0

    assert rows_of(SamplerConfig(num_steps=2, guidance_ramp=Stubborn()), NO_GUIDANCE) == [1, 1]
    assert len(rows_of(SamplerConfig(num_steps=2, guidance_scale=2.0, guidance_ramp=Falling()), GUIDANCE[0]))


@settings(max_examples=10)
@given(st.floats(0, 20))
def test_a_negative_condition_equal_to_the_own_is_no_guidance(scale: float) -> None:
    """own + w · (own − own) = own, up to rounding."""
    config = SamplerConfig(num_steps=4)
    plain = measure_sampler_likelihood(PREDICTOR, DOCUMENTS, config)
    guided = measure_sampler_likelihood(
        PREDICTOR,
        DOCUMENTS,
        replace(config, guidance_scale=scale),
        guidance=[Guidance(base=document) for document in DOCUMENTS],
    )
    for name, one in plain.nats.items():
        assert guided.nats[name] == pytest.approx(one, abs=1e-4)


@pytest.mark.parametrize("policy", RENEWING, ids=repr)
def test_renewing_in_every_pass_gives_the_same_bits(policy: Recompute) -> None:
    for config in (CONFIGS[0], CONFIGS[3]):
        found = [
            measure_sampler_likelihood(
                PREDICTOR, DOCUMENTS, replace(config, recompute=each), batch_size=4, guidance=GUIDANCE
            ).nats
            for each in (Everything(), policy)
        ]
        assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize("policy", [Everything(), Needed(), Needed(renew_every=2)], ids=repr)
@pytest.mark.parametrize("config", CONFIGS, ids=repr)
def test_a_sample_depends_on_itself_alone(config: SamplerConfig, policy: Recompute) -> None:
    """Rows with and without branches leave and join; their keys and values move with them."""
    config = replace(config, recompute=policy)
    together = sample(PREDICTOR, DOCUMENTS, config, seed=3, guidance=GUIDANCE)
    assert equal(sample(PREDICTOR, DOCUMENTS, config, seed=3, guidance=GUIDANCE, batch_size=2), together)
    chosen = [4, 1, 0, 3]
    some = sample(
        PREDICTOR,
        [DOCUMENTS[k] for k in chosen],
        config,
        seed=3,
        keys=chosen,
        guidance=[GUIDANCE[k] for k in chosen],
        batch_size=3,
    )
    assert equal(some, [together[k] for k in chosen])
    plain = sample(PREDICTOR, DOCUMENTS, config, seed=3)
    assert [np.array_equal(*pair) for pair in zip(plain, together, strict=True)][1]
    assert not equal(plain, together)


def test_targets_that_are_given_in_part_are_those_of_the_branches() -> None:
    document = DOCUMENTS[0]
    maskable = document.maskable.copy()
    maskable[document.maskable.nonzero()[0][::3]] = False
    partial = replace(document, maskable=maskable)
    other = exchange_conditions(partial, PREDICTOR.vocabulary, TEXT)
    config = SamplerConfig(num_steps=2, guidance_scale=4.0)
    (tokens,) = sample(PREDICTOR, [partial], config, seed=0, guidance=[Guidance(base=other)])
    assert np.array_equal(tokens[~maskable], document.tokens[~maskable])


def test_documents_that_do_not_fit_are_named() -> None:
    changed = DOCUMENTS[0].tokens.copy()
    given = DOCUMENTS[0].maskable.copy()
    first = given.nonzero()[0][0]
    given[first] = False
    changed[first] += 1
    own = replace(DOCUMENTS[0], maskable=given)
    config = SamplerConfig(num_steps=2)
    for document, other in (
        (DOCUMENTS[0], DOCUMENTS[1]),
        (DOCUMENTS[0], own),
        (own, replace(own, tokens=changed)),
    ):
        guidance = Guidance(branches=(Branch(document=other, weight=1.0),))
        with pytest.raises(UserError, match=r"text_to_image has other targets than it: make it from"):
            sample(PREDICTOR, [document], config, seed=0, guidance=[guidance])
    for weight in (float("nan"), float("inf"), 1e5):
        with pytest.raises(UserError, match=r"has the weight .*: give a number between -10,000"):
            Branch(document=own, weight=weight)


def test_conditions_are_exchanged_and_dropped() -> None:
    vocabulary, document = PREDICTOR.vocabulary, DOCUMENTS[2]
    text = np.array([[1], [2], [3], [4], [5], [6]])
    other = exchange_conditions(document, vocabulary, {"text": text})
    start, stop = other.spans["text"]
    assert np.array_equal(other.tokens[start:stop], vocabulary.tokens("text", text)[:, 0])
    assert other.maskable.sum() == document.maskable.sum()
    assert np.array_equal(
        exchange_conditions(other, vocabulary, {"text": np.arange(4)[:, None]}).tokens, document.tokens
    )
    dropped = drop_conditions(document, vocabulary)
    assert (dropped.tokens[document.is_condition] == vocabulary.mask("text")).all()
    assert np.array_equal(dropped.tokens[~document.is_condition], document.tokens[~document.is_condition])
    with pytest.raises(UserError, match="speech is no condition of task text_to_speech"):
        exchange_conditions(document, vocabulary, SPEECH)
