"""Routes between modalities: bounds against sums over all pictures; and what the study says of results."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from generation.fakes import FakeText
from trimask.data.mixture import Component, MixtureConfig
from trimask.data.selection import QuickstartData
from trimask.data.view import View, add_views
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.parallel import Local
from trimask.questions.triples.routes import (
    CHAIN_DRAWN,
    CHAIN_TRUE,
    DIRECT,
    JOINT,
    TRUE_TEXT,
    Routes,
    Triple,
    figure_name,
    read_triples,
)
from trimask.questions.triples.study import Triples, triples, triples_short
from trimask.studies.run import report_study, run_study
from trimask.studies.study import LOSSES
from trimask.studies.trial import Result
from trimask.tokenizers.bundle import Tokenizers
from trimask.vocabulary.codebooks import Parallel
from trimask.vocabulary.layout import CodeSpace, Vocabulary
from trimask.vocabulary.task import TASKS, Task

SPEECH_TO_IMAGE = Task(name="speech_to_image", spans=(("speech", "image"),), condition=("speech",))
ALL = frozenset({"speech_to_image", "triple", "text_to_image", "speech_to_text"})
# Two cells of two codes: four pictures, of three masks each, which `num_masks` covers: bounds are exact.
PICTURES = [np.array([[a], [b]]) for a in range(2) for b in range(2)]


class TwoCells:
    """Pictures of two cells, black or white."""

    image_size, grid, num_codebooks, codebook_size = 8, (1, 2), 1, 2

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        raise AssertionError("codes are given")

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        raise AssertionError("no picture is drawn")


class ThreeSounds:
    """A frame is one of three sounds."""

    sample_rate, frame_rate, num_codebooks, codebook_size = 100, 25.0, 1, 3

    def encode(self, waveform: torch.Tensor) -> torch.Tensor:
        raise AssertionError("codes are given")

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        raise AssertionError("nothing is spoken")


@pytest.fixture(scope="module")
def model() -> tuple[Denoiser, Tokenizers]:
    tokenizers = Tokenizers(text=FakeText(), image=TwoCells(), speech=ThreeSounds())
    spaces = (
        CodeSpace(name="text", num_codebooks=1, codebook_size=FakeText.vocabulary_size, has_end=True),
        CodeSpace(name="image", num_codebooks=1, codebook_size=2, has_end=False, grid=(1, 2)),
        CodeSpace(name="speech", num_codebooks=1, codebook_size=3, has_end=True),
    )
    vocabulary = Vocabulary(spaces=spaces, layouts={"image": Parallel()}, tasks=(*TASKS, SPEECH_TO_IMAGE))
    denoiser = Denoiser(DenoiserConfig(width=16, depth=2, num_heads=2), vocabulary)
    denoiser.initialize(0)
    torch.nn.init.normal_(denoiser.unembedding.weight, generator=torch.Generator().manual_seed(0))
    return denoiser.eval(), tokenizers


def rows_of(tokenizers: Tokenizers, words: str = "red") -> list[Triple]:
    """Each picture with the same speech and text."""
    speech = np.array([[0], [2], [1]])
    caption = np.array(tokenizers.text.encode(words))[:, None]
    said = np.array(tokenizers.text.encode(f"slt: {words}", is_spelled=True))[:, None]
    codes = [{"text": caption, "image": picture, "speech": speech} for picture in PICTURES]
    return [Triple(codes=each, transcript=said, group=group) for group, each in enumerate(codes)]


def routes(model: tuple[Denoiser, Tokenizers], rows: list[Triple], tasks: frozenset[str]) -> Routes:
    denoiser, tokenizers = model
    return Routes(
        denoiser=denoiser,
        tokenizers=tokenizers,
        tasks=tasks,
        rows=rows,
        given="speech",
        target="image",
        num_distractors=2,
        num_masks=3,
        num_texts=2,
    )


def bits(figures: dict[str, float], route: str, number: int = 4) -> list[float]:
    return [figures[figure_name("bits", "image", "speech", route, row)] for row in range(number)]


def total(found: list[float]) -> float:
    """The sum of exp(−bound) over all pictures, of two tokens each."""
    return sum(2 ** (-2 * each) for each in found)


def test_no_route_gives_all_pictures_together_more_than_one(model: tuple[Denoiser, Tokenizers]) -> None:
    """exp(−NELBO) ≤ p by Jensen's inequality, and probabilities sum to 1: what a bound means."""
    figures = routes(model, rows_of(model[1]), ALL).measure()
    for route in (DIRECT, JOINT, TRUE_TEXT, CHAIN_DRAWN):
        assert 0.2 < total(bits(figures, route)) <= 1 + 1e-6, route
    assert total(bits(figures, CHAIN_TRUE)) < total(bits(figures, TRUE_TEXT))  # the words cost something


