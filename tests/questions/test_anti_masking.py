"""Anti-masking: variances in closed form beside every mask, what measured draws vary by, and the findings."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from oracle import Oracle
from studies.test_findings import answer, claims_of, noise
from training.test_step import CPU, VOCABULARY, make_sequences
from trimask.diffusion.time import low_discrepancy_times, mask_ratio_pairs
from trimask.errors import UserError
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.questions.anti_masking.arms import (
    EARLY,
    FINAL,
    FRESH,
    SAME,
    MaskingArm,
    flat_gain,
    pair_variance,
    single_variance,
)
from trimask.questions.anti_masking.study import AntiMasking, anti_masking, anti_masking_short
from trimask.studies.findings import Findings
from trimask.studies.gradients import Draws, measure_draws
from trimask.studies.study import LOSSES
from trimask.studies.trial import Trial
from trimask.training.corruption import Corruption, ObjectiveConfig
from trimask.training.times import Independent, Stratified
from trimask.vocabulary.batch import make_batch
from trimask.vocabulary.sequence import Sequence


@pytest.mark.parametrize("u", [0.01, 0.2, 0.5, 0.8, 0.99])
def test_closed_forms_against_every_mask(u: float) -> None:
    """Each masked token costs 1: the loss of a view is its masked tokens over the ratio."""
    oracle = Oracle.random(vocabulary_size=2, length=5)
    chance = oracle.mask_probability(torch.tensor(u, dtype=torch.float64))
    masked = oracle.masks.sum(-1).double()
    single, pair = masked / u, 0.5 * (masked / u + (5 - masked) / (1 - u))
    for loss, expected in ((single, single_variance(u)), (pair, pair_variance(u))):
        mean = float(chance @ loss)
        assert mean == pytest.approx(5, rel=1e-12)
        assert float(chance @ (loss - mean).square()) / 5 == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("least", [1e-2, 1e-3, 1e-5])
def test_the_gain_at_equal_compute(least: float) -> None:
    """Two single views of other sequences have half of a view's variance, a pair the whole of its own."""
    single, pair = (
        quad(f, least, 1 - least if f is pair_variance else 1, points=[10 * least], limit=200)[0]
        for f in (single_variance, pair_variance)
    )
    assert 0.5 * single / pair == pytest.approx(flat_gain(least), rel=2 * least * math.log(1 / least))
    assert 1 < flat_gain(least) < 1.4


def test_a_least_ratio_without_a_gain_is_named() -> None:
    for least in (0.0, 0.2, math.nan):
        with pytest.raises(UserError, match="least mask ratio"):
            flat_gain(least)


def simulate(times: str, *, is_pair: bool, differ: float, num: int = 2000) -> float:
    """The variance of the mean loss of 16 views, when cross-entropy is c (1 + 2m): 64 tokens per sequence,
    whose c differ by a share `differ`. Given the ratios, only the numbers of masked tokens are drawn."""
    draw, count, losses = np.random.default_rng(0), 8 if is_pair else 16, []
    for _ in range(num):
        t = torch.from_numpy(draw.random(count))
        if times == "stratified":
            t = low_discrepancy_times(count, offset=float(draw.random()))
        scale = 1 + differ * draw.normal(size=count)
        t = t.clamp(min=1e-3)
        ratios = [each.numpy() for each in mask_ratio_pairs(t)] if is_pair else [t.numpy()]
        masked = draw.binomial(64, ratios[0])
        views = [(masked, ratios[0])] + [(64 - masked, each) for each in ratios[1:]]
        total = sum(number / m * (1 + 2 * m) * scale for number, m in views) / len(views)
        losses.append(float(np.mean(total)))
    return float(np.var(losses))


def test_even_times_take_what_the_pair_wins() -> None:
    """Ratios single / pair at equal compute with cross-entropy that rises: large with independent times;
    with even times, nothing is left of it once sequences differ."""

    def ratio(times: str, differ: float) -> float:
        return simulate(times, is_pair=False, differ=differ) / simulate(times, is_pair=True, differ=differ)

    assert ratio("independent", 0.0) > 1.3
    assert ratio("independent", 0.0) > ratio("stratified", 0.0)
    assert ratio("stratified", 0.3) < 1.02


def draws_of(sequences: list[Sequence], number: int) -> list[tuple[int, list[Sequence]]]:
    return [(0, sequences)] * number


def test_draws_vary_as_the_flat_closed_form() -> None:
    """The untrained model has cross-entropy ln V for every token: the loss is flat, whatever is masked."""
    denoiser = Denoiser(DenoiserConfig(width=16, depth=1, num_heads=1), VOCABULARY)
    denoiser.initialize(0)
    (picture,) = [one for one in make_sequences(2) if one.task.target == "image"]
    batch, tokens = make_batch([picture], [0]), 18
    for pair, function in ((False, single_variance), (True, pair_variance)):
        objective = ObjectiveConfig(times=Independent(), anti_masking=pair, condition_dropout=0.0)
        drawn = measure_draws(denoiser, draws_of([picture], 240), objective)
        assert measure_draws(denoiser, draws_of([picture], 6), objective).losses == drawn.losses[:6]
        corruptions = [Corruption(objective, VOCABULARY, seed=seed, device=CPU) for seed in range(240)]
        u = [float(each._mask_ratios(batch, 0) if pair else each._times(batch, 0)) for each in corruptions]
        # Smaller ratios hide a token too rarely for so few draws.
        squares = [
            (loss / math.log(16) - tokens) ** 2 / (tokens * function(ratio))
            for loss, ratio in zip(drawn.losses, u, strict=True)
            if 0.05 < ratio < 0.95 and function(ratio) > 1e-3
        ]
        error = np.std(squares) / math.sqrt(len(squares))
        assert error < 0.25 and abs(np.mean(squares) - 1) < 4 * error
    # The gradient of flat losses reaches the unembedding alone, and varies.
    assert all(square > 0 for square in drawn.squares) and len(drawn.squares) == 120


