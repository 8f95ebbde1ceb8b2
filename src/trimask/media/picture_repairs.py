"""Repair encoded pictures: restore a JPEG's end marker, remove a PNG's metadata."""

_PNG, _JPEG, _JPEG_END = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\xff\xd9"
_FILLING = bytes(range(0x11, 0xEE)) * 4
_KEPT = (b"tRNS", b"eXIf", b"acTL", b"fcTL", b"fdAT")  # ancillary chunks that change how it looks


def jpeg_without_end(data: bytes) -> bool:
    """Return whether this is a JPEG without an end marker; trailing zeros are ignored."""
    return data.startswith(_JPEG) and not data.rstrip(b"\0").endswith(_JPEG_END)


def jpeg_with_end(data: bytes) -> tuple[bytes, bytes]:
    """Return the JPEG with an end marker, and the same with filler bytes before the marker.

    If picture data is missing, the decoder reads the filler as picture data, so the two decode differently.
    This does not detect missing scans of a progressive JPEG: the caller must check `is_progressive`.
    """
    kept = data.rstrip(b"\0\xff")
    return kept + _JPEG_END, kept + _FILLING + _JPEG_END


def is_progressive(data: bytes) -> bool:
    """Return whether a JPEG is progressive: the number of its scans is not stated."""
    return b"\xff\xc2" in data[: data.find(b"\xff\xda")]


def png_without_metadata(data: bytes) -> bytes | None:
    """Return the PNG without text, colour profile and times, which may be damaged; None if it is no PNG."""
    if not data.startswith(_PNG):
        return None
    kept, place = [_PNG], len(_PNG)
    while place + 8 <= len(data):
        size, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        end = place + 12 + size
        if kind[:1].isupper() or kind in _KEPT:
            kept.append(data[place:end])
        place = end
    return b"".join(kept)
