"""The mixture against its definition: shares of target tokens, full epochs, random access."""

from collections import Counter

import numpy as np
import pytest

from in_memory import InMemory
from trimask.data.mixture import NUM_BLOCKS, Component, Mixture, MixtureConfig, block_counts, mean_as_drawn
from trimask.vocabulary.task import TASKS

ROWS = {task.name: task for task in TASKS}


def make_source(name: str, groups: list[int], lengths: list[int] | None = None) -> InMemory:
    """Pairs of a text of `lengths` tokens (else one more each) and of two images codes."""
    texts = [np.full((n, 1), i) for i, n in enumerate(lengths or range(1, len(groups) + 1))]
    codes = {
        "text": list(texts),
        "image": [np.zeros((1, 2), np.int64)] * len(groups),
    }
    return InMemory(name=name, codes=codes, groups=np.array(groups))


def make_mixture(seed: int = 0) -> Mixture:
    """Of each 18 sequences 12, 4 and 2: examples have two target tokens, or in `joint` 2 and 3 on average
    (group 0: texts of 1, 2 and 3 tokens; the others: 4 and 3)."""
    components = (
        Component(source="a", task="text_to_image", weight=12 * 2.0),
        Component(source="b", task="text_to_image", weight=4 * 2.0),
        Component(source="a", task="joint", weight=2 * 5.0),
    )
    config = MixtureConfig(components=components, block_length=18)
    sources = {
        "a": make_source("a", [0, 0, 0, 1, 2], [1, 2, 3, 4, 3]),
        "b": make_source("b", [0, 1, 2, 3]),
    }
    return Mixture(config, sources, seed)


def test_whole_shares_are_exact_in_each_block():
    mixture = make_mixture()
    np.testing.assert_allclose(mixture.shares, np.array([12, 4, 2]) / 18)
    for block in range(4):
        drawn = Counter(mixture.component(block * 18 + i)[0] for i in range(18))
        assert [drawn[k] for k in range(3)] == [12, 4, 2]


def test_weights_are_shares_of_the_tokens_that_are_generated():
    """Realised over a cycle, by counting each sequence that is drawn; uneven groups, uneven lengths."""
    lengths = [5, 1, 30, 2, 2, 9, 60, 3]
    sources = {
        "a": make_source("a", [0, 0, 1, 1, 1, 2, 3, 3], lengths),
        "b": make_source("b", [0, 1, 2]),
    }
    components = (
        Component(source="a", task="image_to_text", weight=0.5),
        Component(source="b", task="text_to_image", weight=0.02),
        Component(source="b", task="image_to_text", weight=0.08),
        Component(source="a", task="joint", weight=0.4),
    )
    config = MixtureConfig(components=components, block_length=16)
    mixture = Mixture(config, sources, 0)
    tokens = np.zeros(4)
    for index in range(60 * 16):
        number, _ = mixture.component(index)
        component, example = mixture.example(index)
        codes = sources[component.source].example(example)
        tokens[number] += sum(c.size for m, c in codes.items() if m not in ROWS[component.task].condition)
    np.testing.assert_allclose(tokens / tokens.sum(), [0.5, 0.02, 0.08, 0.4], atol=0.01)


@pytest.mark.parametrize("shares", [[0.9, 0.05, 0.03, 0.02], [1.0], [0.9966, 0.003, 0.0004], [1 / 7] * 7])
@pytest.mark.parametrize("block_length", [1, 16, 256])
def test_shares_even_out_over_blocks(shares: list[float], block_length: int):
    exact = np.array(shares) * block_length
    counts = block_counts(np.array(shares), block_length)
    assert (counts.sum(1) == block_length).all() and (counts >= 0).all()
    assert (np.abs(counts - exact) < 1 + 1e-3).all()  # up or down
    assert (counts[:, exact >= 1] >= 1).all()
    so_far = np.arange(1, len(counts) + 1)[:, None] * exact
    assert np.abs(counts.cumsum(0) - so_far).max() < 4
    assert np.abs(counts.sum(0) - len(counts) * exact).max() <= 1


