"""The loop: what a sample depends on, what it costs, and what it reports; with random networks and spies."""

import itertools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast, final

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from design_space import CORRECTORS, COUNTS, ORDERS
from generation.fakes import hum, random_denoiser, tiny_vocabulary
from oracle import Oracle
from sampling.oracle_predictor import OraclePredictor
from trimask.errors import UserError
from trimask.sampling import (
    AdaptiveCount,
    Ancestral,
    Confidence,
    ConstantGuidance,
    Cosine,
    Count,
    DrawnOrder,
    Editing,
    EntropyBound,
    Event,
    EvidenceOrder,
    Filter,
    FirstHitting,
    FixedOrder,
    GuidanceRamp,
    IntervalGuidance,
    LinearGuidance,
    LowestEntropy,
    Order,
    PathPlanning,
    PlannedCount,
    Remasking,
    ReMDMCap,
    SamplerConfig,
    Temperature,
    Threshold,
    TimeGrid,
    TokenEditing,
    Uniform,
    sample,
)
from trimask.sampling.canvas import Canvas
from trimask.sampling.corrector import Revealed
from trimask.sampling.order import Step
from trimask.sampling.predictor import DenoiserPredictor, Prediction, Predictor
from trimask.sampling.sampler import Row, unmask
from trimask.vocabulary.batch import Batch
from trimask.vocabulary.layout import Vocabulary
from trimask.vocabulary.sequence import Sequence, build_sequence

PREDICTOR = DenoiserPredictor(random_denoiser())


class Spy:
    """Counts passes, the rows in them, and the slots whose log-probabilities were asked for."""

    def __init__(self, predictor: Predictor = PREDICTOR):
        self.predictor, self.num_slots = predictor, 0
        self.rows: list[int] = []
        self.vocabulary, self.device = predictor.vocabulary, predictor.device

    @property
    def num_passes(self) -> int:
        return len(self.rows)

    def __call__(self, z: Tensor, batch: Batch) -> Prediction:
        self.rows.append(len(z))
        prediction = self.predictor(z, batch)

        def counted(slots: Tensor, range_index: int) -> Tensor:
            self.num_slots += len(slots)
            return prediction(slots, range_index)

        return counted


def documents(vocabulary: Vocabulary) -> list[Sequence]:
    """Several tasks and lengths."""
    text = np.arange(7)[:, None] % 5
    image = np.arange(8).reshape(4, 2) % 5
    audio = (hum(5)[:10].reshape(5, 2) > 0).astype(np.int64)
    t, i, a = "text", "image", "speech"
    return [
        build_sequence(vocabulary, "text_to_image", {t: text, i: image}),
        build_sequence(vocabulary, "text", {t: text[:3]}),
        build_sequence(vocabulary, "text_to_speech", {t: text[:4], a: np.zeros((9, 2), dtype=np.int64)}),
        build_sequence(vocabulary, "triple", {t: text, i: image, a: audio}),
        build_sequence(vocabulary, "speech_to_text", {a: audio, t: text}),
        build_sequence(vocabulary, "joint", {t: text[:2], i: image}),
    ]


DOCUMENTS = documents(tiny_vocabulary())


def configure(order: Order, count: Count, **more: Any) -> SamplerConfig:
    steps = {"num_steps": 4, "grid": Cosine()} if count.has_steps else {}
    return SamplerConfig(order=order, count=count, **steps, **more)


def describe(config: SamplerConfig) -> str:
    return f"{config.order!r} {config.count!r} {config.corrector!r} {config.guidance_scale}"


CONFIGS = [
    *(configure(order, Ancestral()) for order in ORDERS),
    *(configure(LowestEntropy(), count) for count in COUNTS),
    *(
        SamplerConfig(num_steps=4, order=Confidence(noise_temperature=1.0), corrector=corrector)
        for corrector in CORRECTORS
    ),
    SamplerConfig(num_steps=4, order=Confidence(), guidance_scale=2.0, block_length=3, ends_last=True),
    SamplerConfig(num_steps=5, guidance_scale=3.0, guidance_ramp=IntervalGuidance(start=0.2, stop=0.7)),
    SamplerConfig(num_steps=3, filters=(Temperature(value=1.0, last=0.0),), order=LowestEntropy()),
]


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("config", CONFIGS, ids=describe)
def test_a_sample_depends_on_itself_alone(config: SamplerConfig) -> None:
    """Not on the batch size, the order of the documents, or which others there are."""
    together = sample(PREDICTOR, DOCUMENTS, config, seed=3)
    again = sample(PREDICTOR, DOCUMENTS, config, seed=3, batch_size=2)
    assert all(np.array_equal(*pair) for pair in zip(together, again, strict=True))
    chosen = [4, 0, 3]
    some = sample(PREDICTOR, [DOCUMENTS[k] for k in chosen], config, seed=3, keys=chosen)
    assert all(np.array_equal(tokens, together[k]) for tokens, k in zip(some, chosen, strict=True))