def test_variances_are_within_sets() -> None:
    drawn = Draws(losses=(1.0, 3.0, 11.0, 13.0), sets=(0, 0, 1, 1), squares=(2.0, 4.0))
    assert drawn.variances()["loss"] == (2.0, 0.0)
    assert drawn.variances()["gradient"] == (3.0, 1.0)


def result_of(pair: dict[str, float], noise_ratio: dict[str, float]) -> Findings:
    """Findings when arms' losses are 8 plus `pair`'s, and their variances those of `noise_ratio`."""
    study = anti_masking()

    def figures(trial: Trial) -> dict[str, float]:
        arm, seed = str(trial.factors["arm"]), int(trial.factors["seed"])
        found: dict[str, float] = dict.fromkeys(
            [*LOSSES], 8 + 0.5 * seed + pair.get(arm, 0.0) + 0.01 * noise(trial)
        )
        if arm == study.reference:
            for name, kind, when in itertools.product(study.arms, (SAME, FRESH), (EARLY, FINAL)):
                for what, modality in itertools.product(("loss", "gradient"), LOSSES[1:]):
                    value = 2.0 * noise_ratio.get(name, 1.0)
                    found[f"{what}/{when}/{kind}/{name}/{modality}"] = value
                    found[f"{what}_error/{when}/{kind}/{name}/{modality}"] = 0.02 * value
        return found

    return answer(study, figures)[0]


def test_a_pair_that_pays_with_independent_times_alone() -> None:
    findings = result_of(
        {"pair-independent": -0.2, "pair-stratified": 0.2},
        {"single-independent": 3.0, "pair-stratified": 1.5},
    )
    held = {claim.text.split(" has ")[0]: claim.holds for claim in claims_of(findings, "all:")}
    assert held["all: pair-independent"] is True and held["all: pair-stratified"] is False
    assert held["all: pair-twice-compute-stratified"] is None
    less = {claim.text.split(" at ")[0]: claim.holds for claim in claims_of(findings, "image:")}
    assert less["image: pair-independent has less gradient variance than single-independent"] is True
    assert less["image: pair-stratified has less gradient variance than single-stratified"] is False
    assert "anti-masking costs at equal compute" in findings.notes[-1]
    gradient = next(table for table in findings.tables if table.title.startswith("Variance of the gradient"))
    row = next(row for row in gradient.rows if row[:2] == ("image", "pair-stratified"))
    assert row[2].startswith("0.67") and row[-1] == f"{flat_gain(1e-3):.2f}"


def test_a_null_result_is_told_as_one() -> None:
    findings = result_of({}, {})
    assert {claim.holds for claim in findings.claims} == {None}
    assert "cannot be told from the single view" in findings.notes[-1]


def test_findings_of_few_and_of_diverged_runs() -> None:
    study = anti_masking()
    assert not study.findings([]).claims
    findings, results = answer(
        study,
        lambda trial: (
            {} if trial.factors["arm"] == "pair-stratified" else dict.fromkeys(LOSSES, 8 + noise(trial))
        ),
    )
    lost = [claim for claim in findings.claims if ": pair-stratified" in claim.text]
    assert lost and all(claim.holds is False for claim in lost)
    for number in range(1, len(results)):
        study.findings(results[:number])


def test_arms_differ_in_views_and_times_alone() -> None:
    study = anti_masking()
    trials = study.trials({})
    assert len(trials) == 12 and len({trial.name for trial in trials}) == 12
    for trial in trials:
        arm, config = study.arms[str(trial.factors["arm"])], trial.config
        assert config.num_updates == study.base.num_updates
        assert config.distinct_batch == arm.num_sequences(study.base.logical_batch)
        assert config.scaled_optimizer == study.base.scaled_optimizer
        own = replace(config.objective, times=Stratified(), anti_masking=False)
        assert own == study.base.objective
    pair = [t.config for t in trials if t.factors["arm"] == "pair-twice-compute-stratified"]
    assert all(config.distinct_batch == study.base.distinct_batch for config in pair)
    assert len(anti_masking_short().trials({})) == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reference": "none"}, "reference 'none'"),
        ({"early": 1.0}, "early is 1.0"),
        ({"num_draws": 10}, "num_draws is 10"),
        ({"num_views": 3}, "num_views is 3"),
    ],
)
def test_what_cannot_be_measured_is_named(changes: dict[str, float | str], message: str) -> None:
    study = anti_masking()
    assert isinstance(study, AntiMasking)
    with pytest.raises(UserError, match=message):
        replace(study, **changes)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="compute is 0"):
        MaskingArm(compute=0)
