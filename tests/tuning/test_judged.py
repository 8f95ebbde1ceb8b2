"""The tuning of samplers by judged samples: what is tried, chosen and compared, where the truth is known."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, final

import numpy as np
import pytest

from trimask.sampling.config import SamplerConfig
from trimask.sampling.count import FirstHitting
from trimask.sampling.filters import Temperature, TopP
from trimask.sampling.grid import Cosine
from trimask.sampling.guidance import LinearGuidance
from trimask.sampling.order import Confidence, DrawnOrder, Random
from trimask.scorecard.quality import Asked, Judged, PassagePerplexity, Quality
from trimask.studies.trial import Result
from trimask.tuning.judged import DrawnLaw, Guidance, Sampled, TaskTuning, Tuning
from trimask.tuning.judged_findings import report_tuning, summarize
from trimask.tuning.trial import Judgement

NUM_PROMPTS = 12


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Guess(Quality):
    """Never measured here."""

    unit: ClassVar[str] = "wrong guesses"

    def measure(self, asked: Asked) -> Judged:
        raise AssertionError("results are made up")


CHOSEN = {
    "fast": SamplerConfig(num_steps=4, filters=(Temperature(value=1.0),)),
    "balanced": SamplerConfig(num_steps=8, grid=Cosine(), filters=(Temperature(value=1.0),)),
    "best": SamplerConfig(num_steps=16, filters=(Temperature(value=1.0),)),
}
TUNING = Tuning(
    qualities={"text_to_image": Guess()},
    num_prompts=NUM_PROMPTS,
    temperatures=(0.0, 0.5, 1.0),
    guidance=(Guidance(scale=1.0), Guidance(scale=2.0), Guidance(scale=2.0, ramp=LinearGuidance())),
    truncations=(None, TopP(value=0.9)),
    laws=(DrawnLaw(order=Confidence()), DrawnLaw(order=Confidence(), ends_last=True)),
    baselines={"starting": {"text_to_image": SamplerConfig(num_steps=64, order=Confidence())}},
)


def task_tuning(**changes: object) -> TaskTuning:
    found = TaskTuning(
        tuning=TUNING,
        weights="abc",
        task="text_to_image",
        has_condition=True,
        chosen=CHOSEN,
        base="balanced",
        own=SamplerConfig(num_steps=32),
        seed=0,
    )
    return replace(found, **changes)


def truth(law: SamplerConfig) -> float:
    """Errors per prompt: the best are temperature 0.5, guidance with a ramp, top-p and the random order."""
    temperature = next((each.value for each in law.filters if isinstance(each, Temperature)), 1.0)
    return (
        1.0
        + abs(temperature - 0.5)
        + {1.0: 0.3, 2.0: 0.1}[law.guidance_scale]
        - 0.05 * (law.guidance_ramp == LinearGuidance())
        - 0.05 * any(isinstance(each, TopP) for each in law.filters)
        + 0.2 * isinstance(law.order, Confidence)
        - 0.3 * law.ends_last
    )


def answer(
    tuning: TaskTuning,
    errors: Callable[[SamplerConfig], float] = truth,
    is_sound: Callable[[SamplerConfig], bool] = lambda law: not law.ends_last,
    noise: float = 0.0,
) -> Mapping[str, Result]:
    """Results of all trials; the noise is that of the prompt and of the sampler."""
    results: dict[str, Result] = {}
    while missing := [trial for trial in tuning.trials(results) if trial.name not in results]:
        for trial in missing:
            law = trial.config.sampler
            draw = np.random.default_rng(len(results))
            own = errors(law) + noise * draw.standard_normal(NUM_PROMPTS)
            results[trial.name] = Result(
                factors=trial.factors,
                fingerprint=trial.fingerprint,
                seconds=1.0,
                figures={
                    "positions_per_result": 10.0 * (law.num_steps or 1) * (1 + (law.guidance_scale != 1)),
                    "cpu_seconds": 1.0,
                    "is_sound": float(is_sound(law)),
                    "empty": 0.25,
                    **{f"errors/{i}": float(each) for i, each in enumerate(own)},
                    **{f"units/{i}": 1.0 for i in range(NUM_PROMPTS)},
                },
            )
    return results


def test_the_search_finds_the_best_of_what_is_sound():
    tuning = task_tuning()
    presets = tuning.presets(answer(tuning))
    assert presets is not None
    best = SamplerConfig(
        num_steps=16,
        filters=(Temperature(value=0.5), TopP(value=0.9)),
        guidance_scale=2.0,
        guidance_ramp=LinearGuidance(),
    )
    assert presets["best"] == best
    # Without noise guidance is better beyond doubt: all presets have it.
    assert presets["fast"] == replace(best, num_steps=4)
    assert presets["balanced"] == replace(best, num_steps=8, grid=Cosine())


def test_guidance_that_is_not_shown_to_be_better_is_left_to_the_best_preset():
    tuning = task_tuning()
    presets = tuning.presets(answer(tuning, noise=1.0))
    assert presets is not None
    assert presets["fast"].guidance_scale == presets["balanced"].guidance_scale == 1
    assert presets["fast"].guidance_ramp == SamplerConfig(num_steps=1).guidance_ramp


def test_a_law_that_looks_at_drawn_codes_goes_to_all_presets():
    tuning = task_tuning()
    presets = tuning.presets(answer(tuning, is_sound=lambda law: True))
    assert presets is not None
    assert {(type(law.order), law.ends_last) for law in presets.values()} == {(Confidence, True)}
    assert [law.num_steps for law in presets.values()] == [4, 8, 16]


def test_a_law_that_looks_at_drawn_codes_must_be_shown_to_be_better():
    tuning = task_tuning()
    presets = tuning.presets(answer(tuning, is_sound=lambda law: True, noise=1.0))
    assert presets is not None
    assert {law.order for law in presets.values()} == {Random()}


def test_a_law_with_steps_leaves_samplers_without_steps_alone():
    chosen = {**CHOSEN, "best": SamplerConfig(count=FirstHitting(), filters=(Temperature(value=1.0),))}
    tuning = task_tuning(chosen=chosen)
    presets = tuning.presets(answer(tuning, is_sound=lambda law: True))
    assert presets is not None
    assert isinstance(presets["balanced"].order, DrawnOrder)
    assert presets["best"].order == Random() and presets["best"].count == FirstHitting()
    assert presets["best"].filters == presets["balanced"].filters


def test_a_start_without_steps_is_tuned_too():
    chosen = {**CHOSEN, "balanced": SamplerConfig(count=FirstHitting(), filters=(Temperature(value=1.0),))}
    tuning = task_tuning(chosen=chosen)
    results = answer(tuning)
    presets = tuning.presets(results)
    assert presets is not None and presets["balanced"].count == FirstHitting()
    assert presets["balanced"].filters == (Temperature(value=0.5), TopP(value=0.9))
    assert "order" not in {trial.factors["judged"] for trial in tuning.trials(results)}


def test_tasks_without_condition_are_not_guided_and_nothing_is_tried_twice():
    tuning = task_tuning(has_condition=False)
    trials = tuning.trials(answer(tuning))
    assert {trial.factors["judged"] for trial in trials} == {
        *("start", "temperature", "truncation", "order", "check")
    }
    tried = [trial.config for trial in trials if trial.factors["judged"] != "check"]
    laws = [config.sampler for config in tried]
    assert len(laws) == len({repr(law) for law in laws})
    assert all(isinstance(config, Judgement) and config.part == "tuning" for config in tried)


def test_what_is_compared_has_prompts_of_its_own():
    tuning = task_tuning()
    results = answer(tuning)
    checks = [trial for trial in tuning.trials(results) if trial.factors["judged"] == "check"]
    assert [trial.factors["setting"] for trial in checks] == ["fast", "balanced", "best", "own", "starting"]
    assert all(isinstance(trial.config, Judgement) and trial.config.part == "check" for trial in checks)
    findings = report_tuning([tuning], results, {"joint": "no quality is known"})
    assert [claim.holds for claim in findings.claims] == [True, True]
    assert "no quality is known" in findings.notes[0]
    rows = findings.tables[0].rows
    assert [row[0] for row in rows] == ["fast", "balanced", "best", "own", "starting"]
    assert [row[5] for row in rows][:4] == ["4.00", "2.00", "1.00", "1.00"]
    chosen = {table.title: [row[1] for row in table.rows if row[0] == "×"] for table in findings.tables[1:]}
    assert list(chosen.values()) == [
        ["temperature 0.5"],
        ["guidance 2 LinearGuidance"],
        ["TopP(value=0.9)"],
        ["TopP(value=0.9)"],
        ["TopP(value=0.9)"],
    ]


def test_nothing_is_truncated_where_the_most_probable_code_is_taken():
    tuning = task_tuning()
    results = answer(tuning, errors=lambda law: float(Temperature(value=0.0) not in law.filters))
    trials = tuning.trials(results)
    assert "truncation" not in {trial.factors["judged"] for trial in trials}


def test_before_the_search_is_finished_there_is_no_preset():
    tuning = task_tuning()
    results = answer(tuning)
    half = {name: each for name, each in results.items() if each.factors["judged"] != "order"}
    assert tuning.presets(half) is None
    assert [name for name, *_ in tuning.rounds(half)] == ["temperature", "guidance", "truncation"]
    assert report_tuning([tuning], half, {}).claims == ()


def sampled(errors: list[float], units: list[float]) -> Sampled:
    figures: dict[str, float | None] = {f"errors/{i}": each for i, each in enumerate(errors)}
    figures |= {f"units/{i}": each for i, each in enumerate(units)}
    result = Result(factors={}, fingerprint="", seconds=0.0, figures=figures)
    return Sampled(label="", sampler=SamplerConfig(num_steps=1), result=result)


def test_gaps_of_texts_of_other_lengths_cover_the_truth():
    """Errors per unit 2 and 3 on texts whose lengths differ from sampler to sampler."""
    rng = np.random.default_rng(0)
    hits, trials = 0, 300
    for _ in range(trials):
        shared = rng.standard_normal(40)
        pair = []
        for rate in (2.0, 3.0):
            units = rng.integers(5, 30, 40).astype(float)
            pair.append(sampled((units * (rate + 0.3 * shared)).tolist(), units.tolist()))
        gap = pair[1].gap(pair[0])
        assert gap.value == pytest.approx(pair[1].rate.value - pair[0].rate.value)
        hits += gap.low <= 1.0 <= gap.high
    assert hits / trials > 0.93


def test_gaps_of_equal_units_are_paired():
    one, other = sampled([1.0, 5.0, 9.0], [2.0, 2.0, 2.0]), sampled([0.0, 4.0, 8.0], [2.0, 2.0, 2.0])
    gap = one.gap(other)
    assert (gap.value, gap.low, gap.high) == pytest.approx((0.5, 0.5, 0.5))


def test_samplers_are_summarized():
    assert summarize(SamplerConfig(num_steps=4, guidance_scale=2.0)) == "Random, 4 steps, Uniform, guidance 2"


def test_tasks_without_their_judge_are_named():
    study = replace(TUNING, qualities={**TUNING.qualities, "text": PassagePerplexity()})
    assert study.list_unjudged(["text", "text_to_image", "joint"]) == {
        "joint": "no quality is known",
        "text": "no judge language-model: give --judges DIR",
    }
    with pytest.raises(ValueError, match="is neither a folder nor role"):
        study.with_judges(["nowhere"])