@settings(max_examples=15)
@given(st.permutations(range(6)), st.integers(1, 6), st.integers(0, len(CONFIGS) - 1))
def test_in_any_order_and_company(places: list[int], batch_size: int, config: int) -> None:
    expected = sample(PREDICTOR, DOCUMENTS, CONFIGS[config], seed=1)
    keys = [place for place in places if place != 2]
    found = sample(
        PREDICTOR, [DOCUMENTS[k] for k in keys], CONFIGS[config], seed=1, keys=keys, batch_size=batch_size
    )
    assert all(np.array_equal(tokens, expected[k]) for tokens, k in zip(found, keys, strict=True))


def test_seed_and_key_matter() -> None:
    config = SamplerConfig(num_steps=3)
    first, other_seed, other_key = (
        sample(PREDICTOR, DOCUMENTS[2:3], config, seed=seed, keys=[key])[0]
        for seed, key in ((0, 0), (1, 0), (0, 1))
    )
    assert not np.array_equal(first, other_seed) and not np.array_equal(first, other_key)


def test_rows_of_different_laws_share_a_pass() -> None:
    """As a server has them: each request with settings of its own, joining when it comes."""
    laws = [CONFIGS[0], CONFIGS[-3], SamplerConfig(count=FirstHitting()), CONFIGS[8]]
    rows = [
        Row(DOCUMENTS[k], PREDICTOR.vocabulary, law, seed=5, key=k, place=k) for k, law in enumerate(laws)
    ]
    found = {row.place: tokens for row, tokens in unmask(PREDICTOR, rows, batch_size=3)}
    for k, law in enumerate(laws):
        (alone,) = sample(PREDICTOR, [DOCUMENTS[k]], law, seed=5, keys=[k])
        assert np.array_equal(found[k], alone)


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("config", CONFIGS, ids=describe)
def test_every_target_is_filled_from_its_own_range(config: SamplerConfig) -> None:
    vocabulary, events = PREDICTOR.vocabulary, list[Event]()
    found = sample(PREDICTOR, DOCUMENTS, config, seed=0, callback=events.append)
    for place, (document, tokens) in enumerate(zip(DOCUMENTS, found, strict=True)):
        ranges = [vocabulary.ranges[r] for r in document.range_index[document.maskable]]
        targets = tokens[document.maskable]
        assert all(r.start <= token < r.stop for r, token in zip(ranges, targets, strict=True))
        assert np.array_equal(tokens[~document.maskable], document.tokens[~document.maskable])
        own = [event for event in events if event.row == place]
        assert [event.number for event in own] == list(range(len(own)))
        masked = set(document.maskable.nonzero()[0].tolist())
        for event in own:
            assert masked >= set(event.revealed.tolist()) and not masked & set(event.remasked.tolist())
            masked = (masked - set(event.revealed.tolist())) | set(event.remasked.tolist())
            assert event.num_masked == len(masked)
        assert not masked


def test_events_show_the_sequence_as_it_fills() -> None:
    shown: list[np.ndarray] = []
    config = SamplerConfig(num_steps=3)
    (tokens,) = sample(
        PREDICTOR, DOCUMENTS[:1], config, seed=0, callback=lambda event: shown.append(event.tokens())
    )
    mask = PREDICTOR.vocabulary.mask("image")
    assert [(z == mask).sum() for z in shown] == [8, 5, 3, 0]
    for before, after in itertools.pairwise(shown):
        assert np.array_equal(before[before != mask], after[before != mask])
    assert np.array_equal(shown[-1], tokens)


