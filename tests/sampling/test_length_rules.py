"""Length rules against models whose lengths are known, since their slots are independent."""

from collections.abc import Sequence as Rows
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trimask.config import from_dict, override, to_dict
from trimask.errors import UserError
from trimask.sampling import (
    Event,
    Given,
    Grown,
    Guidance,
    LengthRule,
    Predicted,
    SamplerConfig,
    Span,
    Temperature,
    measure_sampler_likelihood,
    sample,
)
from trimask.sampling.length import LONGEST_SPAN
from trimask.sampling.predictor import Prediction
from trimask.sampling.row import Row
from trimask.vocabulary.batch import Batch
from trimask.vocabulary.layout import CodeSpace, Vocabulary
from trimask.vocabulary.sequence import Sequence, build_sequence, exchange_conditions
from trimask.vocabulary.task import Task

SIZE = 3
VOCABULARY = Vocabulary(
    spaces=(
        CodeSpace(name="clue", num_codebooks=1, codebook_size=4, has_end=False),
        CodeSpace(name="line", num_codebooks=1, codebook_size=SIZE, has_end=True),
        CodeSpace(name="pair", num_codebooks=2, codebook_size=SIZE, has_end=True),
    ),
    tasks=(
        Task(name="write", spans=(("line",),)),
        Task(name="answer", spans=(("clue", "line"),), condition=("clue",)),
        Task(name="sing", spans=(("clue", "pair"),), condition=("clue",)),
        Task(name="both", spans=(("line", "pair"),)),
    ),
)
ONCE = SamplerConfig(num_steps=1)


class Independent:
    """A model whose slots are independent of each other: P(end code) is `ends[clue][frame]`, the last one
    beyond, and the other codes have fixed shares, which differ from frame to frame."""

    vocabulary, device = VOCABULARY, torch.device("cpu")

    def __init__(self, *ends: Rows[float]) -> None:
        self.ends = [np.array(each, dtype=np.float64) for each in ends]
        self.num_passes = self.num_positions = 0

    def law(self, clue: int, frame: int) -> np.ndarray:
        """The codes of a frame, its end code last."""
        ends = self.ends[clue % len(self.ends)]
        end = ends[min(frame, len(ends) - 1)]
        shares = np.array([1.0, 2.0, 4.0])
        return np.append(np.roll(shares / shares.sum(), frame) * (1 - end), end)

    def __call__(self, z: Tensor, batch: Batch) -> Prediction:
        self.num_passes += 1
        self.num_positions += batch.num_positions
        width = z.shape[1]
        clue_range, range_index = VOCABULARY.ranges[0], batch.range_index.numpy()

        def predict(slots: Tensor, index: int) -> Tensor:
            found = []
            for slot in slots.tolist():
                row, place = divmod(slot, width)
                of_modality = np.isin(
                    range_index[row],
                    [r.index for r in VOCABULARY.ranges_of(VOCABULARY.ranges[index].modality)],
                )
                first = int(of_modality.nonzero()[0][0])
                frame = (place - first) // VOCABULARY.space(VOCABULARY.ranges[index].modality).num_codebooks
                clues = batch.tokens[row][range_index[row] == clue_range.index] - clue_range.start
                found.append(self.law(int(clues.sum()), frame))
            return torch.from_numpy(np.array(found)).clamp(min=1e-300).log()

        return predict


def document(task: str, frames: int, clue: int = 0, *, prefix: Rows[int] = ()) -> Sequence:
    """A sequence with `frames` to fill, of which `prefix` are given."""
    spans = VOCABULARY.task(task).spans[0]
    codes = {
        name: np.full((1, 1), clue)
        if name == "clue"
        else np.zeros((frames, VOCABULARY.space(name).num_codebooks), dtype=np.int64)
        for name in spans
    }
    made = build_sequence(VOCABULARY, task, codes)
    start = made.spans["line"][0] if "line" in made.spans else 0
    for place, code in enumerate(prefix):
        made.tokens[start + place] = VOCABULARY.ranges[1].start + code
        made.maskable[start + place] = False
    return made


