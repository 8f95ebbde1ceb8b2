"""Hostile requests: each is answered as documented, nothing is written or leaked, and the server goes on."""

import asyncio
import gzip
import json
import resource
import socket
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from generation.fakes import picture, tiny_generator
from serve import hostile
from serve.clients import FastSpeech, running
from serve.hostile import BODIES, FORMS, TRICKS, as_form, as_json, check_answer
from serve.test_description import AnyText
from serve.test_server import listening_to
from trimask.serve.app import create_app
from trimask.serve.limits import Limits
from trimask.serve.service import Service

pytestmark = pytest.mark.usefixtures("unchecked_shapes", "empty_folder")
SMALL = Limits(num_steps=16, num_results=4, tokens=64, body_bytes=2_000_000, file_bytes=1_000_000)
ASK = {"model": "tiny", "prompt": "once", "max_tokens": 4, "num_steps": 2, "seed": 0}


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Run in an empty folder, and without one for temporary files: whoever makes one fails. The folder is
    empty at the end.
    """
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    yield folder
    assert list(tmp_path.rglob("*")) == [folder]


def make_service(limits: Limits) -> Service:
    generator = tiny_generator(text=AnyText(), speech=FastSpeech())
    return Service({"tiny": generator, "other": generator}, limits=limits)


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """Run the application; at the end it holds nothing, and answers as at the beginning."""
    service = make_service(options.pop("limits", SMALL))
    async with running(create_app(service, **options)) as client:
        before = (await client.post("/v1/completions", json=ASK)).json()["choices"]
        yield client
        after = await client.post("/v1/completions", json=ASK)
        assert after.status_code == 200 and after.json()["choices"] == before
        for scheduler in service.worker.schedulers.values():
            assert scheduler.num_jobs == scheduler.num_rows == 0


def test_right_requests_are_right() -> None:
    """What the fuzzed ones are made of."""

    async def ask() -> None:
        async with serving() as client:
            requests = [as_json(*body) for body in BODIES] + [as_form(*form) for form in FORMS]
            for sent in requests:
                answer = await client.send(sent.build(client))
                check_answer(answer)
                assert answer.status_code == (404 if "chat" in sent.path else 200), answer.text[:300]

    asyncio.run(ask())


def test_a_thousand_fuzzed_requests() -> None:
    statuses: Counter[int] = Counter()

    async def ask() -> None:
        async with serving() as client:
            for sent in hostile.make_fuzzed(1000):
                answer = await client.send(sent.build(client))
                check_answer(answer, sent)
                statuses[answer.status_code] += 1

    asyncio.run(ask())
    assert statuses[200] > 100 and statuses[400] > 300


def test_names_of_files_are_never_followed(tmp_path: Path) -> None:
    """In every text of every body, in names of files, and in paths."""
    paths = [(path, body) for path, body in BODIES if "chat" not in path]

    async def ask() -> None:
        async with serving() as client:
            for path, body in paths:
                strings = {name for name, value in body.items() if isinstance(value, str)}
                for name in sorted(strings | {"negative_prompt", "voice", "order", "model", "pair"}):
                    for trick in TRICKS:
                        sent = as_json(path, body | {name: trick})
                        check_answer(await client.send(sent.build(client)), sent)
            for path, fields, files in FORMS:
                for trick in TRICKS:
                    renamed = {name: (trick, data) for name, (_, data) in files.items()}
                    answer = await client.send(as_form(path, fields, renamed).build(client))
                    assert answer.status_code == 200  # a file's name says nothing
                    for name in fields:
                        sent = as_form(path, fields | {name: trick}, files)
                        check_answer(await client.send(sent.build(client)), sent)
            for trick in TRICKS[:-1]:
                answer = await client.get(f"/v1/models/{trick.replace('%', '%25')}".replace("\x00", "%00"))
                check_answer(answer, trick)
                assert answer.status_code == 404

    asyncio.run(ask())


def test_code_of_the_disk_is_never_run(tmp_path: Path, empty_folder: Path, monkeypatch: Any) -> None:
    mine = empty_folder / "evil.py"
    mine.write_text("raise SystemExit('run')\n")
    monkeypatch.syspath_prepend(str(empty_folder))

    async def ask() -> None:
        async with serving() as client:
            for value in ("evil.py:Order", f"{mine}:Order", "evil:Order", "evil", "./evil.py", "evil.Order"):
                for field in ({"order": value}, {"sampler": {"order": value}}, {"sampler": {value: 1}}):
                    answer = await client.post("/v1/completions", json=ASK | field)
                    assert answer.status_code == 400
                    assert answer.json()["error"]["param"] in ("order", "sampler")

    asyncio.run(ask())
    mine.unlink()


BOMBS = {
    "text": hostile.bomb_in_text,
    "stated": lambda: hostile.states_size(60_000, 60_000),
    "webp": lambda: hostile.webp_of_size(16_384, 16_384),
    "empty": lambda: b"",
    "cut": lambda: hostile.png(picture())[:45],
    "words": lambda: b"a picture of a cat",
    "svg": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "sound": hostile.wav,
}


def test_pictures_that_blow_up() -> None:
    async def ask() -> None:
        async with serving() as client:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            for name, make in BOMBS.items():
                for field in ("image", "mask"):
                    path, fields, files = FORMS[0]
                    files = files | {field: ("a.png", make())}
                    answer = await client.send(as_form(path, fields, files).build(client))
                    check_answer(answer)
                    assert answer.status_code == 400, (name, field)
                    assert answer.json()["error"]["param"] == field, name
            path, fields, files = FORMS[0]
            data = hostile.bomb_in_pixels()
            answer = await client.send(as_form(path, fields, files | {"image": ("a", data)}).build(client))
            check_answer(answer)  # whatever stands behind the last pixel is not read
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000

    asyncio.run(ask())


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG"])
def test_recordings_that_state_hours(kind: str) -> None:
    async def ask() -> None:
        async with serving() as client:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            path, fields, _ = FORMS[1]
            data = hostile.sound_that_states(kind)
            for found in (data, data[: len(data) // 2], data[:20], b"", hostile.png(picture())):
                answer = await client.send(as_form(path, fields, {"file": ("a", found)}).build(client))
                check_answer(answer)
                if kind == "WAV" and found is data:  # as programs write that do not know the length yet
                    assert answer.status_code == 200
                else:
                    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file")
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000

    asyncio.run(ask())


def test_bodies_that_are_not_what_they_say() -> None:
    packed = gzip.compress(json.dumps(ASK).encode())
    bomb = gzip.compress(b" " * 50_000_000)
    contents = [
        (b"[" * 100_000, {}),
        (b'{"a":' * 50_000, {}),
        (b"9" * 10_000, {}),
        (b'{"model": "tiny", "prompt": "a", "seed": ' + b"9" * 5000 + b"}", {}),
        (b'{"model": "tiny", "prompt": "a", "temperature": NaN}', {}),
        (b'{"model": "tiny", "prompt": "a", "temperature": Infinity}', {}),
        (b'{"model": "tiny", "prompt": "a", "temperature": 1e999}', {}),
        (b'{"model": "tiny", "prompt": "\\ud800"}', {}),
        (b'{"model": "tiny", "prompt": "a", "\\ud800": 1}', {}),
        (b'{"model": "tiny", "prompt": "\xff\xfe"}', {}),
        (b'{"model": "tiny", "prompt": "a"', {}),
        (b"", {}),
        (b"null", {}),
        (b'"a"', {}),
        (packed, {"content-encoding": "gzip"}),
        (bomb, {"content-encoding": "gzip"}),
        (json.dumps(ASK).encode("utf-16"), {"content-type": "application/json; charset=utf-16"}),
    ]

    async def ask() -> None:
        async with serving() as client:
            for content, headers in contents:
                headers = {"content-type": "application/json"} | headers
                answer = await client.post("/v1/completions", content=content, headers=headers)
                check_answer(answer, content[:200])
                assert answer.status_code == 400 or b"utf-16" in str(headers).encode(), content[:100]
            for head in ("", ";", "; boundary", '; boundary="', f"; boundary={'x' * 5000}", "; boundary=é"):
                headers = [(b"content-type", f"multipart/form-data{head}".encode())]
                answer = await client.post(FORMS[0][0], content=b"--x\r\n\r\n", headers=headers)
                check_answer(answer)
                assert answer.json()["error"]["code"] == "invalid_form"
            many = as_form(FORMS[0][0], {f"f{number}": "x" for number in range(100)}, {})
            check_answer(await client.send(many.build(client)))

    asyncio.run(ask())


def test_keys_that_are_none() -> None:
    async def ask() -> None:
        service = make_service(SMALL)
        async with running(create_app(service, keys=("key",))) as client:
            for key in ("", "k", "key ", "x" * 60_000, "../key", "key\x00", "ключ"):
                headers = [(b"authorization", b"Bearer " + key.encode())]
                answer = await client.post("/v1/completions", json=ASK, headers=headers)
                if key.strip() == "key":
                    assert answer.status_code == 200
                else:
                    check_answer(answer)
                    assert answer.status_code == 401
            assert (await client.get("/v1/models?api_key=key&key=key")).status_code == 401

    asyncio.run(ask())


def test_what_arrives_at_the_same_time_is_bounded() -> None:
    """Requests, and their bytes; who comes later is told to come back."""
    limits = Limits(num_active=3, held_bytes=50_000, receive_seconds=30.0)
    is_open = asyncio.Event()

    async def hold(number: int) -> AsyncIterator[bytes]:
        yield b" " * number
        await is_open.wait()
        yield json.dumps(ASK).encode()

    async def ask() -> None:
        async with serving(limits=limits) as client:
            headers = {"content-type": "application/json"}

            def post(number: int) -> asyncio.Task[httpx2.Response]:
                sent = client.post("/v1/completions", content=hold(number), headers=headers)
                return asyncio.ensure_future(sent)

            held = [post(20_000), post(20_000)]
            await asyncio.sleep(0.2)
            large = await client.post("/v1/completions", content=b" " * 20_000, headers=headers)
            held.append(post(10))
            await asyncio.sleep(0.2)
            one_more = await client.post("/v1/completions", json=ASK)
            for answer in (large, one_more):
                check_answer(answer)
                assert answer.status_code == 429 and answer.headers["retry-after"] == "1"
            assert (await client.get("/health")).status_code == 200
            is_open.set()
            assert [(await each).status_code for each in held] == [200] * 3

    asyncio.run(ask())


HEADS = {
    b"GARBAGE\r\n\r\n": 400,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03": 400,  # TLS
    b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde": 400,
    b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n": 400,
    b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n": 413,
    b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc": 400,
    b"GET /v1/models HTTP/1.1\r\n\r\n": 400,  # no host
    b"GET /v1/models HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n": 400,
    b"GET /v1/models HTTP/1.1\r\nHost: a\r\nA: " + b"x" * 70_000: 400,
    b"GET /v1/models/../../etc/passwd HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n": 404,
    b"GET //etc/passwd HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n": 404,
    b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n": 404,
    b"GET http://evil.example/v1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n": 404,
}


def speak(url: str, content: bytes) -> tuple[int, dict[str, Any]]:
    """Send bytes; return the status and the body of what is answered before the server closes."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(content)
        told = b""
        while part := connection.recv(65_536):
            told += part
    head, _, body = told.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def test_what_is_no_http(capsys: pytest.CaptureFixture[str]) -> None:
    service = make_service(SMALL)
    with listening_to(create_app(service)) as (url, _):
        for content, expected in HEADS.items():
            status, body = speak(url, content)
            assert status == expected and set(body) == {"error"}, content[:100]
        assert httpx2.post(f"{url}/v1/completions", json=ASK).status_code == 200
    assert "Exception" not in capsys.readouterr().err


