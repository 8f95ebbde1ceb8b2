"""The study of schedules: its arms, the one that is measured, and findings about results of known truth."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from studies.test_findings import answer, claims_of, noise
from studies.test_run import tiny_run
from trimask.config import from_dict, to_dict
from trimask.diffusion.schedule import Cosine, Linear, Polynomial, Tabulated
from trimask.errors import UserError
from trimask.parallel import Local
from trimask.questions.schedules.arms import EARLY, FINAL, OPTIMAL, Arm
from trimask.questions.schedules.profile import optimal_density, strata
from trimask.questions.schedules.study import Schedules, schedules, schedules_short
from trimask.studies.findings import Findings
from trimask.studies.run import run_study
from trimask.studies.store import Results
from trimask.studies.study import LOSSES
from trimask.studies.trial import Trial
from trimask.training.weighting import Bound, Unweighted

MODALITIES = LOSSES[1:]


def moments(study: Schedules) -> dict[str, float]:
    """Those of E|h|² = 1/m, except for speech, whose noise does not depend on the ratio."""
    edges = strata(study.num_strata)
    return {
        f"moment/{when}/{modality}/{j}": float(
            edges[j + 1] - edges[j] if modality == "speech" else math.log(edges[j + 1] / max(edges[j], 1e-5))
        )
        for when in (EARLY, FINAL)
        for modality in MODALITIES
        for j in range(study.num_strata)
    }


def result_of(losses: dict[str, float], **others: dict[str, float]) -> tuple[Findings, list[Trial]]:
    """Findings when an arm's losses are 8 plus `losses`, and other figures likewise, by what they are."""
    study = schedules()
    assert isinstance(study, Schedules)
    asked = []

    def figures(trial: Trial) -> dict[str, float]:
        asked.append(trial)
        arm, seed = str(trial.factors["arm"]), int(trial.factors["seed"])

        def value(change: float) -> float:
            return 8 + 0.5 * seed + change + 0.01 * noise(trial)

        found: dict[str, float] = dict.fromkeys([*LOSSES], value(losses.get(arm, 0.0)))
        for modality in MODALITIES:
            for ratio in study.ratios:
                change = others.get(f"at_{ratio:g}", {}).get(arm, 0.0)
                found[f"cross_entropy/{ratio:g}/{modality}"] = value(change)
            found[f"samples/divergence/{modality}"] = value(others.get("samples", {}).get(arm, 0.0))
            if arm == study.reference:
                for name in (*study.arms, OPTIMAL):
                    for when in (EARLY, FINAL):
                        key = f"{when}/{name}/{modality}"
                        found[f"variance/{key}"] = others.get("variance", {}).get(name, 1.0)
                        found[f"variance_error/{key}"] = 0.01
        return found | (moments(study) if arm == study.reference else {})

    return answer(study, figures)[0], asked


def test_arms_differ_in_schedule_and_weight_alone() -> None:
    study = schedules()
    assert isinstance(study, Schedules)
    for trial in study.trials({}):
        arm, config = study.arms[str(trial.factors["arm"])], trial.config
        assert {config.modalities[m].schedule for m in MODALITIES} == {arm.schedule}
        assert config.objective == replace(study.base.objective, weighting=arm.weighting)
        assert config.scaled_optimizer == study.base.scaled_optimizer
        assert config.mixture == study.base.mixture and config.num_updates == study.base.num_updates
    assert len(study.trials({})) == 14
    assert len(schedules_short().trials({})) == 5


def test_the_optimal_arm_follows_from_the_reference() -> None:
    _, asked = result_of({})
    assert len(asked) == 16
    for trial in asked:
        if trial.factors["arm"] == OPTIMAL:
            rows = trial.config.modalities
            flat = rows["speech"].schedule
            assert isinstance(flat, Tabulated) and flat.densities == pytest.approx([1.0] * 12)
            study = schedules()
            assert isinstance(study, Schedules)
            own = [moments(study)[f"moment/{FINAL}/text/{j}"] for j in range(12)]
            assert rows["text"].schedule == optimal_density(strata(12).tolist(), own)
            assert trial.config.objective.weighting == Bound()


def test_no_optimal_arm_of_a_reference_that_diverged() -> None:
    study = schedules()
    findings, results = answer(study, lambda trial: {})
    assert len(results) == 14 and not [c for c in findings.claims if c.holds]