def content(task: str, tokens: np.ndarray, name: str = "line") -> tuple[list[Any], bool]:
    """The codes of a span before its end, and whether it has one; the other spans have the rest's length."""
    spans = VOCABULARY.task(task).spans[0]
    start = 2 + (3 if "clue" in spans else 0)
    codes, is_complete = VOCABULARY.codes(
        name, tokens[start:-1].reshape(-1, VOCABULARY.space(name).num_codebooks)
    )
    return codes.tolist(), is_complete


laws = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(pmf=laws.filter(lambda p: sum(p) > 0), quantile=st.floats(0.01, 0.99), planned=st.integers(1, 16))
def test_the_predicted_span_is_the_quantile_of_the_length(
    pmf: list[float], quantile: float, planned: int
) -> None:
    """Of a length with a known law, the span has room for its quantile and the end code."""
    cumulative = np.cumsum(pmf) / sum(pmf)
    events: list[Event] = []
    config = SamplerConfig(num_steps=1, length=Predicted(quantile=quantile))
    sample(
        Independent(cumulative.tolist()), [document("write", planned)], config, seed=0, callback=events.append
    )
    wanted = next(n for n in range(len(pmf)) if cumulative[n] >= quantile)
    assert events[0].num_masked == min(wanted + 1, planned)


def test_several_codebooks_are_one_length() -> None:
    model = Independent([0.0, 0.2, 0.9, 1.0])
    config = SamplerConfig(num_steps=1, length=Predicted(quantile=0.5))
    (tokens,) = sample(model, [document("sing", 8)], config, seed=0)
    assert len(tokens) - 6 == 2 * 3


def test_a_probability_that_falls_again_is_not_trusted() -> None:
    model = Independent([0.1, 0.99, 0.3, 0.99, 0.99, 0.2])
    for planned, wanted in ((5, 4), (6, 6), (9, 9)):
        config = SamplerConfig(num_steps=1, length=Predicted(quantile=0.9))
        (tokens,) = sample(model, [document("write", planned)], config, seed=0)
        assert len(tokens) - 3 == wanted


def test_a_beginning_leaves_something_to_fill() -> None:
    config = SamplerConfig(num_steps=1, length=Predicted(quantile=0.5))
    (tokens,) = sample(Independent([1.0]), [document("write", 9, prefix=[2, 1, 0])], config, seed=0)
    assert content("write", tokens) == ([[2], [1], [0]], True) and len(tokens) - 3 == 4


def test_a_prediction_takes_one_pass_and_saves_positions() -> None:
    plain, predicted = Independent([0.0, 0.0, 1.0]), Independent([0.0, 0.0, 1.0])
    steps = SamplerConfig(num_steps=3)
    sample(plain, [document("write", 30)] * 4, steps, seed=0)
    sample(predicted, [document("write", 30)] * 4, SamplerConfig(num_steps=3, length=Predicted()), seed=0)
    assert predicted.num_passes == plain.num_passes + 1
    assert predicted.num_positions == 4 * (33 + 3 * 6) and plain.num_positions == 4 * 3 * 33


GREEDY = (Temperature(value=0.0),)


