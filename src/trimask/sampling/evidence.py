"""Read predictions: what orders, counts and correctors ask of the slots, one codebook's range at a time."""

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Rows
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from trimask.devices import send
from trimask.errors import UserError
from trimask.sampling.categorical import draw
from trimask.sampling.config import SamplerConfig
from trimask.sampling.corrector import Editing
from trimask.sampling.count import AdaptiveCount
from trimask.sampling.filters import apply_filters
from trimask.sampling.order import DrawnOrder, EvidenceOrder
from trimask.sampling.predictor import Prediction
from trimask.sampling.track import Evidence, Track, describe
from trimask.vocabulary.layout import TokenRange, Vocabulary

_MOST_LOGITS = 1 << 25  # held at once while slots are read
Member = tuple[int, Track]
"""A row of the batch, and one of its tracks."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Slots:
    """Slots of several tracks, all of one codebook.

    Attributes:
        member: which of the tracks each belongs to.
        place: on its canvas.
        flat: in the batch, rows × slots flattened.
        uniforms: for the draw of its code.
        masked: the masked fraction of its track.
    """

    member: Int[np.ndarray, "n"]
    place: Int[np.ndarray, "n"]
    flat: Int[np.ndarray, "n"]
    uniforms: Float64[np.ndarray, "n"]
    masked: Float64[np.ndarray, "n"]

    def filter(
        self, law: SamplerConfig, log_probabilities: Float[Tensor, "n codes"]
    ) -> Float[Tensor, "n codes"]:
        masked = send(torch.from_numpy(self.masked), log_probabilities.device)
        return apply_filters(law.filters, log_probabilities, masked)


def gather_slots(members: Rows[Member], places: Rows[np.ndarray], codebook: int, width: int) -> Slots:
    """Gather the slots of `codebook` among `places` of each track; `width` is the slots of a row."""
    parts: dict[str, list[Any]] = {name: [] for name in Slots.__annotations__}
    for number, ((row, track), all_places) in enumerate(zip(members, places, strict=True)):
        place = all_places[track.canvas.codebook[all_places] == codebook]
        uniforms = track.canvas.uniforms("code", track.step.number, place) if len(place) else np.zeros(0)
        parts["member"].append(np.full(len(place), number))
        parts["place"].append(place)
        parts["flat"].append(row * width + track.canvas.slot[place])
        parts["uniforms"].append(uniforms)
        parts["masked"].append(np.full(len(place), track.masked.mean()))
    return Slots(**{name: np.concatenate(arrays) for name, arrays in parts.items()})


def read_evidence(
    law: SamplerConfig,
    members: Rows[Member],
    prediction: Prediction,
    z: Int[Tensor, "rows slots"],
    vocabulary: Vocabulary,
) -> list[Evidence]:
    """Read what `law` asks of the slots that the tracks read. The host waits for a GPU once, at the end."""
    found = [Evidence.unread(track.canvas.num_slots) for _, track in members]
    if not law.reads_evidence:
        return found
    modality, values = members[0][1].canvas.modality, _Values()
    for token_range in vocabulary.ranges_of(modality):
        for start, stop in _split([len(track.reading) for _, track in members], token_range.size):
            some = members[start:stop]
            slots = gather_slots(some, [track.reading for _, track in some], token_range.codebook, z.shape[1])
            if len(slots.flat):
                read = _Read(
                    tracks=[track for _, track in some], found=found[start:stop], slots=slots, values=values
                )
                _read(law, read, prediction, z, token_range)
    values.copy()
    return found


def _split(counts: Rows[int], num_codes: int) -> Iterator[tuple[int, int]]:
    """Split tracks into groups whose log-probabilities fit into memory; a track stays whole."""
    start, held = 0, 0
    for number, count in enumerate(counts):
        if held and (held + count) * num_codes > _MOST_LOGITS:
            yield start, number
            start, held = number, 0
        held += count
    yield start, len(counts)


def _read(
    law: SamplerConfig,
    read: "_Read",
    prediction: Prediction,
    z: Int[Tensor, "rows slots"],
    token_range: TokenRange,
) -> None:
    """Read slots of one codebook."""
    tracks, slots = read.tracks, read.slots
    flat = send(torch.from_numpy(slots.flat), z.device)
    log_p = prediction(flat, token_range.index)
    is_masked = np.array([tracks[m].masked[p] for m, p in zip(slots.member, slots.place, strict=True)])
    masked = send(torch.from_numpy(is_masked.nonzero()[0]), z.device)
    of_masked = log_p[masked]
    space = tracks[0].canvas.space
    if isinstance(law.order, DrawnOrder):
        uniforms = send(torch.from_numpy(slots.uniforms), z.device)[masked]
        code = draw(slots.filter(law, log_p)[masked], uniforms)
        row = send(torch.from_numpy(slots.member), z.device)[masked]
        read.store("code", is_masked, code)
        read.store("log_probability", is_masked, of_masked.gather(1, code[:, None])[:, 0])
        score = law.order.score(of_masked, code, row)
        read.store("score", is_masked, _check(score, f"`score` of the order {law.order!r}", (len(masked),)))
    elif isinstance(law.order, EvidenceOrder):
        code = of_masked.argmax(1) if law.ends_last else None
        score = law.order.score(of_masked)
        read.store("score", is_masked, _check(score, f"`score` of the order {law.order!r}", (len(masked),)))
    else:
        code = None
    if law.ends_last and space.has_end and code is not None:
        read.store("is_end", is_masked, code == space.codebook_size)
    if isinstance(law.count, AdaptiveCount):
        previous = read.exchange_previous(log_p)[masked] if law.count.compares else None
        measures = law.count.measure(of_masked, previous)
        _check(measures, f"`measure` of the count {law.count!r}", (len(masked), None))
        read.store("measures", is_masked, measures)
    if law.corrector is not None and law.corrector.rereads:
        visible = send(torch.from_numpy((~is_masked).nonzero()[0]), z.device)
        current = z.flatten()[flat[visible]] - token_range.start
        read.store("now", ~is_masked, log_p[visible].gather(1, current[:, None])[:, 0])
        if isinstance(law.corrector, Editing):
            edited = law.corrector.edit(log_p[visible], current)
            _check_codes(edited, f"`edit` of the corrector {law.corrector!r}", len(visible), token_range.size)
            read.store("edited", ~is_masked, edited)
            edited_log_p = log_p[visible].gather(1, edited[:, None])[:, 0]
            read.store("edited_log_probability", ~is_masked, edited_log_p)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class _Read:
    """Slots that are being read, and where the results go."""

    tracks: Rows[Track]
    found: Rows[Evidence]
    slots: Slots
    values: "_Values"

    def store(self, name: str, which: Bool[np.ndarray, "n"], values: Tensor) -> None:
        """Store the values of the slots `which` as the evidence's field `name`, when all are copied."""
        self.values.add(values, lambda array: self._put(name, which, array))

    def _put(self, name: str, which: Bool[np.ndarray, "n"], array: np.ndarray) -> None:
        member, place = self.slots.member[which], self.slots.place[which]
        for number in np.unique(member):
            here, evidence = member == number, self.found[number]
            if name == "measures" and evidence.measures.shape[1] != array.shape[1]:
                evidence.measures = np.full((len(evidence.score), array.shape[1]), np.nan)
            getattr(evidence, name)[place[here]] = array[here]

    def exchange_previous(self, log_p: Float[Tensor, "n codes"]) -> Float[Tensor, "n codes"]:
        """Return log p of these slots in the previous pass, NaN if it did not read them; keep `log_p`."""
        previous = torch.full_like(log_p, torch.nan)
        for number, track in enumerate(self.tracks):
            is_here = self.slots.member == number
            here = send(torch.from_numpy(is_here.nonzero()[0]), log_p.device)
            if track.previous is None:
                shape = track.canvas.num_slots, log_p.shape[1]
                track.previous = torch.full(shape, torch.nan, dtype=log_p.dtype, device=log_p.device)
            place = send(torch.from_numpy(self.slots.place[is_here]), log_p.device)
            previous[here] = track.previous[place]
            track.previous[place] = log_p[here]
        return previous


