"""Settings of one target among several: its own steps, order, filters and guidance."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from generation.fakes import tiny_generator
from oracle import Oracle
from sampling.laws import Codes, Kernel, Twin, nats
from sampling.test_laws import NUMBER, p_value
from sampling.test_recompute import RENEWING, equal
from sampling.test_sampler_loop import DOCUMENTS, PREDICTOR, Spy
from trimask.config import from_dict, override, to_dict
from trimask.errors import UserError
from trimask.recipes.quickstart import quickstart
from trimask.sampling import (
    Ancestral,
    Confidence,
    EntropyBound,
    Everything,
    LeftToRight,
    LowestEntropy,
    Needed,
    SamplerConfig,
    Temperature,
    measure_profile,
    measure_sampler_likelihood,
    sample,
)
from trimask.sampling.defaults import DEFAULTS
from trimask.sampling.predictor import Prediction
from trimask.vocabulary.batch import Batch
from trimask.vocabulary.layout import CodeSpace, Vocabulary
from trimask.vocabulary.sequence import Sequence as Document
from trimask.vocabulary.sequence import build_sequence
from trimask.vocabulary.task import Task

pytestmark = pytest.mark.usefixtures("unchecked_shapes")  # other tests check them
ORACLE = Oracle.random(vocabulary_size=3, length=4, seed=3, sharpness=2.0)
FIRST, SECOND = (0, 1), (2, 3)


class TwoTargets:
    """The exact conditionals of one joint table over the slots of two targets."""

    def __init__(self) -> None:
        spaces = [
            CodeSpace(name=name, num_codebooks=1, codebook_size=3, has_end=False)
            for name in ("first", "second")
        ]
        task = Task(name="make", spans=(("first", "second"),))
        self.vocabulary = Vocabulary(spaces=tuple(spaces), tasks=(task,))
        self.device = torch.device("cpu")
        self._start = torch.tensor([self.vocabulary.ranges[k].start for k in (0, 0, 1, 1)])
        self._mask = torch.tensor([self.vocabulary.mask(name) for name in ("first", "second")])[[0, 0, 1, 1]]

    def document(self, codes: Sequence[int] = (0, 0, 0, 0)) -> Document:
        pair = np.array(codes).reshape(2, 2, 1)
        return build_sequence(self.vocabulary, "make", {"first": pair[0], "second": pair[1]})

    def codes(self, tokens: Tensor, is_target: Tensor) -> Tensor:
        span = tokens[is_target].view(len(tokens), -1)
        return torch.where(span == self._mask, ORACLE.mask_id, span - self._start)

    def __call__(self, z: Tensor, batch: Batch) -> Prediction:
        full = torch.zeros(*z.shape, 3, dtype=torch.float64)
        full[batch.maskable] = ORACLE.log_probabilities(self.codes(z, batch.maskable)).flatten(0, 1)
        return lambda slots, range_index: full.flatten(0, 1)[slots]


PAIR = TwoTargets()
COLD = Twin(ORACLE, temperature=0.5)
WARM = Twin(ORACLE)


def together(*kernels: tuple[Twin, list[tuple[tuple[int, ...], float]]]) -> Kernel:
    """Reveal one of several sets of slots of each target in the same pass, given the same z."""

    def kernel(z: Codes) -> Iterator[tuple[float, Codes]]:
        for choices in itertools.product(*(sets for _, sets in kernels)):
            parts = [
                list(twin.reveal(z, slots)) for (twin, _), (slots, _) in zip(kernels, choices, strict=True)
            ]
            weight = float(np.prod([share for _, share in choices]))
            for drawn in itertools.product(*parts):
                after = list(z)
                for (slots, _), (_, codes) in zip(choices, drawn, strict=True):
                    for slot in slots:
                        after[slot] = codes[slot]
                yield weight * float(np.prod([p for p, _ in drawn])), tuple(after)

    return kernel


def left(z: Codes, slots: tuple[int, ...]) -> list[int]:
    return [slot for slot in slots if z[slot] == ORACLE.mask_id]


def one_of(twin: Twin, slots: tuple[int, ...]) -> Any:
    return lambda z: (twin, [((slot,), 1 / len(left(z, slots))) for slot in left(z, slots)])


def all_of(twin: Twin, slots: tuple[int, ...]) -> Any:
    return lambda z: (twin, [(tuple(left(z, slots)), 1.0)])


def surest_of(twin: Twin, slots: tuple[int, ...]) -> Any:
    def choose(z: Codes) -> Any:
        p = twin.p(z)
        best = max(left(z, slots), key=lambda slot: float((p[slot] * np.log(p[slot])).sum()))
        return twin, [((best,), 1.0)]

    return choose


def step(*choices: Any) -> Kernel:
    return lambda z: together(*(choose(z) for choose in choices))(z)


LAWS: dict[str, tuple[SamplerConfig, list[Kernel]]] = {
    "two steps and one": (
        SamplerConfig(
            num_steps=2, targets={"second": SamplerConfig(num_steps=1, filters=(Temperature(value=0.5),))}
        ),
        [step(one_of(WARM, FIRST), all_of(COLD, SECOND)), step(one_of(WARM, FIRST))],
    ),
    "one step and two, both their own": (
        SamplerConfig(
            count=EntropyBound(nats=0.1),  # of no target
            order=LowestEntropy(),
            targets={
                "first": SamplerConfig(num_steps=1),
                "second": SamplerConfig(num_steps=2, order=LowestEntropy()),
            },
        ),
        [step(all_of(WARM, FIRST), surest_of(WARM, SECOND)), step(surest_of(WARM, SECOND))],
    ),
    "a fixed order and an adaptive count": (
        SamplerConfig(
            num_steps=2,
            order=LeftToRight(),
            targets={"second": SamplerConfig(count=EntropyBound(nats=1e6), order=LowestEntropy())},
        ),
        [step(all_of(WARM, FIRST[:1]), all_of(WARM, SECOND)), step(all_of(WARM, FIRST))],
    ),
}


@pytest.mark.parametrize("name", LAWS)
def test_samples_follow_the_law(name: str) -> None:
    config, kernels = LAWS[name]
    document = PAIR.document()
    tokens = np.stack(sample(PAIR, [document] * NUMBER, config, seed=5))
    is_target = torch.from_numpy(document.maskable).expand(NUMBER, -1)
    found = Counter(tuple(row) for row in PAIR.codes(torch.from_numpy(tokens), is_target).tolist())
    assert p_value(found, WARM.run(kernels)) > 1e-3
    whole = WARM.run([step(one_of(WARM, FIRST), one_of(WARM, SECOND))] * 2)
    assert p_value(found, whole) < 1e-4  # the same settings for both would be noticed


@pytest.mark.parametrize("name", ["one step and two, both their own", "a fixed order and an adaptive count"])
def test_the_likelihood_is_that_of_the_law(name: str) -> None:
    """Of both targets together, exactly: nothing is random in these orders."""
    config, kernels = LAWS[name]
    documents = [PAIR.document(codes) for codes in ORACLE.sequences.tolist()]
    found = measure_sampler_likelihood(PAIR, documents, config)
    total = (found.nats["first"] + found.nats["second"]) @ ORACLE.probability.numpy()
    assert float(total) == pytest.approx(nats(ORACLE, WARM.run(kernels)), rel=1e-9)
    assert (found.num_passes == 2).all()


def test_each_target_must_have_a_likelihood() -> None:
    own = SamplerConfig(num_steps=2, order=Confidence(noise_temperature=0.25))
    config = SamplerConfig(num_steps=2, targets={"second": own})
    assert not config.has_likelihood and replace(config, targets={}).has_likelihood
    with pytest.raises(UserError, match=r"no exact likelihood.*Confidence\(noise_temperature=0.25"):
        measure_sampler_likelihood(PAIR, [PAIR.document()], config)
    with pytest.raises(UserError, match=r"a profile needs a fixed order and no corrector, not Confidence"):
        measure_profile(PAIR, [PAIR.document()], config)


def test_the_profile_has_the_filters_of_each_target() -> None:
    documents = [PAIR.document(codes) for codes in ORACLE.sequences.tolist()[:9]]
    cold = SamplerConfig(num_steps=1, filters=(Temperature(value=0.5),))
    config = SamplerConfig(num_steps=1, targets={"second": cold})
    total = measure_profile(PAIR, documents, config, num_levels=2).cost[0, 1] * 4 * len(documents)
    found = measure_sampler_likelihood(PAIR, documents, config)
    assert total == pytest.approx(sum(each.sum() for each in found.nats.values()))
    plain = measure_sampler_likelihood(PAIR, documents, SamplerConfig(num_steps=1))
    assert np.array_equal(plain.nats["first"], found.nats["first"])
    assert not np.allclose(plain.nats["second"], found.nats["second"])


TEXT = SamplerConfig(num_steps=3, order=Confidence(noise_temperature=1.0))
IMAGE = SamplerConfig(num_steps=6, count=Ancestral(), guidance_scale=3.0, filters=(Temperature(value=0.5),))
CONFIG = SamplerConfig(
    num_steps=4, order=LowestEntropy(), targets={"text": TEXT, "image": IMAGE}, guidance_scale=2.0
)


def test_a_sample_depends_on_itself_alone() -> None:
    for policy in (Everything(), Needed()):
        config = replace(
            CONFIG,
            recompute=policy,
            targets={name: replace(each, recompute=policy) for name, each in CONFIG.targets.items()},
        )
        found = sample(PREDICTOR, DOCUMENTS, config, seed=3)
        assert equal(sample(PREDICTOR, DOCUMENTS, config, seed=3, batch_size=2), found)
        chosen = [4, 0, 3]
        some = sample(PREDICTOR, [DOCUMENTS[k] for k in chosen], config, seed=3, keys=chosen)
        assert equal(some, [found[k] for k in chosen])


def test_of_a_single_target_its_settings_are_all() -> None:
    """A document with one target is sampled as with that target's settings alone."""
    for place, law in ((0, IMAGE), (1, TEXT), (2, replace(CONFIG, targets={})), (4, TEXT)):
        found = sample(PREDICTOR, [DOCUMENTS[place]], CONFIG, seed=1)
        assert equal(found, sample(PREDICTOR, [DOCUMENTS[place]], law, seed=1))