@pytest.mark.parametrize("first", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("length", [0, 1, 4, 7])
def test_a_grown_span_is_the_one_long_span(first: int, length: int) -> None:
    """Where slots are independent, at temperature 0 exactly."""
    model = Independent([0.0] * length + [1.0])
    plain = SamplerConfig(num_steps=2, filters=GREEDY)
    grown = SamplerConfig(num_steps=2, filters=GREEDY, length=Grown(share=0.4, most=10.0))
    (long,) = sample(model, [document("write", 12)], plain, seed=0)
    (pieces,) = sample(model, [document("write", first)], grown, seed=0)
    found, is_complete = content("write", pieces)
    assert is_complete and len(found) == length and (found, True) == content("write", long)


def test_a_grown_span_has_the_law_of_the_long_span() -> None:
    """At temperature 1: the frequencies of all texts, against their probabilities.

    χ² of 3,000 samples over 32 classes: 61 is its 0.1 % quantile at 31 degrees of freedom.
    """
    model = Independent([0.3, 0.2, 0.5])
    config = SamplerConfig(num_steps=2, length=Grown(share=0.5, most=2.0))
    rows = sample(model, [document("write", 2)] * 3000, config, seed=3, batch_size=500)
    observed: dict[tuple[int, ...], int] = {}
    for tokens in rows:
        codes, is_complete = content("write", tokens)
        # Of long texts only the length and the last frames are told apart, for enough samples per class.
        texts = [code for (code,) in codes]
        key = (len(texts), int(is_complete), *texts[-1:], *(texts[:1] if len(texts) < 4 else []))
        observed[key] = observed.get(key, 0) + 1
    expected: dict[tuple[int, ...], float] = {}

    def walk(texts: list[int], probability: float) -> None:
        if len(texts) == 4:
            key = (4, 0, texts[-1])
            expected[key] = expected.get(key, 0) + probability
            return
        law = model.law(0, len(texts))
        key = (len(texts), 1, *texts[-1:], *texts[:1])
        expected[key] = expected.get(key, 0) + probability * law[-1]
        for code in range(SIZE):
            walk([*texts, code], probability * law[code])

    walk([], 1.0)
    assert observed.keys() <= expected.keys()
    assert abs(sum(expected.values()) - 1) < 1e-12
    large = {key: p * 3000 for key, p in expected.items() if p * 3000 >= 5}
    chi = sum((observed.get(key, 0) - mean) ** 2 / mean for key, mean in large.items())
    assert len(large) <= 32 and chi < 61


@settings(max_examples=40, deadline=None)
@given(
    planned=st.integers(1, 6),
    share=st.floats(0.01, 3.0),
    most=st.floats(1.0, 5.0),
)
def test_a_span_never_grows_beyond_its_most(planned: int, share: float, most: float) -> None:
    config = SamplerConfig(num_steps=1, length=Grown(share=share, most=most))
    (tokens,) = sample(Independent([0.0]), [document("write", planned)], config, seed=0)
    assert len(tokens) - 3 == max(int(most * planned), planned)
    assert not content("write", tokens)[1]


@pytest.mark.parametrize("huge", [1e300, 1e308])
def test_rules_without_bounds_of_their_own_end_at_the_longest_span(huge: float) -> None:
    span = Span(space=VOCABULARY.space("line"), num_planned=38, num_frames=38, num_given=38, others={})
    assert Grown(share=huge, most=huge).extend(span) == LONGEST_SPAN
    assert Grown(share=1.0, most=huge).extend(span) == 76


def mixed() -> list[Sequence]:
    """Some that never end, some that end at once, several tasks and lengths."""
    return [
        document("answer", 3, clue=0),
        document("write", 2),
        document("sing", 2, clue=1),
        document("answer", 4, clue=1),
        document("answer", 2, clue=2),
        document("sing", 3, clue=2),
        document("write", 5, prefix=[1, 1]),
    ]


MIXED = Independent([0.05] * 6 + [0.6], [0.9], [0.0, 0.0, 0.0, 0.1, 0.9])
RULES = [
    Predicted(quantile=0.5),
    Grown(share=0.6),
    Grown(first=Predicted(quantile=0.3), share=0.3, most=3.0),
]


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_result_depends_on_itself_alone(rule: LengthRule) -> None:
    """At any batch size, in any order, beside rows that grow, shrink or stay."""
    config = SamplerConfig(num_steps=2, length=rule)
    keys = [11, 12, 13, 14, 15, 16, 17]
    alone = [
        sample(MIXED, [each], config, seed=5, keys=[key])[0] for each, key in zip(mixed(), keys, strict=True)
    ]
    assert len({len(tokens) for tokens in alone}) > 2
    for batch_size in (1, 2, 3, 7):
        together = sample(MIXED, mixed(), config, seed=5, keys=keys, batch_size=batch_size)
        assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))
    backwards = sample(MIXED, mixed()[::-1], config, seed=5, keys=keys[::-1], batch_size=4)
    assert all(np.array_equal(a, b) for a, b in zip(alone, backwards[::-1], strict=True))


