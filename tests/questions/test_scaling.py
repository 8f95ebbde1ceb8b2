"""The study of scaling: its trials, and what it says of results on a known surface."""

import json
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trimask.errors import UserError
from trimask.laws.fitting import fit_law
from trimask.laws.scaling import Chinchilla, count_effective
from trimask.model.flops import block_parameters
from trimask.questions.scaling.study import Scaling, Setting, scaling, scaling_short
from trimask.runs.build import build_vocabulary
from trimask.studies.findings import Findings
from trimask.studies.known import NOTHING, Known
from trimask.studies.report import write_report
from trimask.studies.study import LOSSES
from trimask.studies.tokens import load_tokenizers
from trimask.studies.trial import Result, Trial

Figures = Callable[[Trial], dict[str, float]]
TOKENS = 155.0  # targets of a sequence


def study_of() -> Scaling:
    """The long form with fewer resamples."""
    return replace(scaling(), draws=100)


def size_of(trial: Trial) -> float:
    return float(block_parameters(trial.config.model))


def surface(trial: Trial, *, noise: float = 1e-3, bend: float = 0.0, common: float = 0.0) -> dict[str, float]:
    """Figures of a trial on L = floor + 40/N^0.35 + 60/D^0.4, in all modalities."""
    n, d = size_of(trial), TOKENS * float(trial.factors["sequences"])
    figures = {}
    for number, loss in enumerate(LOSSES):
        rng = np.random.default_rng(zlib.crc32(f"{trial.name} {loss}".encode()))
        value = 4 + 0.3 * number + 40 / n**0.35 + 60 / d**0.4 + bend * (n > 2e6)
        order = zlib.crc32(f"{trial.factors['sequences']} {trial.factors['seed']} {loss}".encode())
        shared = common * np.random.default_rng(order).normal()
        figures[loss] = float(value * math.exp(noise * rng.normal() + shared))
    return figures | {
        "parameters/blocks": n,
        "parameters/all": n + 2 * 5142 * trial.config.model.width,
        "data/sequences": d / TOKENS,
        "data/targets": d,
        "data/image": 0.4 * d,
        "epochs/emoji": d / TOKENS / 2680,
        "ceiling/image": 10.0,
        "flops": 8 * n * d,
    }


def run(study: Scaling, figures: Figures = surface, *, most: int | None = None) -> tuple[list[Result], Known]:
    """The results of the trials that the study asks for, the first `most` of them, with what it derives."""
    results: dict[str, Result] = {}
    derived: dict[str, Any] = {}
    times: dict[str, str] = {}

    def missing() -> list[Trial]:
        known = Known(derived=derived)
        trials = (*study.trials(results), *study.further_trials(results, known))
        return [each for each in trials if each.name not in results]

    while pending := missing():
        for trial in pending:
            found = {name: v if math.isfinite(v) else None for name, v in figures(trial).items()}
            results[trial.name] = Result(
                factors=trial.factors, fingerprint=trial.fingerprint, seconds=1.0, figures=found
            )
            for name, value in study.derive(results, Known(derived=derived)).items():
                derived[name], times[name] = json.loads(json.dumps(value, allow_nan=False)), f"{len(results)}"
            if len(results) == most:
                return list(results.values()), Known(derived=derived, times=times)
    return list(results.values()), Known(derived=derived, times=times)


def find(study: Scaling, figures: Figures = surface, *, most: int | None = None) -> Findings:
    return study.findings_given(*run(study, figures, most=most))


def test_the_grid_spans_a_factor_of_32_and_keeps_its_optimizer_values_near_their_base():
    study = scaling()
    trials = study.trials({})
    assert len(trials) == len(study.widths) * len(study.horizons) * len(study.seeds)
    sizes, horizons = zip(*((size_of(t), t.config.horizon) for t in trials), strict=True)
    assert max(sizes) / min(sizes) > 32 and max(horizons) / min(horizons) == 32
    for trial in trials:
        config = trial.config
        assert config.horizon == trial.factors["sequences"] and config.num_updates >= study.least_updates
        assert config.model.head_dim == study.base.model.head_dim and config.model.head_dim % 4 == 0
        kappa = config.batch_rule.numbers(config.batch_change)[0].value
        assert 0.25 <= float(kappa) <= 1.0, trial.name
        assert not config.batch_rule.cautions(config.batch_change)
    assert {t.config.logical_batch for t in trials} == {1, 2, 4, 8, 16}