def test_guidance_of_one_target_alone() -> None:
    """A second pass is taken while its slots are read, and no longer."""
    document = DOCUMENTS[0]
    unguided = SamplerConfig(num_steps=4, targets={"text": replace(IMAGE, guidance_scale=5.0)})
    guided = SamplerConfig(num_steps=4, targets={"image": SamplerConfig(num_steps=4, guidance_scale=5.0)})
    rows = []
    for config in (unguided, guided):
        spy = Spy()
        sample(spy, [document], config, seed=0)
        rows.append(len(spy.rows))
    assert rows == [4, 8]
    assert guided.is_guided and unguided.is_guided


@pytest.mark.parametrize("policy", RENEWING, ids=repr)
def test_renewing_in_every_pass_gives_the_same_bits(policy: Any) -> None:
    config = replace(CONFIG, targets={"image": IMAGE})
    found = []
    for each in (Everything(), policy):
        targets = {name: replace(law, recompute=each) for name, law in config.targets.items()}
        law = replace(config, recompute=each, targets=targets)
        found.append(measure_sampler_likelihood(PREDICTOR, DOCUMENTS, law, batch_size=4).nats)
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])


def test_individual_settings_are_those_of_all_targets() -> None:
    found = CONFIG.adjust(num_steps=2, guidance_scale=1.5, temperature=0.0, top_p=0.9)
    for law in found.laws:
        assert (law.num_steps, law.guidance_scale, law.filters[0]) == (2, 1.5, Temperature(value=0.0))
    assert found.of_target("image").count == Ancestral() and found.of_target("speech") is found


