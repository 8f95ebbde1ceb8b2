"""Prompts are spelled as the data were, and what is far from them is told."""

import unicodedata
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimask.generation.codecs import choose_spans
from trimask.generation.prompts import Seen, SeenTexts, UnseenPromptWarning, UntrainedTaskWarning
from trimask.runs.seen import measure_spelling
from trimask.vocabulary.task import TASKS

EMOJI = ["strawberry", "red apple", "Santa Claus", "A button (blood type)", "ON! arrow", "piñata", "cat face"]
SENTENCES = ["A dog runs.", "The cat sleeps.", "A girl in Paris."] * 10

ROWS = {task.name: task for task in TASKS}


def seen_texts(texts: list[str]) -> SeenTexts:
    found = measure_spelling(texts)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("prompt", "spelled"),
    [
        ("strawberry", "strawberry"),
        ("Strawberry", "strawberry"),
        (" STRAWBERRY. ", "strawberry"),
        ("a strawberry", "strawberry"),
        ("The Strawberry!", "strawberry"),
        ("santa claus", "Santa Claus"),
        ("A button (blood type)", "A button (blood type)"),
        ("a button", "A button"),
        ("on! arrow", "ON! arrow"),
        (unicodedata.normalize("NFD", "Piñata"), "piñata"),
        ("an Xylophone.", "xylophone"),
        ("red   apple,", "red apple"),
        ("a", "A"),
    ],
)
def test_captions_of_single_things(prompt: str, spelled: str) -> None:
    assert seen_texts([*EMOJI, *["cat face"] * 20]).respell(prompt) == spelled


@pytest.mark.parametrize(
    ("prompt", "spelled"),
    [("a dog", "A dog."), ("The dog runs.", "The dog runs."), ("a girl in paris", "A girl in Paris.")],
)
def test_captions_that_are_sentences(prompt: str, spelled: str) -> None:
    assert seen_texts(SENTENCES).respell(prompt) == spelled


@given(st.lists(st.text(alphabet="aAbB.,! ñ", min_size=1, max_size=20), min_size=1, max_size=8))
def test_what_the_data_has_is_left_as_it_is(texts: list[str]) -> None:
    found = measure_spelling(texts)
    if found is None:
        assert not any(text.split() for text in texts)
        return
    for text in texts:
        if text.split() and text.rstrip().endswith(found.closing):
            assert found.respell(text) == " ".join(text.split())
            assert not found.find_unseen_words(text)


def test_far_prompts_are_told() -> None:
    seen = Seen(captions=seen_texts(EMOJI), transcripts=seen_texts(["good morning", "it's red"]))
    with pytest.warns(UnseenPromptWarning, match="'purple', 'xylophone' are not in its data"):
        seen.warn_if_unseen(ROWS["text_to_image"], "a purple xylophone")
    with pytest.warns(UnseenPromptWarning, match="'4' is not in its data"):
        seen.warn_if_unseen(ROWS["text_to_speech"], "good 4")
    with pytest.warns(UnseenPromptWarning, match="'🍓' is not in its data"):
        seen.warn_if_unseen(ROWS["text_to_image"], "🍓")
    with pytest.warns(UnseenPromptWarning, match="it has 9 words, and the longest text of its data has 4"):
        seen.warn_if_unseen(ROWS["text_to_image"], "red " * 9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seen.warn_if_unseen(ROWS["text_to_image"], "Red cat (face)")
        seen.warn_if_unseen(ROWS["text_to_image"], "red cat — face")
        seen.warn_if_unseen(ROWS["text_to_speech"], "Moon gid")
        seen.warn_if_unseen(ROWS["text"], "anything at all")
        Seen().warn_if_unseen(ROWS["text_to_image"], "anything at all")


def test_scripts_without_spaces_are_told_by_character() -> None:
    texts = seen_texts(["红苹果", "猫"])
    assert texts.find_unseen_words("红猫") == [] and texts.find_unseen_words("红狗") == ["狗"]


def test_the_words_that_are_kept_are_bounded() -> None:
    texts = seen_texts([f"word{number}" for number in range(21_000)] + ["cat"] * 2)
    assert len(texts.words) == 20_000 and texts.words[0] == "cat" and not texts.is_whole
    with pytest.warns(UnseenPromptWarning, match="not in the 20,000 commonest words"):
        Seen(captions=texts).warn_if_unseen(ROWS["text_to_image"], "dog")


def test_voices() -> None:
    seen = Seen(voices={"ana_maría": 7, "a__b": 2})
    assert seen.voice(None) == "ana_maría" == seen.voice("Ana María")
    assert seen.voice("a__b") == "a__b"  # a tag as old data has it
    with pytest.raises(ValueError, match=r"no voice 'bob': choose one of ana_maría \(7\), a__b \(2\)"):
        seen.voice("bob")
    assert Seen().voice(None) == "slt" and Seen().voice("anyone") == "anyone"


def check(seen: Seen, task: str, pair: str | None = None) -> None:
    seen.check_task(ROWS[task], choose_spans(ROWS[task], pair), TASKS)


def test_tasks_that_were_not_trained() -> None:
    pairs = Seen(tasks=("text_to_image", "image_to_text"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(pairs, "text_to_image")
        check(Seen(), "triple")
    for task, pair in (("text", None), ("joint", "image")):
        with pytest.warns(UntrainedTaskWarning, match=f"not trained on {task}"):
            check(pairs, task, pair)
    refused = (("text_to_speech", None), ("speech_to_text", None), ("triple", None))
    for task, pair in (*refused, ("joint", "speech")):
        with pytest.raises(ValueError, match="it was trained on text_to_image, image_to_text"):
            check(pairs, task, pair)
    with pytest.raises(ValueError, match="not trained on image_to_text"):
        check(Seen(tasks=("text_to_image",)), "image_to_text")
