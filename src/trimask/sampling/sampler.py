"""The reverse process in one loop: predict, choose, draw, reveal.

Each sequence takes its own steps and skips those that do nothing, leaves when it is full, and others may join
at any pass: a sample does not depend on its company.
"""

import itertools
from collections.abc import Callable, Container, Iterable, Iterator
from collections.abc import Sequence as Rows
from typing import Protocol, final, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from trimask.devices import send
from trimask.sampling.categorical import draw
from trimask.sampling.config import SamplerConfig
from trimask.sampling.corrector import Editing
from trimask.sampling.evidence import Member, Slots, gather_slots, read_evidence
from trimask.sampling.guidance import Guidance
from trimask.sampling.order import DrawnOrder
from trimask.sampling.passes import Passes
from trimask.sampling.predictor import Prediction, Predictor, forbid_ends
from trimask.sampling.row import Event, Row, make_rows
from trimask.sampling.spans import begin_rows, extend_row
from trimask.sampling.track import Evidence
from trimask.vocabulary.batch import Batch, make_batch
from trimask.vocabulary.layout import TokenRange
from trimask.vocabulary.sequence import Sequence
from trimask.vocabulary.slots import SlotTables


@runtime_checkable
class Fill(Protocol):
    """Chooses the codes that are revealed."""

    def __call__(
        self,
        log_probabilities: Float[Tensor, "n codes"],
        *,
        uniforms: Float64[np.ndarray, "n"],
        clean: Int[Tensor, "n"],
        row: Int[np.ndarray, "n"],
        token_range: TokenRange,
    ) -> Int[Tensor, "n"]:
        """Return a code per slot.

        Args:
            log_probabilities: filtered, up to a constant per slot.
            uniforms: of each slot, from its sequence's stream.
            clean: codes that the documents have there; meaningless when they are to be generated.
            row: the sequence's place in the request.
            token_range: of the codebook.
        """
        ...


def draw_codes(
    log_probabilities: Float[Tensor, "n codes"],
    *,
    uniforms: Float64[np.ndarray, "n"],
    clean: Int[Tensor, "n"],
    row: Int[np.ndarray, "n"],
    token_range: TokenRange,
) -> Int[Tensor, "n"]:
    """Draw codes by inversion."""
    return draw(log_probabilities, send(torch.from_numpy(uniforms), log_probabilities.device))


