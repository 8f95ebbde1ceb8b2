"""The study of mixtures: its trials, what they hold fixed, what it says of results whose truth is known."""

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trimask.data.mixture import Component
from trimask.errors import UserError
from trimask.laws import best_mixture
from trimask.laws.mixing import Exponential
from trimask.model.denoiser import Denoiser
from trimask.questions.mixing import study as module
from trimask.questions.mixing.runs import ALONE, BEST, FITTED, HELD_OUT
from trimask.questions.mixing.study import Alone, Mixing, mean_targets, mixing, mixing_short
from trimask.recipes.quickstart import debug
from trimask.runs.sizes import SourceSize
from trimask.studies import pretraining
from trimask.studies.findings import Findings
from trimask.studies.trial import Result, Trial
from trimask.vocabulary.sequence import Sequence as Laid

TASKS = ("text", "text_to_image", "text_to_speech")
MODALITIES = ("text", "image", "speech")
# c and t of each modality: all want more of themselves, pictures most.
PLANTED = {"text": [6.0, -0.9, 0.2, 0.2], "image": [4.0, 0.9, -0.9, 0.9], "speech": [5.0, 0.3, 0.3, -0.5]}
SIZES = {
    "emoji": SourceSize(drawn_per_epoch=1000, codes={"image": 300_000}, mean_codes={"image": 128.0}),
    "spoken": SourceSize(
        drawn_per_epoch=3000, codes={"speech": 600_000, "text": 9}, mean_codes={"speech": 204.0, "text": 32.0}
    ),
    "speeches": SourceSize(drawn_per_epoch=9, codes={"text": 3_000_000}, mean_codes={"text": 98.5}),
}


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wider intervals would show; their ends need not be exact."""
    monkeypatch.setattr(module, "NUM_DRAWS", 100)
    monkeypatch.setattr(best_mixture, "MOST_DRAWS", 40)


def noise(trial: Trial, modality: str, size: float) -> float:
    """A factor near 1, other for each trial and modality."""
    number = zlib.crc32(f"{trial.name} {modality}".encode())
    return 1 + size * float(np.random.default_rng(number).standard_normal())


def planted(trial: Trial, *, size: float = 0.001, above: float = 0.02) -> dict[str, float]:
    """Losses of the planted laws with seeds' levels; a task alone is `above` the joint run with fewer
    updates, as much below it with as many tokens as that has in all, and the same with smaller batches.
    """
    f = trial.factors
    shares = np.array([float(f[task]) for task in TASKS])
    level = 1 + 0.01 * int(f["seed"])
    factor = 1.0
    if f["role"] == ALONE:
        shares = np.full(3, 1 / 3)
        factor = {(0.3333, 1.0): 1 + above, (1.0, 0.3333): 1.0, (1.0, 1.0): 1 - above}[
            float(f["updates"]), float(f["batch"])
        ]
    law = Exponential(parts=TASKS)
    columns = {task: shares[i : i + 1] for i, task in enumerate(TASKS)}
    losses = {
        modality: float(law.predict(columns, np.array([PLANTED[modality]]))[0, 0])
        * level
        * factor
        * noise(trial, modality, size)
        for modality in MODALITIES
    }
    epochs = {f"epochs/{task}": 3 * float(f[task]) for task in TASKS}
    return {"all": sum(losses.values()) / 3, **losses, **epochs, "target_tokens": 1e6, "num_updates": 500.0}


def answer(
    study: Mixing, figures: Callable[[Trial], dict[str, float]] = planted
) -> tuple[Findings, list[Result]]:
    """The findings of the study whose trials give `figures`, with all that it asks for."""
    results: dict[str, Result] = {}
    while missing := [trial for trial in study.trials(results) if trial.name not in results]:
        for trial in missing:
            results[trial.name] = Result(
                factors=trial.factors, fingerprint=trial.fingerprint, seconds=1.0, figures=figures(trial)
            )
    return study.findings(list(results.values())), list(results.values())


@pytest.fixture(scope="module")
def whole() -> tuple[Findings, list[Result]]:
    """The whole study on the planted laws."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "NUM_DRAWS", 100)
        patch.setattr(best_mixture, "MOST_DRAWS", 40)
        return answer(mixing())


