"""Carry out length rules: choose the spans of sequences before they are filled, and continue full ones."""

import itertools
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Rows
from dataclasses import replace
from functools import cached_property, partial
from typing import final

import numpy as np
import torch
from jaxtyping import Float64, Int

from trimask.devices import send
from trimask.errors import UserError
from trimask.sampling.length import LONGEST_SPAN, LengthRule, Span
from trimask.sampling.predictor import Prediction, Predictor, predict_at
from trimask.sampling.row import Row
from trimask.vocabulary.batch import make_batch
from trimask.vocabulary.layout import Vocabulary
from trimask.vocabulary.slots import SlotTables

_MOST_LOGITS = 1 << 25  # held at once while end codes are read


def begin_rows(predictor: Predictor, rows: Iterable[Row], *, at_once: int) -> Iterator[Row]:
    """Give the spans of `rows` the lengths that their rules choose; rules that ask for P(end code) take one
    pass over `at_once` rows.
    """
    waiting = iter(rows)
    while some := list(itertools.islice(waiting, at_once)):
        ends = _Ends(predictor, some)
        for number, row in enumerate(some):
            rule, chosen = row.config.length, {}
            for span in _find_spans(row, predictor.vocabulary):
                frames = rule.begin(span, partial(ends.read, number, span.space.name))
                chosen[span.space.name] = _check(rule, frames, span)
            changed = {name: frames for name, frames in chosen.items() if frames != row.planned[name]}
            yield row.resized(predictor.vocabulary, changed) if changed else row


def extend_row(row: Row, tokens: Int[np.ndarray, "slots"], vocabulary: Vocabulary) -> Row | None:
    """Return the sequence that continues a full one, with what is filled as given; None if it stays as it
    is.
    """
    rule, longer = row.config.length, {}
    for span in _find_spans(row, vocabulary):
        start, stop = row.document.spans[span.space.name]
        filled = tokens[start:stop].reshape(span.num_frames, -1)
        if vocabulary.codes(span.space.name, filled)[1]:
            continue
        span = replace(span, num_given=span.num_frames)
        frames = rule.extend(span)
        if isinstance(frames, int | np.integer) and frames <= span.num_frames:
            continue
        longer[span.space.name] = _check(rule, frames, span)
    return row.continued(vocabulary, tokens, longer) if longer else None


def _find_spans(row: Row, vocabulary: Vocabulary) -> Iterator[Span]:
    """Return the spans of a sequence whose length is for its rule to say."""
    document = row.document
    frames = {
        name: (stop - start) // vocabulary.space(name).num_codebooks
        for name, (start, stop) in document.spans.items()
    }
    for name in row.planned:
        start, stop = document.spans[name]
        given = (~document.maskable[start:stop]).sum() // vocabulary.space(name).num_codebooks
        yield Span(
            space=vocabulary.space(name),
            num_planned=row.planned[name],
            num_frames=frames[name],
            num_given=int(given),
            others={other: number for other, number in frames.items() if other != name},
        )


@final
class _Ends:
    """P(end code) at the masked targets of some sequences: one pass, when it is first asked for."""

    def __init__(self, predictor: Predictor, rows: Rows[Row]) -> None:
        self.predictor, self.rows = predictor, rows

    def read(self, number: int, modality: str) -> Float64[np.ndarray, "frames"]:
        """Return those of a span of sequence `number`, frame by frame."""
        start, stop = self.rows[number].document.spans[modality]
        num_codebooks = self.predictor.vocabulary.space(modality).num_codebooks
        return self._probability[number, start:stop].reshape(-1, num_codebooks).mean(1)

    @cached_property
    @torch.inference_mode()
    def _probability(self) -> Float64[np.ndarray, "rows slots"]:
        vocabulary, device = self.predictor.vocabulary, self.predictor.device
        batch = make_batch([row.document for row in self.rows], range(len(self.rows)))
        mask_id = SlotTables(vocabulary, torch.device("cpu")).mask_id(batch.range_index)
        z = send(torch.where(batch.maskable, mask_id, batch.tokens), device)
        asked = np.zeros(tuple(z.shape), dtype=bool)
        for number, row in enumerate(self.rows):
            for modality in row.planned:
                start, stop = row.document.spans[modality]
                asked[number, start:stop] = row.document.maskable[start:stop]
        prediction = predict_at(self.predictor, z, batch, asked)
        range_index = batch.range_index.numpy()
        found = np.zeros(asked.shape)
        for index in np.unique(range_index[asked]):
            flat = (asked & (range_index == index)).reshape(-1).nonzero()[0]
            found.reshape(-1)[flat] = self._read(prediction, flat, int(index))
        return found

    def _read(
        self, prediction: Prediction, flat: Int[np.ndarray, "n"], range_index: int
    ) -> Float64[np.ndarray, "n"]:
        """Return P(end code) at slots of one codebook's range; the end code is its last."""
        size = self.predictor.vocabulary.ranges[range_index].size
        at_once = max(_MOST_LOGITS // size, 1)
        parts = []
        for start in range(0, len(flat), at_once):
            slots = send(torch.from_numpy(flat[start : start + at_once]), self.predictor.device)
            parts.append(prediction(slots, range_index)[:, -1].double().exp().cpu().numpy())
        return np.concatenate(parts)


def _check(rule: LengthRule, frames: object, span: Span) -> int:
    """Return the frames that a rule chose, at least one more than are given. Raise UserError if a user's rule
    returned something else.
    """
    if not isinstance(frames, int | np.integer) or isinstance(frames, bool) or frames > LONGEST_SPAN:
        raise UserError(
            f"the length rule {rule!r} chose {frames!r} frames of {span.space.name}: return a whole number, "
            f"at most {LONGEST_SPAN:,}"
        )
    return max(int(frames), span.num_given + 1)
