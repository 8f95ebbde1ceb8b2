"""Convert English number words to digits, so that `twenty-one` and `21` are the same word.

Converted, in references and hypotheses alike: cardinals and ordinals (`one hundred and five` is 105, `twenty
first` is 21st), digits before a scale (`5 million` is 5000000), decimals (`three point five` is 3.5), and
years as pairs of two-digit numbers (`nineteen eighty four` is 1984, `nineteen oh five` is 1905). All other
words and digits, and those of other languages, are unchanged.
"""

from collections.abc import Sequence
from decimal import Decimal

_UNITS = {word: value for value, word in enumerate("one two three four five six seven eight nine".split(), 1)}
_TEENS = {
    word: value
    for value, word in enumerate(
        "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split(), 10
    )
}
_TENS = {
    word: 10 * value
    for value, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)
}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_ORDINALS = {"first": "one", "second": "two", "third": "three", "fifth": "five", "eighth": "eight"} | {
    "ninth": "nine",
    "twelfth": "twelve",
}
_ORDINALS |= {word[:-1] + "ieth": word for word in _TENS}
_ORDINALS |= {
    f"{word}th": word for word in (*_UNITS, *_TEENS, "hundred", *_SCALES) if word not in _ORDINALS.values()
}

# A number found: its value, the index after it, and whether it is an ordinal.
_Found = tuple[Decimal, int, bool] | None


def as_digits(words: Sequence[str]) -> list[str]:
    """Replace the number words among `words` (in lower case) by digits."""
    result: list[str] = []
    place = 0
    while place < len(words):
        found = _decimal(words, place) or _year(words, place) or _number(words, place)
        if found is None:
            result.append("0" if words[place] == "zero" else words[place])
            place += 1
            continue
        value, place, is_ordinal = found
        digits = format(value, "f")
        digits = digits.rstrip("0").rstrip(".") if "." in digits else digits
        result.append(digits + (_suffix(int(value)) if is_ordinal else ""))
    return result


def _decimal(words: Sequence[str], place: int) -> _Found:
    """Parse a decimal such as `three point five`, with an optional scale after it."""
    whole = (Decimal(0), place + 1, False) if words[place] == "zero" else _number(words, place)
    if whole is None or whole[2] or whole[0] % 1 or _word(words, whole[1]) != "point":
        return None
    digits, end = "", whole[1] + 1
    while (word := _word(words, end)) in _UNITS or word in ("zero", "oh"):
        digits += str(_UNITS.get(word, 0))
        end += 1
    if not digits:
        return None
    scale = _SCALES.get(_word(words, end), 1)
    return Decimal(f"{int(whole[0])}.{digits}") * scale, end + (scale > 1), False


def _number(words: Sequence[str], place: int) -> _Found:
    """Parse groups below a thousand with decreasing scales, of which the last may have none."""
    total, least, is_ordinal, end = Decimal(0), 10**15, False, place
    while not is_ordinal and least > 1:
        start = end + (end > place and _word(words, end) == "and")
        group = _below_thousand(words, start, is_first=end == place)
        if group is None:
            break
        value, after, is_ordinal = group
        scale, scale_is_ordinal = _scale(words, after, is_ordinal)
        if scale >= least:
            break
        total, least = total + value * scale, scale
        is_ordinal = is_ordinal or scale_is_ordinal
        end = after + (scale > 1)
    return None if end == place else (total, end, is_ordinal)


def _scale(words: Sequence[str], place: int, is_ordinal: bool) -> tuple[int, bool]:
    word = _word(words, place)
    plain = _ORDINALS.get(word, word)
    return (1, False) if is_ordinal or plain not in _SCALES else (_SCALES[plain], plain != word)


def _below_thousand(words: Sequence[str], place: int, *, is_first: bool) -> _Found:
    word = _word(words, place)
    if _is_digits(word) and is_first:
        following = _ORDINALS.get(_word(words, place + 1), _word(words, place + 1))
        if following not in ("hundred", *_SCALES):
            return None  # plain digits are left unchanged
        value, end, is_ordinal = Decimal(word), place + 1, False
    elif word == "a" and _word(words, place + 1) in ("hundred", *_SCALES):
        value, end, is_ordinal = Decimal(1), place + 1, False
    else:
        found = _below_hundred(words, place)
        if found is None:
            return None
        value, end, is_ordinal = found
    hundred = _word(words, end)
    if is_ordinal or _ORDINALS.get(hundred, hundred) != "hundred":
        return value, end, is_ordinal
    value, end, is_ordinal = value * 100, end + 1, hundred != "hundred"
    rest = None if is_ordinal else _below_hundred(words, end + (_word(words, end) == "and"))
    return (value, end, is_ordinal) if rest is None else (value + rest[0], rest[1], rest[2])


def _below_hundred(words: Sequence[str], place: int) -> _Found:
    word = _word(words, place)
    plain = _ORDINALS.get(word, word)
    is_ordinal = plain != word
    if plain in _UNITS or plain in _TEENS:
        return Decimal(_UNITS.get(plain) or _TEENS[plain]), place + 1, is_ordinal
    if plain not in _TENS:
        return None
    following = _word(words, place + 1)
    unit = _ORDINALS.get(following, following)
    if is_ordinal or unit not in _UNITS:
        return Decimal(_TENS[plain]), place + 1, is_ordinal
    return Decimal(_TENS[plain] + _UNITS[unit]), place + 2, unit != following


def _year(words: Sequence[str], place: int) -> _Found:
    """Parse two consecutive two-digit numbers."""
    first = _below_hundred(words, place)
    if first is None or first[2] or first[0] < 10:
        return None
    if _word(words, first[1]) in ("oh", "o") and _word(words, first[1] + 1) in _UNITS:
        return first[0] * 100 + _UNITS[words[first[1] + 1]], first[1] + 2, False
    second = _below_hundred(words, first[1])
    if second is None or second[2] or second[0] < 10:
        return None
    if _word(words, second[1]) in ("hundred", *_SCALES):
        return None
    return first[0] * 100 + second[0], second[1], False


def _word(words: Sequence[str], place: int) -> str:
    return words[place] if place < len(words) else ""


def _is_digits(word: str) -> bool:
    return word.isascii() and word.replace(".", "", 1).isdigit() and word[-1] != "."


def _suffix(value: int) -> str:
    if value % 100 in (11, 12, 13):
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")
