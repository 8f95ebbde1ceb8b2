"""Ids, codebook layouts and their inverses."""

from dataclasses import replace
from typing import Any

import jaxtyping
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from design_space import LAYOUTS
from trimask.config import from_dict, to_dict
from trimask.errors import UserError
from trimask.vocabulary.codebooks import CodebookLayout, Delayed, Flattened, Parallel
from trimask.vocabulary.layout import CodeSpace, MaskTokens, Vocabulary, special_names
from trimask.vocabulary.task import TASKS, Task

VOCABULARY = Vocabulary(
    spaces=(
        CodeSpace(name="text", num_codebooks=1, codebook_size=11, has_end=True),
        CodeSpace(name="image", num_codebooks=2, codebook_size=5, has_end=False, grid=(2, 3)),
        CodeSpace(name="speech", num_codebooks=3, codebook_size=4, has_end=True),
    ),
    layouts={"speech": Delayed()},
)


def test_every_id_has_one_meaning() -> None:
    v = VOCABULARY
    specials = [
        v.pad,
        *map(v.mask, v.modalities),
        *(v.task_token(task.name) for task in v.tasks),
        *map(v.begin, v.modalities),
        *map(v.close, v.modalities),
    ]
    ids = specials + [i for r in v.ranges for i in range(r.start, r.stop)]
    assert sorted(specials) == list(range(v.num_special))
    assert ids == sorted(ids) or len(set(ids)) == len(ids)
    assert sorted(ids) == list(range(v.size))
    assert [r.size for r in v.ranges] == [12, 5, 5, 5, 5, 5]
    assert [r.index for r in v.ranges] == list(range(6))
    assert [v.ranges[i].codebook for i in range(6)] == [0, 0, 1, 0, 1, 2]
    assert v.mask_of_range.tolist() == [v.mask(r.modality) for r in v.ranges]
    assert all(set(v.ranges_of(m)) == {r for r in v.ranges if r.modality == m} for m in VOCABULARY.modalities)


@pytest.mark.parametrize("modality", VOCABULARY.modalities)
@given(data=st.data())
def test_codes_to_tokens_and_back(modality: str, data: st.DataObject) -> None:
    space = VOCABULARY.space(modality)
    num_frames = data.draw(st.integers(0, 6))
    num_end = data.draw(st.integers(0, 3)) if space.has_end else 0
    seed = data.draw(st.integers(0, 99))
    codes = np.random.default_rng(seed).integers(0, space.codebook_size, (num_frames, space.num_codebooks))
    tokens = VOCABULARY.tokens(modality, codes, num_end)
    assert tokens.shape == (num_frames + num_end, space.num_codebooks)
    for codebook, token_range in enumerate(VOCABULARY.ranges_of(modality)):
        column = tokens[:, codebook]
        assert ((column >= token_range.start) & (column < token_range.stop)).all()
    back, is_complete = VOCABULARY.codes(modality, tokens)
    assert np.array_equal(back, codes)
    assert is_complete == (num_end > 0 or not space.has_end)


def test_end_in_any_codebook_closes_the_span() -> None:
    codes = np.zeros((4, 3), dtype=np.int64)
    tokens = VOCABULARY.tokens("speech", codes)
    tokens[2, 1] = VOCABULARY.ranges_of("speech")[1].stop - 1
    back, is_complete = VOCABULARY.codes("speech", tokens)
    assert is_complete and len(back) == 2