def test_total_variation_falls_with_steps(unchecked_shapes: None) -> None:
    oracle = Oracle.random(sharpness=2.0)
    predictor = OraclePredictor(oracle)
    document, number = predictor.document(), 2000
    place = oracle.vocabulary_size ** torch.arange(oracle.length).flip(0)
    distances = []
    for num_steps in (1, 2, 3):
        config = SamplerConfig(num_steps=num_steps)
        tokens = np.stack(sample(predictor, [document] * number, config, seed=1))
        is_target = torch.from_numpy(document.maskable).expand(number, -1)
        codes = predictor.codes(torch.from_numpy(tokens), is_target)
        frequency = (codes @ place).bincount(minlength=len(oracle.probability)) / number
        distances.append(0.5 * (frequency - oracle.probability).abs().sum().item())
    # 27 outcomes and 2,000 draws: about 0.04 is the noise of the exact distribution itself.
    assert distances[0] > 1.3 * distances[1] and distances[1] > 1.3 * distances[2]
    assert distances[2] < 0.06


def masked_after(config: SamplerConfig, document: Sequence) -> list[np.ndarray]:
    """Which slots are masked before the first pass and after each one."""
    masked = document.maskable.copy()
    found: list[np.ndarray] = []

    def note(event: Event) -> None:
        masked[event.revealed] = False
        masked[event.remasked] = True
        found.append(masked.copy())

    sample(PREDICTOR, [document], config, seed=0, callback=note)
    return found


def test_the_schedule_gives_the_counts_of_each_modality() -> None:
    document = DOCUMENTS[3]
    times = Uniform().times(5).numpy()
    found = masked_after(SamplerConfig(num_steps=5, order=Confidence(noise_temperature=1.0)), document)
    for t, masked in zip(times, found, strict=True):
        for start, stop in document.spans.values():
            assert masked[start:stop].sum() == np.rint((stop - start) * t)


def test_codebook_penalty_fills_coarse_codes_first() -> None:
    document = DOCUMENTS[0]
    start, stop = document.spans["image"]
    for masked in masked_after(
        SamplerConfig(num_steps=8, order=Confidence(codebook_penalty=100.0)), document
    ):
        coarse, fine = masked[start:stop].reshape(-1, 2).T
        assert not coarse.any() or fine.all()


@pytest.mark.parametrize("order", [*ORDERS[:2], Confidence()], ids=repr)
def test_blocks_go_strictly_left_to_right(order: Order) -> None:
    for num_steps in (1, 3, 20):
        config = SamplerConfig(num_steps=num_steps, order=order, block_length=2)
        for document in DOCUMENTS[:3]:
            for masked in masked_after(config, document):
                left = masked[document.maskable]
                block = np.arange(len(left)) // 2
                assert left.all() or not left.any() or block[~left].max() <= block[left].min()


def test_an_adaptive_count_stays_in_its_block() -> None:
    config = SamplerConfig(count=EntropyBound(nats=100.0), order=LowestEntropy(), block_length=3)
    found = masked_after(config, DOCUMENTS[2])  # eighteen targets, all of them within the bound
    assert [int(masked.sum()) for masked in found] == [18, 15, 12, 9, 6, 3, 0]


def test_path_planning_leaves_later_blocks_masked() -> None:
    """Slots of later blocks have no score yet; they must not crowd out what is revealed."""
    config = SamplerConfig(
        num_steps=6, order=Confidence(), block_length=6, corrector=PathPlanning(strength=0.0)
    )
    found = masked_after(config, DOCUMENTS[2])  # eighteen targets; nothing scores above a strength of 0
    assert [int(masked.sum()) for masked in found] == [18, 15, 12, 9, 6, 3, 0]


def test_a_fixed_order_asks_only_for_the_slots_it_fills() -> None:
    spy = Spy()
    sample(spy, DOCUMENTS, SamplerConfig(num_steps=6), seed=0)
    assert spy.num_slots == sum(document.maskable.sum() for document in DOCUMENTS)


def test_steps_that_reveal_nothing_cost_nothing() -> None:
    spy = Spy()
    sample(spy, DOCUMENTS[1:2], SamplerConfig(num_steps=40, order=Confidence()), seed=0)  # three targets
    assert spy.num_passes == 3


