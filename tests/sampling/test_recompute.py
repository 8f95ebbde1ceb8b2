"""Keys and values that are kept: exact where they should be, and counted."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

import numpy as np
import pytest
from torch import Tensor

from design_space import RECOMPUTES
from generation.fakes import random_denoiser
from oracle import Oracle
from sampling.oracle_predictor import OraclePredictor
from sampling.test_sampler_loop import CONFIGS, DOCUMENTS, describe
from trimask.errors import UserError
from trimask.model.cache import KeyValueCache
from trimask.model.denoiser import Denoiser
from trimask.model.segments import ConditionAttention
from trimask.sampling import (
    ConditionFrozen,
    Everything,
    LowestEntropy,
    Needed,
    Recompute,
    RevealedFrozen,
    SamplerConfig,
    measure_sampler_likelihood,
    sample,
)
from trimask.sampling.predictor import DenoiserPredictor, Prediction
from trimask.sampling.recompute import Pass
from trimask.vocabulary.batch import Batch
from trimask.vocabulary.sequence import Sequence

PREDICTOR = DenoiserPredictor(random_denoiser())
pytestmark = pytest.mark.usefixtures("unchecked_shapes")  # other tests check them
GUIDED = SamplerConfig(num_steps=5, guidance_scale=2.0)


def prefix_denoiser() -> Denoiser:
    """Its conditions attend to themselves alone."""
    full = random_denoiser()
    config = replace(full.config, condition_attention=ConditionAttention.PREFIX)
    denoiser = Denoiser(config, full.vocabulary)
    denoiser.take(full)
    return denoiser.eval().requires_grad_(False)


class Counting:
    """Counts the positions that are computed."""

    def __init__(self, predictor: DenoiserPredictor = PREDICTOR) -> None:
        self.predictor = predictor
        self.vocabulary, self.device = predictor.vocabulary, predictor.device
        self.num_positions: list[int] = []

    def __call__(self, z: Tensor, batch: Batch) -> Prediction:
        self.num_positions.append(batch.num_positions)
        return self.predictor(z, batch)

    def empty_cache(self, batch: Batch) -> KeyValueCache:
        return self.predictor.empty_cache(batch)

    def predict_some(
        self,
        z: Tensor,
        batch: Batch,
        at: Tensor,
        *,
        cache: KeyValueCache | None = None,
        active: Tensor | None = None,
    ) -> Prediction:
        self.num_positions.append(batch.num_positions if active is None else len(active))
        return self.predictor.predict_some(z, batch, at, cache=cache, active=active)


def equal(found: list[np.ndarray], expected: list[np.ndarray]) -> bool:
    return all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("config", CONFIGS, ids=describe)
def test_renewing_in_every_pass_is_exact(config: SamplerConfig) -> None:
    expected = sample(PREDICTOR, DOCUMENTS, config, seed=3)
    policy = Needed(renew_every=1)
    assert equal(sample(PREDICTOR, DOCUMENTS, replace(config, recompute=policy), seed=3), expected)


RENEWING = [ConditionFrozen(renew_every=1), RevealedFrozen(renew_every=1), Needed(renew_every=1)]


@pytest.mark.parametrize("policy", RENEWING, ids=repr)
def test_renewing_in_every_pass_gives_the_same_bits(policy: Recompute) -> None:
    nats = [
        measure_sampler_likelihood(PREDICTOR, DOCUMENTS, replace(GUIDED, recompute=each), batch_size=4).nats
        for each in (Everything(), policy)
    ]
    assert all(np.array_equal(nats[0][name], nats[1][name]) for name in nats[0])


def test_frozen_conditions_are_exact_if_they_attend_to_themselves_alone() -> None:
    predictor = DenoiserPredictor(prefix_denoiser())
    for config in (GUIDED, SamplerConfig(num_steps=4, order=LowestEntropy())):
        frozen = replace(config, recompute=ConditionFrozen())
        expected = sample(predictor, DOCUMENTS, config, seed=1)
        assert equal(sample(predictor, DOCUMENTS, frozen, seed=1), expected)
        exact, kept = (measure_sampler_likelihood(predictor, DOCUMENTS, each) for each in (config, frozen))
        for name, nats in exact.nats.items():
            assert kept.nats[name] == pytest.approx(nats, abs=1e-4)
    full = measure_sampler_likelihood(PREDICTOR, DOCUMENTS, GUIDED)
    other = measure_sampler_likelihood(PREDICTOR, DOCUMENTS, replace(GUIDED, recompute=ConditionFrozen()))
    assert any(not np.allclose(full.nats[name], other.nats[name], atol=1e-4) for name in full.nats)


@pytest.mark.parametrize("policy", RECOMPUTES, ids=repr)
def test_a_sample_depends_on_itself_alone(policy: Recompute) -> None:
    """Rows leave and join; their keys and values move with them."""
    for each in (GUIDED, SamplerConfig(num_steps=5, order=LowestEntropy())):
        config = replace(each, recompute=policy)
        together = sample(PREDICTOR, DOCUMENTS, config, seed=3)
        assert equal(sample(PREDICTOR, DOCUMENTS, config, seed=3, batch_size=2), together)
        chosen = [4, 0, 3]
        some = sample(PREDICTOR, [DOCUMENTS[k] for k in chosen], config, seed=3, keys=chosen, batch_size=2)
        assert equal(some, [together[k] for k in chosen])


def positions(policy: Recompute, document: Sequence = DOCUMENTS[1], **settings: Any) -> list[int]:
    """Of three steps; by default over three text tokens between a task token and two boundaries."""
    spy = Counting()
    sample(spy, [document], SamplerConfig(num_steps=3, recompute=policy, **settings), seed=0)
    return spy.num_positions


def test_positions_that_each_policy_computes() -> None:
    assert positions(Everything()) == [6, 6, 6]
    assert positions(Needed()) == [6, 2, 2]  # the slot revealed before, and the one revealed now
    assert positions(RevealedFrozen()) == [6, 3, 2]  # the masked ones, and the slot revealed before
    whole, prefix = DOCUMENTS[0].num_positions, DOCUMENTS[0].prefix_length
    assert prefix == 10
    assert positions(ConditionFrozen(), DOCUMENTS[0]) == [whole, whole - prefix, whole - prefix]
    assert positions(ConditionFrozen()) == [6, 6, 6]  # there is no condition
    assert positions(Needed(renew_every=2)) == [6, 2, 6]
    assert positions(Needed(), order=LowestEntropy()) == [6, 3, 2]  # the order reads all masked slots


def test_guided_rows_keep_both_inputs() -> None:
    spy = Counting()
    config = SamplerConfig(num_steps=4, guidance_scale=2.0, recompute=Needed())
    sample(spy, DOCUMENTS[:1], config, seed=0)
    whole = DOCUMENTS[0].num_positions
    # Two slots before and two now, in a pass for each input.
    assert spy.num_positions == [whole, whole, 4, 4, 4, 4, 4, 4]


def test_predictors_without_keys_and_values_are_refused() -> None:
    predictor = OraclePredictor(Oracle.random())
    with pytest.raises(UserError, match="OraclePredictor keeps no keys and values: sample with"):
        sample(predictor, [predictor.document()], SamplerConfig(num_steps=2, recompute=Needed()), seed=0)


@final
@dataclass(frozen=True)
class Odd(Recompute):
    renew_every: ClassVar[int | None] = None

    def choose(self, needs: Pass) -> Any:
        return None


@final
class Forgetful(Recompute):
    def __init__(self, **fields: Any) -> None:
        for name, value in fields.items():
            setattr(self, name, value)

    def choose(self, needs: Pass) -> Any:
        return needs.read


def test_a_users_policy_is_checked(unchecked_shapes: None) -> None:
    with pytest.raises(UserError, match=r"`choose` of the policy Odd\(\) returned NoneType: return an"):
        sample(PREDICTOR, DOCUMENTS[:1], SamplerConfig(num_steps=3, recompute=Odd()), seed=0)
    with pytest.raises(UserError, match=r"Needed.renew_every is 0: give at least 1, or none for never"):
        Needed(renew_every=0)
    for odd in (Forgetful(), Forgetful(renew_every=0), Forgetful(renew_every="2")):
        with pytest.raises(
            UserError, match=r"`renew_every` of the policy Forgetful is .*: give it as a field"
        ):
            SamplerConfig(num_steps=3, recompute=odd)
