"""Check FLAC streams: the last frame's number gives the true number of samples, unlike the header's count."""

import re

from trimask.media.rejection import Reason, Rejected

_HEAD = re.compile(rb"fLaC[\0\x80]\0\0\x22", re.DOTALL)  # followed by STREAMINFO of 34 bytes
_MOST_TRIES = 10_000  # places that look like the start of a frame by chance
_LONGEST_HEADER = 16


def read_flac(data: bytes, start: int) -> tuple[bytes, int]:
    """Return the recording at `start` with its sample count corrected, and the offset of its end.

    Raises:
        Rejected: it has fewer samples than its header states, or is damaged.
    """
    if not _HEAD.match(data, start) or start + 42 > len(data):
        raise Rejected(Reason.CORRUPT, "cut short or damaged: no FLAC header")
    begin = _first_frame(data, start + 4)
    following = _HEAD.search(data, begin)
    end = len(data) if following is None else following.start()
    stated = int.from_bytes(data[start + 21 : start + 26], "big") & 0xFFFFFFFFF
    found = _count_samples(data, begin, end, int.from_bytes(data[start + 10 : start + 12], "big"))
    if stated > found:
        raise Rejected(Reason.CORRUPT, f"cut short: it has {found} of {stated} samples")
    fixed = bytearray(data[start:end])
    fixed[21] = fixed[21] & 0xF0 | found >> 32
    fixed[22:26] = (found & 0xFFFFFFFF).to_bytes(4, "big")
    return bytes(fixed), end


def _first_frame(data: bytes, place: int) -> int:
    is_last = False
    while not is_last:
        if place + 4 > len(data):
            raise Rejected(Reason.CORRUPT, "cut short: it ends before its audio data")
        is_last = bool(data[place] & 0x80)
        place += 4 + int.from_bytes(data[place + 1 : place + 4], "big")
    return place


def _count_samples(data: bytes, begin: int, end: int, block: int) -> int:
    """Count the samples in the frames between `begin` and `end`.

    Args:
        block: samples in each frame but the last, used if the stream numbers frames rather than samples.
    """
    first = _header(data, begin)
    if first is None:
        raise Rejected(Reason.CORRUPT, "cut short or damaged: no frame where its audio data should begin")
    place = end
    for _ in range(_MOST_TRIES):
        place = data.rfind(data[begin : begin + 2], begin, place)
        # The sample rate and the sample size do not change within a stream.
        is_alike = all((data[begin + at] ^ data[place + at]) & 15 == 0 for at in (2, 3) if place + at < end)
        last = _header(data[:end] if place + _LONGEST_HEADER > end else data, place) if is_alike else None
        if last is not None:
            passed = last[0] - first[0]
            return max(0, passed * (1 if data[begin + 1] & 1 else block)) + last[1]
    raise Rejected(Reason.CORRUPT, "cut short or damaged: no frame before its end")


def _header(data: bytes, place: int) -> tuple[int, int] | None:
    """Parse the frame header at `place`: the frame's number and its samples; None if there is none."""
    head = data[place : place + _LONGEST_HEADER]
    if len(head) < 6 or head[0] != 0xFF or head[1] & 0xFE != 0xF8:
        return None
    block, rate = head[2] >> 4, head[2] & 15
    length = max(1, 8 - (head[4] ^ 0xFF).bit_length())  # bytes of the number, coded like UTF-8
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
