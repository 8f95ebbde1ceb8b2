"""The texts to synthesize: emoji captions as plain words, and sentences from WordNet's quoted examples."""

import re
import unicodedata
from pathlib import Path

from trimask.datasets.quickstart.splits import hash_fraction
from trimask.errors import UserError

WORD = re.compile(r"[a-z]+(?:'[a-z]+)*")
# All digits in emoji labels except keycaps.
NUMBERS = {"1st": "first", "2nd": "second", "3rd": "third", "8": "eight"}
LETTER_WORDS = frozenset({"a", "i", "o"})

# Deliberately conservative: a sentence with any of these words, or a word that starts with one of the stems,
# is omitted.
UNFIT_WORDS = frozenset(
    """
    ass arse bastard bitch butt cock coon cunt damn damned dick dyke fag faggot gay gook hell homo jap jew
    jews jewish kike kill killed killing kills lynch naked negro nigger nude paki piss poop porn prick pussy
    rape raped retard retarded savage savages screw screwed sex sexes shit slave slaves slut spic suicide
    tart tits turd wog wop breasts breast genitals gypsy lesbian hitler nazi nazis holocaust terrorist
    terrorists crap bugger bloody hooker prostitute prostitutes heroin cocaine blacks whites muslim muslims
    moslem arab arabs colored cripple crippled midget molested abortion hanged corpse strangled stabbed
    """.split()
)
UNFIT_STEMS = tuple("fuck sexual murder erotic orgas rapist racis tortur whor shitt mastur slaughter".split())


def spoken_form(label: str) -> str:
    """Convert a label to lower-case plain words, without accents and punctuation except apostrophes.

    `1st place medal` -> `first place medal`; `women’s room` -> `women's room`; `kiss: man` -> `kiss man`.
    """
    plain = unicodedata.normalize("NFKD", label.replace("’", "'")).encode("ascii", "ignore").decode().lower()
    words = [NUMBERS.get(word, word) for word in re.split(r"[^a-z0-9']+", plain)]
    return " ".join(word for word in words if WORD.fullmatch(word))


def is_plain_word(word: str) -> bool:
    """Return whether a voice speaks a lower-case word as a word: it has a vowel, or is a, i or o."""
    return bool(WORD.fullmatch(word)) and (
        word in LETTER_WORDS if len(word) == 1 else bool(re.search("[aeiouy]", word))
    )


def is_fit(words: list[str]) -> bool:
    """Return whether a sentence has no vulgar, offensive or gruesome words."""
    return not any(word in UNFIT_WORDS or word.startswith(UNFIT_STEMS) for word in words)


def plain_sentence(quote: str) -> str | None:
    """Return an example of 5-10 plain lower-case words, or None. Only the pronoun I is lower-cased."""
    words = [re.sub(r"^I(?=$|')", "i", word) for word in quote.strip().split(" ")]
    if not 5 <= len(words) <= 10 or not all(map(is_plain_word, words)) or not is_fit(words):
        return None
    return " ".join(words)


def quoted_examples(wordnet: Path) -> list[str]:
    """Return all quoted examples in WordNet's data files (`data.noun`, `data.verb`, …), in file order."""
    quotes = []
    for part in ("noun", "verb", "adj", "adv"):
        path = wordnet / f"data.{part}"
        if not path.is_file():
            raise UserError(
                f"no {path}: run `apt-get install wordnet-base`, or give its folder with --wordnet"
            )
        for line in path.read_text("ascii", errors="replace").splitlines():
            gloss = line.partition(" | ")[2]
            quotes += re.findall(r'"([^"]+)"', gloss)
    return quotes


def select_sentences(quotes: list[str], count: int) -> list[str]:
    """Select `count` distinct plain sentences in the order of a stable hash: a smaller count is a prefix."""
    plain = {sentence for quote in quotes if (sentence := plain_sentence(quote)) is not None}
    return sorted(plain, key=lambda sentence: hash_fraction("sentence", sentence))[:count]
