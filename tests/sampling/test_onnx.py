"""The ONNX Runtime backends: float32 equals torch; int8 equals a slow twin, and no document sees another."""

import copy
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor, nn

from generation.fakes import hum, picture, random_denoiser, tiny_generator
from trimask.cli.sample import BACKENDS as NAMES
from trimask.errors import UserError
from trimask.generation.codecs import Codecs
from trimask.model.attention import QKNorm
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.model.onnx_graph import OnnxPrecision, quantize_channels, write_graph
from trimask.model.parametrization import CompletedP
from trimask.model.segments import ConditionAttention
from trimask.sampling.backends import BACKENDS, find_backend
from trimask.sampling.onnx_predictor import OnnxPredictor
from trimask.sampling.predictor import DenoiserPredictor, Prediction, Predictor
from trimask.vocabulary.batch import make_batch
from trimask.vocabulary.sequence import Sequence

CODECS: Codecs = tiny_generator().codecs
DOCUMENTS = [
    *(CODECS.document("text", {"text": None}, span_length=length) for length in (1, 5, 9)),
    CODECS.document("text_to_image", {"text": "a red hat"}),
    CODECS.document("text_to_image", {"text": "no cats,x"}),  # as long
    CODECS.document("text_to_image", {"text": "x"}),
    CODECS.document("image_to_text", {"image": picture()}, span_length=6),
    CODECS.document("speech_to_text", {"speech": hum()}, span_length=5),
    CODECS.document("text_to_speech", {"text": "good morning."}, span_length=7),
    CODECS.document("joint", {}, pair="speech"),
    CODECS.document("triple", {}),
]
ALIKE = [document for document in DOCUMENTS if document.num_positions == DOCUMENTS[3].num_positions]
assert len(ALIKE) > 1
CONFIGS = {
    "full": DenoiserConfig(width=32, depth=2, num_heads=2),
    "prefix": DenoiserConfig(width=32, depth=2, num_heads=2, condition_attention=ConditionAttention.PREFIX),
    "no QK-norm": DenoiserConfig(width=32, depth=2, num_heads=2, qk_norm=QKNorm.NONE),
    "one head, residuals scaled": DenoiserConfig(
        width=16,
        depth=3,
        num_heads=1,
        parametrization=CompletedP(base_width=16, base_depth=1, base_num_heads=1),
    ),
}


def denoiser_of(config: DenoiserConfig) -> Denoiser:
    """Random weights everywhere, norms too, where training would begin with zeros and ones."""
    denoiser = Denoiser(config, random_denoiser().vocabulary)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.normal_(std=0.5, generator=generator)
            if parameter.ndim == 1:
                parameter.add_(1)
    return denoiser.eval().requires_grad_(False)


DENOISERS = {name: denoiser_of(config) for name, config in CONFIGS.items()}
FLOAT = {name: OnnxPredictor(denoiser) for name, denoiser in DENOISERS.items()}
INTEGER = {name: OnnxPredictor(denoiser, OnnxPrecision.INT8) for name, denoiser in DENOISERS.items()}
chosen_documents = st.lists(st.sampled_from(range(len(DOCUMENTS))), min_size=1, max_size=6)


def predictions(predictor: Predictor, documents: list[Sequence], seed: int = 0) -> list[list[Tensor]]:
    """log p at every slot of each document, range by range; a seeded part of the targets is masked."""
    batch = make_batch(documents, range(len(documents)))
    z = batch.tokens.clone()
    for row, document in enumerate(documents):
        drawn = np.random.default_rng(seed + document.num_slots).random(document.num_slots) < 0.6
        masks = predictor.vocabulary.mask_of_range[document.range_index]
        z[row, : document.num_slots] = torch.from_numpy(
            np.where(document.maskable & drawn, masks, document.tokens)
        )
    prediction = predictor(z, batch)
    return [_of_row(prediction, batch.range_index[row], row) for row in range(len(documents))]


def _of_row(prediction: Prediction, range_index: Tensor, row: int) -> list[Tensor]:
    found = []
    for index in range_index[range_index >= 0].unique().tolist():
        slots = (range_index == index).nonzero()[:, 0] + row * len(range_index)
        found.append(prediction(slots, index))
    return found


def distances(a: list[list[Tensor]], b: list[list[Tensor]]) -> Tensor:
    """|log p − log p'| of all codes at all slots."""
    flat = [torch.cat([found.flatten() for row in each for found in row]) for each in (a, b)]
    return (flat[0] - flat[1]).abs()


def distance(a: list[list[Tensor]], b: list[list[Tensor]]) -> float:
    return float(distances(a, b).max())


@pytest.mark.parametrize("name", CONFIGS)
@given(numbers=chosen_documents, seed=st.integers(0, 99))
@settings(max_examples=25)
def test_float32_is_torch(name: str, numbers: list[int], seed: int) -> None:
    """Any documents in one batch, of any lengths, and conditions that attend to themselves alone."""
    documents = [DOCUMENTS[number] for number in numbers]
    exact = predictions(DenoiserPredictor(DENOISERS[name]), documents, seed)
    assert distance(predictions(FLOAT[name], documents, seed), exact) < 1e-4


def test_conditions_that_attend_to_themselves_are_another_model() -> None:
    """Else the test above would hold of a graph that forgets them."""
    config = replace(CONFIGS["prefix"], condition_attention=ConditionAttention.FULL)
    other = denoiser_of(config)
    assert (
        distance(predictions(FLOAT["prefix"], DOCUMENTS), predictions(DenoiserPredictor(other), DOCUMENTS))
        > 0.1
    )