def test_rows_leave_when_full_and_others_join() -> None:
    spy = Spy()
    sample(spy, DOCUMENTS, SamplerConfig(num_steps=6), seed=0, batch_size=2)
    alone = [min(6, int(document.maskable.sum())) for document in DOCUMENTS]
    assert sum(spy.rows) <= sum(alone) and spy.num_passes < sum(alone) and max(spy.rows) == 2


def count_passes(guidance_scale: float, ramp: GuidanceRamp, document: Sequence) -> tuple[int, np.ndarray]:
    spy = Spy()
    config = SamplerConfig(num_steps=4, order=Confidence(), guidance_scale=guidance_scale, guidance_ramp=ramp)
    (tokens,) = sample(spy, [document], config, seed=0)
    return spy.num_passes, tokens


def test_guidance_costs_a_second_pass_only_where_it_acts() -> None:
    conditional, unconditional = DOCUMENTS[0], DOCUMENTS[1]
    passes, plain = count_passes(1.0, ConstantGuidance(), conditional)
    assert passes == 4
    guided_passes, guided = count_passes(4.0, ConstantGuidance(), conditional)
    assert guided_passes == 8 and not np.array_equal(plain, guided)
    assert count_passes(4.0, LinearGuidance(), conditional)[0] == 7
    assert count_passes(4.0, IntervalGuidance(start=0.4, stop=0.6), conditional)[0] == 5
    few, without = count_passes(1.0, ConstantGuidance(), unconditional)
    same, with_scale = count_passes(4.0, ConstantGuidance(), unconditional)
    assert few == same and np.array_equal(without, with_scale)


def test_what_a_target_holds_before_changes_nothing() -> None:
    config = SamplerConfig(num_steps=3)
    scrambled = [replace(d, tokens=np.where(d.maskable, d.tokens + 1, d.tokens)) for d in DOCUMENTS]
    pairs = zip(
        sample(PREDICTOR, DOCUMENTS, config, seed=0),
        sample(PREDICTOR, scrambled, config, seed=0),
        strict=True,
    )
    assert all(np.array_equal(*pair) for pair in pairs)


def test_given_slots_stay() -> None:
    """Infilling: some targets are given, the others are filled."""
    document = DOCUMENTS[0]
    given = document.maskable.copy()
    given[document.maskable.nonzero()[0][::2]] = False
    (tokens,) = sample(PREDICTOR, [replace(document, maskable=given)], SamplerConfig(num_steps=3), seed=0)
    assert np.array_equal(tokens[~given], document.tokens[~given])
    (nothing,) = sample(
        PREDICTOR, [replace(document, maskable=given & False)], SamplerConfig(num_steps=3), seed=0
    )
    assert np.array_equal(nothing, document.tokens)


def test_ends_last_fills_from_the_left() -> None:
    """An end code waits for the frame before it."""

    class Ends:
        """Predicts the end code everywhere, most surely at the right."""

        vocabulary, device = tiny_vocabulary(), torch.device("cpu")

        def __call__(self, z: Tensor, batch: Batch) -> Prediction:
            size = self.vocabulary.ranges[0].size

            def predict(slots: Tensor, range_index: int) -> Tensor:
                logits = torch.zeros(len(slots), size)
                logits[:, -1] = 5 + slots.float()
                return torch.log_softmax(logits, 1)

            return predict

    def first(ends_last: bool) -> np.ndarray:
        events: list[Event] = []
        config = SamplerConfig(num_steps=3, order=Confidence(), ends_last=ends_last)
        sample(Ends(), DOCUMENTS[1:2], config, seed=0, callback=events.append)
        return np.concatenate([event.revealed for event in events])

    slots = DOCUMENTS[1].maskable.nonzero()[0]
    assert np.array_equal(first(True), slots) and np.array_equal(first(False), slots[::-1])


@final
@dataclass(frozen=True)
class OddFixed(FixedOrder):
    returned: Any = None

    def rank(self, canvas: Canvas, step: int) -> Any:
        return self.returned


@final
@dataclass(frozen=True)
class OddEvidence(EvidenceOrder):
    def score(self, log_probabilities: Tensor) -> Any:
        return log_probabilities.argmax(1)


@final
@dataclass(frozen=True)
class OddScore(EvidenceOrder):
    returned: Any
    adjusted: Any = None

    def score(self, log_probabilities: Tensor) -> Any:
        return torch.full_like(log_probabilities[:, 0], self.returned)

    def adjust(self, score: np.ndarray, canvas: Canvas, step: Step) -> Any:
        return self.adjusted