def test_the_forecast_is_stored_before_its_run_which_follows_the_grid():
    study = replace(scaling_short(), draws=50)
    assert study.forecast is not None
    grid = study.trials({})
    results, known = run(study)
    (beyond,) = results[len(grid) :]
    assert beyond.factors == {"width": study.forecast.width, "sequences": study.forecast.horizon, "seed": 0}
    assert known.times == {"forecast/width=192,sequences=8000": f"{len(grid)}"}
    assert len(run(replace(study, forecast=None))[0]) == len(grid)
    full = scaling()
    assert full.forecast is not None
    large = full.base.model.resized(width=full.forecast.width)
    assert block_parameters(large) > 3.99 * max(size_of(t) for t in full.trials({}))
    assert full.forecast.horizon >= 4 * max(full.horizons)
    with pytest.raises(UserError, match="is in the grid"):
        replace(study, forecast=Setting(width=32, horizon=500))
    with pytest.raises(UserError, match="give at least one of each"):
        replace(study, widths=())


def test_a_forecast_holds_its_fit_and_never_changes():
    """It is compared as it was stored: where the grid's results differ afterwards, nothing is recomputed."""
    study = study_of()
    results, known = run(study)
    (value,) = known.derived.values()
    assert (value["width"], value["sequences"], value["fitted_runs"]) == (384, 64_000, 60)
    row = value["losses"][0]
    law, point = Chinchilla(), {"n": value["parameters/blocks"], "d": value["data/targets"]}
    assert point == {"n": results[-1].figure("parameters/blocks"), "d": results[-1].figure("data/targets")}
    parameters = np.array([[row["parameters"][name]["value"] for name in law.parameters]])
    places = {name: np.array([each]) for name, each in point.items()}
    assert row["forecast"]["value"] == pytest.approx(law.predict(places, parameters)[0, 0], rel=1e-12)
    changed = [replace(r, figures=dict(r.figures) | {"all": 2 * r.figure("all")}) for r in results[:60]]
    (claim, *_) = study.findings_given([*changed, results[60]], known).claims
    assert claim.holds and f"forecast by the plain law at 60: {row['forecast']['value']:.3f}" in claim.text
    other = replace(study, forecast=Setting(width=256, horizon=32_000))
    by_name = {each.name: each for each in results}
    assert list(other.derive(by_name, known)) == ["forecast/width=256,sequences=32000"]
    assert [t.name for t in other.further_trials(by_name, known)] == [results[60].name]


def test_what_is_measured_is_not_forecast():
    study = replace(scaling_short(), draws=50)
    results, _ = run(study)
    by_name = {each.name: each for each in results}
    assert study.derive(by_name, NOTHING) == {}
    assert [t.name for t in study.further_trials(by_name, NOTHING)] == [results[-1].name]
    findings = study.findings(results)
    assert any("was made before its forecast was stored" in note for note in findings.notes)
    assert not [claim for claim in findings.claims if "forecast" in claim.text]


def texts(findings: Findings, holds: bool | None) -> list[str]:
    return [claim.text for claim in findings.claims if claim.holds is holds]


def test_a_known_surface_is_found_and_forecast():
    study = study_of()
    findings = find(study)
    identified = [text for text in texts(findings, True) if "identify L" in text]
    assert len(identified) == len(LOSSES)
    assert len([text for text in texts(findings, True) if "grows faster" in text]) == len(LOSSES)  # a = 0.533
    forecasts = [claim for claim in findings.claims if "forecast" in claim.text]
    assert len(forecasts) == len(LOSSES) + 2  # pictures are repeated, and have a ceiling
    assert len([claim for claim in forecasts if claim.holds]) >= len(LOSSES) - 1
    titles = [table.title for table in findings.tables]
    assert len(titles) == len(set(titles)) == 10
    (parameters, *_) = findings.tables
    alphas = [float(row[4].split()[0]) for row in parameters.rows]
    np.testing.assert_allclose(alphas, 0.35, atol=0.02)
    countings = next(table for table in findings.tables if table.title.startswith("Exponents"))
    assert countings.header[1:] == (
        "a (N*), N of blocks",
        "b (D*), N of blocks",
        "a (N*), N of all",
        "b (D*), N of all",
    )
    published = next(table for table in findings.tables if "published" in table.title)
    assert ("the paper", "tri-modal masked diffusion [P?]", "0.543", "0.84") in published.rows
    assert any(
        row[0] == "image" and "bounded by L0 = 10" in row[1] for t in findings.tables for row in t.rows
    )
    assert any("see emoji 6.0 times" in note for note in findings.notes)
    assert findings.files["forecast.json"]["text"]["not_identified"] == []


