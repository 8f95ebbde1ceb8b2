"""What the report of a pass says of its codes: log p is the model's own prediction, computed anew, alone."""

import itertools

import numpy as np
import pytest
import torch

from sampling.test_sampler_loop import CONFIGS, DOCUMENTS, PREDICTOR, describe
from trimask.sampling import Event, SamplerConfig, TokenEditing, sample
from trimask.sampling.row import make_rows
from trimask.vocabulary.batch import make_batch
from trimask.vocabulary.sequence import Sequence

EDITED = SamplerConfig(num_steps=4, corrector=TokenEditing(probability=0.05))


def predict(document: Sequence, z: np.ndarray, slot: int, range_index: int) -> np.ndarray:
    """Return log p(code) at one slot, from a pass over this document alone."""
    read = PREDICTOR(torch.from_numpy(z)[None], make_batch([document], [0]))
    log_p = read(torch.tensor([slot]), range_index)[0].double().numpy()
    space = PREDICTOR.vocabulary.space(PREDICTOR.vocabulary.ranges[range_index].modality)
    given = ~document.maskable
    start, stop = document.spans[space.name]
    if space.has_end and given[max(slot, start) : stop].any():  # an end there would cut off what is given
        log_p[-1] = -np.inf
        log_p -= np.logaddexp.reduce(log_p)
    return log_p


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("config", [*CONFIGS, EDITED], ids=describe)
def test_the_probability_of_a_code_is_that_of_the_pass_that_drew_it(config: SamplerConfig) -> None:
    events: list[tuple[Event, np.ndarray, np.ndarray]] = []

    def note(event: Event) -> None:
        events.append((event, event.tokens(), event.log_probability()))

    watched = sample(PREDICTOR, DOCUMENTS, config, seed=0, callback=note)
    unwatched = sample(PREDICTOR, DOCUMENTS, config, seed=0)
    assert all(np.array_equal(a, b) for a, b in zip(watched, unwatched, strict=True))
    num_edited = num_checked = 0
    for place, document in enumerate(DOCUMENTS):
        own = [each for each in events if each[0].row == place]
        row = make_rows(PREDICTOR.vocabulary, [document], config, seed=0)[0]
        for (_, before, _), (event, after, log_p) in itertools.pairwise(own):
            put = [*event.revealed.tolist(), *event.edited.tolist()]
            num_edited += len(event.edited)
            assert set(np.isfinite(log_p).nonzero()[0]) >= set(put)
            if row.branches and config.guidance_scale != 1:
                continue  # below
            for slot in set(put) - set(event.remasked.tolist()):
                index = int(document.range_index[slot])
                code = after[slot] - PREDICTOR.vocabulary.ranges[index].start
                expected = predict(document, before, slot, index)
                num_checked += 1
                assert log_p[slot] == pytest.approx(expected[code], abs=1e-4)
    assert num_checked > 20 and (num_edited or config is not EDITED)


def test_the_probability_of_a_guided_code_is_the_guided_one() -> None:
    config, document = SamplerConfig(num_steps=3, guidance_scale=2.5), DOCUMENTS[0]
    (row,) = make_rows(PREDICTOR.vocabulary, [document], config, seed=0)
    (base,) = row.branches
    events: list[tuple[Event, np.ndarray, np.ndarray]] = []
    sample(
        PREDICTOR,
        [document],
        config,
        seed=0,
        callback=lambda event: events.append((event, event.tokens(), event.log_probability())),
    )
    (start, stop), (first, behind) = document.spans["image"], base.spans["image"]
    number = 0
    for (_, before, _), (event, after, log_p) in itertools.pairwise(events):
        without = base.tokens.copy()
        without[first:behind] = before[start:stop]
        for slot in event.revealed.tolist():
            index = int(document.range_index[slot])
            own, other = (
                predict(document, before, slot, index),
                predict(base, without, slot - start + first, index),
            )
            mixed = other + 2.5 * (own - other)
            mixed -= np.logaddexp.reduce(mixed)
            code = after[slot] - PREDICTOR.vocabulary.ranges[index].start
            assert log_p[slot] == pytest.approx(mixed[code], abs=1e-4)
            number += 1
    assert number == stop - start