@pytest.mark.parametrize(
    ("codes", "num_end", "modality", "match"),
    [
        (np.zeros((3, 1), dtype=np.int64), 0, "image", r"image codes have shape \(3, 1\)"),
        (np.full((3, 1), 11), 0, "text", r"span \[11, 11\]: the codebook has 11"),
        (np.full((3, 1), -1), 0, "text", r"span \[-1, -1\]"),
        (np.zeros((6, 2), dtype=np.int64), 1, "image", "num_end must be 0, not 1"),
    ],
)
def test_bad_codes_are_named(codes: np.ndarray, num_end: int, modality: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        VOCABULARY.tokens(modality, codes, num_end)


def test_foreign_tokens_are_refused() -> None:
    tokens = VOCABULARY.tokens("image", np.zeros((6, 2), dtype=np.int64))
    tokens[3, 0] = VOCABULARY.mask("image")
    with pytest.raises(ValueError, match="outside the image ranges"):
        VOCABULARY.codes("image", tokens)


def test_spaces_out_of_range_are_named() -> None:
    space = CodeSpace(name="image", num_codebooks=1, codebook_size=2, has_end=False, grid=(2, 2))
    for changed, match in (
        ({"has_end": True}, r"a span on the grid \(2, 2\) has a fixed size"),
        ({"name": "settings"}, "modality 'settings': trimask uses this name in its files"),
        ({"name": "keys"}, "choose another"),
        ({"grid": (0, 2)}, r"grid \(0, 2\), each side must be from 1"),
        ({"num_codebooks": 0}, "num_codebooks 0 must be at least 1"),
        ({"codebook_size": 1 << 30}, "at most 16,777,216"),
        ({"frame_rate": 0.0}, r"frame_rate 0\.0 must be from 0\.001"),
        ({"name": "a picture"}, "modality 'a picture'"),
    ):
        with pytest.raises(ValueError, match=match):
            replace(space, **changed)


def test_rows_that_do_not_fit_together_are_named() -> None:
    v = VOCABULARY
    with pytest.raises(ValueError, match="has modality text twice"):
        replace(v, spaces=(*v.spaces, v.spaces[0]), specials=())
    with pytest.raises(
        ValueError, match="task text_to_image has spans of image, and the modalities are text"
    ):
        Vocabulary(spaces=v.spaces[:1])
    with pytest.raises(ValueError, match="no modality 'depth': choose one of text, image, speech"):
        replace(v, layouts={"depth": Delayed()})
    with pytest.raises(ValueError, match="no special token task:more"):
        replace(v, tasks=(*v.tasks, Task(name="more", spans=(("text",),))))
    with pytest.raises(ValueError, match="no task 'more': choose one of text, text_to_image"):
        v.task("more")


def test_ids_are_data() -> None:
    """A vocabulary that was stored keeps its ids, whatever names the package would give today; one with more
    tasks has them beside.
    """
    names = (VOCABULARY.specials[0], *reversed(VOCABULARY.specials[1:]), "task:forgotten")
    old = from_dict(Vocabulary, {**to_dict(VOCABULARY), "specials": list(names)})
    assert old.num_special == VOCABULARY.num_special + 1
    assert [old.special(name) for name in names] == list(range(len(names)))
    assert old.mask("speech") == names.index("mask:speech")
    assert old.task_token("joint") == names.index("task:joint")
    more = replace(VOCABULARY, tasks=(*TASKS, Task(name="more", spans=(("text",),))), specials=())
    assert more.num_special == VOCABULARY.num_special + 1 and more.task_number("more") == len(TASKS)
    for task in TASKS:
        assert more.task_number(task.name) == VOCABULARY.task_number(task.name)


def test_one_mask_for_all_modalities() -> None:
    """All else keeps its name; what was stored is read by names, in any order."""
    names = special_names(VOCABULARY.modalities, [task.name for task in TASKS], MaskTokens.SHARED)
    shared = replace(VOCABULARY, specials=names)
    assert {shared.mask(name) for name in shared.modalities} == {names.index("mask")}
    assert set(shared.mask_of_range.tolist()) == {names.index("mask")}
    assert shared.num_special == VOCABULARY.num_special - 2
    others = [name for name in VOCABULARY.specials if not name.startswith("mask:")]
    assert [name for name in names if name != "mask"] == others
    turned = from_dict(Vocabulary, {**to_dict(shared), "specials": ["pad", *reversed(names[1:])]})
    assert turned.special(f"begin:{shared.modalities[0]}") != shared.special(f"begin:{shared.modalities[0]}")
    assert {turned.mask(name) for name in turned.modalities} == {turned.special("mask")}
    with pytest.raises(ValueError, match="no special token mask:image"):
        replace(VOCABULARY, specials=tuple(n for n in VOCABULARY.specials if n != "mask:image"))


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"name": "no name"}, "task 'no name'"),
        ({"spans": ()}, "must name at least one modality"),
        ({"spans": (("text", "text"),)}, "name a modality twice"),
        ({"condition": ("image",)}, "must be some of the spans"),
        ({"condition": ("text", "speech")}, "leave at least one to generate"),
    ],
)
def test_tasks_that_cannot_be_are_named(changed: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Task(**{"name": "x", "spans": (("text", "speech"),), "condition": ("text",), **changed})


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"spans": ("text", "speech")}, r"spans \('text', 'speech'\) must be a tuple of alternatives"),
        ({"spans": "text"}, r"spans 'text' must be a tuple of alternatives.*write spans=\(\("),
        ({"condition": "text"}, r"condition 'text' must be a tuple.*write condition=\('text',\)"),
    ],
)
def test_names_in_place_of_tuples_are_explained(
    changed: dict[str, Any], match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(UserError, match=match):
        Task(**{"name": "x", "spans": (("text", "speech"),), **changed})


def test_vocabulary_is_stored_and_read() -> None:
    assert from_dict(Vocabulary, to_dict(VOCABULARY)) == VOCABULARY


def slow_position(layout: CodebookLayout, frame: int, codebook: int, num_codebooks: int) -> int:
    """The definition of each layout, code by code."""
    if isinstance(layout, Flattened):
        return frame * num_codebooks + codebook
    return frame if isinstance(layout, Parallel) else frame + codebook


@pytest.mark.parametrize("layout", LAYOUTS, ids=repr)
@given(num_frames=st.integers(1, 7), num_codebooks=st.integers(1, 5))
def test_positions_against_a_slow_twin(layout: CodebookLayout, num_frames: int, num_codebooks: int) -> None:
    positions = layout.positions(num_frames, num_codebooks)
    for frame in range(num_frames):
        for codebook in range(num_codebooks):
            assert positions[frame, codebook] == slow_position(layout, frame, codebook, num_codebooks)
    # Every position is used, and none holds two codes of one codebook.
    assert sorted(set(positions.flatten().tolist())) == list(
        range(layout.num_positions(num_frames, num_codebooks))
    )
    for codebook in range(num_codebooks):
        assert len(set(positions[:, codebook].tolist())) == num_frames


@pytest.mark.parametrize("layout", LAYOUTS, ids=repr)
def test_layout_is_inverted_by_reading_in_order(layout: CodebookLayout) -> None:
    """What is scattered to (position, codebook) is read back in (frame, codebook) order."""
    codes = np.arange(15).reshape(5, 3)
    positions = layout.positions(5, 3)
    laid = np.full((layout.num_positions(5, 3), 3), -1)
    for codebook in range(3):
        laid[positions[:, codebook], codebook] = codes[:, codebook]
    read = np.stack([laid[positions[:, q], q] for q in range(3)], axis=1)
    assert np.array_equal(read, codes)
    assert (laid >= 0).sum() == 15
