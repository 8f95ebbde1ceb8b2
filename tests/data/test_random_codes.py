import numpy as np
import pytest

from trimask.data.mixture import Component, Mixture, MixtureConfig
from trimask.data.random_codes import RandomCodes, random_sources
from trimask.data.selection import StatedData, StatedSource
from trimask.data.tokens import ExampleSource
from trimask.vocabulary.geometry import Geometry
from trimask.vocabulary.modality import Modality, Task

GEOMETRY = Geometry(
    text_size=50,
    image_grid=(3, 4),
    image_codebooks=2,
    image_codebook_size=7,
    speech_codebooks=3,
    speech_codebook_size=11,
    speech_frame_rate=12.5,
)
TRIPLES = StatedSource(name="triples", text=9, has_image=True, seconds=1.0)


def test_an_example_has_the_stated_lengths_and_codes_of_the_geometry() -> None:
    source = RandomCodes(TRIPLES, GEOMETRY, num_examples=300, seed=1)
    assert isinstance(source, ExampleSource)
    shapes = {Modality.TEXT: (9, 1), Modality.IMAGE: (12, 2), Modality.AUDIO: (13, 3)}  # 12.5 frames begun
    assert {m: codes.shape for m, codes in source.example(17).items()} == shapes
    assert {m: set(n.tolist()) for m, n in source.num_codes.items()} == {
        m: {frames * books} for m, (frames, books) in shapes.items()
    }
    for modality, size in ((Modality.TEXT, 50), (Modality.IMAGE, 7), (Modality.AUDIO, 11)):
        drawn = np.concatenate([source.example(i)[modality].ravel() for i in range(300)])
        assert (drawn.min(), drawn.max()) == (0, size - 1)


def test_example_i_is_a_function_of_the_seed_and_i() -> None:
    few, many = (RandomCodes(TRIPLES, GEOMETRY, num_examples=n, seed=1) for n in (5, 50))
    other = RandomCodes(TRIPLES, GEOMETRY, num_examples=5, seed=2)
    for modality, codes in few.example(3).items():
        np.testing.assert_array_equal(codes, many.example(3)[modality])
        assert (codes != other.example(3)[modality]).any() and (codes != few.example(4)[modality]).any()


def test_a_mixture_draws_from_stated_data() -> None:
    data = StatedData(
        geometry=GEOMETRY, sources=(TRIPLES, StatedSource(name="text", text=30)), text_window=30
    )
    sources = random_sources(data, num_examples=10)
    components = (
        Component(source="text", task=Task.TEXT, weight=0.5),
        Component(source="triples", task=Task.TRIPLE, weight=0.5),
    )
    mixture = Mixture(MixtureConfig(components=components), sources, 0)
    assert mixture.shares == pytest.approx([72 / 102, 30 / 102])  # 30 target tokens, and 9 + 24 + 39


def test_what_cannot_be_stated() -> None:
    with pytest.raises(ValueError, match="source x: text 0 must be at least 1"):
        StatedSource(name="x", text=0)
    with pytest.raises(ValueError, match="sources is empty"):
        StatedData(geometry=GEOMETRY, sources=(), text_window=30)
    with pytest.raises(ValueError, match="num_examples 0: must be at least 1"):
        RandomCodes(TRIPLES, GEOMETRY, num_examples=0, seed=0)
