"""Split a file into its recordings, one or several end to end, and check that each is complete.

Decoders stop silently where data is missing, and at the end of the first of several recordings, whereas the
transcript covers the whole. So the sizes in headers are compared with the bytes of the file. The placeholder
sizes of recorders and pipes that cannot know the size (0, 0xFFFFFFFF, 0x7FFFFFFF and similar) mean: up to the
end of the file. In an MP3 without a frame count, only a cut within the last frame can be detected.
"""

import re
import struct
from collections.abc import Callable

from trimask.media.flac import read_flac
from trimask.media.mp3 import id3_end, is_mp3, read_mp3
from trimask.media.ogg import read_ogg
from trimask.media.rejection import Reason, Rejected

_MOST = 1000  # recordings in a file, and chunks in a recording
_CHUNK = re.compile(rb"[A-Za-z0-9_ ]{4}")
_UNKNOWN = 0x7F000000  # sizes from here on are placeholders: no accepted file is as large
_SLACK = 64  # bytes: some writers include the header in the size
Link = tuple[bytes, int]
"""A recording with corrected sizes, ready to decode, and the offset of its end in the file."""


def split_recordings(data: bytes) -> list[bytes]:
    """Split a file into its recordings, in order, with the sizes in their headers corrected.

    Raises:
        Rejected: it is cut short, damaged, or in an unsupported format.
    """
    start = id3_end(data, 0)
    start = start if data.startswith(b"fLaC", start) else 0
    read = _reader(data, start)
    if read is None:
        raise Rejected(Reason.CORRUPT, "its first bytes are not those of WAV, AIFF, AU, FLAC, Ogg or MP3")
    found: list[bytes] = []
    while not found or _reader(data, start) is read:
        if len(found) == _MOST:
            raise Rejected(Reason.OVERSIZED, f"more than {_MOST} recordings end to end")
        link, start = read(data, start)
        found.append(link)
    rest = data[start:].strip(b"\0")
    if read is not read_mp3 and len(rest) > _SLACK and not rest.startswith(b"TAG"):
        raise Rejected(
            Reason.CORRUPT,
            f"{len(data) - start} bytes follow its audio data: the size in its header is wrong",
        )
    return found


def _reader(data: bytes, start: int) -> Callable[[bytes, int], Link] | None:
    magic, kind = data[start : start + 4], data[start + 8 : start + 12]
    if magic in (b"RIFF", b"RF64") and kind == b"WAVE":
        return _read_wav
    if magic == b"FORM" and kind in (b"AIFF", b"AIFC"):
        return _read_aiff
    readers = {b".snd": _read_au, b"fLaC": read_flac, b"OggS": read_ogg}
    return readers.get(magic, read_mp3 if is_mp3(data, start) else None)


def _read_wav(data: bytes, start: int) -> Link:
    return _read_chunks(data, start, "<", b"data")


def _read_aiff(data: bytes, start: int) -> Link:
    return _read_chunks(data, start, ">", b"SSND")


def _read_chunks(data: bytes, start: int, order: str, sound: bytes) -> Link:
    """Read a recording that consists of named chunks; `sound` is the name of the one with audio data."""
    place, count, long_size = start + 12, 0, None
    sizes: dict[int, int] = {}  # offset of the size field -> corrected size
    while place + 8 <= len(data):
        name = data[place : place + 4]
        (size,) = struct.unpack_from(f"{order}I", data, place + 4)
        count += 1
        if count > _MOST:
            raise Rejected(Reason.OVERSIZED, f"more than {_MOST} chunks")
        if sizes and (_is_next(data, place) or not _CHUNK.fullmatch(name)):
            break
        if name == b"ds64" and place + 24 <= len(data):
            (long_size,) = struct.unpack_from("<Q", data, place + 16)
            sizes_of_64_bits = place
        if name == sound:
            if size == 0xFFFFFFFF and long_size is not None:
                size = long_size
            size = sizes[place + 4] = _sound_size(data, place + 8, size, order)
        place += 8 + size
        if size % 2 and not _is_next(data, place):
            place += 1
    if not sizes:
        raise Rejected(Reason.CORRUPT, "cut short: it ends before its audio data")
    end = min(place, len(data))
    made = bytearray(data[start:end])
    if long_size is not None:  # make decoders read the 32-bit sizes, which are large enough
        made[:4] = b"RIFF"
        made[sizes_of_64_bits - start : sizes_of_64_bits + 4 - start] = b"JUNK"
    for at, size in {start + 4: end - start - 8, **sizes}.items():
        struct.pack_into(f"{order}I", made, at - start, size)
    return bytes(made), end


def _is_next(data: bytes, place: int) -> bool:
    """Return whether another recording in chunks begins at `place`."""
    return _reader(data, place) in (_read_wav, _read_aiff)


def _sound_size(data: bytes, begin: int, stated: int, order: str = "") -> int:
    """Return the size of the audio data from `begin` on, given the size `stated` in the header.

    Args:
        order: byte order of chunk sizes, if chunks may follow the audio data.
    """
    there = len(data) - begin
    if stated == 0 and not (order and _are_chunks(data, begin, order)):
        return there
    if stated > there + _SLACK and stated < _UNKNOWN:
        raise Rejected(Reason.CORRUPT, f"cut short: it has {there} of {stated} bytes of audio data")
    return min(stated, there)


def _are_chunks(data: bytes, place: int, order: str) -> bool:
    """Return whether the rest of the file, from `place` on, consists of chunks."""
    count = 0
    while place + 8 <= len(data) and _CHUNK.fullmatch(data, place, place + 4) and count < _MOST:
        (size,) = struct.unpack_from(f"{order}I", data, place + 4)
        place += 8 + size + size % 2
        count += 1
    return place in (len(data), len(data) + 1)


def _read_au(data: bytes, start: int) -> Link:
    if start + 24 > len(data):
        raise Rejected(Reason.CORRUPT, "cut short: it ends before its audio data")
    offset, stated = struct.unpack_from(">II", data, start + 4)
    if offset < 24 or start + offset > len(data):
        raise Rejected(Reason.CORRUPT, f"cut short or damaged: its audio data should begin at byte {offset}")
    size = _sound_size(data, start + offset, stated)
    end = start + offset + size
    made = bytearray(data[start:end])
    struct.pack_into(">I", made, 8, size)
    return bytes(made), end
