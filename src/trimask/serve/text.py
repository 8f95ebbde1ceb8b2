"""Text while it is unmasked: its stable prefix, which is what stands before the first mask."""

from collections.abc import Callable, Sequence
from typing import final

from trimask.generation.results import Results
from trimask.sampling.row import Event
from trimask.serve.job import Watch
from trimask.vocabulary.transcript import is_transcript

_PART = "\ufffd"  # of a character whose bytes are not all there
_MOST_PARTS = 8  # tokens of a character: it has at most four bytes, and a token may have those of two


def read_pieces(decode: Callable[[list[int]], str], codes: Sequence[int]) -> list[str | None]:
    """Return what each token adds to the text: None for those below 0. A character of several tokens stands
    at the first of them, and the others add nothing, once all are there; until then each is U+FFFD.
    """
    alone = {code: decode([code]) for code in set(codes) if code >= 0}
    pieces = [alone.get(code) for code in codes]
    begin = 0
    while begin < len(codes):
        stop = begin
        while stop < min(begin + _MOST_PARTS, len(codes)) and _PART in (pieces[stop] or ""):
            stop += 1
            if stop - begin > 1 and _PART not in (text := decode(list(codes[begin:stop]))):
                pieces[begin:stop] = [text, *[""] * (stop - begin - 1)]
                break
        else:
            stop = begin + 1
        begin = stop
    return pieces


def find_gap(results: Results, index: int) -> tuple[int, int]:
    """Return where the generated part of a text begins in its span, and how many tokens it has room for."""
    document = results.documents[index]
    start, stop = document.spans["text"]
    masked = document.maskable[start:stop].nonzero()[0]
    return int(masked[0]), len(masked)


def watch_prefix(*, is_infilled: bool = False) -> Watch:
    """Watch the stable prefix of a text: the value is the text of it, where it has grown. A sampler that
    corrects has no stable prefix.
    """
    longest: dict[tuple[int, int], int] = {}

    def watch(results: Results, index: int, event: Event) -> str | None:
        if any(law.corrector is not None for law in results.config.laws):
            return None
        first, room = find_gap(results, index)
        document, (codes,) = results.documents[index], results.codecs.vocabulary.ranges_of("text")
        start = document.spans["text"][0] + first
        tokens = event.tokens()[start:]
        content = codes.start + results.codecs.vocabulary.space("text").codebook_size
        is_other = (tokens < codes.start) | (tokens >= content)  # a mask, the end, what closes the span
        length = int(is_other.argmax()) if is_other.any() else len(tokens)
        length = min(length, room) if is_infilled else length
        key = (id(results), index)
        if length <= longest.get(key, 0):
            return None
        longest[key] = length
        found = (tokens[:length] - codes.start)[:, None]
        if is_transcript(document.spans) and ":" not in results.codecs.decode_text(found, is_spoken=False):
            return None  # still within the voice's tag
        return results.codecs.decode_text(found, is_spoken=is_transcript(document.spans))

    return watch


@final
class Written:
    """A text as its client has it so far.

    Args:
        stops: strings that end it, and are not part of it.
    """

    def __init__(self, stops: Sequence[str] = ()):
        self.stops = [stop for stop in stops if stop]
        self.text, self.is_stopped = "", False

    def cut(self, text: str) -> tuple[str, bool]:
        """Return a text up to the first string that ends it, and whether there is one."""
        places = [place for stop in self.stops if (place := text.find(stop)) >= 0]
        return (text[: min(places)], True) if places else (text, False)

    def go_on(self, text: str, *, is_last: bool = False) -> str:
        """Return what `text`, which begins with all that was told, adds. The end of a text that goes on is
        held back where it may be half a character, or the beginning of a string that ends it.
        """
        text, self.is_stopped = self.cut(text)
        if not is_last and not self.is_stopped:
            held = max((len(stop) - 1 for stop in self.stops), default=0)
            text = text[: max(len(text) - held, 0)].rstrip(_PART)
        if not text.startswith(self.text):
            assert not is_last, "the end of a stream differs from what was told"
            return ""
        added = text[len(self.text) :]
        self.text = text
        return added
