"""Templates and batches: what stands where."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trimask.config import from_dict, to_dict
from trimask.vocabulary.alignment import ConstantRate, Even, TextAlignment, Unaligned
from trimask.vocabulary.axes import PictureAxes
from trimask.vocabulary.batch import make_batch, pack_rows
from trimask.vocabulary.codebooks import CodebookLayout, Delayed, Flattened, Parallel
from trimask.vocabulary.layout import Vocabulary
from trimask.vocabulary.sequence import Sequence, build_sequence, resize_spans
from vocabulary.test_vocabulary_layout import VOCABULARY as V

TEXT, IMAGE, SPEECH = "text", "image", "speech"
SPANS: list[tuple[str, tuple[str, ...]]] = [
    ("text", (TEXT,)),
    ("text_to_image", (TEXT, IMAGE)),
    ("image_to_text", (IMAGE, TEXT)),
    ("text_to_speech", (TEXT, SPEECH)),
    ("speech_to_text", (SPEECH, TEXT)),
    ("joint", (TEXT, IMAGE)),
    ("joint", (TEXT, SPEECH)),
    ("triple", (TEXT, IMAGE, SPEECH)),
]


def codes_of(modality: str, seed: int = 0, num_frames: int = 4) -> np.ndarray:
    space = V.space(modality)
    num_frames = 6 if modality == IMAGE else num_frames
    return np.random.default_rng(seed).integers(0, space.codebook_size, (num_frames, space.num_codebooks))


def example(
    task: str, spans: tuple[str, ...], seed: int = 0, num_end: int = 1, num_frames: int = 4
) -> Sequence:
    ends = {TEXT: num_end, SPEECH: num_end}
    return build_sequence(V, task, {m: codes_of(m, seed, num_frames) for m in spans}, num_end=ends)


@pytest.mark.parametrize(("task", "spans"), SPANS, ids=str)
def test_template_spells_out(task: str, spans: tuple[str, ...]) -> None:
    sequence = example(task, spans)
    tokens, maskable, condition, ranges = [V.task_token(task)], [False], [False], [-1]
    for modality in spans:
        is_target = modality not in V.task(task).condition
        ends = 1 if is_target and modality != IMAGE else 0
        span = V.tokens(modality, codes_of(modality), ends)
        tokens += [V.begin(modality), *span.flatten().tolist(), V.close(modality)]
        maskable += [False, *[is_target] * span.size, False]
        condition += [False, *[not is_target] * span.size, False]
        ranges += [-1, *[r.index for r in V.ranges_of(modality)] * len(span), -1]
        start, stop = sequence.spans[modality]
        assert np.array_equal(sequence.tokens[start:stop].reshape(span.shape), span)
    assert sequence.tokens.tolist() == tokens
    assert sequence.maskable.tolist() == maskable
    assert sequence.is_condition.tolist() == condition
    assert sequence.range_index.tolist() == ranges
    assert sorted(set(sequence.position.tolist())) == list(range(sequence.num_positions))
    assert not (sequence.maskable & sequence.is_condition).any()
    conditions = [spans.index(modality) for modality in V.task(task).condition]
    closes = sequence.position[np.isin(sequence.tokens, [V.close(spans[n]) for n in conditions])]
    assert sequence.prefix_length == max(closes, default=-1) + 1


@pytest.mark.parametrize(
    ("task", "codes", "match"),
    [
        ("text_to_image", (TEXT,), r"text_to_image needs spans text\+image, not text"),
        ("joint", (IMAGE, SPEECH), r"joint needs spans text\+image or text\+speech"),
        ("text", (), "not nothing"),
    ],
)
def test_wrong_modalities_are_named(task: str, codes: tuple[str, ...], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        build_sequence(V, task, {m: codes_of(m) for m in codes})


def test_empty_condition_and_wrong_image_size() -> None:
    with pytest.raises(ValueError, match="text condition is empty"):
        build_sequence(V, "text_to_image", {TEXT: np.zeros((0, 1), dtype=np.int64), IMAGE: codes_of(IMAGE)})
    with pytest.raises(ValueError, match="2×3 cells, not 4"):
        build_sequence(V, "text_to_image", {TEXT: codes_of(TEXT), IMAGE: codes_of(IMAGE)[:4]})


def test_coordinates() -> None:
    text = example("text", (TEXT,))
    assert np.array_equal(text.coordinates[:, 0], np.arange(text.num_positions))
    assert np.array_equal(text.coordinates[:, 0], text.coordinates[:, 1])
    image = example("text_to_image", (TEXT, IMAGE))
    start, stop = image.spans[IMAGE]
    positions = image.position[start:stop].reshape(2, 3, 2)
    origin = image.coordinates[positions[0, 0, 0]]
    for row in range(2):
        for column in range(3):
            for codebook in range(2):
                offset = image.coordinates[positions[row, column, codebook]] - origin
                assert offset.tolist() == [row, column]
    after = image.coordinates[image.position[stop]]
    assert (after > image.coordinates[positions.flatten()].max(0) - 1e-6).all()


@pytest.mark.parametrize("task", ["text_to_speech", "speech_to_text"])
def test_transcript_is_laid_over_its_speech(task: str) -> None:
    spans = (TEXT, SPEECH) if task == "text_to_speech" else (SPEECH, TEXT)
    sequence = example(task, spans, num_frames=5)
    at = {m: sequence.coordinates[sequence.position[slice(*sequence.spans[m])], 0] for m in (TEXT, SPEECH)}
    assert (np.diff(at[TEXT]) > 0).all()
    assert at[SPEECH].min() - 0.5 <= at[TEXT].min() and at[TEXT].max() <= at[SPEECH].max() + 0.5
    assert np.isclose(at[TEXT].mean(), (at[SPEECH].min() + at[SPEECH].max()) / 2)


@pytest.mark.parametrize(
    ("layout", "per_frame"), [(Parallel(), 1), (Flattened(), V.space("speech").num_codebooks)]
)
@pytest.mark.parametrize("task", ["text_to_speech", "speech_to_text", "joint", "triple"])
def test_at_a_constant_rate_a_letter_stands_beside_its_frame(
    task: str, layout: Flattened | Parallel, per_frame: int
) -> None:
    """However many letters and end frames there are: letter j at frame lead + (j + ½) · rate - ½, where the
    codebooks of frame f stand at f · per_frame … (f + 1) · per_frame - 1.
    """
    alignment = ConstantRate(frames_per_token=1.5, lead=-2.0)
    vocabulary = replace(V, layouts={SPEECH: layout}, alignment=alignment)
    spans = next(spans for each, spans in SPANS if each == task and SPEECH in spans)
    for num_letters, num_frames, num_end in ((3, 7, 1), (6, 4, 3)):
        codes = {m: codes_of(m, 0, num_letters if m == TEXT else num_frames) for m in spans}
        sequence = build_sequence(vocabulary, task, codes, num_end={TEXT: 1, SPEECH: num_end})
        at = {m: sequence.coordinates[sequence.position[slice(*sequence.spans[m])]] for m in (TEXT, SPEECH)}
        letters = np.arange(len(at[TEXT]))
        frames = -2.0 + (letters + 0.5) * 1.5 - 0.5
        middle = (per_frame - 1) / 2
        expected = at[SPEECH][0, 0] + middle + frames * per_frame
        np.testing.assert_allclose(at[TEXT], np.stack([expected, expected], 1), rtol=1e-6)


@pytest.mark.parametrize("layout", [Flattened(), Parallel()], ids=repr)
@pytest.mark.parametrize("spans", [("text_to_image", (TEXT, IMAGE)), ("image_to_text", (IMAGE, TEXT))])
def test_pictures_on_a_line(spans: tuple[str, tuple[str, ...]], layout: CodebookLayout) -> None:
    """As any other span: the position on both axes, and what follows comes after it."""
    vocabulary = replace(V, layouts={IMAGE: layout}, picture_axes=PictureAxes.LINE)
    task, modalities = spans
    sequence = build_sequence(vocabulary, task, {m: codes_of(m) for m in modalities})
    assert np.array_equal(sequence.coordinates, np.repeat(np.arange(sequence.num_positions)[:, None], 2, 1))
    on_grid = build_sequence(replace(V, layouts={IMAGE: layout}), task, {m: codes_of(m) for m in modalities})
    assert not np.array_equal(on_grid.coordinates, sequence.coordinates)
    assert np.array_equal(on_grid.tokens, sequence.tokens)
    stored = to_dict(vocabulary)
    assert stored["picture_axes"] == "line" and from_dict(Vocabulary, stored) == vocabulary
    del stored["picture_axes"]  # of weights from before it could be chosen
    assert from_dict(Vocabulary, stored).picture_axes is PictureAxes.GRID


@pytest.mark.parametrize("layout", [Flattened(), Parallel()], ids=repr)
@pytest.mark.parametrize("task", ["text_to_speech", "speech_to_text", "joint"])
def test_unaligned_text_stands_at_its_own_positions(task: str, layout: CodebookLayout) -> None:
    """A line from 0, whatever comes first: as if no span knew of the other."""
    vocabulary = replace(V, layouts={SPEECH: layout}, alignment=Unaligned())
    spans = next(spans for each, spans in SPANS if each == task and SPEECH in spans)
    sequence = build_sequence(vocabulary, task, {m: codes_of(m, num_frames=4) for m in spans})
    assert np.array_equal(sequence.coordinates, np.repeat(np.arange(sequence.num_positions)[:, None], 2, 1))
    aligned = build_sequence(V, task, {m: codes_of(m, num_frames=4) for m in spans})
    assert not np.array_equal(aligned.coordinates, sequence.coordinates)


def test_vocabularies_are_stored_with_their_alignment() -> None:
    stored = to_dict(replace(V, alignment=ConstantRate(frames_per_token=1.5)))
    assert from_dict(Vocabulary, stored).alignment == ConstantRate(frames_per_token=1.5)
    del stored["alignment"]  # of weights from before it could be chosen
    assert from_dict(Vocabulary, stored) == V
    for fields in (
        {"frames_per_token": 0.0},
        {"frames_per_token": np.nan},
        {"frames_per_token": 1.0, "lead": np.inf},
    ):
        with pytest.raises(ValueError, match="give a positive rate"):
            ConstantRate(**fields)


@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=12))
def test_packing_keeps_every_document_once(lengths: list[int]) -> None:
    sequences = [example("text", (TEXT,), seed=k, num_frames=length) for k, length in enumerate(lengths)]
    rows = pack_rows(sequences, 24)
    assert sorted(n for row in rows for n in row) == list(range(len(lengths)))
    assert all(sum(sequences[n].num_slots for n in row) <= 24 for row in rows)
    batch = make_batch(sequences, range(len(lengths)), row_length=24)
    for number, sequence in enumerate(sequences):
        here = batch.sequence == number
        assert torch.equal(batch.tokens[here], torch.from_numpy(sequence.tokens))
        first = int(batch.cu_positions[number])
        assert torch.equal(batch.position[here] - first, torch.from_numpy(sequence.position))
        assert (batch.position[here] < int(batch.cu_positions[number + 1])).all()
    padding = batch.sequence < 0
    assert (batch.tokens[padding] == V.pad).all() and (batch.position[padding] == -1).all()
    assert not batch.maskable[padding].any() and not batch.is_condition[padding].any()
    assert (batch.range_index[padding] == -1).all()


def test_pairs_have_their_own_rows() -> None:
    text, pair = example("text", (TEXT,), num_frames=2), example("text_to_image", (TEXT, IMAGE))
    assert pack_rows([text, pair, text], 64) == [[0, 2], [1]]


def test_batches_refuse_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="at least one sequence"):
        make_batch([], [])
    with pytest.raises(ValueError, match="does not fit a row of 5"):
        make_batch([example("text", (TEXT,))], [0], row_length=5)


def test_batch_names_its_samples() -> None:
    sequences = [example(task, spans) for task, spans in SPANS[:3]]
    batch = make_batch(sequences, [5, 6, 9])
    assert batch.describe() == "samples 5…9" and batch.num_sequences == 3
    assert batch.tokens.shape == (3, max(s.num_slots for s in sequences))
    assert batch.to(torch.device("cpu")).num_positions == sum(s.num_positions for s in sequences)
    assert make_batch(sequences[:1], [4]).describe() == "sample 4"


@given(lengths=st.lists(st.integers(1, 20), min_size=2, max_size=12), cut=st.integers(1, 3))
def test_rows_of_a_batch_are_a_batch(lengths: list[int], cut: int) -> None:
    """Every document is found again in one part, with its own tokens, positions and coordinates."""
    texts = [example("text", (TEXT,), seed=k, num_frames=length) for k, length in enumerate(lengths)]
    sequences = [example("image_to_text", (IMAGE, TEXT)), *texts, example("text_to_image", (TEXT, IMAGE))]
    batch = make_batch(sequences, range(50, 50 + len(sequences)), row_length=40)
    found = []
    for start in range(0, len(batch.tokens), cut):
        part = batch.rows(slice(start, start + cut))
        assert part.tokens.shape[1] == 40 and int(part.cu_positions[-1]) == part.num_positions
        for number, index in enumerate(part.sample_index.tolist()):
            sequence, here = sequences[index - 50], part.sequence == number
            first, end = part.cu_positions[number : number + 2].tolist()
            assert torch.equal(part.tokens[here], torch.from_numpy(sequence.tokens))
            assert torch.equal(part.position[here] - first, torch.from_numpy(sequence.position))
            assert torch.equal(part.coordinates[first:end], torch.from_numpy(sequence.coordinates))
            assert part.task[number] == batch.task[index - 50]
            assert int(part.prefix_length[number]) == sequence.prefix_length
            rest = part.positions_after_prefix()
            rest = rest[(rest >= first) & (rest < end)] - first
            assert rest.tolist() == list(range(sequence.prefix_length, sequence.num_positions))
            found.append(index)
        assert torch.equal(part.sequence < 0, part.position < 0)
    assert sorted(found) == list(range(50, 50 + len(sequences)))


@pytest.mark.parametrize("layout", [Flattened(), Parallel(), Delayed()], ids=repr)
@pytest.mark.parametrize("alignment", [Unaligned(), Even(), ConstantRate(frames_per_token=1.5)], ids=repr)
@pytest.mark.parametrize(("task", "spans"), SPANS, ids=str)
def test_a_span_of_another_length_is_as_if_built_with_it(
    task: str, spans: tuple[str, ...], alignment: TextAlignment, layout: CodebookLayout
) -> None:
    """Longer or shorter: tokens, positions and coordinates are those of `build_sequence`."""
    vocabulary = replace(V, layouts={SPEECH: layout}, alignment=alignment)
    resized = [m for m in vocabulary.task(task).targets_of(spans) if m != IMAGE]
    codes = {m: codes_of(m, num_frames=4) for m in spans}
    made = build_sequence(vocabulary, task, codes)
    for length in (1, 3, 4, 9):
        wanted = {}
        for modality, of_span in codes.items():
            added = np.zeros((max(length - 4, 0), of_span.shape[1]), dtype=np.int64)
            wanted[modality] = np.concatenate([of_span, added])[:length] if modality in resized else of_span
        found = resize_spans(vocabulary, made, dict.fromkeys(resized, length))
        assert_equal(found, build_sequence(vocabulary, task, wanted))
        assert_equal(resize_spans(vocabulary, found, {}), found)


def test_what_is_given_of_a_span_stays_given() -> None:
    made = example("text", (TEXT,), num_end=0)
    start, stop = made.spans[TEXT]
    maskable = made.maskable.copy()
    maskable[start : start + 2] = False
    found = resize_spans(V, replace(made, maskable=maskable), {TEXT: 6})
    assert found.maskable[start : stop + 2].tolist() == [False, False, True, True, True, True]


def assert_equal(found: Sequence, wanted: Sequence) -> None:
    for field in dataclasses.fields(Sequence):
        a, b = getattr(found, field.name), getattr(wanted, field.name)
        assert np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b, field.name
