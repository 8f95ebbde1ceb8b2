"""The mixture against its definition: exact shares, full epochs, random access."""

from collections import Counter

import numpy as np
import pytest

from trimask.data.mixture import Component, Mixture, MixtureConfig
from trimask.data.tokens import Ragged, TokenSource
from trimask.vocabulary.modality import Modality, Task


def make_source(name: str, groups: list[int]) -> TokenSource:
    codes = {Modality.TEXT: Ragged.of([np.full((i + 1, 1), i) for i in range(len(groups))])}
    return TokenSource(name=name, codes=codes, groups=np.array(groups))


def make_mixture(seed: int = 0) -> Mixture:
    components = (
        Component(source="a", task=Task.TEXT, weight=3.0),
        Component(source="b", task=Task.TEXT, weight=1.0),
        Component(source="a", task=Task.JOINT, weight=0.5),
    )
    config = MixtureConfig(components=components, block_length=18)
    return Mixture(
        config, {"a": make_source("a", [0, 0, 0, 1, 2]), "b": make_source("b", [0, 1, 2, 3])}, seed
    )


def test_each_block_holds_the_exact_shares():
    mixture = make_mixture()
    for block in range(4):
        drawn = Counter(mixture.component(block * 18 + i)[0] for i in range(18))
        assert [drawn[k] for k in range(3)] == [12, 4, 2] == mixture.counts.tolist()


def test_ordinals_count_a_component_without_gaps():
    mixture = make_mixture()
    seen: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for index in range(18 * 3):
        number, ordinal = mixture.component(index)
        seen[number].append(ordinal)
    for ordinals in seen.values():
        assert ordinals == list(range(len(ordinals)))


def test_an_epoch_shows_each_group_once_and_variants_take_turns():
    mixture = make_mixture()
    examples = [mixture.example(i) for i in range(18 * 6)]
    from_a = [e for component, e in examples if component.source == "a" and component.task is Task.TEXT]
    groups = [int(mixture.sources["a"].groups[e]) for e in from_a]
    for epoch in range(len(groups) // 3):
        assert sorted(groups[3 * epoch : 3 * epoch + 3]) == [0, 1, 2]
    variants = [e for e in from_a if e < 3]
    for start in range(0, len(variants) - 2, 3):
        assert sorted(variants[start : start + 3]) == [0, 1, 2]


def test_access_is_random_and_the_seed_matters():
    once = [make_mixture().example(i) for i in range(40)]
    again = [make_mixture().example(i) for i in reversed(range(40))][::-1]
    assert once == again
    assert once != [make_mixture(seed=1).example(i) for i in range(40)]


def test_epochs_counts_groups_not_variants():
    assert make_mixture().epochs(18)[0] == pytest.approx(12 / 3)


def test_errors_name_the_value():
    with pytest.raises(ValueError, match="no source named c"):
        config = MixtureConfig(components=(Component(source="c", task=Task.TEXT, weight=1.0),))
        Mixture(config, {"a": make_source("a", [0])}, 0)
    with pytest.raises(ValueError, match="weight 0.0"):
        Component(source="a", task=Task.TEXT, weight=0.0)
    with pytest.raises(ValueError, match="at least one component"):
        MixtureConfig(components=())
    with pytest.raises(ValueError, match="block_length 1"):
        component = Component(source="a", task=Task.TEXT, weight=1.0)
        MixtureConfig(components=(component, component), block_length=1)


def test_a_source_survives_its_file(tmp_path):
    source = make_source("a", [0, 0, 1])
    source.save(tmp_path / "a.safetensors")
    loaded = TokenSource.load(tmp_path / "a.safetensors")
    assert loaded.name == "a" and loaded.groups.tolist() == [0, 0, 1]
    for i in range(3):
        np.testing.assert_array_equal(loaded.example(i)[Modality.TEXT], source.example(i)[Modality.TEXT])


def test_a_source_must_be_consistent():
    with pytest.raises(ValueError, match="differ in length"):
        TokenSource(
            name="x",
            codes={Modality.TEXT: Ragged.of([np.zeros((1, 1), dtype=np.int64)])},
            groups=np.array([0, 1]),
        )
