"""Check MP3 streams by comparing their number of frames with the count in the Xing, Info or VBRI frame."""

from dataclasses import dataclass
from typing import final

from trimask.media.rejection import Reason, Rejected

_KILOBITS = {  # by whether it is MPEG-1
    True: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = (44100, 48000, 32000)
_DELAY = 4608  # encoder and decoder delay at both ends, in samples
_MOST_TAGS = 100
_MOST_FRAMES = 500_000  # more than three hours
_LEAD = 65_536  # most bytes of other data before the first frame


@final
@dataclass(frozen=True, slots=True)
class _Frame:
    kind: tuple[int, int]  # version and rate, constant within a stream
    length: int
    side: int  # bytes before the audio data, or before the frame count
    stated: int | None  # number of frames in the stream, if this frame states it


def is_mp3(data: bytes, start: int) -> bool:
    """Return whether a stream of frames, or a tag before one, begins at `start`."""
    return data.startswith(b"ID3", start) or _frame(data, start) is not None


def id3_end(data: bytes, start: int) -> int:
    """Return the offset of the end of the ID3 tags at `start`."""
    for _ in range(_MOST_TAGS):
        if not data.startswith(b"ID3", start) or start + 10 > len(data):
            break
        size = 0
        for byte in data[start + 6 : start + 10]:
            size = size << 7 | byte & 0x7F
        start += 10 + size + (10 if data[start + 5] & 0x10 else 0)
    return start


def read_mp3(data: bytes, start: int) -> tuple[bytes, int]:
    """Return the frames of the stream at `start`, with a correct frame count, and the offset of its end.

    Raises:
        Rejected: it has fewer frames than it states, ends within a frame, or has other data between frames.
    """
    begin = place = _first_frame(data, id3_end(data, start))
    head = _frame(data, begin)
    assert head is not None
    count, made = 0, b""
    while (frame := _frame(data, place)) is not None and place + frame.length <= len(data):
        if place > begin and (frame.stated is not None or frame.kind != head.kind):
            break  # another stream
        count += frame.stated is None
        place += frame.length
        if count > _MOST_FRAMES:
            raise Rejected(Reason.OVERSIZED, f"more than {_MOST_FRAMES} frames")
    end = _tags_end(data, place)
    is_cut = frame is not None and place + frame.length > len(data)
    if head.stated is None:
        missing = "cut short within a frame" if is_cut else None
        made = _make_count_frame(data[begin : begin + 4], count)
    else:
        is_short = count < head.stated - 1
        missing = f"cut short: it has {count} of {head.stated} frames" if is_short else None
        if count > head.stated + 1:
            made, begin = _make_count_frame(data[begin : begin + 4], count), begin + head.length
    if missing is not None:
        raise Rejected(Reason.CORRUPT, missing)
    if not is_cut and not _is_over(data, end):
        raise Rejected(Reason.CORRUPT, f"no frame at byte {place}, where one should begin")
    return made + data[begin:place], len(data) if is_cut else end


def min_decoded_samples(data: bytes) -> int:
    """Return the fewest samples that a decoder must give for the output of `read_mp3`.

    Decoders stop early, without an error, at some kinds of damage.
    """
    count, place = 0, 0
    while (frame := _frame(data, place)) is not None:
        count += frame.stated is None
        place += frame.length
    return max(0, count * (1152 if data[1] >> 3 & 3 == 3 else 576) - _DELAY)


def _make_count_frame(header: bytes, count: int) -> bytes:
    """Make a frame that states the frame count; without it, decoders guess the length and stop early."""
    # No checksum, and a bit rate at which the frame is long enough.
    made = bytes((header[0], header[1] | 1, header[2] & 0x0D | 0x80, header[3]))
    frame = _frame(made, 0)
    assert frame is not None
    tag = b"Xing" + (1).to_bytes(4, "big") + count.to_bytes(4, "big")
    return (made + bytes(frame.side - 4) + tag).ljust(frame.length, b"\0")


def _first_frame(data: bytes, start: int) -> int:
    """Find the first frame that is followed by another frame or by the end of the stream."""
    place = start
    while (place := data.find(b"\xff", place, start + _LEAD)) >= 0:
        frame = _frame(data, place)
        if frame is not None:
            after = place + frame.length
            if (
                after >= len(data)
                or _frame(data, after) is not None
                or _is_over(data, _tags_end(data, after))
            ):
                return place
        place += 1
    raise Rejected(Reason.CORRUPT, "no MP3 frame at its beginning")


def _tags_end(data: bytes, place: int) -> int:
    """Return the offset of the end of the trailing tags (ID3v1, APE) at `place`."""
    while True:
        if data.startswith(b"TAG", place):
            place += 128
        elif data.startswith(b"APETAGEX", place) and place + 32 <= len(data):
            place += 32 + int.from_bytes(data[place + 12 : place + 16], "little")
        else:
            return place


def _is_over(data: bytes, place: int) -> bool:
    """Return whether the stream ends at `place`: nothing but zeros or another stream follows."""
    return (
        is_mp3(data, place)
        or data.find(b"\xff", place) < 0
        or (len(data) - place <= _LEAD and not data[place:].strip(b"\0"))
    )


def _frame(data: bytes, place: int) -> _Frame | None:
    head = data[place : place + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, rate_index, rate_of_bits = head[1] >> 3 & 3, head[2] >> 2 & 3, head[2] >> 4
    if version == 1 or head[1] >> 1 & 3 != 1 or rate_index == 3 or rate_of_bits in (0, 15):
        return None
    is_first, is_mono = version == 3, head[3] >> 6 == 3
    rate = _RATES[rate_index] >> (0 if is_first else 1 if version == 2 else 2)
    bits = _KILOBITS[is_first][rate_of_bits - 1] * 1000
    length = (144 if is_first else 72) * bits // rate + (head[2] >> 1 & 1)
    side = 4 + ((17 if is_mono else 32) if is_first else (9 if is_mono else 17))
    return _Frame((version, rate), length, side, _read_frame_count(data, place, side))


def _read_frame_count(data: bytes, place: int, side: int) -> int | None:
    """Return the frame count in the frame at `place`; 0 if its tag omits it; None if it is an audio frame."""
    tag = place + side
    if any(data[place + 4 : tag]):  # the side information of an audio frame
        return None
    if data[tag : tag + 4] in (b"Xing", b"Info"):
        flags = int.from_bytes(data[tag + 4 : tag + 8], "big")
        return int.from_bytes(data[tag + 8 : tag + 12], "big") if flags & 1 else 0
    if data.startswith(b"VBRI", place + 36):
        return int.from_bytes(data[place + 50 : place + 54], "big")
    return None
