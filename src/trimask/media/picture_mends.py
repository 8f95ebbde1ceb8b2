"""What a picture can do without: the last two bytes of a JPEG, the notes in a PNG."""

_PNG, _JPEG, _JPEG_END = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\xff\xd9"
_FILLING = bytes(range(0x11, 0xEE)) * 4
_SHOWN = (b"tRNS", b"eXIf", b"acTL", b"fcTL", b"fdAT")  # lower case: a decoder may leave them out


def jpeg_without_end(data: bytes) -> bool:
    """Whether this is a JPEG that does not end as one; more may follow the end, and zeros say nothing."""
    return data.startswith(_JPEG) and not data.rstrip(b"\0").endswith(_JPEG_END)


def jpeg_with_end(data: bytes) -> tuple[bytes, bytes]:
    """The JPEG with an end, and with filling before its end.

    Where picture data is missing, a decoder takes what it finds, and the two decode to different pictures.
    Not so where only refinements of the picture are missing: `is_progressive` is for the caller to ask.
    """
    kept = data.rstrip(b"\0\xff")
    return kept + _JPEG_END, kept + _FILLING + _JPEG_END


def is_progressive(data: bytes) -> bool:
    """Whether a JPEG comes in refinements, of which nobody can tell how many there were."""
    return b"\xff\xc2" in data[: data.find(b"\xff\xda")]


def png_without_metadata(data: bytes) -> bytes | None:
    """The PNG without text, colour profile and times, which may be too long or damaged; None for others."""
    if not data.startswith(_PNG):
        return None
    kept, place = [_PNG], len(_PNG)
    while place + 8 <= len(data):
        size, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        end = place + 12 + size
        if kind[:1].isupper() or kind in _SHOWN:
            kept.append(data[place:end])
        place = end
    return b"".join(kept)
