"""How well a model knows one modality from another, by each route that its tasks allow: in one step, with the
text between them hidden, or through a text of its own.

For a target x, given s, and texts t:

- *direct*: NELBO(x | s) of a task that generates x from s.
- *joint*: that of a task that generates both and the text, with s clean and the text masked throughout. The
  factors of any order of the targets are normalized, so this bounds a likelihood of x given s, too. All rows
  have as many masked places of text, which so tell nothing.
- *chain*: p(x | s) = Σ_t q(t | s) p(x | t), what generation through text draws from. Two upper bounds of
  −log p(x | s): its term of the true words t* alone, NELBO(t* | s) + NELBO(x | t*); and by Jensen's
  inequality the mean of NELBO(x | t) over texts that are drawn from q.
- *from the true text*: NELBO(x | t*), no bound of the chain, since it leaves out what the words cost.

Only bounds are compared, each with masks that are the same for all routes and conditions of a row.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import numpy as np
from jaxtyping import Float, Int
from scipy.special import logsumexp

from trimask import rng
from trimask.data.source import ExampleSource
from trimask.errors import UserError
from trimask.evaluation.likelihood import MaskStream, sequence_nelbo
from trimask.generation.generate import Generator
from trimask.model.denoiser import Denoiser
from trimask.tokenizers.bundle import Tokenizers
from trimask.vocabulary import sequence
from trimask.vocabulary.task import Task
from trimask.vocabulary.transcript import transcript

DIRECT, JOINT = "direct", "joint"
CHAIN_TRUE, CHAIN_DRAWN = "chain, by the true words", "chain, by words drawn"
TRUE_TEXT = "from the true text"
TEXT, SPEECH = "text", "speech"

Codes = Mapping[str, Int[np.ndarray, "_frames _codebooks"]]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Triple:
    """A row: its codes, its text as speech is transcribed (voice tag and words), and its group: rows of one
    group show the same thing."""

    codes: Codes
    transcript: Int[np.ndarray, "_tokens one"]
    group: int


def read_triples(triples: ExampleSource, spoken: ExampleSource, *, number: int) -> list[Triple]:
    """Return up to `number` rows of `triples` in a fixed random order, one of each group. The transcript is
    that of the same utterance in `spoken`; rows without one are left out.
    """
    told = {}
    for index in range(len(spoken)):
        codes = spoken.example(index)
        told[codes[SPEECH].tobytes()] = codes[TEXT]
    found: dict[int, Triple] = {}
    for index in rng.generator(0, "triples").permutation(len(triples)).tolist():
        codes, group = triples.example(index), int(triples.groups[index])
        text = told.get(codes[SPEECH].tobytes())
        if text is not None and group not in found and len(found) < number:
            found[group] = Triple(codes=codes, transcript=text, group=group)
    return list(found.values())


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Routes:
    """The routes of a model from `given` to `target`, on some rows.

    Attributes:
        tasks: names of those that it was trained on.
        num_distractors: other rows that each row's own condition is ranked with.
        num_masks: of each NELBO.
        num_texts: texts that the chain draws for each condition.
    """

    denoiser: Denoiser
    tokenizers: Tokenizers
    tasks: frozenset[str]
    rows: Sequence[Triple]
    given: str
    target: str
    num_distractors: int
    num_masks: int
    num_texts: int

    def measure(self) -> dict[str, float]:
        """Return the figures of each row, `bits/TARGET|GIVEN/ROUTE/ROW` and `ranked/…`: bits per token, and
        whether the row's own condition makes its target more probable than those of the distractors do.
        """
        figures: dict[str, float] = {}
        for route, nats in self._bounds():
            for row, value in enumerate(nats / (np.log(2) * self._num_tokens)):
                figures[figure_name("bits", self.target, self.given, route, row)] = float(value)
        for route, scores in self._scores():
            best = np.isclose(scores, scores.max(1, keepdims=True), rtol=1e-9, atol=1e-6)
            for row, own in enumerate(best[:, 0] / best.sum(1)):  # equal ones share the first place
                figures[figure_name("ranked", self.target, self.given, route, row)] = float(own)
        return figures

    @cached_property
    def _num_tokens(self) -> Int[np.ndarray, "rows"]:
        """Target tokens, the end frame of speech included."""
        space = self.denoiser.vocabulary.space(self.target)
        return np.array(
            [row.codes[self.target].size + space.num_codebooks * space.has_end for row in self.rows]
        )

    @cached_property
    def _conditions(self) -> Int[np.ndarray, "rows conditions"]:
        """Row numbers of the conditions of each row: its own, then the distractors'."""
        number = min(self.num_distractors, len(self.rows) - 1)
        chosen = []
        for row in range(len(self.rows)):
            others = rng.generator(0, "distractors", row).permutation(len(self.rows) - 1)[:number]
            chosen.append([row, *(others + (others >= row)).tolist()])
        return np.array(chosen)

    def _bounds(self) -> Iterator[tuple[str, Float[np.ndarray, "rows"]]]:
        for route, scores in self._whole.items():
            yield route, -scores[:, 0]
        if not self._has_chain:
            return
        from_text = self._nelbo([self._from_text(row, self._words(row)) for row in self.rows], self.target)
        yield TRUE_TEXT, from_text
        voices = {self._voice(row) for row in self.rows} if self.target == SPEECH else {""}
        choice = np.log(len(voices))  # the chain speaks with each voice alike
        cost = self._nelbo([self._to_text(row) for row in self.rows], TEXT)
        yield CHAIN_TRUE, from_text + cost + choice
        yield CHAIN_DRAWN, choice - self._drawn[:, 0].mean(-1)

    def _scores(self) -> Iterator[tuple[str, Float[np.ndarray, "rows conditions"]]]:
        yield from self._whole.items()
        if self._has_chain:
            yield CHAIN_DRAWN, np.asarray(logsumexp(self._drawn, axis=-1))

    @cached_property
    def _whole(self) -> dict[str, Float[np.ndarray, "rows conditions"]]:
        """−NELBO(x | s) of the routes without text, for each row and condition."""
        found = {}
        direct = self._find_task({self.given}, {self.target})
        joint = self._find_task(set(), {self.given, self.target, TEXT})
        for name, task in ((DIRECT, direct), (JOINT, joint)):
            if task is not None:
                pairs = [(row, other) for row, others in enumerate(self._conditions) for other in others]
                sequences = [
                    self._build(task, self.rows[r], self.rows[o].codes[self.given]) for r, o in pairs
                ]
                nats = self._nelbo(sequences, self.target, rows=[row for row, _ in pairs])
                found[name] = -nats.reshape(self._conditions.shape)
        return found

    @cached_property
    def _drawn(self) -> Float[np.ndarray, "rows conditions texts"]:
        """−NELBO(x | t) for each row, condition and text that is drawn for it."""
        texts = self._draw_texts()
        triples = [
            (row, other, number)
            for row, others in enumerate(self._conditions)
            for other in others
            for number in range(self.num_texts)
        ]
        sequences = [
            self._from_text(self.rows[r], self._spell(texts[o * self.num_texts + n], self.rows[r]))
            for r, o, n in triples
        ]
        nats = self._nelbo(sequences, self.target, rows=[row for row, _, _ in triples])
        return -nats.reshape(*self._conditions.shape, self.num_texts)

    def _draw_texts(self) -> list[str]:
        """Draw words from the condition of each row, `num_texts` times, with the samplers that ship."""
        task = self._find_task({self.given}, {TEXT})
        assert task is not None
        kit = self.tokenizers
        generator = Generator(self.denoiser, text=kit.text, image=kit.image, speech=kit.speech)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of texts that are empty or too long: they count as they are
            options: dict[str, Any] = {self.given: [row.codes[self.given] for row in self.rows]}
            made = generator.generate_many(task.name, num_samples=self.num_texts, seed=0, **options)
        return [each.text or "" for each in made]

    def _spell(self, words: str, row: Triple) -> Int[np.ndarray, "_tokens one"]:
        """Spell words as the second task expects: as a caption, or as a transcript in the row's own voice."""
        text = self.tokenizers.text
        if self.target == SPEECH:
            ids = text.encode(transcript(words, self._voice(row)), is_spelled=True)
        else:
            ids = text.encode(words)
        return np.array(ids, dtype=np.int64).reshape(-1, 1)

    def _voice(self, row: Triple) -> str:
        return self.tokenizers.text.decode(row.transcript[:, 0].tolist()).partition(":")[0]

    def _words(self, row: Triple) -> Int[np.ndarray, "_tokens one"]:
        """Return the true words as the condition of the target."""
        return row.transcript if self.target == SPEECH else row.codes[TEXT]

    def _to_text(self, row: Triple) -> sequence.Sequence:
        """Return the sequence that generates the true words from what is given."""
        task = self._find_task({self.given}, {TEXT})
        assert task is not None
        words = row.transcript if self.given == SPEECH else row.codes[TEXT]
        codes = {self.given: row.codes[self.given], TEXT: words}
        return sequence.build_sequence(self.denoiser.vocabulary, task.name, codes, num_end={TEXT: 1})

    def _from_text(self, row: Triple, text: Int[np.ndarray, "_tokens one"]) -> sequence.Sequence:
        """Return the sequence that generates the row's target from a text; an empty one is a masked place."""
        task = self._find_task({TEXT}, {self.target})
        assert task is not None
        if len(text):
            return self._build(task, row, text)
        hidden = self._build(task, row, np.zeros((1, 1), dtype=np.int64))
        return sequence.drop_conditions(hidden, self.denoiser.vocabulary)

    def _build(
        self, task: Task, row: Triple, given: Int[np.ndarray, "_frames _codebooks"]
    ) -> sequence.Sequence:
        """Return the sequence of a task with the row's target, and `given` as what it is made from."""
        vocabulary = self.denoiser.vocabulary
        source = task.condition[0] if task.condition else self.given
        codes = {source: given, self.target: row.codes[self.target]}
        if not task.condition:
            codes[TEXT] = np.zeros((self._text_length, 1), dtype=np.int64)
        ends = {name: 1 for name in codes if name != TEXT and vocabulary.space(name).has_end}
        built = sequence.build_sequence(vocabulary, task.name, codes, num_end=ends)
        if task.condition:
            return built
        tokens, maskable = built.tokens.copy(), np.zeros_like(built.maskable)
        tokens[slice(*built.spans[TEXT])] = vocabulary.mask(TEXT)
        maskable[slice(*built.spans[self.target])] = True
        return replace(built, tokens=tokens, maskable=maskable)

    @cached_property
    def _text_length(self) -> int:
        return round(float(np.mean([len(row.codes[TEXT]) + 1 for row in self.rows])))

    @property
    def _has_chain(self) -> bool:
        return bool(self._find_task({self.given}, {TEXT}) and self._find_task({TEXT}, {self.target}))

    def _find_task(self, condition: set[str], targets: set[str]) -> Task | None:
        """Return the task that the model was trained on and that generates `targets` from `condition`."""
        for task in self.denoiser.vocabulary.tasks:
            spans = [set(spans) for spans in task.spans]
            if task.name in self.tasks and set(task.condition) == condition and condition | targets in spans:
                return task
        return None

    def _nelbo(
        self, sequences: Sequence[sequence.Sequence], modality: str, *, rows: Sequence[int] | None = None
    ) -> Float[np.ndarray, "sequences"]:
        """Estimate the NELBO in nats; sequences of one row have the same masks."""
        numbers = range(len(sequences)) if rows is None else rows
        streams = [
            MaskStream(key=row, num_places=int(each.maskable.sum()))
            for row, each in zip(numbers, sequences, strict=True)
        ]
        return sequence_nelbo(self.denoiser, sequences, seed=0, num_masks=self.num_masks, streams=streams)[
            modality
        ]


def figure_name(what: str, target: str, given: str, route: str, row: int) -> str:
    """Return the name of a row's figure in a result."""
    return f"{what}/{target}|{given}/{route}/{row}"


def check_rows(rows: Sequence[Triple]) -> None:
    """Raise UserError if there are too few rows to compare anything."""
    if len(rows) < 2:
        raise UserError(
            f"the validation split has {len(rows)} triples whose utterance is also transcribed: the study "
            "needs at least 2, prepare more"
        )