@final
class Unmasker:
    """The sequences that are filled at the moment. Rows join by `admit` before any `step`, which takes one
    pass over all of them, and leave when they are full.
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        fill: Fill = draw_codes,
        callback: Callable[[Event], None] | None = None,
    ):
        self.predictor, self.fill, self.callback = predictor, fill, callback
        self.rows: list[Row] = []
        self._batch: Batch | None = None
        self._z = torch.zeros(0, 0, dtype=torch.int64, device=predictor.device)
        self._is_inside: Tensor | None = None
        self._passes = Passes(predictor)
        self._tables = SlotTables(predictor.vocabulary, torch.device("cpu"))

    def admit(self, rows: Rows[Row]) -> None:
        """Add sequences, all of whose targets are masked."""
        first = len(self.rows)
        self._arrange([*self.rows, *rows])
        for number, row in enumerate(rows, first):
            self._report(row, number)

    def withdraw(self, places: Container[int]) -> None:
        """Remove the sequences of these places of the request before they are full."""
        self._arrange([row for row in self.rows if row.place not in places])

    def step(self) -> list[tuple[Row, Int[np.ndarray, "slots"]]]:
        """Take a pass, unless all are full already. Remove the sequences that are full, and return them with
        their tokens; those that their length rules continue stay, as other rows of the same places.
        """
        if not all(row.is_full for row in self.rows):
            self.run_pass()
        full, longer = [], []
        for row, tokens in self.release():
            piece = extend_row(row, tokens, self.predictor.vocabulary)
            if piece is None:
                full.append((row, tokens))
            else:
                longer.append(piece)
        if longer:
            self.admit(longer)
        return full

    def release(self) -> list[tuple[Row, Int[np.ndarray, "slots"]]]:
        """Remove the sequences that are full; return them with their tokens."""
        full = [number for number, row in enumerate(self.rows) if row.is_full]
        if not full:
            return []
        z = self._z[full].cpu().numpy()
        found = [
            (self.rows[number], z[i, : self.rows[number].document.num_slots]) for i, number in enumerate(full)
        ]
        self._arrange([row for number, row in enumerate(self.rows) if number not in set(full)])
        return found

    def _arrange(self, rows: list[Row]) -> None:
        """Make the batch of `rows`; those that were in the last one keep their tokens."""
        old, before = self._z, {id(row): number for number, row in enumerate(self.rows)}
        self.rows = rows
        if not rows:
            return
        batch = make_batch([row.document for row in rows], range(len(rows)))
        masked = torch.where(batch.maskable, self._tables.mask_id(batch.range_index), batch.tokens)
        z = masked.to(old.device)
        width = min(z.shape[1], old.shape[1])
        stay = [(number, before[id(row)]) for number, row in enumerate(rows) if id(row) in before]
        if stay:
            to, origin = (list(numbers) for numbers in zip(*stay, strict=True))
            z[to, :width] = old[origin, :width]
        is_inside = np.zeros(tuple(z.shape), dtype=bool)
        for number, row in enumerate(rows):
            for track in row.tracks:
                is_inside[number, track.canvas.slot] = track.canvas.is_inside
        self._is_inside = send(torch.from_numpy(is_inside), z.device) if is_inside.any() else None
        self._clean = send(batch.tokens.flatten(), z.device)
        self._batch, self._z = batch, z
        self._passes.arrange(rows, batch, [before.get(id(row)) for row in rows])

    @torch.inference_mode()
    def run_pass(self) -> None:
        """Take the next step of every sequence: one pass of the network, two for those that are guided."""
        assert self._batch is not None
        members = self._begin()
        prediction = forbid_ends(self._predict(members), self._is_inside, self.predictor.vocabulary)
        for law, tracks in _group(members):
            evidence = read_evidence(law, tracks, prediction, self._z, self.predictor.vocabulary)
            for (_, track), each in zip(tracks, evidence, strict=True):
                track.choose(each)
            self._reveal(law, tracks, evidence, prediction)
        self._end(members)

    def _begin(self) -> list[Member]:
        """Let every track that is not full begin its next step; return these."""
        self._changed = np.zeros(tuple(self._z.shape), dtype=bool)
        self._edited: list[list[np.ndarray]] = [[] for _ in self.rows]
        if self.callback is not None:
            self._log_p = torch.full(self._z.shape, torch.nan, device=self._z.device)
        members = []
        for number, row in enumerate(self.rows):
            for track in row.tracks:
                if not track.is_full:
                    track.begin(row.num_passes)
                    members.append((number, track))
            row.num_passes += 1
        return members

    def _predict(self, members: Rows[Member]) -> Prediction:
        """Take a pass over all rows, and one over the branches of guided ones."""
        shape = tuple(self._z.shape)
        masked, read = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
        weights = np.zeros((1 + max(len(row.weights) for row in self.rows), *shape))
        weights[0] = 1
        for number, track in members:
            slot = track.canvas.slot
            masked[number, slot] = track.masked
            read[number, slot[track.reading]] = True
            read[number, slot[track.chosen]] = True
            if self.rows[number].branches:
                found = track.weigh(self.rows[number].weights)
                weights[: len(found), number, slot] = found[:, None]
        return self._passes.predict(self._z, weights, masked, read)

    def _reveal(
        self,
        law: SamplerConfig,
        members: Rows[Member],
        evidence: Rows[Evidence],
        prediction: Prediction,
    ) -> None:
        """Put codes at the chosen slots, and those of an editing corrector at revealed ones."""
        width, z = self._z.shape[1], self._z.view(-1)
        for token_range in self.predictor.vocabulary.ranges_of(members[0][1].canvas.modality):
            slots = gather_slots(members, [track.chosen for _, track in members], token_range.codebook, width)
            if len(slots.flat):
                flat = send(torch.from_numpy(slots.flat), z.device)
                z[flat] = self._codes(law, members, evidence, prediction, slots, token_range)
            if isinstance(law.corrector, Editing):
                for (number, track), each in zip(members, evidence, strict=True):
                    is_here = track.canvas.codebook == token_range.codebook
                    place = (is_here & (each.edited >= 0)).nonzero()[0]
                    self._edit(number, track.canvas.slot[place], place, each, token_range)

    def _edit(
        self,
        number: int,
        slot: Int[np.ndarray, "n"],
        place: Int[np.ndarray, "n"],
        evidence: Evidence,
        token_range: TokenRange,
    ) -> None:
        """Put the codes of an editing corrector at revealed slots of row `number`."""
        device = self._z.device
        flat = send(torch.from_numpy(number * self._z.shape[1] + slot), device)
        z, code = self._z.view(-1), send(torch.from_numpy(evidence.edited[place]), device) + token_range.start
        if self.callback is not None:
            is_new = (z[flat] != code).cpu().numpy()
            self._edited[number].append(slot[is_new])
            self._note_probability(flat, torch.from_numpy(evidence.edited_log_probability[place]))
        z[flat] = code
        self._changed[number, slot] = True

    def _note_probability(self, flat: Int[Tensor, "n"], log_p: Float[Tensor, "n"]) -> None:
        """Keep log p of codes for whoever looks at the pass."""
        if self.callback is not None:
            self._log_p.view(-1)[flat] = send(log_p.float(), flat.device)

    def _codes(
        self,
        law: SamplerConfig,
        members: Rows[Member],
        evidence: Rows[Evidence],
        prediction: Prediction,
        slots: Slots,
        token_range: TokenRange,
    ) -> Int[Tensor, "n"]:
        """Return the tokens to reveal at `slots`."""
        device = self._z.device
        if isinstance(law.order, DrawnOrder):
            pairs = list(zip(slots.member, slots.place, strict=True))
            for member, place in pairs:
                members[member][1].log_probability[place] = evidence[member].log_probability[place]
            drawn = np.array([evidence[member].code[place] for member, place in pairs])
            of_drawn = np.array([evidence[member].log_probability[place] for member, place in pairs])
            self._note_probability(send(torch.from_numpy(slots.flat), device), torch.from_numpy(of_drawn))
            return send(torch.from_numpy(drawn), device) + token_range.start
        flat = send(torch.from_numpy(slots.flat), device)
        log_p = prediction(flat, token_range.index)
        code = self.fill(
            slots.filter(law, log_p),
            uniforms=slots.uniforms,
            clean=self._clean[flat] - token_range.start,
            row=np.array([self.rows[members[member][0]].place for member in slots.member]),
            token_range=token_range,
        )
        if self.callback is not None:
            self._note_probability(flat, log_p.gather(1, code[:, None])[:, 0])
        if law.corrector is not None:
            values = log_p.gather(1, code[:, None])[:, 0].double().cpu().numpy()
            for member, place, value in zip(slots.member, slots.place, values, strict=True):
                members[member][1].log_probability[place] = value
        return code + token_range.start

    def _end(self, members: Rows[Member]) -> None:
        """Note what was revealed, hide what the correctors hide, and report both."""
        revealed: list[list[np.ndarray]] = [[] for _ in self.rows]
        remasked: list[list[np.ndarray]] = [[] for _ in self.rows]
        for number, track in members:
            hidden = track.canvas.slot[track.hidden]
            self._changed[number, hidden] = True
            self._changed[number, track.canvas.slot[track.chosen]] = True
            if len(hidden):
                self._z[number, hidden] = self.predictor.vocabulary.mask(track.canvas.modality)
            revealed[number].append(track.canvas.slot[track.chosen])
            remasked[number].append(hidden)
            track.finish()
        self._passes.note_changes(self._changed)
        for number, row in enumerate(self.rows):
            self._report(row, number, revealed[number], remasked[number], self._edited[number])

    def _report(
        self,
        row: Row,
        number: int,
        revealed: Rows[np.ndarray] = (),
        remasked: Rows[np.ndarray] = (),
        edited: Rows[np.ndarray] = (),
    ) -> None:
        if self.callback is None:
            return
        none = np.zeros(0, dtype=np.int64)
        z, num_slots = self._z, row.document.num_slots
        # Before the first pass of a sequence no codes were put into it.
        log_p = self._log_p if row.num_passes and revealed else None
        self.callback(
            Event(
                row=row.place,
                number=row.num_passes,
                revealed=np.concatenate([none, *revealed]),
                remasked=np.concatenate([none, *remasked]),
                edited=np.concatenate([none, *edited]),
                num_masked=sum(int(track.masked.sum()) for track in row.tracks),
                tokens=lambda: z[number, :num_slots].cpu().numpy().copy(),
                log_probability=lambda: (
                    np.full(num_slots, np.nan, dtype=np.float32)
                    if log_p is None
                    else log_p[number, :num_slots].cpu().numpy()
                ),
            )
        )


def _group(members: Rows[Member]) -> Iterator[tuple[SamplerConfig, list[Member]]]:
    """Group tracks of the same modality and law, which are read together."""
    groups: dict[tuple[str, int], list[Member]] = {}
    for number, track in members:
        groups.setdefault((track.canvas.modality, id(track.law)), []).append((number, track))
    for found in groups.values():
        yield found[0][1].law, found


def unmask(
    predictor: Predictor,
    rows: Iterable[Row],
    *,
    batch_size: int,
    fill: Fill = draw_codes,
    callback: Callable[[Event], None] | None = None,
) -> Iterator[tuple[Row, Int[np.ndarray, "slots"]]]:
    """Fill sequences, at most `batch_size` at a time; yield each with its tokens as soon as it is full.

    The lengths of spans are chosen before, and full spans continued, as the rows' length rules say: the rows
    that are yielded may be others than `rows`, at the same places.
    """
    unmasker = Unmasker(predictor, fill=fill, callback=callback)
    waiting = begin_rows(predictor, rows, at_once=batch_size)
    while True:
        joining = list(itertools.islice(waiting, batch_size - len(unmasker.rows)))
        if joining:
            unmasker.admit(joining)
        if not unmasker.rows:
            return
        yield from unmasker.step()


def sample(
    predictor: Predictor,
    documents: Rows[Sequence],
    config: SamplerConfig,
    *,
    seed: int,
    keys: Rows[int] | None = None,
    guidance: Rows[Guidance] | None = None,
    batch_size: int | None = None,
    callback: Callable[[Event], None] | None = None,
) -> list[Int[np.ndarray, "slots"]]:
    """Fill every maskable slot of the documents with a code of its range; return their tokens. Tokens given
    at maskable slots are ignored. Where the config's `length` changes spans, so do the slots.

    Document k depends on itself, what guides it, (seed, keys[k]) and the config alone: its random numbers are
    a function of (seed, key, its own pass, slot).

    Args:
        predictor: gives log-probabilities; called once per pass, twice with guidance, and once for lengths
            that are predicted.
        keys: name the random streams of the documents; by default their places.
        guidance: what guides each document beside its own conditions.
        batch_size: the most documents at a time; by default all.
        callback: called for each document before its first pass and after each one.

    Raises:
        UserError: an order, count or corrector returns something else than it should.
    """
    rows = make_rows(predictor.vocabulary, documents, config, seed=seed, keys=keys, guidance=guidance)
    filled = unmask(predictor, rows, batch_size=batch_size or max(len(rows), 1), callback=callback)
    tokens = {row.place: found for row, found in filled}
    return [tokens[place] for place in range(len(documents))]