@final
@dataclass(frozen=True)
class OddRamp(GuidanceRamp):
    returned: Any

    def scale(self, guidance_scale: float, revealed: float) -> Any:
        return self.returned


@final
@dataclass(frozen=True)
class OddDrawn(DrawnOrder):
    def score(self, log_probabilities: Tensor, code: Tensor, row: Tensor) -> Any:
        return log_probabilities


@final
@dataclass(frozen=True)
class OddCount(AdaptiveCount):
    def measure(self, log_probabilities: Tensor, previous: Tensor | None) -> Any:
        return log_probabilities[:, :1]

    def accept(self, history: Any) -> Any:
        return [True]


@final
@dataclass(frozen=True)
class OddMeasure(AdaptiveCount):
    def measure(self, log_probabilities: Tensor, previous: Tensor | None) -> Any:
        return None

    def accept(self, history: Any) -> Any:
        raise NotImplementedError


@final
@dataclass(frozen=True)
class OddPlan(PlannedCount):
    def times(self, canvas: Canvas, grid: Any) -> Any:
        return np.array([1.0, 0.5, 0.0])

    def number(self, canvas: Canvas, num_masked: int, num_remasked: int, step: Step) -> Any:
        return 0.5


@final
@dataclass(frozen=True)
class OddTimes(PlannedCount):
    def times(self, canvas: Canvas, grid: Any) -> Any:
        return None

    def number(self, canvas: Canvas, num_masked: int, num_remasked: int, step: Step) -> Any:
        raise NotImplementedError


@final
@dataclass(frozen=True)
class OddFilter(Filter):
    def __call__(self, log_probabilities: Tensor, masked: Tensor) -> Any:
        return None


@final
@dataclass(frozen=True)
class OddNumbers(Filter):
    returned: float

    def __call__(self, log_probabilities: Tensor, masked: Tensor) -> Tensor:
        changed = log_probabilities.clone()
        changed[0] = self.returned
        return changed


@final
@dataclass(frozen=True)
class OddEdit(Editing):
    def edit(self, log_probabilities: Tensor, code: Tensor) -> Any:
        return code + 9


@final
@dataclass(frozen=True)
class OddCorrector(Remasking):
    def choose(self, revealed: Revealed) -> Any:
        return revealed.log_probability


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (SamplerConfig(num_steps=2, order=OddFixed()), r"`rank` of the order OddFixed.* NoneType: return an"),
        (
            SamplerConfig(num_steps=2, order=OddFixed(returned=np.zeros(2))),
            r"`rank` .* returned ndarray of float64 of shape \(2,\): return an array of 8 numbers",
        ),
        *(
            (
                SamplerConfig(num_steps=2, order=OddFixed(returned=odd)),
                r"`rank` .*: return an array of 8 numbers",
            )
            for odd in (np.array([None] * 8), np.array(["a"] * 8), np.full(8, 1j), np.full(8, np.nan))
        ),
        (SamplerConfig(num_steps=2, order=OddEvidence()), r"`score` .* returned Tensor of torch.int64"),
        (SamplerConfig(num_steps=2, order=OddScore(math.nan)), r"`score` .* returned NaN for masked slots"),
        *(
            (
                SamplerConfig(num_steps=2, order=OddScore(0.0, odd)),
                r"`adjust` .* returned .*: return an array of 8",
            )
            for odd in (None, np.zeros(1), np.array([None] * 8), np.full(8, np.nan))
        ),
        *(
            (
                SamplerConfig(num_steps=2, guidance_scale=2.0, guidance_ramp=OddRamp(odd)),
                r"`scale` of the guidance ramp OddRamp.* returned .*: return a finite number, at most 10,000",
            )
            for odd in (None, "2", math.nan, math.inf, 1e30, 1j, np.ones(3))
        ),
        *(
            (
                SamplerConfig(num_steps=2, filters=(OddNumbers(odd),)),
                r"the filter OddNumbers.* returned NaN, inf",
            )
            for odd in (math.nan, math.inf, -math.inf)
        ),
        (SamplerConfig(num_steps=2, order=OddDrawn()), r"`score` .* of shape \(4, 5\): return a floating"),
        (SamplerConfig(count=OddCount()), r"`accept` of the count OddCount\(\) returned list: return an"),
        (SamplerConfig(count=OddMeasure()), r"`measure` of the count OddMeasure.* NoneType: return a float"),
        (SamplerConfig(count=OddPlan()), r"`number` of the count OddPlan\(\) returned float: return a whole"),
        (SamplerConfig(count=OddTimes()), r"`times` of the count OddTimes\(\) returned NoneType: return an"),
        (SamplerConfig(num_steps=2, filters=(OddFilter(),)), r"the filter OddFilter\(\) returned NoneType"),
        (
            SamplerConfig(num_steps=3, corrector=OddEdit()),
            r"`edit` of the corrector OddEdit.* a code below 5",
        ),
        (SamplerConfig(num_steps=2, corrector=OddCorrector()), r"`choose` of the corrector OddCorr.*float64"),
    ],
)
def test_what_users_parts_return_is_checked(
    config: SamplerConfig, message: str, unchecked_shapes: None
) -> None:
    with pytest.raises(UserError, match=message):
        sample(PREDICTOR, DOCUMENTS[:1], config, seed=0)