def test_nothing_that_was_filled_is_lost() -> None:
    """Each event shows what the last one did, and more; passes are counted on over the pieces."""
    events: list[Event] = []
    shown: list[np.ndarray] = []

    def note(event: Event) -> None:
        events.append(event)
        shown.append(event.tokens())

    config = SamplerConfig(num_steps=2, length=Grown(share=1.0, most=4.0))
    (tokens,) = sample(Independent([0.0]), [document("write", 3)], config, seed=0, callback=note)
    start, mask = 2, VOCABULARY.mask("line")
    for before, after in zip(shown, [*shown[1:], tokens], strict=True):
        kept = before[start:-1] != mask
        assert np.array_equal(after[start : len(before) - 1][kept], before[start:-1][kept])
    assert sum(len(event.revealed) for event in events) == 12
    assert [event.number for event in events if len(event.revealed)] == list(range(1, 9))
    assert [event.num_masked for event in events if not len(event.revealed)] == [3, 3, 3, 3]


def test_pieces_draw_numbers_of_their_own() -> None:
    """Streams are numbered by step and slot, and slots move when a span before them grows."""
    config = SamplerConfig(num_steps=1, length=Grown())
    row = Row(document("both", 4), VOCABULARY, config, seed=0, key=7, place=0)
    piece = row.continued(VOCABULARY, row.document.tokens, {"line": 8, "pair": 6})
    again = piece.continued(VOCABULARY, piece.document.tokens, {"pair": 9})
    slots = [{int(slot) for track in each.tracks for slot in track.canvas.slot} for each in (row, piece)]
    assert slots[0] & slots[1]
    drawn = [
        {float(u) for track in each.tracks for u in track.canvas.uniforms("code")}
        for each in (row, piece, again)
    ]
    assert [len(each) for each in drawn] == [4 + 8, 4 + 4, 6]
    assert len(set.union(*drawn)) == sum(map(len, drawn))


def test_of_two_targets_the_one_without_an_end_grows() -> None:
    """The other keeps its tokens, behind it."""

    class Half(Independent):
        def __call__(self, z: Tensor, batch: Batch) -> Prediction:
            inner = super().__call__(z, batch)

            def predict(slots: Tensor, index: int) -> Tensor:
                if VOCABULARY.ranges[index].modality == "line":
                    return inner(slots, index)
                certain = torch.full((len(slots), SIZE + 1), 1e-300, dtype=torch.float64)
                certain[:, -1] = 1.0
                return certain.log()

            return predict

    config = SamplerConfig(num_steps=1, length=Grown(share=1.0, most=3.0))
    (tokens,) = sample(Half([0.0] * 5 + [1.0]), [document("both", 2)], config, seed=0)
    line, is_complete = VOCABULARY.codes("line", tokens[2 : 2 + 6].reshape(-1, 1))
    assert is_complete and len(line) == 5
    assert VOCABULARY.codes("pair", tokens[10:-1].reshape(-1, 2))[0].tolist() == []
    assert len(tokens) == 2 + 6 + 2 + 4 + 1


def test_spans_with_given_frames_after_masked_ones_stay() -> None:
    made = document("write", 6)
    made.maskable[made.spans["line"][0] + 3] = False
    for rule in (Predicted(), Grown()):
        (tokens,) = sample(Independent([0.9]), [made], SamplerConfig(num_steps=1, length=rule), seed=0)
        assert len(tokens) == made.num_slots


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class AsTheClue(LengthRule):
    """A user's rule: as many frames as another span has, thrice; then one more, once."""

    factor: int = 3
    answer: Any = None

    def begin(self, span: Span, read_ends: Any) -> int:
        return self.factor * span.others["clue"] if self.answer is None else self.answer

    def extend(self, span: Span) -> int:
        return self.factor * span.others["clue"] + 1


