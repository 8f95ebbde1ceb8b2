"""Words and characters of many scripts and the forms of numbers, against values counted by hand."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimask.evaluation.speech import word_error_change, word_error_rate
from trimask.evaluation.text import character_error_rate, cut_to_equal_length, distinct, is_exact, word_f1
from trimask.evaluation.words import (
    BOTH,
    CHARACTERS,
    WORDS,
    join_pieces,
    normalize_words,
    split_characters,
    split_pieces,
    unit_of,
)
from trimask.report.figures import error_rate_name


@pytest.mark.parametrize(
    ("text", "words", "num_characters"),
    [
        pytest.param("नमस्ते, दुनिया!", ["नमस्ते", "दुनिया"], 7, id="Devanagari"),
        pytest.param("வணக்கம் உலகம்", ["வணக்கம்", "உலகம்"], 10, id="Tamil"),
        pytest.param("السَّلَامُ عَلَيْكُمْ", ["السَّلَامُ", "عَلَيْكُمْ"], 12, id="vocalised Arabic"),
        pytest.param("שָׁלוֹם עוֹלָם", ["שָׁלוֹם", "עוֹלָם"], 9, id="vocalised Hebrew"),
        pytest.param("Ça va très bien", ["ça", "va", "très", "bien"], 15, id="accents"),
        pytest.param("می‌خواهم", ["میخواهم"], 7, id="Persian with a joiner"),
        pytest.param("안녕하세요 세계", ["안녕하세요", "세계"], 8, id="Korean"),
        pytest.param("Straße ΣΑΣ", ["strasse", "σασ"], 11, id="case folding"),
        pytest.param("❤️ Don't STOP, e-mail!", ["dont", "stop", "e", "mail"], 16, id="symbols"),
    ],
)
def test_words_of_scripts_with_spaces(text: str, words: list[str], num_characters: int) -> None:
    for form in ("NFC", "NFD", "NFKC"):
        found = normalize_words(unicodedata.normalize(form, text))
        assert found == [unicodedata.normalize("NFKC", word) for word in words]
        assert len(split_characters(found)) == num_characters
    assert unit_of([text]) == WORDS


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("สวัสดี ครับ", ["ส", "วั", "ส", "ดี", "ค", "รั", "บ"], id="Thai"),
        pytest.param("ສະບາຍດີ", ["ສ", "ະ", "ບ", "າ", "ຍ", "ດີ"], id="Lao"),
        pytest.param("你好，世界", ["你", "好", "世", "界"], id="Chinese"),
        pytest.param("東京タワーへ", ["東", "京", "タ", "ワ", "ー", "へ"], id="Japanese"),
        pytest.param("ភាសា", ["ភា", "សា"], id="Khmer"),
        pytest.param("မြန်မာ", ["မြ", "န်", "မာ"], id="Burmese"),
    ],
)
def test_scripts_without_spaces_are_taken_by_the_character(text: str, found: list[str]) -> None:
    assert normalize_words(text) == found == split_characters(normalize_words(text))
    assert normalize_words(" ".join(split_pieces(text))) == found
    assert unit_of([text]) == CHARACTERS
    assert error_rate_name({"unit": unit_of([text])}).startswith("character error rate")
    wrong = "家" + text.removeprefix(found[0])
    assert word_error_rate([text], [wrong]).value == pytest.approx(1 / len(found))
    assert character_error_rate([text], [wrong]).value == pytest.approx(1 / len(found))
    assert word_f1(text, wrong) == pytest.approx((len(found) - 1) / len(found))


def test_texts_of_both_kinds_say_so() -> None:
    assert normalize_words("iPhone 15 を買う") == ["iphone", "15", "を", "買", "う"]
    assert split_characters(["15", "を", "買"]) == ["1", "5", " ", "を", "買"]
    assert unit_of(["hello", "你好"]) == BOTH and "where a script has no spaces" in error_rate_name(
        {"unit": BOTH}
    )
    assert error_rate_name({}) == "word error rate"


def test_a_wrong_mark_is_one_error() -> None:
    # किताब (book) and कताब differ by one vowel sign: one word of two, one character of seven.
    reference, hypothesis = "मेरी किताब", "मेरी कताब"
    assert word_error_rate([reference], [hypothesis]).value == 0.5
    assert character_error_rate([reference], [hypothesis]).value == pytest.approx(1 / 6)
    assert word_f1(reference, hypothesis) == 0.5
    assert not is_exact(reference, hypothesis) and is_exact(reference, reference)
    assert word_error_change([reference], [hypothesis], [reference]).value == -0.5


@pytest.mark.parametrize(
    ("vocalised", "plain", "other"),
    [("كَتَبَ", "كتب", "كُتُب"), ("שָׁלוֹם", "שלום", "שִׁלּוּם")],
)
def test_vowel_points_count_where_both_write_them(vocalised: str, plain: str, other: str) -> None:
    assert is_exact(vocalised, plain) and is_exact(plain, vocalised)
    assert not is_exact(vocalised, other)
    assert word_error_rate([vocalised], [plain]).value == 0
    assert character_error_rate([plain], [vocalised]).value == 0


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("twenty-one pilots", "21 pilots"),
        ("one hundred and five", "105"),
        ("a hundred and one dalmatians", "101 Dalmatians"),
        ("three thousand two hundred", "3,200"),
        ("twelve hundred", "1200"),
        ("one million two hundred thousand and six", "1,200,006"),
        ("the third man", "the 3rd man"),
        ("the twenty first of the twelfth", "the 21st of the 12th"),
        ("one hundred and thirteenth", "113th"),
        ("three point one four", "3.14"),
        ("zero point five percent", "0.5 %"),
        ("three point five million", "3.5 million"),
        ("five million dollars", "$5 million"),
        ("in nineteen eighty four", "in 1984"),
        ("in nineteen oh five", "in 1905"),
        ("in two thousand and twelve", "in 2012"),
        ("1.234.567", "1\u202f234\u202f567"),
        ("3,5", "3.5"),
        ("१२३", "123"),
        ("１，０００", "1000"),
    ],
)
def test_forms_of_numbers_are_equal(said: str, written: str) -> None:
    assert normalize_words(said) == normalize_words(written)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("one two three", ["1", "2", "3"]),  # digits that are said one by one are not one number
        ("hundreds of thousands", ["hundreds", "of", "thousands"]),
        ("one and only", ["1", "and", "only"]),
        ("to the point, one point", ["to", "the", "point", "1", "point"]),
        ("a thousand and one nights", ["1001", "nights"]),
        ("5 apples and 100 pears", ["5", "apples", "and", "100", "pears"]),
        ("10:30 on 0.125", ["10", "30", "on", "0.125"]),
        ("version 3.14.2", ["version", "3.14.2"]),
        ("2.5 million point five", ["2500000.5"]),
        ("2.0005 thousand point five", ["2000.5", "point", "5"]),
        ("", []),
    ],
)
def test_what_is_no_number_stays(text: str, words: list[str]) -> None:
    assert normalize_words(text) == words


@given(st.integers(0, 10**12 - 1))
def test_numbers_that_are_spelled_out_are_read_back(number: int) -> None:
    assert normalize_words(_spelled(number)) == [str(number)]
    assert normalize_words(f"{number:,}") == [str(number)]


SPOKEN = st.lists(
    st.sampled_from(
        "zero oh one five twelve twenty first fifth hundred thousand million and a point percent per cent "
        "dollars 5 0.5 2.5 1,000 19 $ % no".split()
    ),
    max_size=7,
).map(" ".join)


@given(st.text(max_size=30) | SPOKEN, st.text(max_size=30) | SPOKEN)
def test_any_text_is_taken(text: str, other: str) -> None:
    words = normalize_words(text)
    assert all(word and not any(c.isspace() for c in word) for word in words)
    assert is_exact(text, text)
    assert 0 <= word_f1(text, other) <= 1
    assert "".join(join_pieces(split_pieces(text)).split()) == "".join(text.split())
    unit_of([text, other])


MARKED = st.lists(
    st.sampled_from(["e", "\u03b7", "i", "\u0301", "\u0309", "\u0345", "\u00ad", "'", "\u0640", " "])
)


@given(st.text(st.characters(categories=["L", "M", "N", "P", "Z"]), max_size=30) | MARKED.map("".join))
def test_normal_words_stay_as_they_are(text: str) -> None:
    """Words that were normalized are so when they are joined again: what is cut can be counted."""
    words = normalize_words(text)
    assert normalize_words(" ".join(words)) == words


@pytest.mark.parametrize("hidden", ["\u00ad", "'", "\u200d", "\u0640"])
def test_what_vanishes_leaves_a_letter_with_its_marks(hidden: str) -> None:
    assert normalize_words(f"cafe{hidden}\u0301") == normalize_words("caf\u00e9") == ["caf\u00e9"]


def test_variety_of_scripts_without_spaces() -> None:
    assert distinct(["你好你好"], 1) == 0.5
    assert cut_to_equal_length(["你好世界"], ["天天"]) == (["你 好"], ["天 天"])
    assert split_pieces("你好 Mr. Wang") == ["你", "好", "Mr.", "Wang"]
    assert join_pieces(split_pieces("你好 Mr. Wang")) == "你好 Mr. Wang"


def _spelled(number: int) -> str:
    small = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen".split()
    small += "fifteen sixteen seventeen eighteen nineteen".split()
    tens = "twenty thirty forty fifty sixty seventy eighty ninety".split()
    if number < 20:
        return small[number]
    if number < 100:
        rest = f"-{small[number % 10]}" if number % 10 else ""
        return tens[number // 10 - 2] + rest
    for scale, name in ((10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred")):
        if number >= scale:
            rest = number % scale
            joint = " and " if 0 < rest < 100 else " "
            return f"{_spelled(number // scale)} {name}" + (joint + _spelled(rest) if rest else "")
    raise AssertionError