@final
class _Values:
    """Values on the device, which the host gets in one copy: it waits for each one."""

    def __init__(self) -> None:
        self._parts: list[tuple[Tensor, Callable[[np.ndarray], None]]] = []

    def add(self, values: Tensor, put: Callable[[np.ndarray], None]) -> None:
        """Let `put` have the values when they are copied, as float64: codes and booleans too, exactly."""
        self._parts.append((values.detach(), put))

    def copy(self) -> None:
        if not self._parts:
            return
        copied = torch.cat([values.double().flatten() for values, _ in self._parts]).cpu().numpy()
        ends = np.cumsum([values.numel() for values, _ in self._parts])
        for array, (values, put) in zip(np.split(copied, ends[:-1]), self._parts, strict=True):
            put(array.reshape(tuple(values.shape)))


def _check(value: object, what: str, shape: tuple[int | None, ...]) -> Tensor:
    """Return what a user's code returned. Raise UserError unless it has this shape; None is any length."""
    if isinstance(value, Tensor) and value.is_floating_point() and len(value.shape) == len(shape):
        sizes = [size if wanted is None else wanted for size, wanted in zip(value.shape, shape, strict=True)]
        if list(value.shape) == sizes:
            return value
    wanted = "one number" if len(shape) == 1 else "a row of numbers"
    raise UserError(
        f"{what} returned {describe(value)}: return a floating-point tensor with {wanted} for each of "
        f"{shape[0]} slots"
    )


def _check_codes(value: Any, what: str, number: int, num_codes: int) -> None:
    """Raise UserError unless a user's code returned a code for each slot."""
    is_whole = isinstance(value, Tensor) and value.shape == (number,) and not value.is_floating_point()
    if is_whole and (not number or (0 <= int(value.min()) and int(value.max()) < num_codes)):
        return
    raise UserError(
        f"{what} returned {describe(value)}: return a code below {num_codes} for each of {number} slots"
    )