def test_a_rule_of_ones_own() -> None:
    rule = AsTheClue()
    (tokens,) = sample(
        Independent([0.0]), [document("answer", 20)], SamplerConfig(num_steps=1, length=rule), seed=0
    )
    assert len(tokens) == 6 + 4
    for answer in (2.5, True, LONGEST_SPAN + 1):
        config = SamplerConfig(num_steps=1, length=AsTheClue(answer=answer))
        with pytest.raises(UserError, match=r"the length rule AsTheClue.* frames of line: return a whole"):
            sample(Independent([0.0]), [document("answer", 20)], config, seed=0)


def test_rules_are_configuration() -> None:
    config = override(
        SamplerConfig(num_steps=4),
        {"length": "Grown", "length.first": "Predicted", "length.first.quantile": "0.9", "length.most": "2"},
    )
    assert config.length == Grown(first=Predicted(quantile=0.9), most=2.0)
    assert from_dict(SamplerConfig, to_dict(config)) == config
    stored = to_dict(ONCE)
    del stored["length"]  # as earlier versions stored it
    assert from_dict(SamplerConfig, stored).length == Given()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Predicted(quantile=1.0), r"Predicted.quantile is 1.0: give a number above 0 and below 1"),
        (lambda: Predicted(quantile=float("nan")), "Predicted.quantile is nan"),
        (lambda: Grown(share=0.0), "Grown.share is 0.0: give a number above 0"),
        (lambda: Grown(most=0.5), "Grown.most is 0.5: give a number of at least 1"),
        (lambda: Grown(most=float("inf")), "Grown.most is inf"),
    ],
)
def test_values_out_of_range_are_refused(make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


def test_a_law_that_changes_lengths_has_no_likelihood() -> None:
    config = SamplerConfig(num_steps=1, length=Predicted())
    with pytest.raises(UserError, match=r"changes the lengths of spans .*Predicted"):
        measure_sampler_likelihood(Independent([0.5]), [document("write", 3)], config)


@pytest.mark.parametrize("rule", [Predicted(quantile=0.5), Grown(share=0.5, most=3.0)])
def test_what_guides_a_sequence_has_the_same_spans(rule: LengthRule):
    """Guidance away from a condition that predicts the same changes nothing, whatever its length; one that
    predicts otherwise does."""
    ends = [0.0, 0.0, 0.1, 0.1, 0.2, 0.3, 0.3, 0.3, 0.9]
    drawn = [clue_and_line(0, 4) for _ in range(6)]
    same = [exchange_conditions(each, VOCABULARY, {"clue": np.array([[0], [0], [0]])}) for each in drawn]
    other = [exchange_conditions(each, VOCABULARY, {"clue": np.array([[1], [0]])}) for each in drawn]
    model = Independent(ends, [0.5 - each / 2 for each in ends])
    law = SamplerConfig(num_steps=2, guidance_scale=2.0, length=rule)
    plain = sample(model, drawn, replace(law, guidance_scale=1.0), seed=4)
    guided = {
        size: sample(
            model, drawn, law, seed=4, guidance=[Guidance(base=each) for each in same], batch_size=size
        )
        for size in (1, 4)
    }
    for size in guided:
        assert [row.tolist() for row in guided[size]] == [row.tolist() for row in plain]
    away = sample(model, drawn, law, seed=4, guidance=[Guidance(base=each) for each in other])
    assert [row.tolist() for row in away] != [row.tolist() for row in plain]


def clue_and_line(clue: int, frames: int) -> Sequence:
    return build_sequence(
        VOCABULARY,
        "answer",
        {"clue": np.array([[clue]]), "line": np.zeros((frames, 1), dtype=np.int64)},
    )
