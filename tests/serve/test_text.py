"""Text token by token: characters that several tokens make."""

import pytest

from trimask.serve.text import read_pieces
from trimask.tokenizers.text import TextTokenizer

BYTES = TextTokenizer.train([], 256)
MERGED = TextTokenizer.train(["日本 日本語 " * 50], 280)


@pytest.mark.parametrize("codec", [BYTES, MERGED], ids=["bytes", "merged"])
@pytest.mark.parametrize("text", ["slt: a", "é", "日本語 🍓🍓!", "a\ufffdb", "👩‍👩‍👧"])
def test_pieces_make_the_text(codec: TextTokenizer, text: str) -> None:
    codes = codec.encode(text, is_spelled=codec is BYTES)
    pieces = read_pieces(codec.decode, codes)
    assert "".join(piece or "" for piece in pieces).replace("\ufffd" * 3, "\ufffd") == text
    if codec is BYTES and "\ufffd" not in text:
        assert [piece for piece in pieces if piece] == list(text)


def test_a_character_stands_at_its_first_token_once_all_are_there() -> None:
    whole = BYTES.encode("x日y", is_spelled=True)
    assert read_pieces(BYTES.decode, whole) == ["x", "日", "", "", "y"]
    for hidden in range(1, 4):
        codes = [-1 if at == hidden else code for at, code in enumerate(whole)]
        parts = [None if at == hidden else "\ufffd" for at in range(1, 4)]
        assert read_pieces(BYTES.decode, codes) == ["x", *parts, "y"]


def test_bytes_that_make_no_character_hide_none_beside_them() -> None:
    first, *rest = BYTES.encode("日", is_spelled=True)
    assert read_pieces(BYTES.decode, [first, first, *rest, rest[0]]) == ["\ufffd", "日", "", "", "\ufffd"]
    assert read_pieces(BYTES.decode, [first] * 500) == ["\ufffd"] * 500
    assert read_pieces(BYTES.decode, []) == []