def test_a_run_off_the_law_is_not_forecast():
    study = study_of()
    findings = find(study, lambda trial: surface(trial, bend=0.2))
    missed = [text for text in texts(findings, False) if "forecast by the plain law" in text]
    assert len(missed) == len(LOSSES)


def test_repeats_that_wear_off_are_found_and_forecast():
    """R* = 8 in pictures, which the grid sees up to 6 times and the run beyond it 24 times."""

    def figures(trial: Trial) -> dict[str, float]:
        found = surface(trial, noise=2e-4)
        unique = np.minimum(found["data/targets"], 2680 * TOKENS)[None]
        worth = count_effective(np.array([found["data/targets"]]), unique, np.array([[8.0]]))[0, 0]
        found["image"] += float(60 / worth**0.4) - 60 / found["data/targets"] ** 0.4
        return found

    findings = find(study_of(), figures)
    (table,) = [table for table in findings.tables if "What repeats are worth" in table.title]
    assert [row[:3] for row in table.rows] == [("image", "plain", "6.0"), ("image", "repeats", "6.0")]
    low, high = table.rows[1][-1].partition("[")[2].rstrip("]").split(", ")
    assert float(low) < 8 < float(high) < 12
    claims = [claim for claim in findings.claims if claim.text.startswith("image: the loss at")]
    holds = {each.text.partition(" law at ")[0].rpartition(" ")[2]: each.holds for each in claims}
    assert (holds["plain"], holds["repeated-data"]) == (False, True)
    assert holds.keys() == {"plain", "repeated-data", "bounded"}


def test_repeats_that_are_as_good_as_new_data_leave_r_star_open():
    (table,) = [t for t in find(study_of(), most=60).tables if "What repeats are worth" in t.title]
    assert "not identified: above" in table.rows[1][-1]


@pytest.mark.slow
def test_noise_of_the_order_of_the_data_widens_the_intervals_of_d():
    """It is the same at each size, so runs of one length and seed are drawn together."""
    study = replace(study_of(), forecast=None)

    def width(findings: Findings) -> float:
        (parameters, *_) = findings.tables
        low, high = parameters.rows[0][5].partition("[")[2].rstrip("]").split(", ")
        return float(high) - float(low)

    own = find(study, lambda trial: surface(trial, noise=4e-3))
    shared = find(study, lambda trial: surface(trial, noise=2e-4, common=4e-3))
    assert width(shared) > 1.5 * width(own)
    notes = [note for note in shared.notes if "common to all sizes" in note]
    assert len(notes) == len(LOSSES) and all(
        int(note.split(" % of their")[0].split()[-1]) > 90 for note in notes
    )


def test_noise_that_hides_the_law_is_said():
    study = replace(study_of(), forecast=None)
    findings = find(study, lambda trial: surface(trial, noise=0.05))
    undecided = texts(findings, None)
    assert len([text for text in undecided if "is wider than 0.2" in text]) == len(LOSSES)
    assert not [text for text in texts(findings, True) + texts(findings, False) if "grows faster" in text]


def test_a_loss_that_does_not_fall_with_size_makes_a_report(tmp_path: Path):
    def figures(trial: Trial) -> dict[str, float]:
        found = surface(trial)
        for loss in LOSSES:
            found[loss] += 0.3 * math.log2(int(trial.factors["width"]))
        return found

    study = study_of()
    findings = find(study, figures)
    assert len(
        [text for text in texts(findings, None) if "A = 0: the loss does not fall with n" in text]
    ) == len(LOSSES)
    report = write_report(findings, tmp_path, title="scaling", facts={}).read_text()
    assert "nan" not in report and (tmp_path / "optimum.svg").is_file()
    assert (tmp_path / "forecast.json").is_file()


