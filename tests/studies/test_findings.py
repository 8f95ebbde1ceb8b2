"""What the studies say about results whose truth is known, and that their trials are what they say."""

import math
import zlib
from collections.abc import Callable

import pytest

from trimask.model.parametrization import CompletedP, Standard
from trimask.questions.batch_invariance import BatchInvariance, batch_invariance
from trimask.questions.coordinate_check.study import coordinate_check
from trimask.questions.horizon import horizon
from trimask.questions.lr_transfer import COMPLETED_P, lr_transfer
from trimask.studies.findings import Claim, Findings
from trimask.studies.study import LOSSES, Study
from trimask.studies.trial import Result, Trial


def answer(study: Study, figures: Callable[[Trial], dict[str, float]]) -> tuple[Findings, list[Result]]:
    """The findings of a study whose trials give `figures`, with all that it asks for."""
    results: dict[str, Result] = {}
    while missing := [trial for trial in study.trials(results) if trial.name not in results]:
        for trial in missing:
            found = {name: v if math.isfinite(v) else None for name, v in figures(trial).items()}
            results[trial.name] = Result(
                factors=trial.factors, fingerprint=trial.fingerprint, seconds=1.0, figures=found
            )
    return study.findings(list(results.values())), list(results.values())


def every(value: float) -> dict[str, float]:
    return dict.fromkeys(LOSSES, value)


def claims_of(findings: Findings, start: str) -> list[Claim]:
    return [claim for claim in findings.claims if claim.text.startswith(start)]


def noise(trial: Trial) -> float:
    """A little, other for each trial."""
    return 1e-4 * math.sin(zlib.crc32(trial.name.encode()))


def test_learning_rates_that_transfer_and_that_do_not():
    def figures(trial: Trial) -> dict[str, float]:
        f = trial.factors
        octaves = math.log2(float(f["rate"]))
        moves = 0.0 if f["parametrization"] == COMPLETED_P else math.log2(int(f["width"]) / 64)
        return every(5.0 + 0.1 * (octaves + moves - 0.3) ** 2 + 0.01 * int(f["seed"]))

    findings, results = answer(lr_transfer(), figures)
    assert all(claim.holds is True for claim in claims_of(findings, COMPLETED_P))
    standard = claims_of(findings, "standard")
    assert len(standard) == len(LOSSES) and all(claim.holds is False for claim in standard)
    assert "width 512, depth 3: × 0.1" in standard[0].text  # 8 times as wide: an eighth of the rate
    # Further seeds run the best and its neighbours alone.
    wide = [
        r.factors
        for r in results
        if r.factors["width"] == 512 and r.factors["parametrization"] != COMPLETED_P
    ]
    assert sorted(f["rate"] for f in wide if f["seed"] == 1) == [0.0625, 0.125, 0.25]
    assert len([f for f in wide if f["seed"] == 0]) == 6
    (table, *_) = findings.tables
    assert ("standard", "512", "3", "2") in {row[:4] for row in table.rows}


def test_a_rate_that_is_best_at_the_edge_decides_nothing():
    study = lr_transfer()
    trials = [t for t in study.trials({}) if t.factors["width"] == 64]
    results = [
        Result(factors=t.factors, fingerprint="", seconds=1.0, figures=every(5.0 - float(t.factors["rate"])))
        for t in trials
    ]
    assert {claim.holds for claim in study.findings(results).claims} == {None}


def test_a_part_of_the_trials_makes_a_report():
    """The longest run first: the base's are last; and whatever diverged says nothing."""
    study = lr_transfer()
    for count in (0, 1, 5):
        trials = [t for t in study.trials({}) if t.factors["width"] == 512][:count]
        results = [
            Result(factors=t.factors, fingerprint="", seconds=1.0, figures=every(5.0) if i else {})
            for i, t in enumerate(trials)
        ]
        findings = study.findings(results)
        assert not findings.claims and len(findings.tables) == (len(LOSSES) if count > 1 else 0)
    assert not horizon().findings([]).claims
    assert not batch_invariance().findings([]).tables


def test_trials_of_lr_transfer_are_sized_and_parametrized():
    study = lr_transfer()
    for trial in study.trials({}):
        model = trial.config.model
        assert (model.width, model.depth) == (trial.factors["width"], trial.factors["depth"])
        assert model.head_dim == study.base.model.head_dim
        is_ours = trial.factors["parametrization"] == COMPLETED_P
        assert isinstance(model.parametrization, CompletedP if is_ours else Standard)
        rate = study.base.optimizer.learning_rate * float(trial.factors["rate"])
        assert trial.config.scaled_optimizer.learning_rate == rate