def test_slow_clients_are_sent_away(capsys: pytest.CaptureFixture[str]) -> None:
    """Those that never finish a head or a body; others are answered meanwhile."""
    limits = Limits(receive_seconds=0.3)
    service = make_service(limits)
    head = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    with listening_to(create_app(service), head_seconds=0.3) as (url, _):
        host, _, port = url.removeprefix("http://").partition(":")
        idle = [socket.create_connection((host, int(port)), timeout=60) for _ in range(100)]
        for connection in idle[:50]:
            connection.sendall(b"GET / HT")
        assert httpx2.post(f"{url}/v1/completions", json=ASK).status_code == 200
        for content in (b"", b"GET", head, head + b"A: ", head + b"Content-Length: 100\r\n\r\n{"):
            status, body = speak(url, content)
            assert status == 408 and set(body) == {"error"}, content
        status, _ = speak(url, head + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n")
        assert status == 408
        for connection in idle:
            with connection:
                assert connection.recv(65_536).startswith(b"HTTP/1.1 408")
        assert httpx2.post(f"{url}/v1/completions", json=ASK).status_code == 200
    assert "Exception" not in capsys.readouterr().err


def test_a_body_that_grows_beyond_its_bound(capsys: pytest.CaptureFixture[str]) -> None:
    service = make_service(SMALL)
    head = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    with listening_to(create_app(service)) as (url, _):
        host, _, port = url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
            told = b""
            for _ in range(40):
                try:
                    connection.sendall(chunk)
                except OSError:  # the server has closed it
                    break
            with_error = connection.recv(65_536)
            told += with_error
        assert told.startswith(b"HTTP/1.1 413")
        assert httpx2.post(f"{url}/v1/completions", json=ASK).status_code == 200
    assert "Exception" not in capsys.readouterr().err
