"""Requests that nobody should send, and what every answer to them must be."""

import base64
import io
import json
import random
import struct
import zlib
from dataclasses import dataclass, replace
from typing import Any, final

import httpx2
import numpy as np
import PIL.Image
import soundfile

from generation.fakes import hum, picture
from serve.clients import RATE

STATUSES = {200, 400, 401, 403, 404, 405, 408, 413, 429}
"""That docs/serve.md names."""
SECRETS = ("Traceback", "site-packages", "/src/trimask", "root:x:", ".py")
TRICKS = (
    "../../../../etc/passwd",
    "/etc/passwd",
    "file:///etc/passwd",
    "..\\..\\windows\\win.ini",
    "/dev/zero",
    "/proc/self/environ",
    "a\x00b",
    "http://127.0.0.1:1/a.png",
    "evil.py:Order",
    "os:system",
    "%2e%2e%2f",
    "~/.ssh/id_rsa",
    "hf://owner/name",
    "‮" + "a" * 300,
)
NASTY: tuple[Any, ...] = (
    *TRICKS,
    None,
    True,
    -1,
    0,
    1.5,
    2**31,
    2**63,
    2**70,
    -(2**70),
    1e308,
    "",
    " ",
    "a" * 5000,
    "\ud800",
    "[____]",
    "[" * 300,
    "[" + "_" * 3000 + "]",
    [],
    {},
    [[]],
    [None],
    {"a": {"b": []}},
    [1e400],
    ["x"] * 100,
    {"\ud800": 1},
    {"": ""},
    {"order": "evil.py:Order"},
    {"length": "Predicted", "length.quantile": "x"},
    {"targets": 3},
    {"recompute": "Needed"},
    {"num_steps": 10**9},
    {"block_length": -5},
    {"corrector": "PathPlanning"},
    {"text": [[0]]},
    {"image": [[99999, -7]]},
    {"speech": [[1, 2], [3]]},
)