@pytest.mark.parametrize("name", CONFIGS)
@given(numbers=chosen_documents, seed=st.integers(0, 99))
@settings(max_examples=25)
def test_integers_do_not_depend_on_company(name: str, numbers: list[int], seed: int) -> None:
    """Bit for bit: a document alone, and among others."""
    documents = [DOCUMENTS[number] for number in numbers]
    if seed % 2:
        documents += ALIKE  # computed in one call
    together = predictions(INTEGER[name], documents, seed)
    alone = [predictions(INTEGER[name], [document], seed)[0] for document in documents]
    assert distance(together, alone) == 0


class RoundedLinear(nn.Module):
    """The slow twin: each weight and each input at the nearest of its levels, multiplied in float64."""

    def __init__(self, weight: Tensor):
        super().__init__()
        scale = weight.abs().amax(1, keepdim=True) / 63
        self.weight = ((weight / scale).round() * scale).double()

    def forward(self, x: Tensor) -> Tensor:
        scale = x.abs().amax(-1, keepdim=True) / 127
        return ((x / scale).round() * scale).double().matmul(self.weight.T).float()


def rounded_twin(denoiser: Denoiser) -> Denoiser:
    twin = copy.deepcopy(denoiser)
    for module in list(twin.blocks.modules()):
        for child, linear in list(module.named_children()):
            if isinstance(linear, nn.Linear):
                setattr(module, child, RoundedLinear(linear.weight.detach()))
    return twin


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("are_largest", [False, True])
def test_integers_are_the_rounded_model(name: str, are_largest: bool) -> None:
    """Close to the twin but for inputs that lie between two levels, and much closer than to float32; where
    all weights are at the largest level of their channel too: then sums of products are the largest, which
    16 bits must hold.
    """
    denoiser = denoiser_of(CONFIGS[name])
    if are_largest:
        for matrix in [each for each in denoiser.blocks.parameters() if each.ndim == 2]:
            matrix.copy_(matrix.sign() * 0.5)
    found = predictions(OnnxPredictor(denoiser, OnnxPrecision.INT8), DOCUMENTS)
    to_twin = distances(found, predictions(DenoiserPredictor(rounded_twin(denoiser)), DOCUMENTS)).mean()
    to_float = distances(found, predictions(DenoiserPredictor(denoiser), DOCUMENTS)).mean()
    assert to_twin < 0.1 * to_float


@given(
    weight=arrays(
        np.float32, st.tuples(st.integers(1, 4), st.integers(1, 5)), elements=st.floats(-8, 8, width=32)
    )
)
def test_weights_are_rounded_to_the_nearest_level(weight: np.ndarray) -> None:
    integers, scale = quantize_channels(weight)
    assert np.abs(integers).max() <= 63
    largest = np.maximum(np.abs(weight).max(axis=1, keepdims=True), 1e-30)
    assert (np.abs(weight - integers * scale[:, None]) <= largest / 126 * (1 + 1e-5)).all()


def test_a_model_of_zeros() -> None:
    """A row or a channel of zeros has no largest value to divide by."""
    denoiser = denoiser_of(CONFIGS["full"])
    with torch.no_grad():
        for parameter in denoiser.blocks.parameters():
            parameter.zero_()
    exact = predictions(DenoiserPredictor(denoiser), DOCUMENTS)
    assert distance(predictions(OnnxPredictor(denoiser, OnnxPrecision.INT8), DOCUMENTS), exact) < 1e-5


def test_samples_of_float32_are_those_of_torch() -> None:
    plain = tiny_generator()
    assert isinstance(plain.predictor, DenoiserPredictor)
    other = tiny_generator(predictor=OnnxPredictor(plain.predictor.denoiser))
    given: dict[str, Any] = {"prompt": ["a red hat", "x"], "num_samples": 2, "num_steps": 3}
    pairs = zip(
        plain.generate_many("text_to_image", **given),
        other.generate_many("text_to_image", **given),
        strict=True,
    )
    assert all(np.array_equal(a.tokens, b.tokens) for a, b in pairs)


def test_threads_are_those_of_torch() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        options = OnnxPredictor(DENOISERS["full"])._session.get_session_options()
    finally:
        torch.set_num_threads(before)
    assert options.intra_op_num_threads == 2
    assert FLOAT["full"]._session.get_session_options().intra_op_num_threads == before


def test_weights_stay_outside_the_graph() -> None:
    """The size of a graph depends on depth, and hardly on width: there is no limit on a model's size."""
    configs = [DenoiserConfig(width=width, depth=1, num_heads=1) for width in (32, 256)]
    small, large = (len(write_graph(denoiser_of(config), OnnxPrecision.FP32).model) for config in configs)
    assert large - small < 4 * 5 * 256  # the norms


def test_names() -> None:
    assert tuple(BACKENDS) == NAMES
    with pytest.raises(UserError, match="unknown backend 'tensorrt': choose one of torch, torch-compiled"):
        find_backend("tensorrt")


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    find_backend("torch")
    calls: list[Callable[[], object]] = [
        lambda: find_backend("onnx"),
        lambda: find_backend("onnx-int8"),
        lambda: OnnxPredictor(DENOISERS["full"]),
    ]
    for call in calls:
        with pytest.raises(ImportError, match=rf"needs {package}: pip install 'trimask\[onnx\]'"):
            call()


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match="the ONNX backends are for CPUs, and the model is on meta"):
        OnnxPredictor(denoiser_of(CONFIGS["full"]).to("meta"))
    with pytest.raises(UserError, match="the predictor has another vocabulary"):
        other = replace(random_denoiser().vocabulary, layouts={})
        tiny_generator(predictor=DenoiserPredictor(Denoiser(CONFIGS["full"], other)))
