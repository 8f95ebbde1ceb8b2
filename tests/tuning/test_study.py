"""The study of samplers: what it measures, what it concludes, and that it goes on where it stopped."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generation.fakes import random_denoiser, tiny_vocabulary
from trimask.cli import main
from trimask.config import from_dict
from trimask.parallel import Local
from trimask.runs.load import load_trained
from trimask.runs.presets import PRESETS, Presets, load_presets
from trimask.sampling.config import SamplerConfig
from trimask.sampling.count import EntropyBound, FirstHitting
from trimask.sampling.defaults import DEFAULTS
from trimask.sampling.filters import Temperature
from trimask.sampling.grid import Cosine, Shifted, Tabulated, Uniform
from trimask.sampling.likelihood import measure_sampler_likelihood
from trimask.sampling.order import CoarseFirst, LeftToRight, LowestEntropy, Order, Random
from trimask.sampling.predictor import DenoiserPredictor
from trimask.sampling.profile import measure_profile
from trimask.sampling.recompute import ConditionFrozen, Everything, Needed
from trimask.studies.model_study import StudiedRun, identify_run
from trimask.studies.run import report_study, run_study
from trimask.studies.store import RESULTS, Results
from trimask.studies.trial import Result
from trimask.tuning.findings import choose, measure_excess
from trimask.tuning.study import Sampling
from trimask.tuning.trial import describe, hold_order
from trimask.vocabulary.sequence import Sequence, build_sequence

REQUEST = {"study": "sampling", "short": True, "run": None, "data": [], "overrides": {}}
RUN = StudiedRun(path="nowhere", weights="abc", codebooks={"text": 1, "text_to_image": 4})


def tiny(run: StudiedRun = RUN, **changes: object) -> Sampling:
    study = Sampling(
        run=run,
        tasks=("text", "text_to_image"),
        num_sequences=3,
        num_tokens=1_000_000,
        num_levels=5,
        numbers_of_steps=(2, 4),
        grids=(Uniform(),),
        fixed_orders=(Random(), CoarseFirst()),
        limit_orders=(),
        evidence_orders=(LowestEntropy(),),
        evidence_steps=(2,),
        adaptive=(SamplerConfig(order=LowestEntropy(), count=EntropyBound(nats=8.0)),),
    )
    return replace(study, **changes)


def documents() -> list[Sequence]:
    rng = np.random.default_rng(0)
    return [
        build_sequence(
            tiny_vocabulary(),
            "text_to_image",
            {"text": rng.integers(0, 5, (3, 1)), "image": rng.integers(0, 5, (4, 2))},
        )
        for _ in range(3)
    ]


@pytest.mark.parametrize("order", [Random(), CoarseFirst()])
def test_held_orders_make_a_profile_predict_the_likelihood_exactly(order: Order):
    predictor, drawn = DenoiserPredictor(random_denoiser()), documents()
    sampler = hold_order(SamplerConfig(order=order, num_steps=3))
    profile = measure_profile(predictor, drawn, sampler, num_levels=9, seed=5)
    times = profile.find_best_times(3)
    on_them = replace(sampler, grid=Tabulated(times_of_steps=(times,)))
    found = measure_sampler_likelihood(predictor, drawn, on_them, seed=5).nats_per_token()
    assert found.value == pytest.approx(profile.evaluate(times), rel=1e-5)
    one_each = measure_sampler_likelihood(predictor, drawn, replace(sampler, num_steps=8), seed=5)
    hitting = hold_order(SamplerConfig(order=order, count=FirstHitting()))
    limit = measure_sampler_likelihood(predictor, drawn, hitting, seed=5)
    assert limit.nats_per_token().value == pytest.approx(one_each.nats_per_token().value, rel=1e-5)
    assert (limit.num_passes == 8).all()


def test_an_order_by_evidence_is_left_as_it_is():
    sampler = SamplerConfig(order=LowestEntropy(), num_steps=3)
    assert hold_order(sampler) == sampler


def test_parts_are_described_by_what_differs_from_the_defaults():
    assert describe(Uniform()) == "Uniform"
    assert describe(EntropyBound(nats=0.1)) == "EntropyBound"
    assert describe(EntropyBound(nats=2.0)) == "EntropyBound(nats=2.0)"
    assert describe(Shifted(shift=3.0)) == "Shifted(shift=3.0)"
    assert describe(CoarseFirst(inner=LeftToRight())) == "CoarseFirst(inner=LeftToRight())"


def result(number: int, passes: float, nats: tuple[float, ...]) -> Result:
    return Result(
        factors={"task": "text", "order": "Random", "rule": "Uniform", "steps": number},
        fingerprint="x",
        seconds=1.0,
        figures={
            "passes": float(passes),
            "position_passes_per_token": float(passes),
            "cpu_seconds": 1.0,
            **{f"nats/{i}": float(value) for i, value in enumerate(nats)},
            **{f"tokens/{i}": 10.0 for i in range(len(nats))},
        },
    )


def samplers(results: list[Result]) -> Mapping[str, SamplerConfig]:
    return {each.name: SamplerConfig(num_steps=number + 1) for number, each in enumerate(results)}


@settings(max_examples=20)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(10, 20), st.integers(10, 20)), min_size=1, max_size=8),
    st.sampled_from([0.0, 0.02, 0.1, 0.5]),
)
def test_fronts_and_choices_are_those_of_a_plain_search(points: list[tuple[int, int, int]], loss: float):
    results = [
        result(i, float(passes), (float(one), float(other))) for i, (passes, one, other) in enumerate(points)
    ]
    rows = measure_excess(results, samplers(results))
    nats = [(one + other) / 20 for _, one, other in points]
    assert [row.excess.value for row in rows] == pytest.approx([each - min(nats) for each in nats])
    for row, (passes, *_), own in zip(rows, points, nats, strict=True):
        better = [
            (p, n)
            for (p, *_), n in zip(points, nats, strict=True)
            if p <= passes and n <= own and (p, n) != (passes, own)
        ]
        assert row.is_front == (not better)
    good = [(p, n) for (p, *_), n in zip(points, nats, strict=True) if n - min(nats) <= loss + 1e-12]
    picked = choose(rows, loss + 1e-12)
    assert (picked.position_passes, picked.nats.value) == pytest.approx(min(good))


def answer(study: Sampling, nats: Mapping[str, float]) -> list[Result]:
    """Results of all trials: nats per token by rule, the same for each sequence, and passes by steps."""
    results: dict[str, Result] = {}
    while missing := [trial for trial in study.trials(results) if trial.name not in results]:
        for trial in missing:
            rule, steps = str(trial.factors["rule"]), int(trial.factors.get("steps", 7))
            figures: dict[str, float | None] = {
                f"time/{n}/{k}": 1 - k / n for n in study.numbers_of_steps for k in range(n + 1)
            }
            if rule != "profile":
                own = 10 * (nats[rule] + 1 / steps)
                figures = dict(result(0, float(steps), (own, own, own)).figures)
            results[trial.name] = Result(
                factors=trial.factors, fingerprint=trial.fingerprint, seconds=1.0, figures=figures
            )
    return list(results.values())


def test_findings_of_results_whose_truth_is_known():
    study = tiny(grids=(Uniform(), Cosine()))
    truth = {"Uniform": 2.05, "Cosine": 2.2, "measured": 2.0, "EntropyBound(nats=8.0)": 3.0}
    results = answer(study, truth)
    findings = study.findings(results)
    assert [claim.holds for claim in findings.claims] == [True, True, True] * 2
    presets = from_dict(Presets, findings.files[PRESETS])
    assert presets.weights == "abc" and set(presets.presets) == {"fast", "balanced", "best"}
    best = presets.presets["best"]
    assert set(best) == {"text", "text_to_image"}
    chosen = best["text"]
    assert chosen.num_steps == 4 and isinstance(chosen.grid, Tabulated) and chosen.order == Random()
    assert chosen.grid.times(4).tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]
    orders = {trial.factors["order"] for trial in study.trials({}) if trial.factors["task"] == "text"}
    assert orders == {"Random", "LowestEntropy"}  # one codebook: nothing is coarse


def test_a_preset_in_order_of_evidence_has_its_ends_last():
    truth = {"Uniform": 2.05, "measured": 2.0, "EntropyBound(nats=8.0)": 0.5}
    study = tiny()
    best = from_dict(Presets, study.findings(answer(study, truth)).files[PRESETS]).presets["best"]["text"]
    assert best.order == LowestEntropy() and best.ends_last and not best.may_flood


def test_tasks_that_are_not_finished_have_no_preset_and_no_verdict():
    study = tiny()
    truth = {"Uniform": 2.05, "measured": 2.0, "EntropyBound(nats=8.0)": 3.0}
    results = [
        each
        for each in answer(study, truth)
        if each.factors["task"] != "text" or each.factors["rule"] != "Uniform"
    ]
    findings = study.findings(results)
    assert set(from_dict(Presets, findings.files[PRESETS]).presets["fast"]) == {"text_to_image"}
    assert {claim.holds for claim in findings.claims if claim.text.startswith("text:")} == {None}


def test_values_out_of_range():
    with pytest.raises(ValueError, match="num_sequences is 1"):
        tiny(num_sequences=1)
    with pytest.raises(ValueError, match="numbers_of_steps has 8, and num_levels is 5"):
        tiny(numbers_of_steps=(8,))
    with pytest.raises(ValueError, match="tasks has 'sing': the run was trained on text, text_to_image"):
        tiny(tasks=("sing",))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, few_speeches: None) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", "debug", "--out", str(out), "--threads=1", "--num-steps=1"]) == 0
    return out


@pytest.fixture(scope="module")
def finished(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study")
    run_study(tiny(identify_run(trained)), out, request=REQUEST, engine=Local(workers=1))
    return out


def figures(out: Path) -> dict[str, dict[str, float | None]]:
    return {
        name: {key: value for key, value in each.figures.items() if key != "cpu_seconds"}
        for name, each in Results(out).by_name.items()
    }


def test_a_study_of_a_run_goes_on_where_it_stopped(finished: Path, trained: Path, tmp_path: Path):
    found = figures(finished)
    assert len(found) == 7 + 12  # text has no coarse codebook
    assert all(f"nats/{i}" in row for row in found.values() if "passes" in row for i in range(3))
    (tmp_path / RESULTS).write_text("".join((finished / RESULTS).read_text().splitlines(True)[:5]))
    (tmp_path / "study.json").write_text((finished / "study.json").read_text())
    run_study(tiny(identify_run(trained)), tmp_path, request=REQUEST, engine=Local(workers=1))
    assert figures(tmp_path) == found


def test_other_weights_are_told(finished: Path, trained: Path):
    other = replace(identify_run(trained), weights="0" * 16)
    with pytest.raises(ValueError, match="holds a study of weights"):
        run_study(tiny(other), finished, request=REQUEST, engine=Local(workers=1))
    with pytest.raises(ValueError, match="have changed since the study began"):
        other.load_denoiser()


def test_the_report_has_fronts_and_presets(finished: Path, trained: Path, tmp_path: Path):
    path, findings = report_study("sampling", finished)
    assert "![fronts](fronts.svg)" in path.read_text()
    denoiser, _ = load_trained(trained)
    stored = load_presets(finished / PRESETS, denoiser)
    assert set(stored.presets["fast"]) == set(stored.presets["best"]) == {"text", "text_to_image"}
    assert len(findings.tables) == 3
    with pytest.raises(ValueError, match="presets of a model with other weights"):
        load_presets(finished / PRESETS, random_denoiser())
    (tmp_path / PRESETS).write_text('{"weights": "x"}')
    with pytest.raises(ValueError, match="does not hold presets"):
        load_presets(tmp_path / PRESETS, denoiser)


def test_presets_keep_the_filters_and_guidance_of_the_run():
    own = SamplerConfig(num_steps=9, filters=(Temperature(value=0.3),), guidance_scale=2.5)
    study = tiny(replace(RUN, samplers={"text_to_image": own}), grids=(Uniform(), Cosine()))
    truth = {"Uniform": 2.05, "Cosine": 2.2, "measured": 2.0, "EntropyBound(nats=8.0)": 3.0}
    presets = from_dict(Presets, study.findings(answer(study, truth)).files[PRESETS])
    found = {**DEFAULTS, **presets.find("fast")}
    assert found["text_to_image"].filters == own.filters
    assert found["text_to_image"].guidance_scale == 2.5
    assert found["text_to_image"].num_steps in (2, 4)
    assert found["speech_to_text"] == DEFAULTS["speech_to_text"]
    with pytest.raises(ValueError, match="no preset is named 'slow': choose one of fast, balanced, best"):
        presets.find("slow")


def test_policies_and_backends_are_measured_on_what_was_chosen():
    study = tiny(policies=(Needed(), ConditionFrozen()), backends=("onnx-int8",), evidence_orders=())
    truth = {"Uniform": 2.05, "measured": 2.0, "EntropyBound(nats=8.0)": 3.0}
    results = answer(study, truth)
    policies = [each for each in results if "recompute" in each.factors and "backend" not in each.factors]
    chosen = {(each.factors["task"], each.factors["order"], each.factors["steps"]) for each in policies}
    assert len(policies) == 2 * len(chosen)
    # Equal nats at equal passes, and listed later: no policy is chosen over what computes everything.
    presets = from_dict(Presets, study.findings(results).files[PRESETS])
    assert {law.recompute for laws in presets.presets.values() for law in laws.values()} == {Everything()}
    cheaper = [
        replace(each, figures={**each.figures, "position_passes_per_token": 0.5})
        if each.factors.get("recompute") == "Needed" and "backend" not in each.factors
        else each
        for each in results
    ]
    presets = from_dict(Presets, study.findings(cheaper).files[PRESETS])
    assert {law.recompute for laws in presets.presets.values() for law in laws.values()} == {Needed()}
    precision = next(each for each in study.findings(results).tables if each.title.startswith("Precision"))
    assert [row[:3] for row in precision.rows] == [
        ("text", "onnx-int8", "0.0000 [0.0000, 0.0000]"),
        ("text_to_image", "onnx-int8", "0.0000 [0.0000, 0.0000]"),
    ]


def test_run_is_an_option_of_studies_of_a_model(trained: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["study", "plan", "sampling", "--short", "--run", str(trained), "--tasks=text"]) == 0
    assert "task=text,order=Random,rule=profile" in capsys.readouterr().out
    assert main(["study", "plan", "horizon", "--short", "--run", str(trained)]) == 2
    assert "the trials of horizon train their own runs: leave --run out" in capsys.readouterr().err
    assert main(["study", "plan", "sampling", "--run", str(trained / "nothing")]) == 1
    assert "is not a run directory" in capsys.readouterr().err
