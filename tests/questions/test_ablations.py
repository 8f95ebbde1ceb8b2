"""What the ablations say about results whose truth is known, and that an arm changes what it says alone."""

import math
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from trimask.config import differences, from_dict, to_dict
from trimask.parallel import Local
from trimask.questions.ablations.comparison import BASE, MODALITY_MEAN
from trimask.questions.ablations.study import ARMS, Ablations, Arm, ablations, ablations_short
from trimask.recipes.quickstart import debug
from trimask.studies.findings import Claim, Findings
from trimask.studies.run import run_study
from trimask.studies.study import LOSSES, small_run
from trimask.studies.trial import Result, Trial

DEEP = Arm(changes={"model.depth": "4"})


def found(
    study: Ablations, figures: Callable[[Trial], dict[str, float | None]], *, without: str = ""
) -> Findings:
    trials = [trial for trial in study.trials({}) if not without or without not in trial.name]
    return study.findings(
        [
            Result(factors=t.factors, fingerprint=t.fingerprint, seconds=2.0, figures=figures(t))
            for t in trials
        ]
    )


def losses(value: float) -> dict[str, float | None]:
    return dict.fromkeys(LOSSES, value)


def noise(trial: Trial) -> float:
    return 1e-3 * math.sin(zlib.crc32(trial.name.encode()))


def claims_of(findings: Findings, arm: str) -> list[Claim]:
    return [claim for claim in findings.claims if f"beats {arm} in" in claim.text]


def known(trial: Trial) -> dict[str, float | None]:
    """Seeds differ by far more than arms; one arm is worse, one better, the others are the base."""
    added = {"image_flattened": 0.05, "speech_delayed": -0.05}.get(str(trial.factors["arm"]), 0.0)
    flops = 3e12 if trial.factors["arm"] == "image_flattened" else 2e12
    cost: dict[str, float | None] = {"training_flops": flops, "positions": 90.0}
    value = 6.0 + added + 0.5 * int(trial.factors["seed"]) + noise(trial)
    hidden: dict[str, float | None] = {f"unconditional/{name}": value + 1 for name in ("all", "image")}
    return losses(value) | hidden | (cost if trial.factors["seed"] == 0 else {})


def test_what_is_worse_better_and_the_same_is_told() -> None:
    findings = found(ablations(), known)
    (worse,), (better,) = claims_of(findings, "image_flattened"), claims_of(findings, "speech_delayed")
    assert worse.holds is True and better.holds is False
    assert "image: +0.05" in worse.text and worse.text.endswith("at 1.50 times its FLOPs")
    assert "speech: -0.0" in better.text and "FLOPs" not in better.text
    others = [claim for claim in findings.claims if claim not in (worse, better)]
    assert sum(claim.holds is None for claim in others) >= len(others) - 2  # 95 % intervals of 1e-3 of noise
    losses_of, costs, hidden = findings.tables  # nothing is sampled from another distribution
    assert losses_of.header == ("arm", "changes", *LOSSES, MODALITY_MEAN)
    assert losses_of.rows[0] == (BASE, "", *["6.250"] * 5)
    assert losses_of.rows[1][1] == "modalities.image.layout Flattened"
    assert costs.rows[1] == ("image_flattened", "90.0", "3e+12", "1.500", "2")
    assert hidden.header == ("arm", "all", "image") and hidden.rows[0][1:] == ("7.250", "7.250")


def test_one_seed_tells_nothing() -> None:
    findings = found(replace(ablations(), seeds=(0,)), known)
    assert {claim.holds for claim in findings.claims} == {None}


def test_incomplete_results_make_a_report() -> None:
    study = ablations()
    assert study.findings([]).claims == ()
    without_base = found(study, known, without=BASE)
    assert {claim.holds for claim in without_base.claims} == {None}
    without_arm = found(study, known, without="image_flattened")
    assert not claims_of(without_arm, "image_flattened") and claims_of(without_arm, "image_delayed")
    one_seed_of_an_arm = found(study, known, without="arm=speech_delayed,seed=1")
    assert claims_of(one_seed_of_an_arm, "speech_delayed")[0].holds is False


@pytest.mark.parametrize(
    ("diverged", "verdict"),
    [("arm=image_delayed", True), ("arm=image_delayed,seed=1", None), ("arm=", None), ("arm=base", None)],
)
def test_runs_that_diverged(diverged: str, verdict: bool | None) -> None:
    findings = found(ablations(), lambda trial: {} if trial.name.startswith(diverged) else known(trial))
    assert [claim.holds for claim in claims_of(findings, "image_delayed")] == (
        [] if diverged == "arm=" else [verdict]
    )
    if verdict:
        row = next(row for row in findings.tables[0].rows if row[0] == "image_delayed")
        assert set(row[2:]) == {"diverged"}
        assert claims_of(findings, "image_flattened")[0].holds is True


def test_the_mean_of_modalities_weighs_them_alike() -> None:
    def figures(trial: Trial) -> dict[str, float | None]:
        is_other = trial.factors["arm"] == "modality_means"
        text, image, speech = (7.0, 5.0, 6.0) if not is_other else (6.4, 5.1, 6.2)
        return {"all": 5.7 + 0.1 * is_other + noise(trial), "text": text, "image": image, "speech": speech}

    of_tokens, of_modalities = claims_of(found(ablations(), figures), "modality_means")
    assert of_tokens.holds is True and of_modalities.holds is False
    assert f"{MODALITY_MEAN}: -0.100" in of_modalities.text