def test_what_does_not_go_together() -> None:
    with pytest.raises(UserError, match="target text have targets of their own: leave them out"):
        SamplerConfig(num_steps=2, targets={"text": CONFIG})
    with pytest.raises(UserError, match=r"target text have recompute Needed.*Everything\(\): give both"):
        SamplerConfig(num_steps=2, targets={"text": replace(TEXT, recompute=Needed())})
    with pytest.raises(UserError, match="there is no modality 'music': choose one of text"):
        sample(PREDICTOR, DOCUMENTS, SamplerConfig(num_steps=2, targets={"music": TEXT}), seed=0)


def test_a_run_keeps_them_and_the_shell_changes_them() -> None:
    changes = {
        "sampler.joint.targets.image.num_steps": "5",
        "sampler.joint.targets.image.count": "Ancestral",
        "sampler.joint.order": "LowestEntropy",
        "sampler.triple.targets.speech.guidance_scale": "2",
    }
    run = override(quickstart(), changes)
    joint = run.sampler["joint"]
    assert joint.of_target("text") is joint and joint.num_steps == DEFAULTS["joint"].num_steps
    expected = replace(joint, targets={}, num_steps=5, count=Ancestral())
    assert joint.of_target("image") == expected and expected.order == LowestEntropy()
    assert run.sampler["triple"].of_target("speech").guidance_scale == 2.0
    assert from_dict(type(run), to_dict(run)) == run
    for path, match in (
        ("sampler.joint.targets.imge.num_steps", "imge, which it does not generate: choose one of image,"),
        ("sampler.text.targets.text.num_steps", "task text have some for target text, and it has a single"),
    ):
        with pytest.raises(UserError, match=match):
            override(quickstart(), {path: "5"})
        with pytest.raises(UserError, match=match):
            tiny_generator().override({path: "5"})


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_generator_takes_them() -> None:
    generator = tiny_generator()
    config = SamplerConfig(num_steps=4, targets={"image": SamplerConfig(num_steps=2, order=LeftToRight())})
    (given,) = generator.generate_many("joint", seed=3, config=config)
    generator.override(
        {
            "sampler.joint.count": "Scheduled",
            "sampler.joint.num_steps": "4",
            "sampler.joint.grid": "Uniform",
            "sampler.joint.order": "Random",
            "sampler.joint.filters": "",
            "sampler.joint.targets.image.num_steps": "2",
            "sampler.joint.targets.image.order": "LeftToRight",
        }
    )
    assert generator.settings("joint") == config
    (set_before,) = generator.generate_many("joint", seed=3)
    assert np.array_equal(given.tokens, set_before.tokens)
    (plain,) = generator.generate_many("joint", seed=3, config=replace(config, targets={}))
    assert not np.array_equal(given.tokens, plain.tokens)
    with pytest.raises(UserError, match="some for target speech, and it has a single target"):
        generator.generate("text_to_image", "a", config=replace(config, targets={"speech": TEXT}))
