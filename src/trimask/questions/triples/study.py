"""Do rows of all three modalities help from speech to pictures and back, beside a chain through text?"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np

from trimask.config import fingerprint
from trimask.data.mixture import Component, MixtureConfig
from trimask.data.source_names import EMOJI, SPOKEN, TRIPLES
from trimask.estimate import Estimate, mean
from trimask.questions.triples.routes import (
    CHAIN_DRAWN,
    CHAIN_TRUE,
    DIRECT,
    JOINT,
    TRUE_TEXT,
    Routes,
    check_rows,
    read_triples,
)
from trimask.runs.build import build_stream, build_vocabulary
from trimask.studies.findings import Claim, Findings, Table, format_estimate
from trimask.studies.fit import fit_differences
from trimask.studies.pretraining import evaluate_held_out, train, unshard
from trimask.studies.study import LOSSES, Study, small_run
from trimask.studies.tokens import load_sources, load_tokenizers
from trimask.studies.trial import Result, Trial
from trimask.training.run import RunConfig
from trimask.vocabulary.task import Task

CHAIN = "chain"
_BITS, _RANKED = "bits", "ranked"
_TOKENS, _UPDATES, _ROWS = _COUNTS = ("target_tokens", "updates", "sequences")
_TOLD = f"{TRIPLES}:speech+image"  # triples without their text
_NEW_TASKS = (
    Task(name="speech_to_image", spans=(("speech", "image"),), condition=("speech",)),
    Task(name="image_to_speech", spans=(("image", "speech"),), condition=("image",)),
)
_PAIRS = (
    Component(source=EMOJI, task="text_to_image", weight=0.42),
    Component(source=SPOKEN, task="text_to_speech", weight=0.42),
    Component(source=EMOJI, task="image_to_text", weight=0.04),
    Component(source=SPOKEN, task="speech_to_text", weight=0.12),
)

# Row figures of one arm: direction and route -> seed -> row -> value.
Rows = Mapping[tuple[str, str], Mapping[int, Mapping[int, float]]]


def triples() -> "Triples":
    """Do triples improve speech → image and image → speech over a chain through text?

    Pairs alone, 64,000 sequences; a third of as many target tokens from triples, all of a row masked; or from
    direct tasks on them.
    """
    base = replace(small_run(learning_rate=2.0**-7), num_steps=4000)
    return Triples(
        base=replace(base, tasks=(*base.tasks, *_NEW_TASKS)),
        arms={
            "pairs": MixtureConfig(components=_PAIRS),
            "pairs + triple": _with_share(Component(source=TRIPLES, task="triple", weight=1 / 3)),
            "pairs + direct": _with_share(
                *(Component(source=_TOLD, task=task.name, weight=1 / 6) for task in _NEW_TASKS)
            ),
        },
        seeds=(0, 1, 2),
        num_rows=96,
        num_distractors=7,
        num_texts=4,
    )


def triples_short() -> "Triples":
    """The same in minutes: 8,000 sequences, one seed, 32 held-out triples."""
    full = triples()
    return replace(
        full,
        base=replace(full.base, num_steps=500),
        seeds=(0,),
        num_rows=32,
        num_distractors=3,
        num_texts=2,
    )


def _with_share(*components: Component) -> MixtureConfig:
    """Return the pairs with `components`, which take their weight from all of them in proportion."""
    left = 1 - sum(component.weight for component in components)
    pairs = tuple(replace(pair, weight=pair.weight * left) for pair in _PAIRS)
    return MixtureConfig(components=(*pairs, *components))


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Triples(Study):
    """Arms are mixtures of one model; the first is the one that the others are compared with, by its chain.

    All arms have as many target tokens as the first has in the base's updates, so those with more tokens in a
    sequence have fewer updates. All models are measured on the same held-out triples, one of each group, with
    the same masks, by every route that their tasks allow (`studies.routes`).
    """

    base: RunConfig
    arms: dict[str, MixtureConfig]
    seeds: tuple[int, ...]
    num_rows: int
    """At most so many held-out triples."""
    num_distractors: int
    """Other rows' conditions among which each row's own is to be found."""
    num_texts: int
    """Texts that the chain draws for each condition."""
    num_masks: int = 4
    directions: tuple[tuple[str, str], ...] = (("speech", "image"), ("image", "speech"))
    """What is given, and what is to be told from it."""

    def trials(self, results: Mapping[str, Result]) -> tuple[Trial, ...]:
        settings = fingerprint(replace(self, arms={self._first: self.arms[self._first]}, seeds=()))
        return tuple(
            Trial(
                factors={"arm": arm, "seed": seed},
                config=replace(self.base, mixture=mixture, seed=seed),
                settings=settings,
            )
            for seed in self.seeds
            for arm, mixture in self.arms.items()
        )

    def measure(self, trial: Trial, folder: Path, tokens: Path) -> dict[str, float]:
        tokenizers = load_tokenizers(trial.config)
        sources = load_sources(trial.config, tokenizers, "validation", tokens)
        rows = read_triples(sources[TRIPLES], sources[SPOKEN], number=self.num_rows)
        check_rows(rows)
        first = replace(trial.config, mixture=self.arms[self._first])
        share = _count_targets(first, tokens) / _count_targets(trial.config, tokens)
        config = replace(trial.config, num_steps=max(round(trial.config.num_steps * share), 1))
        step, stream = train(config, folder, tokens)
        figures = evaluate_held_out(first, step.denoiser, tokens)
        figures |= {_UPDATES: float(config.num_updates), _ROWS: float(config.horizon)}
        figures[_TOKENS] = sum(stream.target_tokens()) * config.horizon
        denoiser = unshard(step.denoiser)
        for given, target in self.directions:
            figures |= Routes(
                denoiser=denoiser,
                tokenizers=tokenizers,
                tasks=stream.tasks,
                rows=rows,
                given=given,
                target=target,
                num_distractors=self.num_distractors,
                num_masks=self.num_masks,
                num_texts=self.num_texts,
            ).measure()
        return figures

    def findings(self, results: Sequence[Result]) -> Findings:
        bits = {arm: _read_rows(results, arm, _BITS) for arm in self.arms}
        ranked = {arm: _read_rows(results, arm, _RANKED) for arm in self.arms}
        first = self._first
        tables, claims = [self._pairs_table(results)], []
        for given, target in self.directions:
            direction = f"{target}|{given}"
            base = _find_chain(bits[first], direction)
            base_ranks = ranked[first].get((direction, CHAIN_DRAWN), {})
            if base is None:
                continue
            tables.append(self._bits_table(direction, bits, base))
            tables.append(self._ranks_table(direction, ranked))
            for arm in list(self.arms)[1:]:
                route = next((r for r in (DIRECT, JOINT) if (direction, r) in bits[arm]), None)
                if route is None:
                    continue
                what = f"{target} given {given}, {arm}, {route}"
                change = _compare(bits[arm][direction, route], bits[first][direction, base])
                claims.append(_claim(f"{what}: fewer bits per token than {first} by {base}", change, -1))
                change = _compare(ranked[arm][direction, route], base_ranks)
                claims.append(_claim(f"{what}: finds its own more often than {first} by {CHAIN}", change, 1))
        return Findings(claims=tuple(claims), tables=tuple(tables), pictures={}, notes=_NOTES)

    @property
    def _first(self) -> str:
        return next(iter(self.arms))

    def _bits_table(self, direction: str, bits: Mapping[str, Rows], base: str) -> Table:
        first = self._first
        rows = []
        for arm, found in bits.items():
            for route in (DIRECT, JOINT, CHAIN_TRUE, CHAIN_DRAWN, TRUE_TEXT):
                if (direction, route) in found:
                    by_row, by_seed = _compare(found[direction, route], bits[first][direction, base])
                    level = format_estimate(mean(_row_means(found[direction, route])), 3)
                    cells = (format_estimate(by_row, 3), format_estimate(by_seed, 3))
                    rows.append((arm, route, level, *cells))
        return Table(
            title=f"Bits per token of {direction.replace('|', ' given ')} (a bound; mean over held-out "
            f"triples), and its difference from {first}, {base}",
            header=("arm", "route", "bits", "difference, interval over triples", "interval over seeds"),
            rows=tuple(rows),
        )

    def _ranks_table(self, direction: str, ranked: Mapping[str, Rows]) -> Table:
        rows = tuple(
            (arm, route, format_estimate(mean(_row_means(found[direction, route]), is_share=True)))
            for arm, found in ranked.items()
            for route in (DIRECT, JOINT, CHAIN_DRAWN)
            if (direction, route) in found
        )
        return Table(
            title=f"{direction.replace('|', ' given ')}: share of triples whose own condition is found among "
            f"{self.num_distractors} others (chance {1 / (1 + self.num_distractors):.3f})",
            header=("arm", "route", "share, interval over triples"),
            rows=rows,
        )

    def _pairs_table(self, results: Sequence[Result]) -> Table:
        """Tabulate what the pairs' own tasks lose: bits per token on the first arm's held-out mixture."""
        rows = []
        for arm in self.arms:
            own = [r for r in results if r.factors["arm"] == arm and r.figures]
            if own:
                columns = [f"{np.mean([r.figure(name) for r in own]):,.0f}" for name in _COUNTS]
                columns += [f"{np.mean([r.figure(loss) for r in own]):.3f}" for loss in LOSSES]
                rows.append((arm, f"{len(own)}", *columns))
        return Table(
            title="Tasks of the pairs, held out: bits per token, at equal target tokens",
            header=("arm", "runs", *(name.replace("_", " ") for name in _COUNTS), *LOSSES),
            rows=tuple(rows),
        )


def _count_targets(config: RunConfig, tokens: Path) -> float:
    """Return the expected target tokens of a sequence."""
    tokenizers = load_tokenizers(config)
    sources = load_sources(config, tokenizers, "train", tokens)
    return sum(build_stream(config, sources, build_vocabulary(config, tokenizers)).target_tokens())


_NOTES = (
    "All bits are upper bounds (NELBO), with the same rows and masks for every route. The chain's bound is "
    "the better of two: what its true words cost and say, or the mean over words that it draws; the chain "
    "itself may be more probable than either, where many words lead to one picture or recording. `from the "
    "true text` is told the words, and is no bound of the chain. The joint route leaves the text masked.",
    "The embedded data has few triples, about 1,200 concepts in training and 100 held out, of single labels "
    "that two synthetic voices read: a difference here says little about speech in the wild.",
    "A claim is decided only if both intervals, over triples (seeds averaged) and over seeds, exclude 0; "
    "with one seed it is not.",
)


def _read_rows(results: Sequence[Result], arm: str, what: str) -> Rows:
    """Return the row figures of an arm. A run that diverged has none."""
    found: dict[tuple[str, str], dict[int, dict[int, float]]] = {}
    for result in results:
        if result.factors["arm"] != arm:
            continue
        for name in result.figures:
            kind, *place = name.split("/")
            if kind == what and len(place) == 3:
                direction, route, row = place
                by_seed = found.setdefault((direction, route), {})
                by_seed.setdefault(int(result.factors["seed"]), {})[int(row)] = result.figure(name)
    return found


def _find_chain(bits: Rows, direction: str) -> str | None:
    """Return the bound of the chain that is smaller on average; None without results of it."""
    known = [route for route in (CHAIN_TRUE, CHAIN_DRAWN) if (direction, route) in bits]
    return min(known, key=lambda route: float(np.mean(_row_means(bits[direction, route]))), default=None)


def _row_means(by_seed: Mapping[int, Mapping[int, float]]) -> list[float]:
    """Return the mean over seeds of each row."""
    rows = sorted(set.intersection(*(set(row) for row in by_seed.values())))
    return [float(np.mean([values[row] for values in by_seed.values()])) for row in rows]


def _compare(
    one: Mapping[int, Mapping[int, float]], other: Mapping[int, Mapping[int, float]]
) -> tuple[Estimate, Estimate]:
    """Return the mean of `one` minus `other` over the seeds and rows that both have, with its interval over
    rows (seeds averaged) and over seeds (rows averaged); infinite where one seed or row tells nothing.
    """
    seeds = sorted(set(one) & set(other))
    never = Estimate(value=math.nan, low=-math.inf, high=math.inf)
    if not seeds:
        return never, never
    first, second = ({seed: each[seed] for seed in seeds} for each in (one, other))
    by_row = mean(np.array(_row_means(first)) - np.array(_row_means(second)))
    levels = [
        {seed: float(np.mean(list(rows.values()))) for seed, rows in each.items()} for each in (second, first)
    ]
    return by_row, fit_differences(levels, 0)[1]


def _claim(text: str, change: tuple[Estimate, Estimate], sign: int) -> Claim:
    """Claim that the change has this sign. Undecided unless both intervals exclude 0."""
    by_row, by_seed = change
    if math.isnan(by_row.value):
        return Claim(text=f"{text}: no results of both", holds=None)
    is_decided = all(each.has_interval and (each.low > 0 or each.high < 0) for each in change)
    return Claim(
        text=f"{text}: {format_estimate(by_row, 3)} over triples, {format_estimate(by_seed, 3)} over seeds",
        holds=by_row.value * sign > 0 if is_decided else None,
    )