def test_of_a_model_that_knows_nothing_all_bounds_are_tight(model: tuple[Denoiser, Tokenizers]) -> None:
    denoiser, tokenizers = model
    blank = Denoiser(denoiser.config, denoiser.vocabulary)
    blank.initialize(0)
    torch.nn.init.zeros_(blank.unembedding.weight)
    rows = rows_of(tokenizers)
    figures = routes((blank.eval(), tokenizers), rows, ALL).measure()
    for route in (DIRECT, JOINT, TRUE_TEXT, CHAIN_DRAWN):
        assert bits(figures, route) == pytest.approx([1.0] * 4, rel=1e-5), route
    tokens = len(rows[0].transcript) + 1  # with an end, of as many equally probable codes
    words = tokens * math.log2(FakeText.vocabulary_size + 1)
    assert bits(figures, CHAIN_TRUE) == pytest.approx([1.0 + words / 2] * 4, rel=1e-5)
    # Nothing tells conditions apart: three share the first place.
    ranks = [figures[figure_name("ranked", "image", "speech", DIRECT, row)] for row in range(4)]
    assert ranks == pytest.approx([1 / 3] * 4)


def test_the_joint_route_never_sees_the_text(model: tuple[Denoiser, Tokenizers]) -> None:
    joint = frozenset({"triple"})
    before = routes(model, rows_of(model[1], "red"), joint).measure()
    after = routes(model, rows_of(model[1], "der"), joint).measure()
    assert before == after and set(bits(before, JOINT))
    assert len(before) == 8  # no other route: four rows' bits and ranks


def test_routes_are_those_of_the_tasks_that_were_trained(model: tuple[Denoiser, Tokenizers]) -> None:
    rows = rows_of(model[1])
    for tasks, expected in (
        ({"speech_to_image"}, {DIRECT}),
        ({"text_to_image", "speech_to_text"}, {CHAIN_TRUE, CHAIN_DRAWN, TRUE_TEXT}),
        ({"text_to_image", "text_to_speech", "joint"}, set()),
    ):
        figures = routes(model, rows, frozenset(tasks)).measure()
        assert {name.split("/")[2] for name in figures} == expected


class Listed:
    """A source of given examples."""

    def __init__(self, name: str, examples: list[dict[str, np.ndarray]], groups: list[int]) -> None:
        self.name, self.examples, self.groups = name, examples, np.array(groups)

    @property
    def num_codes(self) -> dict[str, np.ndarray]:
        names = self.examples[0]
        return {name: np.array([each[name].size for each in self.examples]) for name in names}

    def __len__(self) -> int:
        return len(self.examples)

    def example(self, index: int) -> dict[str, np.ndarray]:
        return self.examples[index]


def test_triples_have_the_transcript_of_their_utterance_and_one_row_a_group() -> None:
    def codes(number: int) -> np.ndarray:
        return np.full((2, 1), number)

    rows = [{"text": codes(9), "image": codes(n), "speech": codes(n)} for n in range(6)]
    said = [{"text": codes(10 + n), "speech": codes(n)} for n in (5, 3, 2, 1, 0)]  # not 4
    source = Listed("triples", rows, [0, 0, 1, 2, 3, 4])
    found = read_triples(source, Listed("spoken", said, [0] * 5), number=9)
    assert sorted(each.group for each in found) == [0, 1, 2, 4]
    assert all(each.transcript[0, 0] == 10 + each.codes["speech"][0, 0] for each in found)
    assert len(read_triples(source, Listed("spoken", said, [0] * 5), number=2)) == 2


def test_a_view_gives_some_of_the_modalities() -> None:
    rows = [{"text": np.ones((3, 1), int), "image": np.ones((2, 2), int), "speech": np.ones((4, 1), int)}]
    source = Listed("triples", rows, [7])
    found = add_views({"triples": source}, ("triples:speech+image", "triples", "emoji", "lost:text"))
    assert set(found) == {"triples", "triples:speech+image"}
    view = found["triples:speech+image"]
    assert view.name == "triples:speech+image" and len(view) == 1 and view.groups.tolist() == [7]
    assert list(view.example(0)) == ["speech", "image"]
    assert {name: counts.tolist() for name, counts in view.num_codes.items()} == {"speech": [4], "image": [4]}
    with pytest.raises(ValueError, match="triples has no depth, only text, image, speech"):
        View(source=source, modalities=("depth",))


