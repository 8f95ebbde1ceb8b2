"""FLAC: the number of the last frame says how many samples are there; the header's count may lie."""

import re

from trimask.media.rejection import Reason, Rejected

_HEAD = re.compile(rb"fLaC[\0\x80]\0\0\x22", re.DOTALL)  # followed by STREAMINFO of 34 bytes
_MOST_TRIES = 10_000  # two bytes in 65,536 look like the beginning of a frame by chance
_LONGEST_HEADER = 16


def read_flac(data: bytes, start: int) -> tuple[bytes, int]:
    """The recording at `start` with its true count of samples, and where it ends.

    Raises:
        Rejected: it holds less than it states, or is damaged.
    """
    if not _HEAD.match(data, start) or start + 42 > len(data):
        raise Rejected(Reason.CORRUPT, "no FLAC header after its name")
    begin = _first_frame(data, start + 4)
    following = _HEAD.search(data, begin)
    end = len(data) if following is None else following.start()
    stated = int.from_bytes(data[start + 21 : start + 26], "big") & 0xFFFFFFFFF
    there = _samples(data, begin, end, int.from_bytes(data[start + 10 : start + 12], "big"))
    if stated > there:
        raise Rejected(Reason.CORRUPT, f"cut short: {there} of {stated} samples are there")
    made = bytearray(data[start:end])
    made[21] = made[21] & 0xF0 | there >> 32
    made[22:26] = (there & 0xFFFFFFFF).to_bytes(4, "big")
    return bytes(made), end


def _first_frame(data: bytes, place: int) -> int:
    is_last = False
    while not is_last:
        if place + 4 > len(data):
            raise Rejected(Reason.CORRUPT, "cut short: it ends before its sound begins")
        is_last = bool(data[place] & 0x80)
        place += 4 + int.from_bytes(data[place + 1 : place + 4], "big")
    return place


def _samples(data: bytes, begin: int, end: int, block: int) -> int:
    """Samples of the frames between `begin` and `end`.

    Args:
        block: samples of each frame but the last, where frames are numbered rather than samples.
    """
    first = _header(data, begin)
    if first is None:
        raise Rejected(Reason.CORRUPT, "cut short or damaged: no frame where its sound begins")
    place = end
    for _ in range(_MOST_TRIES):
        place = data.rfind(data[begin : begin + 2], begin, place)
        # The rate and the bits of a sample stay the same.
        is_alike = all((data[begin + at] ^ data[place + at]) & 15 == 0 for at in (2, 3) if place + at < end)
        last = _header(data[:end] if place + _LONGEST_HEADER > end else data, place) if is_alike else None
        if last is not None:
            passed = last[0] - first[0]
            return max(0, passed * (1 if data[begin + 1] & 1 else block)) + last[1]
    raise Rejected(Reason.CORRUPT, "cut short or damaged: no frame before its end")


def _header(data: bytes, place: int) -> tuple[int, int] | None:
    """Number and samples of the frame whose header stands at `place`; None if none does."""
    head = data[place : place + _LONGEST_HEADER]
    if len(head) < 6 or head[0] != 0xFF or head[1] & 0xFE != 0xF8:
        return None
    block, rate = head[2] >> 4, head[2] & 15
    length = max(1, 8 - (head[4] ^ 0xFF).bit_length())  # of a number written as UTF-8 writes letters
    number = head[4] & (0x7F if length == 1 else 0x7F >> length)
    for byte in head[5 : 4 + length]:
        number = number << 6 | byte & 0x3F
    at = 4 + length
    extra = {6: 1, 7: 2}.get(block, 0)
    samples = int.from_bytes(head[at : at + extra], "big") + 1
    at += extra + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if at >= len(head) or block == 0 or rate == 15 or head[3] & 1 or _crc8(head[:at]) != head[at]:
        return None
    if not extra:
        samples = 192 if block == 1 else 576 << block - 2 if block < 6 else 256 << block - 8
    return number, samples


def _crc8(data: bytes) -> int:
    register = 0
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register << 1 ^ (0x107 if register & 0x80 else 0)
    return register