def claims_of(findings: Findings, words: str) -> dict[str, bool | None]:
    return {claim.text: claim.holds for claim in findings.claims if words in claim.text}


def table_of(findings: Findings, start: str) -> tuple[tuple[str, ...], ...]:
    (found,) = [table.rows for table in findings.tables if table.title.startswith(start)]
    return found


def test_trials_have_the_shares_that_they_name():
    study = mixing()
    trials = study.trials({})
    assert len({trial.name for trial in trials}) == len(trials) == 3 + 15 * 2 + 3 * 3 * 3
    for trial in trials:
        weights = {c.task: c.weight for c in trial.config.mixture.components}
        total = sum(weights.values())
        for task in TASKS:
            assert weights.get(task, 0.0) / total == pytest.approx(trial.factors[task], abs=1e-4)
        assert trial.config.seed == trial.factors["seed"]
        assert (len(weights) == 1) == (trial.factors["role"] == ALONE)
    roles = [trial.factors["role"] for trial in trials if trial.factors["seed"] == 0]
    assert [roles.count(role) for role in (FITTED, HELD_OUT, ALONE)] == [13, 3, 9]
    design = np.array(
        [[float(t.factors[task]) for task in TASKS] for t in trials if t.factors["role"] == FITTED]
    )
    assert design.min() >= 0.02
    # Symmetric in the tasks: the design must not prefer one.
    assert {tuple(sorted(row)) for row in design.tolist()} and np.ptp(
        np.unique(design, axis=0).mean(0)
    ) < 1e-9
    assert len(mixing_short().trials({})) < len(trials)


def test_trials_have_equal_target_tokens():
    study = mixing()
    per_update = 16 * mean_targets(study.base, SIZES)
    # Of a sequence with equal shares of tokens: 3 / (1/98.5 + 1/128 + 1/204).
    assert mean_targets(study.base, SIZES) == pytest.approx(3 / (1 / 98.5 + 1 / 128 + 1 / 204))
    for trial in study.trials({}):
        config = study.equalize(trial, SIZES)
        mean = mean_targets(config, SIZES)
        updates, batch = float(trial.factors["updates"]), float(trial.factors["batch"])
        assert config.horizon * mean == pytest.approx(500 * per_update * updates * batch, rel=0.006)
        assert abs(config.logical_batch * mean - per_update * batch) <= mean / 2
        if batch == 1:
            assert config.num_updates == pytest.approx(500 * updates, rel=0.06)
    halves = [trial for trial in study.trials({}) if trial.factors["updates"] != 1]
    assert halves and all(t.factors["role"] == ALONE for t in halves)


def test_views_share_a_batch():
    study = mixing()
    two = replace(study.base, objective=replace(study.base.objective, anti_masking=True))
    for trial in replace(study, base=two).trials({}):
        assert replace(study, base=two).equalize(trial, SIZES).logical_batch % 2 == 0


def test_planted_laws_are_found_and_their_best_mixture_is_run(whole: tuple[Findings, list[Result]]):
    findings, results = whole
    errs = claims_of(findings, "errs less than a linear law")
    assert len(errs) == 3 and set(errs.values()) == {True}, errs
    rows = table_of(findings, "Laws fitted to 13 mixtures")
    for row in rows:
        if "(chosen)" in row[1]:
            assert float(row[4]) < 0.3 and float(row[5]) < 0.3  # percent; the noise is 0.1
        if row[1] == "mean":
            assert float(row[4]) > 2
    best = [result for result in results if result.factors["role"] == BEST]
    assert [result.factors["seed"] for result in best] == [0, 1, 2]
    shares = np.array([float(best[0].factors[task]) for task in TASKS])
    assert shares.sum() == pytest.approx(1)

    def goal(rows: np.ndarray) -> np.ndarray:
        law = Exponential(parts=TASKS)
        rows = np.concatenate([np.full((1, 3), 1 / 3), rows])
        columns = {task: rows[:, i] for i, task in enumerate(TASKS)}
        losses = [law.predict(columns, np.array([PLANTED[each]]))[0] for each in MODALITIES]
        return sum((each[1:] / each[0] for each in losses), np.zeros(len(rows) - 1)) / 3

    grid = np.array([(i, j, 100 - i - j) for i in range(2, 97) for j in range(2, 99 - i)]) / 100
    near = grid[(grid * np.log(3 * grid)).sum(1) <= 0.2]
    assert goal(shares[None])[0] < goal(near).min() + 3e-4
    gains = claims_of(findings, "better than the default by") | claims_of(findings, "run, it is better by")
    assert len(gains) == 2 and set(gains.values()) == {True}, gains
    assert set(findings.pictures) == {"mixing"} and [len(row) for row in findings.pictures["mixing"]] == [
        3,
        3,
    ]
    assert set(findings.files["mixtures.json"]) == {"laws", "best", "gain"}