# What it says


def answer(study: Triples, gain: float, *, noise: float = 0.02, arms: int = 3) -> dict[str, bool | None]:
    """Claims about results in which routes without text take `gain` bits less than the chain."""
    results = []
    for number, trial in enumerate(study.trials({})):
        draw = np.random.default_rng(number)
        arm = str(trial.factors["arm"])
        own = [] if arm == "pairs" else [DIRECT if "direct" in arm else JOINT]
        figures: dict[str, float | None] = dict.fromkeys(
            (*LOSSES, "target_tokens", "updates", "sequences"), 5.0
        )
        for (target, given), row in itertools.product((("image", "speech"), ("speech", "image")), range(12)):
            level = 7 + row / 10 + noise * draw.normal()
            bits = {CHAIN_TRUE: level + 1, CHAIN_DRAWN: level, TRUE_TEXT: level - 0.1}
            bits |= {route: level - gain + noise * draw.normal() for route in own}
            figures |= {figure_name("bits", target, given, route, row): v for route, v in bits.items()}
            for route in (CHAIN_DRAWN, *own):
                figures[figure_name("ranked", target, given, route, row)] = float(row % 3 == 0)
        results.append(
            Result(factors=trial.factors, fingerprint=trial.fingerprint, seconds=1.0, figures=figures)
        )
    kept = [result for result in results if list(study.arms).index(str(result.factors["arm"])) < arms]
    return {claim.text: claim.holds for claim in study.findings(kept).claims}


def verdicts(claims: dict[str, bool | None], part: str) -> set[bool | None]:
    return {holds for text, holds in claims.items() if part in text}


def test_a_difference_in_all_rows_and_seeds_decides() -> None:
    better, worse = answer(triples(), 0.5), answer(triples(), -0.5)
    assert len(better) == 8
    assert verdicts(better, "fewer bits") == {True}
    assert verdicts(worse, "fewer bits") == {False}
    assert verdicts(better, "finds its own more often") == {None}  # as often


def test_what_runs_cannot_tell_they_do_not() -> None:
    assert verdicts(answer(triples(), 0.0, noise=0.5), "fewer bits") == {None}
    assert set(answer(triples_short(), 0.5).values()) == {None}  # one seed


def test_parts_and_diverged_runs_make_a_report() -> None:
    study = triples()
    assert study.findings([]).claims == ()
    assert len(answer(study, 0.5, arms=1)) == 0 and len(answer(study, 0.5, arms=2)) == 4
    lost = [Result(factors=t.factors, fingerprint="", seconds=1.0, figures={}) for t in study.trials({})]
    assert study.findings(lost).claims == ()


def test_an_arm_of_ones_own_and_what_decides_a_result() -> None:
    study = triples()
    mine = MixtureConfig(components=(Component(source="triples", task="triple", weight=1.0),))
    more = replace(study, arms={**study.arms, "mine": mine})
    before = {trial.name: trial.fingerprint for trial in study.trials({})}
    after = {trial.name: trial.fingerprint for trial in more.trials({})}
    assert before.items() <= after.items() and "arm=mine,seed=2" in after
    fewer = replace(study, num_rows=5)
    assert not set(before.values()) & {trial.fingerprint for trial in fewer.trials({})}
    shares = [sum(c.weight for c in mixture.components) for mixture in study.arms.values()]
    assert shares == pytest.approx([1.0] * 3)


@pytest.mark.slow
@pytest.mark.usefixtures("few_speeches")
def test_a_small_study_from_end_to_end(tmp_path: Path) -> None:
    short = triples_short()
    data = QuickstartData(num_concepts=60, num_sentences=8)
    model = replace(short.base.model, width=32, depth=1, num_heads=1)
    base = replace(short.base, data=data, model=model, num_steps=3, logical_batch=8)
    study = replace(short, base=base, num_rows=5, num_distractors=2, num_texts=1)
    request = {"study": "triples", "short": True, "data": [], "overrides": {}}
    results = run_study(study, tmp_path, request=request, engine=Local(workers=1))
    assert len(results) == 3
    tokens = [result.figure("target_tokens") for result in results]
    assert max(tokens) < 1.5 * min(tokens)  # 3 updates are a coarse unit
    path, findings = report_study("triples", tmp_path)
    assert len(findings.claims) == 8 and "at equal target tokens" in path.read_text()
    for result in results:
        assert all(value is not None and value >= 0 for value in result.figures.values())
