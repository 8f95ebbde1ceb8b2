"""What a run keeps of its data for prompts, and what ships of it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

import trimask
from in_memory import InMemory
from trimask.data.mixture import Component
from trimask.data.selection import QuickstartData
from trimask.generation.prompts import UnseenPromptWarning
from trimask.runs.load import QUICKSTART, load_config_of
from trimask.runs.seen import fit_seen, fit_seen_of_embedded, load_seen, measure_spelling
from trimask.tokenizers.text import TextTokenizer
from trimask.vocabulary.task import TASKS, Task
from trimask.vocabulary.transcript import transcript


def source(name: str, texts: Sequence[Sequence[int]], other: str) -> InMemory:
    spans = [np.array(ids, dtype=np.int64).reshape(-1, 1) for ids in texts]
    codes = {
        "text": list(spans),
        other: [np.zeros((4, 2), dtype=np.int64)] * len(spans),
    }
    return InMemory(name=name, codes=codes, groups=np.arange(len(spans)))


def test_what_a_run_sees() -> None:
    text = TextTokenizer.train(["red apple", "good morning"], 280)
    captions = ["red apple", "green apple"]
    said = [("Good morning", "Ana María"), ("hello", "bob"), ("red apple", "Ana María"), ("x", None)]
    spelled = [text.encode(transcript(words, voice), is_spelled=True) for words, voice in said]
    sources = {
        "images": source("images", [text.encode(each) for each in captions], "image"),
        "speech": source("speech", spelled, "speech"),
        "unused": source("unused", [text.encode("never drawn")], "image"),
    }
    parts = (
        Component(source="images", task="text_to_image", weight=1.0),
        Component(source="speech", task="text_to_speech", weight=1.0),
    )
    seen = fit_seen(sources, parts, text, seed=0)
    assert seen.tasks == ("text_to_image", "text_to_speech")
    assert list(seen.voices.items()) == [("ana_maría", 2), ("bob", 1), ("slt", 1)]
    assert seen.captions == measure_spelling(captions)
    assert seen.transcripts == measure_spelling([words.lower() for words, _ in said])


def test_examples_are_whole_texts_of_the_shorter_half_in_any_order() -> None:
    captions = ["service dog", "fork and knife with plate", *(f"thing {n}" for n in range(40)), "dog", "dog"]
    captions += [f"a thing of {n} words or more than that" for n in range(44)]
    seen = measure_spelling(captions)
    assert seen is not None and len(set(seen.examples)) == 8
    assert set(seen.examples) <= {each for each in captions if len(each.split()) <= 2}
    assert measure_spelling(captions[::-1]) == seen
    few = measure_spelling(["x" * 41, "a red apple", "apple"])
    assert few is not None and set(few.examples) == {"a red apple", "apple"}


def test_texts_beside_a_modality_of_ones_own_are_captions() -> None:
    text = TextTokenizer.train(["a large room"], 280)
    rooms = ["a large room", "a small room"]
    sources = {"rooms": source("rooms", [text.encode(each) for each in rooms], "depth")}
    parts = (Component(source="rooms", task="text_to_depth", weight=1.0),)
    seen = fit_seen(sources, parts, text, seed=0)
    assert seen.captions == measure_spelling(rooms) and seen.transcripts is None
    task = Task(name="text_to_depth", spans=(("text", "depth"),), condition=("text",))
    assert seen.prompt(task, "A Large Room.") == "a large room"
    with pytest.warns(UnseenPromptWarning, match="'green' is not in its data"):
        seen.warn_if_unseen(task, "a green room")


def test_passages_are_not_captions() -> None:
    text = TextTokenizer.train(["a large room"], 280)
    codes = {"text": [np.array(text.encode("a large room")).reshape(-1, 1)]}
    sources = {"book": InMemory(name="book", codes=codes, groups=np.arange(1))}
    seen = fit_seen(sources, (Component(source="book", task="text", weight=1.0),), text, seed=0)
    assert seen.captions is None and seen.transcripts is None


def test_the_shipped_model_knows_a_caption_however_it_is_typed() -> None:
    model = trimask.load("quickstart")
    typed = ["strawberry", "Strawberry", " strawberry.", "a strawberry"]
    same, other = (
        model.generate_many("text_to_image", typed, numbers=[0] * 4, num_steps=2, raw_prompt=raw)
        for raw in (False, True)
    )
    for result in same[1:]:
        np.testing.assert_array_equal(result.tokens, same[0].tokens)
    np.testing.assert_array_equal(other[0].tokens, same[0].tokens)
    assert any(not np.array_equal(result.tokens, same[0].tokens) for result in other[1:])
    with pytest.warns(UnseenPromptWarning, match="'xylophone' is not in its data"):
        model.generate("text_to_image", "a red xylophone", num_steps=1)
    with pytest.raises(ValueError, match="no voice 'bob': choose one of slt"):
        model.generate("text_to_speech", "hello", voice="bob")


def test_what_ships_is_of_the_data_that_the_model_has_seen() -> None:
    run, seen = load_config_of("quickstart"), load_seen(QUICKSTART.parent)
    assert isinstance(run.data, QuickstartData) and run.data.readings is not None
    embedded = fit_seen_of_embedded(replace(run.data, readings=None), run.mixture.components)
    assert (seen.tasks, seen.captions) == (embedded.tasks, embedded.captions)
    # Of its readings the package holds a part.
    assert seen.transcripts is not None and embedded.transcripts is not None
    assert set(embedded.transcripts.words) <= set(seen.transcripts.words)
    assert all(seen.voices[voice] > number for voice, number in embedded.voices.items())
    for prompt in ("Strawberry", " strawberry.", "a strawberry", "The STRAWBERRY!"):
        assert seen.prompt(TASKS[1], prompt) == "strawberry"
    assert seen.captions is not None and seen.captions.find_unseen_words("strawberry") == []
    assert list(seen.voices) == ["slt", "rms"]