def test_joint_and_alone_are_compared_by_seed(whole: tuple[Findings, list[Result]]):
    findings, _ = whole
    for modality in MODALITIES:
        verdicts = [*claims_of(findings, f"{modality}: training together is better than alone with").values()]
        assert verdicts == [True, None, False]
    rows = table_of(findings, "Each task alone")
    assert len(rows) == 3 * 4
    assert rows[0][:2] == ("text", "together") and rows[0][2:4] == ("333,300", "1,000,000")
    low, high = rows[1][6].partition("[")[2].rstrip("]").split(", ")
    assert float(low) < 100 * math.log(1.02) < float(high)


def test_caps_on_repetition_hold_the_best_mixture_back():
    study = replace(mixing(), most_epochs=1.1)
    findings, results = answer(study)
    (best, *_) = [result for result in results if result.factors["role"] == BEST]
    assert max(float(best.factors[task]) for task in TASKS) <= 0.37  # 1.1 epochs; one epoch is a share of 1/3
    assert all(row[5] == "0.37" for row in table_of(findings, "The best mixture"))
    refused, results = answer(replace(mixing(), most_epochs=0.5))
    assert not [result for result in results if result.factors["role"] == BEST]
    assert any("No best mixture yet: the least shares add up" in note for note in refused.notes)


def test_priorities_move_the_best_mixture():
    _, results = answer(replace(mixing(), priorities={"text": 8.0, "image": 1.0, "speech": 1.0}))
    (best, *_) = [result for result in results if result.factors["role"] == BEST]
    assert float(best.factors["text"]) > 0.5


@pytest.mark.slow
def test_noise_alone_gains_nothing():
    def flat(trial: Trial) -> dict[str, float]:
        return {name: 5 * noise(trial, name, 0.003) for name in ("all", *MODALITIES)}

    findings, _ = answer(mixing(), flat)
    gains = claims_of(findings, "better than the default by") | claims_of(findings, "run, it is better by")
    assert len(gains) == 2 and True not in gains.values(), gains
    assert True not in claims_of(findings, "errs less than a linear law").values()


def test_a_part_of_the_trials_and_runs_that_diverged():
    study = mixing()
    trials = study.trials({})
    results = [Result(factors=t.factors, fingerprint="", seconds=1.0, figures=planted(t)) for t in trials]
    assert study.findings([]).notes == ("No law yet: no run of the design is done.",)
    few = study.findings(results[:5])
    assert not few.claims and any("5 different mixtures of 3 parts" in note for note in few.notes)
    one_seed = study.findings([result for result in results if result.factors["seed"] == 0])
    assert len(claims_of(one_seed, "errs less than a linear law")) == 3
    assert set(claims_of(one_seed, "training together").values()) == {None}
    # One of thirteen may diverge, two leave too few.
    for lost, says in ((1, False), (2, True)):
        broken = [
            replace(r, figures={})
            if r.factors["role"] == FITTED and r.factors["text"] in (0.9, 0.5)[:lost]
            else r
            for r in results
        ]
        found = study.findings(broken)
        assert any("diverged and are left out" in note for note in found.notes)
        assert any("No law yet" in note for note in found.notes) == says
    only_alone = study.findings([result for result in results if result.factors["role"] == ALONE])
    assert not only_alone.claims


