"""Recorded passes give the same samples as others, and compiled ones the same predictions up to rounding."""

import itertools
import json
import os
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention import varlen

from design_space import RECOMPUTES
from generation.fakes import random_denoiser
from sampling.recorder import Recorder
from sampling.slow_varlen import slow_varlen_attn
from sampling.test_recompute import prefix_denoiser
from sampling.test_sampler_loop import CONFIGS, DOCUMENTS, describe
from trimask.errors import UserError
from trimask.model import compilation
from trimask.model.attention import AttentionBackend
from trimask.sampling import (
    CoarseFirst,
    CompiledPredictor,
    DenoiserPredictor,
    SamplerConfig,
    measure_sampler_likelihood,
    sample,
)
from trimask.sampling.recordings import Recordings
from trimask.vocabulary.batch import make_batch

SCRIPT = Path(__file__).parent / "compiled_passes.py"


@given(
    st.lists(st.tuples(st.integers(1, 5), st.booleans(), st.sampled_from("ab")), max_size=40),
    st.integers(1, 4),
)
def test_one_recording_per_shape_and_key(calls: list[tuple[int, bool, str]], most: int) -> None:
    """Against a slow twin: a shape is recorded when it comes for the second time, and forgotten when `most`
    others came after it.
    """
    recorder = Recorder()
    recordings = Recordings(recorder, most=most)
    known: OrderedDict[object, bool] = OrderedDict()
    expected: list[tuple[Tensor, Tensor]] = []
    num_recordings = num_replays = num_plain = 0
    plain: list[str] = []
    for number, (length, has_second, key) in enumerate(calls):
        first = torch.arange(length) + 10.0 * number
        second = torch.full((length,), float(number)) if has_second else None

        def compute(x: Tensor, y: Tensor | None, key: str = key) -> Tensor:
            plain.append(key)
            return (x if y is None else x * y) + ord(key)

        found = recordings.compute(compute, [first, second], key)
        expected.append((found, compute(first, second)))
        place = (length, has_second, key)
        if place not in known:
            known[place] = False
            num_plain += 1
            if len(known) > most:
                known.popitem(last=False)
        else:
            known.move_to_end(place)
            num_recordings += not known[place]
            num_replays += 1
            known[place] = True
    # Compared at the end: no later call may have written over a result.
    assert all(torch.equal(*pair) for pair in expected)
    assert (recorder.num_recordings, recorder.num_replays) == (num_recordings, num_replays)
    assert len(plain) == len(calls) + num_plain + num_recordings + num_replays


def recorded(recorder: Recorder, attention: AttentionBackend | None = None) -> CompiledPredictor:
    denoiser = random_denoiser()
    denoiser.attention_backend = attention
    return CompiledPredictor(denoiser, compiles=False, record=recorder)


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("config", CONFIGS, ids=describe)
@pytest.mark.parametrize("batch_size", [2, 6])
def test_recorded_passes_give_the_same_samples(config: SamplerConfig, batch_size: int) -> None:
    """Sequences of several lengths come and go."""
    recorder = Recorder()
    found = sample(recorded(recorder), DOCUMENTS, config, seed=3, batch_size=batch_size)
    expected = sample(DenoiserPredictor(random_denoiser()), DOCUMENTS, config, seed=3, batch_size=batch_size)
    assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))
    assert recorder.num_replays >= recorder.num_recordings > 0