@pytest.mark.parametrize("gamma", [0.0, 0.44, 1.0])
def test_gamma_is_found(gamma: float):
    def figures(trial: Trial) -> dict[str, float]:
        f = trial.factors
        best = 0.7 - gamma * math.log2(int(f["horizon"]))
        return every(5.0 + 0.02 * (math.log2(float(f["kappa"])) - best) ** 2 + noise(trial))

    findings, _ = answer(horizon(), figures)
    (table,) = findings.tables
    for row in table.rows:
        value, low, high = (
            float(x) for x in row[-1].replace("[", "").replace("]", "").replace(",", "").split()
        )
        assert value == pytest.approx(gamma, abs=0.05)
        assert low <= gamma + 0.02 and gamma - 0.02 <= high and high - low < 0.2
    if gamma == 0.44:
        assert all(claim.holds for claim in findings.claims)
    else:
        assert not any(claim.holds for claim in findings.claims)


def test_trials_of_the_horizon_follow_the_rule():
    study = horizon()
    long = next(t for t in study.trials({}) if t.factors == {"horizon": 8, "kappa": 0.25, "seed": 0})
    assert long.config.horizon == 8 * study.base.horizon
    scaled, base = long.config.scaled_optimizer, study.base.optimizer
    assert scaled.learning_rate == pytest.approx(base.learning_rate / 2)
    assert scaled.beta2 == pytest.approx(base.beta2**0.25)


def invariance(changes: Callable[[str, int], float]) -> Findings:
    def figures(trial: Trial) -> dict[str, float]:
        rule, batch, seed = trial.factors["rule"], int(trial.factors["batch"]), int(trial.factors["seed"])
        found = every((5.0 + 0.3 * seed) * (1 + changes(str(rule), batch) / 100 + noise(trial)))
        if batch == 16:
            found |= {f"noise_scale/{name}": 100.0 for name in LOSSES}
            found |= {f"noise_scale_error/{name}": 10.0 for name in LOSSES}
        return found

    return answer(batch_invariance(), figures)[0]


def test_a_batch_rule_that_holds_until_a_batch_where_it_breaks():
    def changes(rule: str, batch: int) -> float:
        if rule != "κ":
            return 4.0
        return 3.0 if batch > 64 else 0.2 * (batch != 16)

    findings = invariance(changes)
    assert len(findings.claims) == len(LOSSES)
    for claim in findings.claims:
        assert claim.holds
        assert "over batches 4 to 64 (× 16)" in claim.text
        assert "it breaks at 128" in claim.text and "62 updates" in claim.text
    row = next(row for row in findings.tables[0].rows if row[0] == "linear")
    assert float(row[1].split()[0]) == pytest.approx(100 * math.log(1.04), abs=0.02) and row[2] == "–"
    assert findings.tables[-1].rows[0][1] == "100 ± 10"


def test_a_batch_rule_that_does_not_hold():
    findings = invariance(lambda rule, batch: 0.0 if batch == 16 else 2.0)
    assert not any(claim.holds for claim in findings.claims)


def test_batches_share_logical_batch_horizon_and_tuned_values():
    study = batch_invariance()
    assert isinstance(study, BatchInvariance)
    base = study.base.optimizer
    for trial in study.trials({}):
        config = trial.config
        assert (config.logical_batch, config.horizon) == (4, study.base.horizon)
        assert config.update_batch == trial.factors["batch"]
        assert config.num_updates == math.ceil(study.base.horizon / int(trial.factors["batch"]))
        ratio = int(trial.factors["batch"]) / study.base.logical_batch
        factor = {"κ": math.sqrt(ratio), "√": math.sqrt(ratio), "linear": ratio, "none": 1.0}
        rate = base.learning_rate * factor[str(trial.factors["rule"])]
        assert config.scaled_optimizer.learning_rate == pytest.approx(rate)
        if trial.factors["rule"] != "κ":
            assert config.scaled_optimizer.beta2 == base.beta2


def test_flat_and_steep_coordinates():
    study = coordinate_check()

    def figures(trial: Trial) -> dict[str, float]:
        width = int(trial.factors["width"]) / 64
        power = 0.0 if trial.factors["parametrization"] == COMPLETED_P else 1.0
        return {
            f"{time}/{modality}/residual stream": 0.5 * width**power * (1 + noise(trial))
            for time in ("start", "change after 16")
            for modality in LOSSES[1:]
        } | {f"start/{modality}/target logit": 0.0 for modality in LOSSES[1:]}

    findings, _ = answer(study, figures)
    verdicts = {
        (claim.text.split(":")[0], claim.text.split("over ")[1][:5]): claim for claim in findings.claims
    }
    assert verdicts[COMPLETED_P, "width"].holds and verdicts[COMPLETED_P, "depth"].holds
    assert verdicts["standard", "depth"].holds
    assert not verdicts["standard", "width"].holds
    assert (
        "residual stream" in verdicts["standard", "width"].text
        and "1.00" in verdicts["standard", "width"].text
    )
    logits = [row for row in findings.tables[0].rows if row[1] == "target logit"]
    assert not logits  # 0 at the start: no slope, and nothing to show