def test_an_order_cannot_write_to_its_canvas() -> None:
    @final
    @dataclass(frozen=True)
    class Writes(FixedOrder):
        def rank(self, canvas: Canvas, step: int) -> np.ndarray:
            canvas.slot[:] = 0
            raise NotImplementedError

    with pytest.raises(ValueError, match="read-only"):
        sample(PREDICTOR, DOCUMENTS[:1], SamplerConfig(num_steps=2, order=Writes()), seed=0)


def test_the_times_of_a_grid_are_checked() -> None:
    @final
    @dataclass(frozen=True)
    class Short(TimeGrid):
        def _time(self, done: Tensor) -> Any:
            return 1 - done[:-1]

    with pytest.raises(UserError, match=r"_time of the grid .*Short\(\) .*: return a tensor of 5"):
        Short().times(4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SamplerConfig(), "the count Scheduled needs num_steps: give"),
        (lambda: SamplerConfig(num_steps=3, count=Threshold()), "num_steps is 3, and the count Threshold"),
        (lambda: SamplerConfig(count=FirstHitting(), grid=Cosine()), r"no use for the grid Cosine\(\)"),
        (lambda: SamplerConfig(count=Threshold(), corrector=ReMDMCap()), "ReMDMCap hides slots from step"),
        (lambda: SamplerConfig(num_steps=3, corrector=PathPlanning()), "PathPlanning compares scores"),
        (lambda: SamplerConfig(num_steps=3, ends_last=True), "ends_last needs an order that looks"),
        (lambda: SamplerConfig(num_steps=3, block_length=0), "block_length is 0: give at least 1"),
        (
            lambda: SamplerConfig(num_steps=3, block_length=10**30),
            "block_length is 10{30}: .* at most 2,147,483",
        ),
        *(
            (
                partial(SamplerConfig, **{"num_steps": 3, name: value}),
                f"^{name} is {re.escape(repr(value))}: ",
            )
            for name, values in (
                ("num_steps", ("2", 2.5, True)),
                ("block_length", ("2", 2.5, True)),
                ("grid", (3, None)),
                ("ends_last", ("no", 1)),
                ("filters", (3, [], None)),
                ("guidance_ramp", (3, None)),
                ("guidance_scale", ("2", None, 1j)),
                ("recompute", (3, None)),
                ("length", (3, None)),
                ("targets", (3, None)),
            )
            for value in values
        ),
        (lambda: SamplerConfig(num_steps=3, filters=cast(Any, (3,))), r"^filters\[0\] is 3: give a Filter"),
        (
            lambda: SamplerConfig(num_steps=3, targets=cast(Any, {"image": 3})),
            r"^targets\['image'\] is 3: give a SamplerConfig",
        ),
    ],
)
def test_parts_that_do_not_go_together(
    make: Callable[[], SamplerConfig], message: str, unchecked_shapes: None
) -> None:
    with pytest.raises(UserError, match=message):
        make()


def test_editing_goes_with_any_count() -> None:
    config = SamplerConfig(count=Threshold(probability=0.5), corrector=TokenEditing(probability=0.05))
    assert len(sample(PREDICTOR, DOCUMENTS, config, seed=0)) == len(DOCUMENTS)