def test_counts_are_those_of_a_line_that_blocks_take_turns_on():
    shares, block_length = np.array([0.71, 0.005, 0.285]), 8
    line = np.repeat(range(3), np.round(shares * block_length * NUM_BLOCKS).astype(int))
    assert len(line) == block_length * NUM_BLOCKS
    counts = block_counts(shares, block_length)
    starts = []
    for block in range(NUM_BLOCKS):
        starts.append(sum(512 >> bit for bit in range(10) if block >> bit & 1))
        taken = line[starts[-1] :: NUM_BLOCKS]
        assert counts[block].tolist() == [int((taken == k).sum()) for k in range(3)]
    assert sorted(starts) == list(range(NUM_BLOCKS))


def test_ordinals_count_a_component_without_gaps():
    """Also across the end of a cycle of blocks, and for a component that most blocks lack."""
    components = (
        Component(source="a", task="text_to_image", weight=0.9),
        Component(source="a", task="image_to_text", weight=0.1),
    )
    mixture = Mixture(
        MixtureConfig(components=components, block_length=3), {"a": make_source("a", [0, 1])}, 0
    )
    start = 3 * (NUM_BLOCKS - 20)
    counted = [sum(mixture.component(i)[0] == k for i in range(start)) for k in range(2)]
    for index in range(start, start + 3 * 40):
        number, ordinal = mixture.component(index)
        assert ordinal == counted[number]
        counted[number] += 1


def test_an_epoch_shows_each_group_once_and_variants_take_turns():
    mixture = make_mixture()
    examples = [mixture.example(i) for i in range(18 * 6)]
    from_a = [e for component, e in examples if component.source == "a" and component.task == "text_to_image"]
    groups = [int(mixture.sources["a"].groups[e]) for e in from_a]
    for epoch in range(len(groups) // 3):
        assert sorted(groups[3 * epoch : 3 * epoch + 3]) == [0, 1, 2]
    variants = [e for e in from_a if e < 3]
    for start in range(0, len(variants) - 2, 3):
        assert sorted(variants[start : start + 3]) == [0, 1, 2]


@pytest.mark.parametrize(("exponent", "turns"), [(0.0, [1, 1, 1]), (0.5, [3, 2, 1]), (1.0, [9, 3, 1])])
def test_larger_groups_are_drawn_more_often(exponent: float, turns: list[int]):
    """Of groups of 9, 3 and 1: rounded powers of their sizes, in each epoch; all of a group equally often."""
    groups = [0] * 9 + [1] * 3 + [2]
    source = make_source("a", groups)
    component = Component(source="a", task="text_to_image", weight=1.0)
    config = MixtureConfig(components=(component,), block_length=8, group_exponent=exponent)
    mixture = Mixture(config, {"a": source}, 0)
    epoch = sum(turns)
    drawn = [mixture.example(i)[1] for i in range(9 * epoch)]
    for start in range(0, len(drawn), epoch):
        found = Counter(groups[example] for example in drawn[start : start + epoch])
        assert [found[group] for group in range(3)] == turns
    assert [Counter(drawn)[example] for example in range(9)] == [turns[0]] * 9
    lengths = source.num_codes["text"]
    expected = np.mean(lengths[drawn])
    assert mean_as_drawn(lengths, np.array(groups), exponent) == pytest.approx(expected)


def test_access_is_random_and_the_seed_matters():
    once = [make_mixture().example(i) for i in range(40)]
    again = [make_mixture().example(i) for i in reversed(range(40))][::-1]
    assert once == again
    assert once != [make_mixture(seed=1).example(i) for i in range(40)]


def test_errors_name_the_value():
    with pytest.raises(ValueError, match="no source named c"):
        config = MixtureConfig(components=(Component(source="c", task="text", weight=1.0),))
        Mixture(config, {"a": make_source("a", [0])}, 0)
    with pytest.raises(ValueError, match=r"weight 0\.0"):
        Component(source="a", task="text", weight=0.0)
    with pytest.raises(ValueError, match="at least one component"):
        MixtureConfig(components=())
    with pytest.raises(ValueError, match="weight inf"):
        Component(source="a", task="text", weight=float("inf"))
    component = Component(source="a", task="image_to_text", weight=1.0)
    with pytest.raises(ValueError, match="block_length 0"):
        MixtureConfig(components=(component,), block_length=0)
    with pytest.raises(ValueError, match=r"group_exponent 1\.5"):
        MixtureConfig(components=(component,), group_exponent=1.5)
    with pytest.raises(ValueError, match="a has nothing for image_to_text to generate"):
        Mixture(MixtureConfig(components=(component,)), {"a": make_source("a", [0], [0])}, 0)