@final
@dataclass(frozen=True, kw_only=True)
class Sent:
    """A request as bytes."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    content: bytes

    def build(self, client: httpx2.AsyncClient) -> httpx2.Request:
        headers = [(name.encode(), value.encode()) for name, value in self.headers]
        return client.build_request(self.method, self.path, headers=headers, content=self.content)


def png(pixels: PIL.Image.Image) -> bytes:
    file = io.BytesIO()
    pixels.save(file, format="PNG")
    return file.getvalue()


def wav() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, hum(), RATE, format="WAV", subtype="FLOAT")
    return file.getvalue()


def as_json(path: str, body: Any) -> Sent:
    headers = (("content-type", "application/json"),)
    return Sent(method="POST", path=path, headers=headers, content=json.dumps(body).encode())


def as_form(path: str, fields: dict[str, str], files: dict[str, tuple[str, bytes]]) -> Sent:
    """Write a form as clients do; names of files are as given."""
    parts = []
    for name, value in fields.items():
        parts.append(f'--cut\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode())
    for name, (filename, data) in files.items():
        head = f'--cut\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
        parts.append(f"{head}Content-Type: application/octet-stream\r\n\r\n".encode() + data + b"\r\n")
    headers = (("content-type", "multipart/form-data; boundary=cut"),)
    return Sent(method="POST", path=path, headers=headers, content=b"".join(parts) + b"--cut--\r\n")


IMAGE = base64.b64encode(png(picture())).decode()
SPEECH = base64.b64encode(wav()).decode()
FEW = {"num_steps": 2, "seed": 1}
SPOKEN = {"model": "tiny", "input": "hi"}
BODIES: list[tuple[str, dict[str, Any]]] = [
    ("/v1/completions", {"model": "tiny", "prompt": "once", "max_tokens": 4, "n": 2, **FEW}),
    ("/v1/completions", {"model": "tiny", "prompt": "a", "suffix": "b", "max_tokens": 3, "stop": "z", **FEW}),
    ("/v1/completions", {"model": "tiny", "prompt": ["a", "b"], "max_tokens": 4, "stream": True, **FEW}),
    ("/v1/images/generations", {"prompt": "a cat", "n": 1, "output_format": "webp", **FEW}),
    ("/v1/images/generations", {"prompt": "a", "stream": True, "partial_images": 2, "size": "auto", **FEW}),
    (
        "/v1/audio/speech",
        {"model": "tiny", "input": "hi", "voice": "default", "response_format": "wav", **FEW},
    ),
    ("/v1/audio/speech", {"model": "tiny", "input": "hi", "voice": {"id": "default"}, "speed": 1.0, **FEW}),
    ("/v1/canvas", {"task": "image_to_text", "image": IMAGE, "previews": 1, **FEW}),
    ("/v1/canvas", {"task": "speech_to_text", "speech": SPEECH, "order": "Random", "top_p": 0.9, **FEW}),
    ("/v1/canvas", {"task": "text_to_image", "prompt": "a", "image": IMAGE, "mask": IMAGE, **FEW}),
    (
        "/v1/canvas",
        {"task": "joint", "pair": "speech", "temperature": 0.5, "sampler": {"block_length": 4}, **FEW},
    ),
    ("/v1/canvas", {"task": "text", "prompt": "a [__] b", **FEW}),
    ("/v1/canvas", {"task": "text_to_image", "prompt": "b", "codes": {"image": [[-1, 1]] * 4}, **FEW}),
    ("/v1/chat/completions", {"model": "tiny", "messages": []}),
]
FORMS: list[tuple[str, dict[str, str], dict[str, tuple[str, bytes]]]] = [
    (
        "/v1/images/edits",
        {"prompt": "a", "num_steps": "2", "seed": "1"},
        {"image": ("a.png", png(picture())), "mask": ("m.png", png(PIL.Image.new("L", (8, 8), 255)))},
    ),
    (
        "/v1/audio/transcriptions",
        {"model": "tiny", "num_steps": "2", "response_format": "json"},
        {"file": ("a.wav", wav())},
    ),
]


def make_fuzzed(number: int) -> list[Sent]:
    """Make requests, each from a right one by a few changes of its values or its bytes."""
    return [_fuzz(random.Random(seed)) for seed in range(number)]


def _fuzz(draw: random.Random) -> Sent:
    if draw.random() < 0.25:
        path, fields, files = draw.choice(FORMS)
        fields, files = dict(fields), dict(files)
        for _ in range(draw.randint(0, 2)):
            text = str(draw.choice(NASTY)).encode("utf-8", "replace").decode()
            fields[draw.choice([*fields, "other", "sampler[order]", "sampler[]", "file", "image"])] = text
        if draw.random() < 0.5:
            name = draw.choice(list(files))
            files[draw.choice([name, "image[]", "x"])] = (draw.choice(TRICKS), _damage(draw, files[name][1]))
        sent = as_form(path, fields, files)
    else:
        path, body = draw.choice(BODIES)
        body = dict(body)
        for _ in range(draw.randint(0, 3)):
            name = draw.choice([*body, "other", "negative_prompt", "guidance_scale", "codes", "sampler"])
            if draw.random() < 0.2:
                body.pop(name, None)
            else:
                body[name] = draw.choice(NASTY)
        sent = as_json(path, body)
    if draw.random() < 0.3:
        sent = replace(sent, content=_damage(draw, sent.content))
    if draw.random() < 0.1:
        kinds = (
            "text/plain",
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "application/json;a=b",
        )
        sent = replace(sent, headers=(("content-type", draw.choice((*kinds, "é", "x" * 500))),))
    if draw.random() < 0.05:
        sent = replace(sent, method=draw.choice(("GET", "PUT", "DELETE", "HEAD", "OPTIONS", "BREW")))
    if draw.random() < 0.05:
        sent = replace(
            sent, path=draw.choice(("/v1/models/../..", "/v1/canvas/", "/v1/%00", "/..%2f..%2fetc"))
        )
    return sent


_PIECES = (b"\xff\xfe", b"NaN", b'"', b"{", b"\r\n--cut\r\n", b"\x00" * 8, b"9" * 50)


def _damage(draw: random.Random, data: bytes) -> bytes:
    """Change, cut out, double or add some bytes."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(changed) + 1)
        kind = draw.randrange(4)
        if kind == 0 and at < len(changed):
            changed[at] = draw.randrange(256)
        elif kind == 1:
            del changed[at : at + draw.randint(1, 40)]
        elif kind == 2:
            changed[at:at] = changed[at : at + 20]
        else:
            changed[at:at] = draw.choice(
                (b"\xff\xfe", b"NaN", b'"', b"{", b"\r\n--cut\r\n", b"\x00" * 8, b"9" * 50)
            )
    return bytes(changed)