@pytest.mark.parametrize("most", [1, 6, 40])
def test_a_part_of_the_grid_makes_a_report(most: int):
    study = study_of()
    findings = find(study, most=most)
    assert any("still to run" in note for note in findings.notes)
    if most == 40:
        (forecasts,) = [table for table in findings.tables if "Forecasts" in table.title]
        assert {row[4] for row in forecasts.rows} == {"not yet: by 40 runs"}
    assert findings.claims and findings.tables
    if most == 1:
        assert "1 run for 5 parameters" in findings.claims[0].text


def test_diverged_trials_are_left_out():
    def figures(trial: Trial) -> dict[str, float]:
        return {} if trial.factors["width"] == 192 and trial.factors["seed"] == 1 else surface(trial)

    study = study_of()
    findings = find(study, figures)
    assert any("6 trials diverged and are left out" in note for note in findings.notes)
    assert len([text for text in texts(findings, True) if "identify L" in text]) == len(LOSSES)
    nothing = find(study, lambda trial: {})
    assert nothing.claims == () and any("60 trials diverged" in note for note in nothing.notes)


def choose(study: Scaling, order: Sequence[Trial], share: float) -> list[Trial]:
    """The trials of `order` that fit into a share of the grid's cost."""
    left = share * sum(map(study.estimate_cost, study.trials({})))
    chosen = []
    for trial in order:
        if study.estimate_cost(trial) <= left:
            left -= study.estimate_cost(trial)
            chosen.append(trial)
    return chosen


def test_a_tenth_of_the_budget_tells_the_forecast_far_better_than_the_cheapest_runs():
    """On the same noise, part of which is common to an order; over the draws of it."""
    study = scaling()
    (target,) = study.further_trials({}, Known(derived={"forecast": {"width": 384, "sequences": 64_000}}))
    grid = study.trials({})
    orders = (study.rank(grid, {}, NOTHING), replace(study, forecast=None).rank(grid, {}, NOTHING))
    law, truth = Chinchilla(), np.array([[4.0, 40.0, 60.0, 0.35, 0.4]])

    def inputs(trials: Sequence[Trial]) -> dict[str, np.ndarray]:
        data = [TOKENS * float(each.factors["sequences"]) for each in trials]
        return {"n": np.array([size_of(each) for each in trials]), "d": np.array(data)}

    forecasts: list[list[float]] = []
    for order in orders:
        chosen = choose(study, order, 0.1)
        rows, (losses,) = inputs(chosen), law.predict(inputs(chosen), truth)
        found = []
        for draw in range(24):
            noise = [
                np.random.default_rng([draw, zlib.crc32(key.encode())]).normal()
                for each in chosen
                for key in (each.name, f"{each.factors['sequences']} {each.factors['seed']}")
            ]
            noisy = losses * np.exp(0.003 * np.array(noise).reshape(-1, 2).sum(1))
            fit = fit_law(law, rows, noisy, units=np.arange(len(noisy)), num_draws=0)
            found.append(fit.project(inputs([target]))[0].value)
        forecasts.append(found)
    best, cheapest = (float(np.std(each)) for each in forecasts)
    assert best < 0.6 * cheapest


def test_results_without_ceilings_take_those_of_the_vocabulary():
    def figures(trial: Trial) -> dict[str, float]:
        return {name: v for name, v in surface(trial).items() if not name.startswith("ceiling/")}

    study = replace(study_of(), forecast=None, draws=20)
    rows = [row for table in find(study, figures).tables for row in table.rows if "bounded by L0" in row[1]]
    space = build_vocabulary(study.base, load_tokenizers(study.base)).space("speech")
    assert f"L0 = {math.log2(space.range_size):.3g} " in next(row[1] for row in rows if row[0] == "speech")


def test_the_order_follows_the_results():
    study = scaling()
    results, _ = run(study, most=30)
    by_name = {each.name: each for each in results}
    missing = [each for each in study.trials({}) if each.name not in by_name]
    ranked = study.rank(missing, by_name, NOTHING)
    assert sorted(t.name for t in ranked) == sorted(t.name for t in missing)
    prior = [each.name for each in study.rank(study.trials({}), {}, NOTHING) if each.name not in by_name]
    assert [each.name for each in ranked] != prior
    nothing = {name: replace(each, figures={}) for name, each in by_name.items()}
    assert [each.name for each in study.rank(missing, nothing, NOTHING)] == [
        each.name for each in study.rank(missing, {}, NOTHING)
    ]