def test_steps_of_a_batch_share_one_recording() -> None:
    recorder = Recorder()
    config = SamplerConfig(num_steps=8, order=CoarseFirst())
    sample(recorded(recorder), [DOCUMENTS[0]] * 3, config, seed=0)
    assert (recorder.num_recordings, recorder.num_replays) == (1, 7)  # the first computes as always
    guided = SamplerConfig(num_steps=8, order=CoarseFirst(), guidance_scale=2.0)
    recorder = Recorder()
    sample(recorded(recorder), [DOCUMENTS[0]] * 3, guided, seed=0)
    assert (recorder.num_recordings, recorder.num_replays) == (1, 15)  # both passes have the same shape


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("recompute", RECOMPUTES, ids=repr)
def test_passes_on_kept_keys_and_values_are_not_recorded(recompute: object) -> None:
    recorder, denoiser = Recorder(), prefix_denoiser()
    config = SamplerConfig(num_steps=5, guidance_scale=2.0, recompute=recompute)  # pyright: ignore[reportArgumentType]
    predictor = CompiledPredictor(denoiser, compiles=False, record=recorder)
    found = sample(predictor, DOCUMENTS, config, seed=3)
    expected = sample(DenoiserPredictor(denoiser), DOCUMENTS, config, seed=3)
    assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))
    assert bool(recorder.num_recordings) == (recompute in RECOMPUTES[:1])


@pytest.mark.parametrize("has_prefixes", [False, True])
def test_one_recording_for_documents_in_any_order(
    has_prefixes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel for variable lengths reads where documents end from tensors: batches of as many documents
    and positions are one shape, with boundaries of their own.
    """
    monkeypatch.setattr(varlen, "varlen_attn", slow_varlen_attn)
    recorder, denoiser = Recorder(), prefix_denoiser() if has_prefixes else random_denoiser()
    plain = DenoiserPredictor(denoiser)
    denoiser.attention_backend = AttentionBackend.VARLEN
    predictor = CompiledPredictor(denoiser, compiles=False, record=recorder)
    denoiser.attention_backend = AttentionBackend.LOOP
    for members in itertools.permutations((0, 2, 4)):
        batch = make_batch([DOCUMENTS[k] for k in members], range(3))
        mask_id = torch.from_numpy(denoiser.vocabulary.mask_of_range)[batch.range_index]
        z = torch.where(batch.maskable, mask_id, batch.tokens)
        for index in range(len(denoiser.vocabulary.ranges)):
            slots = (batch.range_index.flatten() == index).nonzero()[:, 0]
            found, expected = (each(z, batch)(slots, index) for each in (predictor, plain))
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert recorder.num_recordings == 1


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_is_not_recorded() -> None:
    recorder = Recorder()
    predictor = recorded(recorder, attention=AttentionBackend.FLEX)
    sample(predictor, DOCUMENTS[:1], SamplerConfig(num_steps=4), seed=0)
    assert not recorder.num_recordings


def test_likelihoods_are_the_same() -> None:
    """Outside of the sampler, where gradients would be on."""
    config, recorder = SamplerConfig(num_steps=3), Recorder()
    found, expected = (
        measure_sampler_likelihood(predictor, DOCUMENTS[:2], config, seed=0)
        for predictor in (recorded(recorder), DenoiserPredictor(random_denoiser()))
    )
    assert recorder.num_replays and set(found.nats) == set(expected.nats)
    assert all(np.allclose(found.nats[name], expected.nats[name], atol=1e-5) for name in found.nats)


def test_the_denoiser_itself_stays_as_it_was() -> None:
    """Its weights are shared, not copied; what replaces its parts is not."""
    denoiser = random_denoiser()
    other = compilation.share_weights(denoiser)
    for name, parameter in denoiser.named_parameters():
        assert other.get_parameter(name).data_ptr() == parameter.data_ptr()
    before = dict(denoiser.__dict__)
    CompiledPredictor(denoiser, compiles=False, record=Recorder())
    assert denoiser.__dict__ == before and other is not denoiser


@pytest.mark.parametrize(("kind", "said"), [("cpu", "install g\\+\\+"), ("cuda", "triton")])
def test_nothing_to_compile_with(kind: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation.shutil, "which", lambda name: None)
    monkeypatch.setattr(compilation.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=said):
        compilation.check_compiler(torch.device(kind))


@pytest.mark.slow
def test_compiled_blocks_give_the_same_predictions() -> None:
    """In a process of its own, without checks of types, which cannot be compiled."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPT.parents[1])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["off"] < 2e-5  # float32, log-probabilities of the order of 1
    assert found["replays"] > 0
    assert found["graphs_late"] == found["graphs_early"]  # new lengths, no new code
