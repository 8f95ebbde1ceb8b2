"""The study of scaling: its trials, and what it says of results on a known surface."""

import math
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trimask.errors import UserError
from trimask.model.flops import block_parameters
from trimask.questions.scaling.study import Scaling, Setting, scaling, scaling_short
from trimask.studies.findings import Findings
from trimask.studies.report import write_report
from trimask.studies.study import LOSSES
from trimask.studies.trial import Result, Trial

Figures = Callable[[Trial], dict[str, float]]
TOKENS = 155.0  # targets of a sequence


def study_of() -> Scaling:
    """The long form with fewer resamples."""
    return replace(scaling(), draws=200)


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


def run(study: Scaling, figures: Figures = surface, *, most: int | None = None) -> list[Result]:
    """The results of the trials that the study asks for, the first `most` of them."""
    results: dict[str, Result] = {}
    while missing := [each for each in study.trials(results) if each.name not in results]:
        for trial in missing:
            found = {name: v if math.isfinite(v) else None for name, v in figures(trial).items()}
            results[trial.name] = Result(
                factors=trial.factors, fingerprint=trial.fingerprint, seconds=1.0, figures=found
            )
            if len(results) == most:
                return list(results.values())
    return list(results.values())


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


def test_the_forecast_runs_after_the_grid_and_can_be_left_out():
    study = scaling_short()
    assert study.forecast is not None
    grid = study.trials({})
    results = run(study)
    (beyond,) = results[len(grid) :]
    assert beyond.factors == {"width": study.forecast.width, "sequences": study.forecast.horizon, "seed": 0}
    assert len(run(replace(study, forecast=None))) == len(grid)
    full = scaling()
    assert full.forecast is not None
    large = full.base.model.resized(width=full.forecast.width)
    assert block_parameters(large) > 3.99 * max(size_of(t) for t in full.trials({}))
    assert full.forecast.horizon >= 4 * max(full.horizons)
    with pytest.raises(UserError, match="is in the grid"):
        replace(study, forecast=Setting(width=32, horizon=500))
    with pytest.raises(UserError, match="give at least one of each"):
        replace(study, widths=())


def texts(findings: Findings, holds: bool | None) -> list[str]:
    return [claim.text for claim in findings.claims if claim.holds is holds]


def test_a_known_surface_is_found_and_forecast():
    study = study_of()
    findings = study.findings(run(study))
    identified = [text for text in texts(findings, True) if "identify L" in text]
    assert len(identified) == len(LOSSES)
    assert len([text for text in texts(findings, True) if "grows faster" in text]) == len(LOSSES)  # a = 0.533
    forecasts = [claim for claim in findings.claims if "forecast" in claim.text]
    assert len(forecasts) == len(LOSSES)
    assert len([claim for claim in forecasts if claim.holds]) >= len(LOSSES) - 1
    titles = [table.title for table in findings.tables]
    assert len(titles) == len(set(titles)) == 9
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
    findings = study.findings(run(study, lambda trial: surface(trial, bend=0.2)))
    assert len([text for text in texts(findings, False) if "lies within the law's interval" in text]) == len(
        LOSSES
    )


def test_noise_of_the_order_of_the_data_widens_the_intervals_of_d():
    """It is the same at each size, so runs of one length and seed are drawn together."""
    study = study_of()

    def width(findings: Findings) -> float:
        (parameters, *_) = findings.tables
        low, high = parameters.rows[0][5].partition("[")[2].rstrip("]").split(", ")
        return float(high) - float(low)

    own = study.findings(run(study, lambda trial: surface(trial, noise=4e-3)))
    shared = study.findings(run(study, lambda trial: surface(trial, noise=2e-4, common=4e-3)))
    assert width(shared) > 1.5 * width(own)
    notes = [note for note in shared.notes if "common to all sizes" in note]
    assert len(notes) == len(LOSSES) and all(
        int(note.split(" % of their")[0].split()[-1]) > 90 for note in notes
    )


def test_noise_that_hides_the_law_is_said():
    study = study_of()
    findings = study.findings(run(study, lambda trial: surface(trial, noise=0.05)))
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
    findings = study.findings(run(study, figures))
    assert len(
        [text for text in texts(findings, None) if "A = 0: the loss does not fall with n" in text]
    ) == len(LOSSES)
    report = write_report(findings, tmp_path, title="scaling", facts={}).read_text()
    assert "nan" not in report and (tmp_path / "optimum.svg").is_file()
    assert (tmp_path / "forecast.json").is_file()


@pytest.mark.parametrize("most", [1, 6, 40])
def test_a_part_of_the_grid_makes_a_report(most: int):
    study = study_of()
    findings = study.findings(run(study, most=most))
    assert any("still to run" in note for note in findings.notes)
    assert findings.claims and findings.tables
    if most == 1:
        assert "1 runs for 5 parameters" in findings.claims[0].text


def test_diverged_trials_are_left_out():
    def figures(trial: Trial) -> dict[str, float]:
        return {} if trial.factors["width"] == 192 and trial.factors["seed"] == 1 else surface(trial)

    study = study_of()
    findings = study.findings(run(study, figures))
    assert any("6 trials diverged and are left out" in note for note in findings.notes)
    assert len([text for text in texts(findings, True) if "identify L" in text]) == len(LOSSES)
    nothing = study.findings(run(study, lambda trial: {}))
    assert nothing.claims == () and any("60 trials diverged" in note for note in nothing.notes)
