"""How an update is cut into passes: every row counts once, in as many passes in each process."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trimask.training.corruption import ObjectiveConfig
from trimask.training.distributed import World
from trimask.training.passes import Passes
from trimask.vocabulary.batch import Batch, make_batch
from trimask.vocabulary.layout import CodeSpace, Vocabulary
from trimask.vocabulary.sequence import build_sequence

VOCABULARY = Vocabulary(
    spaces=(
        CodeSpace(name="text", num_codebooks=1, codebook_size=40, has_end=True),
        CodeSpace(name="image", num_codebooks=1, codebook_size=16, has_end=False, grid=(3, 3)),
        CodeSpace(name="speech", num_codebooks=2, codebook_size=8, has_end=True),
    )
)


def texts(count: int) -> Batch:
    draw = np.random.default_rng(0)
    sequences = [
        build_sequence(VOCABULARY, "text", {"text": draw.integers(0, 40, (5, 1))}, num_end={"text": 1})
        for _ in range(count)
    ]
    return make_batch(sequences, range(count))


def make_passes(micro_batch: int | None, *, anti_masking: bool = False) -> Passes:
    return Passes(
        ObjectiveConfig(anti_masking=anti_masking),
        VOCABULARY,
        seed=3,
        targets=(6.0, 0.0, 0.0),
        tasks=["text"],
        micro_batch=micro_batch,
    )


@given(rows=st.integers(1, 40), micro_batch=st.integers(1, 50), most=st.integers(1, 60))
def test_each_row_counts_once_in_as_many_passes_as_others_have(
    rows: int, micro_batch: int, most: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(World, "largest", lambda _, value: max(value, most))
        found = list(make_passes(micro_batch)._slices(rows))
    assert len(found) == max(-(-rows // micro_batch), most)
    counted = [i for part, is_real in found if is_real for i in range(rows)[part or slice(None)]]
    assert counted == list(range(rows))
    assert all(len(range(rows)[part or slice(None)]) <= micro_batch for part, _ in found)


@pytest.mark.parametrize("anti_masking", [False, True])
def test_passes_are_the_update_cut_in_pieces(anti_masking: bool) -> None:
    """Tokens, masks and weights of the pieces, put together, are those of the whole."""
    batch = texts(10)
    whole = list(make_passes(None, anti_masking=anti_masking)(batch, 7))
    cut = list(make_passes(3, anti_masking=anti_masking)(batch, 7))
    views = len(whole)
    assert (views, len(cut)) == ((2, 8) if anti_masking else (1, 4))
    for view, expected in enumerate(whole):
        pieces = cut[view::views]
        for name in ("z_t", "masked", "scale", "weight", "modality", "bound"):
            joined = torch.cat([getattr(piece, name) for piece in pieces])
            assert torch.equal(joined, getattr(expected, name)), name


def test_a_pass_that_only_keeps_others_company_adds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(World, "largest", lambda _, value: max(value, 3))
    *real, company = make_passes(1)(texts(2), 0)
    assert sum(len(each.scale) for each in real) == int(sum(each.masked.sum() for each in real))
    assert not company.scale.any() and not company.weight.any()


def test_sums_are_the_loss_and_the_bounds() -> None:
    (one,) = make_passes(None)(texts(6), 0)
    cost = torch.rand(len(one.scale), generator=torch.Generator().manual_seed(0))
    loss, bound = one.sums((one.scale * cost).sum(), cost)
    assert float(loss) == pytest.approx(float((one.scale * cost).sum()))
    assert float(bound) == pytest.approx(float((one.weight * cost).sum()))
    # 6 sequences of 6 target tokens: the loss is the bound per token.
    assert float(loss) == pytest.approx(float(bound) / 36)


def test_targets_are_counted_in_all_views() -> None:
    by_modality, by_bound = make_passes(None, anti_masking=True).count(texts(4))
    assert by_modality.tolist() == [2 * 4 * 6, 0, 0]
    assert by_bound.tolist() == [2 * 4 * 6]
