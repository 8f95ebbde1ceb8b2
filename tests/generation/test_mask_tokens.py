"""One mask token for all modalities: a model whose mask tokens have one embedding is the same model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from generation.fakes import FakeImage, FakeSpeech, FakeText, hum, picture, random_denoiser
from trimask.config import from_dict, override, to_dict
from trimask.evaluation.likelihood import sequence_nelbo
from trimask.generation.generate import Generator
from trimask.generation.length import LengthPolicy
from trimask.model.denoiser import Denoiser
from trimask.model.weights import check_fit, load_denoiser, save_denoiser
from trimask.recipes.quickstart import debug
from trimask.sampling.backends import BACKENDS
from trimask.training.corruption import ObjectiveConfig
from trimask.training.lr_schedule import WarmupCosine
from trimask.training.optimizers import AdamWConfig
from trimask.training.run import RunConfig
from trimask.training.step import DenoiserStep
from trimask.vocabulary.batch import make_batch
from trimask.vocabulary.layout import Vocabulary
from trimask.vocabulary.sequence import Sequence, build_sequence


def twins() -> tuple[Denoiser, Denoiser]:
    """A denoiser of three masks with one embedding, and the same with one mask; two special tokens without
    use keep all other ids, on which random streams depend.
    """
    own = random_denoiser()
    vocabulary = own.vocabulary
    first, *others = (vocabulary.mask(modality) for modality in vocabulary.modalities)
    with torch.no_grad():
        own.embedding.weight[others] = own.embedding.weight[first].clone()
    specials = list(vocabulary.specials)
    specials[first] = "mask"
    for number in others:
        specials[number] = f"spare:{number}"
    shared = Denoiser(own.config, replace(vocabulary, specials=tuple(specials)))
    shared.load_state_dict(own.state_dict())
    return own, shared.eval().requires_grad_(False)


OWN, SHARED = twins()


def generator_of(denoiser: Denoiser, backend: str) -> Generator:
    return Generator(
        denoiser,
        text=FakeText(),
        image=FakeImage(),
        speech=FakeSpeech(),
        lengths=LengthPolicy(caption_length=6, text_length=12, spoken_characters=5),
        predictor=BACKENDS[backend](denoiser),
    )


SPANS = (
    ("text", ("text",)),
    ("text_to_image", ("text", "image")),
    ("image_to_text", ("image", "text")),
    ("text_to_speech", ("text", "speech")),
    ("speech_to_text", ("speech", "text")),
    ("triple", ("text", "image", "speech")),
)


def sequences(vocabulary: Vocabulary) -> list[Sequence]:
    draw, found = np.random.default_rng(0), []
    for task, modalities in SPANS:
        codes = {}
        for modality in modalities:
            space = vocabulary.space(modality)
            frames = 4 if space.grid else 6
            codes[modality] = draw.integers(0, space.codebook_size, (frames, space.num_codebooks))
        found.append(build_sequence(vocabulary, task, codes))
    return found


@pytest.mark.parametrize("is_unconditional", [False, True])
def test_likelihoods_are_the_same(is_unconditional: bool) -> None:
    own, shared = (
        sequence_nelbo(each, sequences(each.vocabulary), seed=1, is_unconditional=is_unconditional)
        for each in (OWN, SHARED)
    )
    for modality, nats in own.items():
        assert nats.any() and np.array_equal(nats, shared[modality])


@pytest.mark.parametrize("backend", ["torch", "onnx", "onnx-int8"])
@pytest.mark.parametrize(
    ("task", "given"),
    [
        ("text", {"prompt": "ab"}),
        ("text_to_image", {"prompt": "a red hat", "guidance_scale": 3.0}),
        ("image_to_text", {"image": picture()}),
        ("text_to_speech", {"prompt": "good morning.", "guidance_scale": 2.0}),
        ("speech_to_text", {"speech": hum()}),
        ("triple", {}),
    ],
)
@pytest.mark.filterwarnings("ignore::trimask.generation.length.SpanTooShortWarning")
@pytest.mark.filterwarnings("ignore::trimask.generation.length.EmptySpanWarning")
def test_samples_are_the_same(backend: str, task: str, given: dict[str, Any]) -> None:
    own, shared = (
        generator_of(each, backend).generate_many(task, num_steps=4, num_samples=2, seed=3, **given)
        for each in (OWN, SHARED)
    )
    assert len(own) == 2
    for a, b in zip(own, shared, strict=True):
        assert np.array_equal(a.tokens, b.tokens) and a.text == b.text


def test_an_update_adds_what_each_mask_would_learn() -> None:
    """The same loss and bounds; the one mask has the sum of the gradients of the three."""
    grads, metrics = [], []
    for each in twins():
        each.requires_grad_(True)
        of_each = sequences(each.vocabulary) * 4
        step = DenoiserStep(
            each,
            objective=ObjectiveConfig(condition_dropout=0.5),
            optimizer=AdamWConfig(learning_rate=1e-3, clip_norm=None),
            lr_schedule=WarmupCosine(warmup_fraction=0.1),
            num_steps=4,
            seed=0,
            targets=(5.0, 3.0, 4.0),
            tasks=[task for task, _ in SPANS],
        )
        found = step(make_batch(of_each, range(len(of_each))))
        metrics.append({name: float(value) for name, value in found.items() if name != "grad_norm"})
        assert each.embedding.weight.grad is not None
        grads.append(each.embedding.weight.grad)
    assert metrics[0] == metrics[1]
    masks = [OWN.vocabulary.mask(modality) for modality in OWN.vocabulary.modalities]
    assert all(grads[0][mask].any() for mask in masks)
    torch.testing.assert_close(grads[1][masks[0]], grads[0][masks].sum(0))
    others = [number for number in range(OWN.vocabulary.size) if number not in masks]
    assert torch.equal(grads[1][others], grads[0][others])


def test_weights_keep_their_masks(tmp_path: Path) -> None:
    save_denoiser(tmp_path / "model.safetensors", SHARED)
    loaded = load_denoiser(tmp_path / "model.safetensors")
    assert loaded.vocabulary == SHARED.vocabulary
    with pytest.raises(ValueError, match="the weights are of a model with vocabulary"):
        check_fit(loaded, SHARED.config, OWN.vocabulary)


def test_a_run_chooses_its_masks_and_older_runs_have_their_own() -> None:
    run, spaces = debug(), OWN.vocabulary.spaces
    assert run.vocabulary(spaces).specials == replace(run.vocabulary(spaces), specials=()).specials
    shared = override(run, {"mask_tokens": "shared", "picture_axes": "line"})
    assert shared.vocabulary(spaces).mask("image") == shared.vocabulary(spaces).mask("speech")
    stored = to_dict(shared)
    assert from_dict(RunConfig, stored) == shared
    for name in ("mask_tokens", "picture_axes"):
        del stored[name]
    for name in ("qk_norm", "normalization"):
        del stored["model"][name]
    assert from_dict(RunConfig, stored) == run