def test_arms_are_values():
    study = replace(mixing(), alone={"half": Alone(updates=0.5, batch=0.5)}, default_seeds=(0,), seeds=(0,))
    alone = [trial for trial in study.trials({}) if trial.factors["role"] == ALONE]
    assert len(alone) == 3
    assert alone[0].factors["updates"] == pytest.approx(3**-0.5, abs=1e-4)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"mixtures": ((0.5, 0.5, 0.0),)}, r"mixtures\.0 is \(0\.5, 0\.5, 0\.0\): give a share above 0"),
        ({"held_out": ((0.5, 0.5),)}, r"held_out\.0"),
        ({"mixtures": ((0.5, 0.5, 0.5),)}, "adding up to 1"),
        ({"mixtures": ((0.33, 0.33, 0.33),)}, "adding up to 1"),
        ({"tasks": ("text", "text_to_image", "triple")}, "give tasks of one modality each"),
        ({"tasks": ("text", "image_to_text", "text_to_speech")}, "of different ones"),
        ({"tasks": ("text", "song")}, "there is no song"),
        ({"priorities": {"text": 1.0}}, "priorities name text: give text, image, speech"),
        ({"laws": (Exponential(parts=("a", "b")),)}, "a law has the parts a, b"),
        ({"base": replace(mixing().base, physical_batch=8)}, "leave base.physical_batch out"),
    ],
)
def test_studies_that_cannot_be(change: dict[str, Any], match: str):
    with pytest.raises(UserError, match=match):
        replace(mixing(), **change)


def test_on_prepared_data_tasks_without_shares_are_left_out(monkeypatch: pytest.MonkeyPatch):
    study = mixing()
    there = (
        Component(source="text", task="text", weight=0.32),
        Component(source="images", task="text_to_image", weight=0.48),
        Component(source="images", task="image_to_text", weight=0.01),
        Component(source="speech", task="text_to_speech", weight=0.8),
    )
    prepared = replace(study.base, mixture=replace(study.base.mixture, components=there))
    monkeypatch.setattr(module, "with_prepared", lambda base, folders: prepared)
    found = study.with_data([Path("anywhere")])
    assert found.default == (0.2, 0.3, 0.5)
    assert {c.task for t in found.trials({}) for c in t.config.mixture.components} == set(TASKS)
    prepared = replace(prepared, mixture=replace(prepared.mixture, components=there[:3]))
    with pytest.raises(UserError, match="the data has nothing for text_to_speech"):
        study.with_data([Path("anywhere")])


@pytest.mark.usefixtures("few_speeches")
def test_all_trials_are_evaluated_on_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Tiny real runs: a mixture, a task alone; with what was held fixed beside the losses."""
    base = replace(
        mixing().base, model=debug().model, data=debug().data, logical_batch=4, num_steps=2, log_every=1
    )
    study = replace(mixing(), base=base, seeds=(1,), default_seeds=(1,))
    seen: list[list[bytes]] = []
    nelbo = pretraining.sequence_nelbo

    def watch(denoiser: Denoiser, sequences: Sequence[Laid], **options: Any) -> dict[str, np.ndarray]:
        seen.append([sequence.tokens.tobytes() for sequence in sequences])
        return nelbo(denoiser, sequences, **options)

    monkeypatch.setattr(pretraining, "sequence_nelbo", watch)
    trials = study.trials({})
    chosen = [trials[1], next(trial for trial in trials if trial.factors["role"] == ALONE)]
    figures = [
        study.measure(trial, tmp_path / f"{number}", tmp_path / "tokens")
        for number, trial in enumerate(chosen)
    ]
    assert seen[0] == seen[1] and len(seen[0]) == 256
    for row in figures:
        assert all(3 < row[modality] < 14 for modality in MODALITIES)
        assert row["target_tokens"] > 0 and row["num_updates"] >= 1
    assert set(figures[0]) - set(figures[1]) == {f"epochs/{task}" for task in TASKS[1:]}
