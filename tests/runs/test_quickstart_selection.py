"""The pure parts of the quickstart build: hashes, spoken forms, sentences, base families, Ogg pages."""

from pathlib import Path

import numpy as np
import pytest

from trimask.datasets.quickstart import build, emoji, fetch, speeches, splits, spoken, voice


def test_hash_split_is_stable_and_has_the_stated_fractions() -> None:
    assert [splits.hash_split("year", year, fraction=0.08) for year in ("1790", "1863", "1941")] == [
        "train"
    ] * 3
    drawn = [splits.hash_split("sentence", str(i), fraction=0.1) for i in range(4000)]
    assert abs(drawn.count("validation") - 400) < 80 and abs(drawn.count("test") - 400) < 80
    fractions = [splits.hash_fraction("x", str(i)) for i in range(100)]
    assert 0 <= min(fractions) < max(fractions) < 1 and len(set(fractions)) == 100


def test_withheld_variants_are_few_and_about_the_fraction() -> None:
    tones = [f"tone {i}" for i in range(5)]
    withheld = [splits.withheld_variants(f"base {i}", tones, fraction=0.06) for i in range(1000)]
    assert max(map(len, withheld)) == 1 and abs(sum(map(len, withheld)) - 300) < 60
    assert len(splits.withheld_variants("base", [str(i) for i in range(100)], fraction=0.06)) == 2
    assert splits.withheld_variants("base", [], fraction=0.06) == set()


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("1st place medal", "first place medal"),
        ("men’s room", "men's room"),
        ("kiss: man, man", "kiss man man"),
        ("piñata", "pinata"),
        ("pool 8 ball", "pool eight ball"),
        ("Japanese “here” button", "japanese here button"),
        ("ON! arrow", "on arrow"),
    ],
)
def test_spoken_form(label: str, words: str) -> None:
    assert spoken.spoken_form(label) == words


@pytest.mark.parametrize(
    ("quote", "sentence"),
    [
        ("she was able to program her computer", "she was able to program her computer"),
        ("I don't know what you mean", "i don't know what you mean"),
        ("able to swim", None),
        ("he lives in Paris most of the time", None),
        ("they had 3 dogs and a cat", None),
        ("a tall, dark and quiet person", None),
        ("the st of the long grey road", None),
        ("he did not give a damn about it", None),
        ("one two three four five six seven eight nine ten eleven", None),
    ],
)
def test_plain_sentence(quote: str, sentence: str | None) -> None:
    assert spoken.plain_sentence(quote) == sentence


def test_sentences_are_distinct_and_a_smaller_selection_is_a_prefix() -> None:
    quotes = [
        f"the {animal} ran across the {place}"
        for animal in ("cat", "dog", "fox")
        for place in ("road", "field")
    ]
    chosen = spoken.select_sentences(quotes + quotes, 6)
    assert sorted(chosen) == sorted(quotes)
    assert spoken.select_sentences(quotes, 3) == chosen[:3]


def test_quoted_examples_names_the_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="apt-get install wordnet-base"):
        spoken.quoted_examples(tmp_path)
    for part in ("noun", "verb", "adj", "adv"):
        line = '0 00 a | having means; "able to swim"; "she was late"  \n' if part == "adj" else ""
        (tmp_path / f"data.{part}").write_text(line)
    assert spoken.quoted_examples(tmp_path) == ["able to swim", "she was late"]


def test_bases_join_look_alikes_only(tmp_path: Path) -> None:
    labels = ["astronaut", "man astronaut", "woman: red hair", "person", "cat", "boy", "mermaid", "merman"]
    entries = [
        {"hexcode": f"{i:X}", "label": label, "group": 0 if label == "cat" else 1}
        for i, label in enumerate(labels, 1)
    ]
    base = emoji.merge_bases(entries, {})
    assert base == {"1": "1", "2": "1", "3": "3", "4": "3", "5": "5", "6": "6", "7": "7", "8": "7"}
    for name in ("1", "5"):
        (tmp_path / name).write_bytes(b"the same picture")
    assert emoji.merge_bases(entries, {"1": tmp_path / "1", "5": tmp_path / "5"})["5"] == "1"


def test_canonical_hexcode() -> None:
    assert emoji.canonical_hexcode("00a9-fe0f") == "A9"
    assert emoji.canonical_hexcode("1F468-200D-2695-FE0F") == "1F468-200D-2695"
    assert emoji.canonical_hexcode("1F3F4_E0067") == "1F3F4-E0067"


def test_look_alikes_finds_the_pair() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    assert emoji.look_alikes({"a": one, "b": other, "c": one ^ 1}) == {"a", "c"}


def test_clean_whitespace_changes_nothing_else() -> None:
    assert speeches.clean_whitespace("  To the  Senate:\t\r\n\n We—met. ") == "To the Senate:\nWe—met."


def test_ogg_serial_is_zero_and_the_bytes_depend_on_the_audio_alone() -> None:
    tone = (8000 * np.sin(np.arange(16_000) * 0.1)).astype(np.int16)
    first, second = voice.encode_opus(tone), voice.encode_opus(tone)
    assert first == second and first[14:18] == bytes(4)
    decoded = voice.decode_opus(first, len(tone))
    assert decoded.shape == tone.shape
    assert np.corrcoef(decoded[2000:], tone[2000:])[0, 1] > 0.9
    with pytest.raises(ValueError, match="expected 99999 mono samples"):
        voice.decode_opus(first, 99_999)


def test_missing_packages_and_programs_say_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"quickstart.fetch --out"):
        fetch.check_packages(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="apt-get install flite wordnet-base"):
        voice.require_flite()
    assert fetch.main(["--out", str(tmp_path / "packages")]) == 1
    assert build.main(["--packages", str(tmp_path), "--out", str(tmp_path / "data")]) == 1
    assert build.main(["--packages"]) == 2 and not (tmp_path / "data").exists()
