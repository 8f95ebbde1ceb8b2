"""How likely a text is after another, as a masked diffusion model can say it: by a bound."""

import math
from collections.abc import Sequence as Rows
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from jaxtyping import Int

from trimask.evaluation.likelihood import sequence_nelbo
from trimask.model.denoiser import Denoiser
from trimask.vocabulary.batch import make_batch
from trimask.vocabulary.modality import Modality, Task
from trimask.vocabulary.sequence import Sequence, build_sequence
from trimask.vocabulary.tokenizer import TextCodec


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class ContinuationScorer:
    """Scores continuations by -NELBO(continuation | clean context) ≤ log p(continuation | context), in nats.

    The bound is estimated with `num_masks` masks and exact (without noise) for continuations of n tokens with
    2ⁿ - 1 ≤ num_masks. A model whose conditionals agree with one joint distribution meets it with equality.
    No end of text is scored: whether the text stops after the continuation does not count.

    Attributes:
        max_length: ids that context and continuation may take together; a longer context loses its start,
            a longer text is scored in parts, each after nothing. Beyond the text window of training the
            model is out of its depth.
    """

    denoiser: Denoiser
    text: TextCodec
    seed: int = 0
    num_masks: int = 32
    max_length: int = 128
    batch_size: int = 32

    def log_likelihoods(self, pairs: Rows[tuple[str, str]]) -> list[float]:
        """A lower bound of ln p(continuation | context) for each (context, continuation).

        Raises:
            ValueError: an empty continuation.
        """
        parts = [self._parts(*self._encode(context, continuation)) for context, continuation in pairs]
        nats = self._nelbo([part for each in parts for part in each])
        ends = np.cumsum([len(each) for each in parts])
        return [-float(chunk.sum()) for chunk in np.split(nats, ends[:-1])] if parts else []

    def text_log_likelihoods(self, texts: Rows[str]) -> list[float]:
        """A lower bound of ln p(text) for each text, scored in parts of at most `max_length` ids; an empty
        text has probability 1.
        """
        pieces = [self._parts([], self.text.encode(text)) for text in texts]
        nats = self._nelbo([part for each in pieces for part in each])
        ends = np.cumsum([len(each) for each in pieces])
        return [-float(chunk.sum()) for chunk in np.split(nats, ends[:-1])] if pieces else []

    @torch.inference_mode()
    def is_greedy(self, context: str, continuation: str) -> bool:
        """Whether unmasking the continuation's own span, the surest token first and each at its most probable
        code, gives exactly this continuation.
        """
        parts = self._parts(*self._encode(context, continuation))
        return all(self._is_greedy(self._sequence(*part)) for part in parts)

    def _is_greedy(self, sequence: Sequence) -> bool:
        batch = make_batch([sequence], [0]).to(next(self.denoiser.parameters()).device)
        vocabulary = self.denoiser.vocabulary
        (text,) = vocabulary.ranges_of(Modality.TEXT)
        masked = batch.maskable.clone()
        while masked.any():
            z = torch.where(masked, vocabulary.mask(Modality.TEXT), batch.tokens)
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
            raise ValueError("the continuation is empty: give at least one character")
        stem = context.rstrip()
        continuation = context[len(stem) :] + continuation
        before, whole = self.text.encode(stem), self.text.encode(stem + continuation)
        if whole[: len(before)] == before and len(whole) > len(before):
            return before, whole[len(before) :]
        return before, self.text.encode(continuation)  # a merge runs over the cut: the two are encoded apart

    def _parts(self, context: list[int], ids: list[int]) -> list[tuple[list[int], list[int]]]:
        """(context, continuation) pieces of at most `max_length` ids together."""
        if len(ids) > self.max_length:
            return [
                ([], ids[start : start + self.max_length]) for start in range(0, len(ids), self.max_length)
            ]
        room = self.max_length - len(ids)
        return [(context[max(len(context) - room, 0) :], ids)] if ids else []

    def _nelbo(self, parts: Rows[tuple[list[int], list[int]]]) -> np.ndarray:
        sequences = [self._sequence(*part) for part in parts]
        if not sequences:
            return np.zeros(0)
        found = sequence_nelbo(
            self.denoiser,
            sequences,
            seed=self.seed,
            num_masks=self.num_masks,
            batch_size=self.batch_size,
        )
        return found[Modality.TEXT]

    def _sequence(self, context: list[int], ids: list[int]) -> Sequence:
        codes: Int[np.ndarray, "frames 1"] = np.array([*context, *ids], dtype=np.int64)[:, None]
        sequence = build_sequence(self.denoiser.vocabulary, Task.TEXT, {Modality.TEXT: codes})
        start, _ = sequence.spans[Modality.TEXT]
        maskable = sequence.maskable.copy()
        maskable[start : start + len(context)] = False
        return replace(sequence, maskable=maskable)


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