def check_answer(answer: httpx2.Response, about: Any = None) -> None:
    """Raise AssertionError unless the answer has a documented status, an error's shape if it is one, and
    nothing of the server's inside.
    """
    assert answer.status_code in STATUSES, (answer.status_code, answer.text[:500], about)
    assert answer.headers["x-request-id"]
    told = answer.text
    if answer.status_code != 200:
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers.get("x-should-retry") == (None if answer.status_code == 429 else "false")
        if answer.request.method != "HEAD":
            error = answer.json()["error"]
            assert set(answer.json()) == {"error"} and set(error) == {"message", "type", "param", "code"}
            assert error["message"] and len(told) < 5000
    elif "/json" in answer.headers["content-type"] or "event-stream" in answer.headers["content-type"]:
        assert "server_error" not in told
    if "audio/" not in answer.headers["content-type"]:
        for secret in SECRETS:
            own = about is not None and secret in str(about)
            assert own or secret not in told, (secret, told[:500], about)


def bomb_in_text() -> bytes:
    """A small PNG whose compressed comment is 100 MB."""
    return _with_chunk(png(picture()), b"zTXt", b"Comment\x00\x00" + zlib.compress(b"a" * 100_000_000, 9))


def bomb_in_pixels() -> bytes:
    """A PNG that states 8 × 8 pixels, and has 100 MB of them."""
    whole = png(picture())
    start = whole.index(b"IDAT") - 4
    return whole[:start] + _chunk(b"IDAT", zlib.compress(bytes(100_000_000), 9)) + _chunk(b"IEND", b"")


def states_size(width: int, height: int) -> bytes:
    """A PNG of a few bytes that states a large size."""
    whole = png(picture())
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return whole[:8] + _chunk(b"IHDR", head) + whole[33:]


def webp_of_size(width: int, height: int) -> bytes:
    """A lossless WebP of a few bytes that states a large size."""
    bits = (width - 1) | (height - 1) << 14
    data = b"\x2f" + struct.pack("<I", bits) + bytes(20)
    body = b"WEBPVP8L" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def sound_that_states(kind: str) -> bytes:
    """A recording of a few bytes that states hours."""
    if kind == "WAV":
        data = bytearray(wav())
        at = data.index(b"data") + 4
        data[at : at + 4] = b"\xf0\xff\xff\x7f"
        data[4:8] = b"\xff\xff\xff\x7f"
        return bytes(data)
    file = io.BytesIO()
    samples = np.sin(np.arange(RATE // 4)).astype(np.float32)
    soundfile.write(file, samples, RATE, format=kind, subtype={"FLAC": "PCM_16", "OGG": "VORBIS"}[kind])
    data = bytearray(file.getvalue())
    if kind == "FLAC":
        data[22:26] = b"\xff\xff\xff\xff"  # the low bits of the number of samples, in STREAMINFO
        data[21] |= 0x0F
    else:
        last = data.rindex(b"OggS")
        data[last + 6 : last + 14] = struct.pack("<q", 1 << 40)
    return bytes(data)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _with_chunk(whole: bytes, name: bytes, data: bytes) -> bytes:
    return whole[:33] + _chunk(name, data) + whole[33:]