def test_an_arm_may_be_compared_with_another() -> None:
    """Both lose 0.3 bits to the base, and one loses nothing to the other, or 0.05 more."""
    for more, verdict in ((0.05, True), (-0.05, False)):

        def figures(trial: Trial, more: float = more) -> dict[str, float | None]:
            arm = str(trial.factors["arm"])
            added = 0.3 * arm.startswith("double_rate") + more * (arm == "double_rate_no_qk_norm")
            return losses(6.0 + added + int(trial.factors["seed"]) + noise(trial))

        findings = found(ablations(), figures)
        (claim,) = claims_of(findings, "double_rate_no_qk_norm")
        assert claim.text.startswith("double_rate beats double_rate_no_qk_norm in all: ")
        assert claim.holds is verdict
        added = float(claim.text.split("in all: ")[1].split()[0])
        assert added == pytest.approx(more, abs=2e-3)
        row = next(row for row in findings.tables[0].rows if row[0] == "double_rate_no_qk_norm")
        assert row[1].endswith("(against double_rate)")
        alone = found(ablations(), figures, without="arm=double_rate,")
        assert claims_of(alone, "double_rate_no_qk_norm")[0].holds is None


def test_what_is_sampled_from_is_compared_with_what_the_base_trains() -> None:
    def figures(trial: Trial) -> dict[str, float | None]:
        value = 6.0 + int(trial.factors["seed"])
        if trial.factors["arm"] != "softmax_over_all":
            return losses(value)
        return losses(value + 0.4) | {f"sampled/{name}": value + 0.125 for name in LOSSES}

    findings = found(ablations(), figures)
    assert findings.tables[0].rows[-2][0] == "softmax_over_all"
    assert findings.tables[0].rows[-2][2].startswith("+0.400")
    base, other = findings.tables[-1].rows
    assert base == (BASE, *["6.500"] * 4)
    assert other[0] == "softmax_over_all" and all(cell.startswith("+0.125") for cell in other[1:])


def test_each_arm_changes_what_it_says_alone() -> None:
    study = ablations()
    base = {trial.factors["seed"]: to_dict(trial.config) for trial in study.trials({})[:1]}[0]
    for trial in study.trials({}):
        if trial.factors["seed"]:
            continue
        changed = {line.split(" was ")[0] for line in differences(base, to_dict(trial.config))}
        name = str(trial.factors["arm"])
        paths = study.arms[name].changes if name != BASE else {}
        assert bool(changed) == bool(paths)
        assert all(any(f"{line}.".startswith(f"{path}.") for path in paths) for line in changed)
        assert trial.config.horizon == study.base.horizon
    assert {t.factors["seed"] for t in study.trials({})} == {0, 1}
    assert ablations_short().base.num_steps == 80
    assert from_dict(Ablations, to_dict(study)) == study


def test_an_arm_of_ones_own() -> None:
    study = replace(ablations(), arms={**ARMS, "deep": DEEP})
    deep = next(trial for trial in study.trials({}) if trial.factors["arm"] == "deep")
    assert deep.config.model.depth == 4


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("base", {"model.depth": "4"}, "arms.base: an arm's name has"),
        ("a/b", {"model.depth": "4"}, "arms.a/b: an arm's name has"),
        ("same", {"model.depth": "3"}, r"arms.same.changes .* leave the base as it is"),
        ("typo", {"model.dept": "3"}, "arms.typo.changes: model.dept"),
        ("unfit", {"model.num_heads": "5"}, r"arms.unfit.changes: model: width 64 with 5 heads"),
    ],
)
def test_arms_that_are_none(name: str, changes: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Ablations(base=small_run(learning_rate=0.01), arms={name: Arm(changes=changes)}, seeds=(0,))


@pytest.mark.parametrize("against", ["itself", "nobody"])
def test_arms_are_compared_with_arms(against: str) -> None:
    arm = Arm(changes={"model.depth": "4"}, against=against)
    with pytest.raises(ValueError, match=f"arms.itself.against is '{against}': name base or another arm"):
        Ablations(base=small_run(learning_rate=0.01), arms={"itself": arm}, seeds=(0,))


def test_without_seeds() -> None:
    with pytest.raises(ValueError, match="no seeds"):
        replace(ablations(), seeds=())


@pytest.mark.usefixtures("few_speeches")
def test_tiny_trials_run_and_cost_what_their_layout_says(tmp_path: Path) -> None:
    small = small_run(learning_rate=2.0**-7)
    base = replace(small, model=debug().model, data=debug().data, logical_batch=8, num_steps=2, log_every=1)
    chosen = ("speech_flattened", "text_unaligned", "softmax_over_all", "no_qk_norm", "shared_mask")
    study = Ablations(base=base, arms={name: ARMS[name] for name in chosen}, seeds=(0,))
    request = {"study": "ablations", "short": True, "data": [], "overrides": {}}
    results = run_study(study, tmp_path, request=request, engine=Local(workers=1))
    by_arm = {result.factors["arm"]: result for result in results}
    assert list(by_arm) == [BASE, *chosen]
    own = by_arm[BASE].figures
    assert set(own) == {*LOSSES, "unconditional/all", "unconditional/image", "unconditional/speech"} | {
        "training_flops",
        "positions",
    }
    for result in results:
        assert all(3 < result.figure(loss) < 12.4 for loss in LOSSES)  # log2 of all codes
        assert result.figures["text"] != result.figures["unconditional/all"]
    assert by_arm["speech_flattened"].figure("training_flops") > by_arm[BASE].figure("training_flops")
    assert by_arm["text_unaligned"].figure("training_flops") == by_arm[BASE].figure("training_flops")
    assert by_arm["text_unaligned"].figure("speech") != by_arm[BASE].figure("speech")
    of_all = by_arm["softmax_over_all"]
    assert of_all.figure("training_flops") > by_arm[BASE].figure("training_flops")
    assert all(0 < of_all.figure(f"sampled/{loss}") < of_all.figure(loss) for loss in LOSSES)
    assert len({result.figure("all") for result in results}) == len(results)
