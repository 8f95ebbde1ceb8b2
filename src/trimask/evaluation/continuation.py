"""How likely a text is after another, as a masked diffusion model can say it: by a bound."""

import math
from collections.abc import Sequence as Rows
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch

from trimask import rng
from trimask.errors import UserError
from trimask.evaluation.likelihood import MaskStream, sequence_nelbo
from trimask.model.denoiser import Denoiser
from trimask.vocabulary.batch import make_batch
from trimask.vocabulary.sequence import Sequence, build_sequence
from trimask.vocabulary.tokenizer import TextCodec


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class ContinuationScorer:
    """Scores continuations by -NELBO(continuation | clean context) ≤ log p(continuation | context), in nats.

    Context and continuation are laid at the start of a whole text window. The places after them stay masked
    and are not scored: what follows is unknown. A span of just their length would tell the model that the
    text ends there, since training closes a passage that is shorter than the window with an end token.

    The bound is estimated with `num_masks` masks and exact (without noise) for continuations of n tokens with
    2ⁿ - 1 ≤ num_masks. A model whose conditionals agree with one joint distribution meets it with equality.
    A score depends on the request alone, not on where it stands; continuations of the same context share
    their masks.

    Attributes:
        text_window: ids of a whole text span in training. A longer context loses its start; a longer text is
            scored in parts, each after nothing.
    """

    denoiser: Denoiser
    text: TextCodec
    text_window: int
    seed: int = 0
    num_masks: int = 32
    batch_size: int = 32

    def log_likelihoods(self, pairs: Rows[tuple[str, str]]) -> list[float]:
        """A lower bound of ln p(continuation | context) for each (context, continuation).

        Raises:
            UserError: an empty continuation.
        """
        return self._scores(
            [self._parts(*self._encode(context, continuation)) for context, continuation in pairs]
        )

    def text_log_likelihoods(self, texts: Rows[str]) -> list[float]:
        """A lower bound of ln p(text) for each text, scored in parts of at most `text_window` ids; an empty
        text has probability 1. Whether the text ends there is not scored.
        """
        return self._scores([self._parts([], self.text.encode(text)) for text in texts])

    @torch.inference_mode()
    def is_greedy(self, context: str, continuation: str) -> bool:
        """Whether unmasking the continuation's places, the surest token first and each at its most probable
        code, gives exactly this continuation.
        """
        parts = self._parts(*self._encode(context, continuation))
        return all(self._is_greedy(self._sequence(*part)) for part in parts)

    def _is_greedy(self, sequence: Sequence) -> bool:
        batch = make_batch([sequence], [0]).to(next(self.denoiser.parameters()).device)
        vocabulary = self.denoiser.vocabulary
        (text,) = vocabulary.ranges_of("text")
        masked = batch.maskable.clone()
        while masked.any():
            z = torch.where(masked, vocabulary.mask("text"), batch.tokens)
            hidden = self.denoiser(z, batch)[batch.position[masked]]
            log_p, best = torch.log_softmax(self.denoiser.logits(hidden, text.index).double(), -1).max(-1)
            surest = int(log_p.argmax())
            place = masked.nonzero()[surest]
            if int(best[surest]) + text.start != int(batch.tokens[place[0], place[1]]):
                return False
            masked[place[0], place[1]] = False
        return True

    def _encode(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Ids of both, cut where the continuation begins; spaces between them belong to the continuation."""
        if not continuation:
            raise UserError("the continuation is empty: give at least one character")
        stem = context.rstrip()
        continuation = context[len(stem) :] + continuation
        before, whole = self.text.encode(stem), self.text.encode(stem + continuation)
        if whole[: len(before)] == before and len(whole) > len(before):
            return before, whole[len(before) :]
        return before, self.text.encode(continuation)  # a merge runs over the cut: the two are encoded apart

    def _parts(self, context: list[int], ids: list[int]) -> list[tuple[list[int], list[int]]]:
        """(context, continuation) pieces of at most `text_window` ids together."""
        window = self.text_window
        if len(ids) > window:
            return [([], ids[start : start + window]) for start in range(0, len(ids), window)]
        room = window - len(ids)
        return [(context[max(len(context) - room, 0) :], ids)] if ids else []

    def _scores(self, parts: Rows[list[tuple[list[int], list[int]]]]) -> list[float]:
        """-NELBO of each request, summed over its parts."""
        nats = iter(self._nelbo([part for each in parts for part in each]))
        return [-float(sum(next(nats) for _ in each)) for each in parts]

    def _nelbo(self, parts: Rows[tuple[list[int], list[int]]]) -> np.ndarray:
        if not parts:
            return np.zeros(0)
        found = sequence_nelbo(
            self.denoiser,
            [self._sequence(*part) for part in parts],
            seed=self.seed,
            num_masks=self.num_masks,
            batch_size=self.batch_size,
            streams=[
                MaskStream(
                    key=rng.key(self.seed, "continuation", *context),
                    num_places=self.text_window - len(context),
                )
                for context, _ in parts
            ],
        )
        return found["text"]

    def _sequence(self, context: list[int], ids: list[int]) -> Sequence:
        """A whole window that begins with `context` and `ids`: `ids` are targets, what follows is masked."""
        vocabulary, known = self.denoiser.vocabulary, len(context) + len(ids)
        codes = np.zeros((self.text_window, 1), dtype=np.int64)
        codes[:known, 0] = [*context, *ids]
        sequence = build_sequence(vocabulary, "text", {"text": codes})
        start, stop = sequence.spans["text"]
        tokens, maskable = sequence.tokens.copy(), sequence.maskable.copy()
        tokens[start + known : stop] = vocabulary.mask("text")
        maskable[start : start + len(context)] = maskable[start + known : stop] = False
        return replace(sequence, tokens=tokens, maskable=maskable)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A question of which continuation is the true one: `options[answer]`."""

    context: str
    options: tuple[str, ...]
    answer: int


def choose_by_bytes(choices: Rows[Choice], log_likelihoods: Rows[float]) -> list[bool]:
    """Whether the true option has the highest log-likelihood per UTF-8 byte (as lm-eval's acc_bytes), given
    those of all options of all choices in order; a tie counts as wrong.
    """
    hits, start = [], 0
    for choice in choices:
        found = log_likelihoods[start : start + len(choice.options)]
        start += len(choice.options)
        rates = [
            nats / max(len(option.encode()), 1) for nats, option in zip(found, choice.options, strict=True)
        ]
        others = [rate for number, rate in enumerate(rates) if number != choice.answer]
        hits.append(rates[choice.answer] > max(others, default=-math.inf))
    return hits
