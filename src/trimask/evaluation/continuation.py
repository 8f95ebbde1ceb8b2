"""Score continuations of texts by a masked diffusion model's bound on their likelihood."""

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

    Context and continuation are placed at the start of a full text window. The positions after them stay
    masked and are not scored, since what follows is unknown. A span of exactly their length would tell the
    model that the text ends there: in training, a passage shorter than the window ends with an end token.

    The bound is estimated with `num_masks` masks; it is exact for continuations of n tokens with
    2ⁿ - 1 ≤ num_masks. If the model's conditionals are consistent with one joint distribution, the bound is
    tight. A score depends on the request only, not on other requests; continuations of the same context share
    their masks.

    Attributes:
        text_window: length of a full text span in training, in ids. A longer context is cut at its start; a
            longer text is scored in parts, each without context.
    """

    denoiser: Denoiser
    text: TextCodec
    text_window: int
    seed: int = 0
    num_masks: int = 32
    batch_size: int = 32

    def log_likelihoods(self, pairs: Rows[tuple[str, str]]) -> list[float]:
        """Compute a lower bound of ln p(continuation | context) for each (context, continuation).

        Raises:
            UserError: an empty continuation.
        """
        return self._scores(
            [self._parts(*self._encode(context, continuation)) for context, continuation in pairs]
        )

    def text_log_likelihoods(self, texts: Rows[str]) -> list[float]:
        """Compute a lower bound of ln p(text) for each text, in parts of at most `text_window` ids.

        An empty text has probability 1. The end of the text is not scored.
        """
        return self._scores([self._parts([], self.text.encode(text)) for text in texts])

    @torch.inference_mode()
    def is_greedy(self, context: str, continuation: str) -> bool:
        """Whether greedy unmasking gives exactly this continuation.

        At each step, the most confident position is unmasked to its most probable token.
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
        """Encode both texts; spaces between them belong to the continuation."""
        if not continuation:
            raise UserError("the continuation is empty: give at least one character")
        stem = context.rstrip()
        continuation = context[len(stem) :] + continuation
        before, whole = self.text.encode(stem), self.text.encode(stem + continuation)
        if whole[: len(before)] == before and len(whole) > len(before):
            return before, whole[len(before) :]
        return before, self.text.encode(continuation)  # a merge crosses the cut: encode both separately

    def _parts(self, context: list[int], ids: list[int]) -> list[tuple[list[int], list[int]]]:
        """Split into (context, continuation) parts of at most `text_window` ids each."""
        window = self.text_window
        if len(ids) > window:
            return [([], ids[start : start + window]) for start in range(0, len(ids), window)]
        room = window - len(ids)
        return [(context[max(len(context) - room, 0) :], ids)] if ids else []

    def _scores(self, parts: Rows[list[tuple[list[int], list[int]]]]) -> list[float]:
        """Compute -NELBO of each request, summed over its parts."""
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
        """Build a full window that starts with `context` and the targets `ids`; the rest is masked."""
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
    """A multiple-choice question: the true continuation of `context` is `options[answer]`."""

    context: str
    options: tuple[str, ...]
    answer: int


def choose_by_bytes(choices: Rows[Choice], log_likelihoods: Rows[float]) -> list[bool]:
    """Decide for each choice whether its true option has the highest log-likelihood per UTF-8 byte.

    This is lm-eval's acc_bytes; a tie counts as wrong.

    Args:
        log_likelihoods: those of all options of all choices, in order.
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
