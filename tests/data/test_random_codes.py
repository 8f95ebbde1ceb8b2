import numpy as np
import pytest

from trimask.data.mixture import Component, Mixture, MixtureConfig
from trimask.data.random_codes import RandomCodes, random_sources
from trimask.data.selection import StatedData, StatedSource
from trimask.data.source import ExampleSource
from trimask.vocabulary.layout import CodeSpace

SPACES = (
    CodeSpace(name="text", num_codebooks=1, codebook_size=50, has_end=True),
    CodeSpace(name="image", num_codebooks=2, codebook_size=7, has_end=False, grid=(3, 4)),
    CodeSpace(name="speech", num_codebooks=3, codebook_size=11, has_end=True, frame_rate=12.5),
)
TRIPLES = StatedSource(name="triples", lengths={"text": 9, "image": 1, "speech": 1.0})


def test_an_example_has_the_stated_lengths_and_codes_of_the_geometry() -> None:
    source = RandomCodes(TRIPLES, SPACES, num_examples=300, seed=1)
    assert isinstance(source, ExampleSource)
    shapes = {"text": (9, 1), "image": (12, 2), "speech": (13, 3)}  # 12.5 frames begun
    assert {m: codes.shape for m, codes in source.example(17).items()} == shapes
    assert {m: set(n.tolist()) for m, n in source.num_codes.items()} == {
        m: {frames * books} for m, (frames, books) in shapes.items()
    }
    for modality, size in (("text", 50), ("image", 7), ("speech", 11)):
        drawn = np.concatenate([source.example(i)[modality].ravel() for i in range(300)])
        assert (drawn.min(), drawn.max()) == (0, size - 1)


def test_example_i_is_a_function_of_the_seed_and_i() -> None:
    few, many = (RandomCodes(TRIPLES, SPACES, num_examples=n, seed=1) for n in (5, 50))
    other = RandomCodes(TRIPLES, SPACES, num_examples=5, seed=2)
    for modality, codes in few.example(3).items():
        np.testing.assert_array_equal(codes, many.example(3)[modality])
        assert (codes != other.example(3)[modality]).any() and (codes != few.example(4)[modality]).any()


def test_a_mixture_draws_from_stated_data() -> None:
    data = StatedData(
        spaces=SPACES, sources=(TRIPLES, StatedSource(name="text", lengths={"text": 30})), text_window=30
    )
    sources = random_sources(data, num_examples=10)
    components = (
        Component(source="text", task="text", weight=0.5),
        Component(source="triples", task="triple", weight=0.5),
    )
    mixture = Mixture(MixtureConfig(components=components), sources, 0)
    assert mixture.shares == pytest.approx([72 / 102, 30 / 102])  # 30 target tokens, and 9 + 24 + 39


def test_what_cannot_be_stated() -> None:
    with pytest.raises(ValueError, match="source x: length 0 of text must be above 0"):
        StatedSource(name="x", lengths={"text": 0})
    with pytest.raises(ValueError, match="sources is empty"):
        StatedData(spaces=SPACES, sources=(), text_window=30)
    with pytest.raises(ValueError, match="num_examples 0: must be at least 1"):
        RandomCodes(TRIPLES, SPACES, num_examples=0, seed=0)