def test_known_truth_is_told() -> None:
    findings, _ = result_of(
        {"cosine": 0.1, "polynomial": 0.1, "geometric": 0.1, "log-linear": 0.1, "unweighted-linear": -0.2},
        at_1={"cosine": -0.3, "unweighted-cosine": 0.3},
        samples={"cosine": -0.3},
        variance={"cosine": 1.6, "polynomial": 0.4, OPTIMAL: 0.3},
    )

    def holds(start: str) -> set[bool | None]:
        found = {claim.holds for claim in claims_of(findings, start)}
        assert len(found) == 1, start
        return found

    assert holds("text: unweighted-linear has a lower exact NELBO than linear") == {True}
    assert holds("text: unweighted-cosine has a lower exact NELBO than cosine") == {True}
    assert holds("text: linear has the lowest NELBO") == {None}  # the optimal density is as good
    assert holds("text: cosine predicts better than linear at mask ratio 1") == {True}
    assert holds("text: unweighted-cosine predicts better than linear at mask ratio 1") == {False}
    assert holds("text: samples of cosine are nearer") == {True}
    assert holds("text: linear has the least gradient variance") == {False}
    assert holds("text: the optimal density lowers the variance") == {True}
    assert holds("text: the optimal density lowers the NELBO") == {None}
    assert len(findings.pictures["optimal_density"][0]) == 3


def test_linear_is_best_if_all_other_bounds_are_worse() -> None:
    worse: dict[str, float] = dict.fromkeys(("cosine", "polynomial", "geometric", "log-linear", OPTIMAL), 0.1)
    findings, _ = result_of(worse, variance=dict.fromkeys(worse, 1.5))
    for start in ("all: linear has the lowest NELBO", "image: linear has the least gradient variance"):
        assert [claim.holds for claim in claims_of(findings, start)] == [True]
    assert [c.holds for c in claims_of(findings, "all: unweighted-linear has")] == [None]


def test_findings_of_few_and_of_diverged_runs() -> None:
    study = schedules()
    assert not study.findings([]).claims
    findings, results = answer(
        study,
        lambda trial: {} if trial.factors["arm"] == "cosine" else dict.fromkeys(LOSSES, 8 + noise(trial)),
    )
    row = next(row for row in findings.tables[0].rows if row[0] == "cosine")
    assert row[1] == "diverged"
    for number in range(1, len(results)):
        study.findings(results[:number])


def test_an_arm_of_ones_own_and_of_one_modality() -> None:
    study = schedules()
    assert isinstance(study, Schedules)
    mine = Arm(modalities={"image": Polynomial(exponent=0.5)}, weighting=Unweighted())
    own = replace(study, arms={"linear": study.arms["linear"], "mine": mine})
    assert from_dict(Schedules, to_dict(own)) == own
    (trial,) = [t for t in own.trials({}) if t.name == "arm=mine,seed=0"]
    schedules_of = {name: row.schedule for name, row in trial.config.modalities.items()}
    assert schedules_of["image"] == Polynomial(exponent=0.5) and schedules_of["text"] == Linear()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reference": "none"}, "reference 'none'"),
        ({"reference": "unweighted-linear"}, "train on the bound"),
        ({"arms": {"linear": Arm(), OPTIMAL: Arm()}}, "choose another name"),
        ({"early": 0.0}, "early is 0.0"),
        ({"num_sequences": 2}, "num_sequences is 2"),
        ({"num_samples": 1}, "num_samples is 1"),
    ],
)
def test_what_cannot_be_studied_is_named(changes: dict[str, Any], message: str) -> None:
    study = schedules()
    assert isinstance(study, Schedules)
    with pytest.raises(UserError, match=message):
        replace(study, **changes)


@pytest.mark.slow
@pytest.mark.usefixtures("few_speeches")
def test_a_small_study_runs_to_its_optimal_arm(tmp_path: Path) -> None:
    study = Schedules(
        base=tiny_run(),
        arms={"linear": Arm(), "unweighted": Arm(schedule=Cosine(), weighting=Unweighted())},
        reference="linear",
        seeds=(0,),
        early=0.5,
        num_strata=3,
        num_sequences=4,
        ratios=(1.0, 0.2),
        num_samples=2,
        num_steps=2,
    )
    request = {"study": "schedules", "short": True, "data": [], "overrides": {}}
    run_study(study, tmp_path / "study", request=request, engine=Local(workers=1))
    found = Results(tmp_path / "study").by_name
    assert set(found) == {f"arm={name},seed=0" for name in ("linear", "unweighted", OPTIMAL)}
    row = found["arm=linear,seed=0"].figures
    for modality in MODALITIES:
        assert row[f"variance/{FINAL}/linear/{modality}"] == pytest.approx(1.0)
        assert 0 < float(row[f"variance/{FINAL}/{OPTIMAL}/{modality}"] or 0) < 1
        for each in found.values():
            assert 3 < float(each.figures[f"cross_entropy/1/{modality}"] or 0) < 12
            assert 0 <= float(each.figures[f"samples/divergence/{modality}"] or 0) <= 1
    assert study.findings(list(found.values())).claims
