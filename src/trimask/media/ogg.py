"""Check Ogg streams: a recording consists of all pages of one stream, from its first to its last."""

import struct
import zlib

from trimask.media.rejection import Reason, Rejected

_HEADER = struct.Struct("<4sBBqIIIB")
_BEGINS, _ENDS = 2, 4
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def read_ogg(data: bytes, start: int) -> tuple[bytes, int]:
    """Return the recording at `start`, and the offset of its end.

    Raises:
        Rejected: pages are missing or damaged, or several streams are interleaved.
    """
    place, serial, number = start, None, 0
    while True:
        if place + _HEADER.size > len(data):
            raise Rejected(Reason.CORRUPT, "cut short: its last page is missing")
        magic, _, flags, _, owner, sequence, checksum, segments = _HEADER.unpack_from(data, place)
        body = place + _HEADER.size + segments
        end = body + sum(data[place + _HEADER.size : body])
        if magic != b"OggS":
            raise Rejected(Reason.CORRUPT, f"no page at byte {place}, where one should begin")
        if end > len(data):
            raise Rejected(Reason.CORRUPT, "cut short within a page")
        if _checksum(data[place:end]) != checksum:
            raise Rejected(Reason.CORRUPT, f"the page at byte {place} is damaged")
        if serial is None:
            serial, number = owner, sequence
        if owner != serial or (place > start and flags & _BEGINS):
            what = "several interleaved streams, which are not supported: save them as separate files"
            raise Rejected(Reason.CORRUPT, what)
        if sequence != number:
            raise Rejected(Reason.CORRUPT, f"pages are missing before byte {place}")
        place, number = end, number + 1
        if flags & _ENDS:
            return data[start:place], place


def _checksum(page: bytes) -> int:
    """Compute Ogg's CRC-32: zlib's, with the bits of each byte and of the sum reversed."""
    blank = page[:22] + bytes(4) + page[26:]
    found = zlib.crc32(blank.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{found:032b}"[::-1], 2)
