"""Keys, bounds, ids, metrics; and a failure that nobody foresaw."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from serve.clients import openai_client, running, tiny_service
from trimask.generation.codecs import Codecs
from trimask.serve.app import create_app
from trimask.serve.job import Job
from trimask.serve.limits import Limits

ASK = {"model": "tiny", "prompt": "once", "max_tokens": 4, "num_steps": 2, "seed": 0}


def test_keys() -> None:
    async def ask() -> None:
        async with running(create_app(tiny_service(), keys=("first-key", "second-key"))) as client:
            for header in (None, "Bearer", "Bearer wrong", "Basic first-key", "Bearer first-ke", "Bearer ü"):
                headers = [] if header is None else [(b"Authorization", header.encode())]
                answer = await client.post("/v1/completions", json=ASK, headers=headers)
                error = answer.json()["error"]
                assert (answer.status_code, error["code"]) == (401, "invalid_api_key")
                assert error["type"] == "authentication_error" and "first-key" not in answer.text
            for path in ("/v1/models", "/metrics", "/gone"):
                assert (await client.get(path)).status_code == 401
            assert (await client.get("/health")).status_code == 200
            for key in ("first-key", "second-key"):
                own = openai.AsyncOpenAI(api_key=key, base_url="http://test/v1", http_client=client)
                assert [model.id for model in (await own.models.list()).data] == ["tiny", "other"]

    asyncio.run(ask())


def test_a_name_that_the_web_gave_this_machine_is_refused() -> None:
    async def ask() -> None:
        app = create_app(tiny_service(), hosts=("127.0.0.1", "[::1]", "localhost"))
        async with running(app) as client:
            for host, status in (
                ("127.0.0.1:8000", 200),
                ("localhost", 200),
                ("LOCALHOST:8000", 200),
                ("[::1]:80", 200),
                ("evil.example", 403),
                ("127.0.0.1.evil.example:8000", 403),
                ("", 403),
            ):
                answer = await client.get("/v1/models", headers={"Host": host})
                assert answer.status_code == status, host

    asyncio.run(ask())


def test_a_body_of_another_type_is_refused() -> None:
    """Pages on the web may send text/plain anywhere, without asking."""

    async def ask() -> None:
        async with running(create_app(tiny_service())) as client:
            headers = {"content-type": "text/plain"}
            answer = await client.post("/v1/completions", content=json.dumps(ASK), headers=headers)
            assert answer.status_code == 400 and "Content-Type: application/json" in answer.text
            assert answer.headers["x-content-type-options"] == "nosniff"

    asyncio.run(ask())


PAGES: list[tuple[dict[str, str], bool]] = [
    ({}, True),
    ({"Origin": "http://test"}, True),
    ({"Origin": "https://public.example", "Sec-Fetch-Site": "same-origin"}, True),  # behind a proxy
    ({"Origin": "https://friend.example", "Sec-Fetch-Site": "cross-site"}, True),
    ({"Origin": "https://evil.example"}, False),
    ({"Origin": "http://test.evil.example"}, False),
    ({"Origin": "http://test:81"}, False),
    ({"Origin": "null"}, False),
    ({"Sec-Fetch-Site": "cross-site"}, False),
    ({"Origin": "http://test:81", "Sec-Fetch-Site": "same-site"}, False),
]


def test_pages_of_other_servers_cannot_make_it_work() -> None:
    """A form is sent without asking; a link to the page is followed all the same."""
    form: dict[str, Any] = {"files": {"file": b"x"}, "data": {"model": "tiny"}}

    async def ask() -> None:
        app = create_app(tiny_service(), origins=("https://friend.example",))
        async with running(app) as client:
            for headers, is_let in PAGES:
                answer = await client.post("/v1/audio/transcriptions", headers=headers, **form)
                error = answer.json()["error"]
                expected = (400, "invalid_audio") if is_let else (403, "wrong_origin")
                assert (answer.status_code, error["code"]) == expected, (headers, error)
                assert (await client.get("/", headers=headers)).status_code == 200
        async with running(create_app(tiny_service(), origins=("*",))) as client:
            answer = await client.post("/v1/audio/transcriptions", headers=PAGES[4][0], **form)
            assert answer.status_code == 400

    asyncio.run(ask())


@pytest.mark.parametrize(
    "body",
    [
        b'{"seed": ' + b"9" * 5000 + b"}",
        b"[" * 50_000,
        b'{"sampler": ' * 2000,
        b'{"prompt": "\xff"}',
        b"{} {}",
    ],
    ids=["a number", "deep lists", "deep objects", "no text", "two"],
)
def test_what_is_no_json_is_told_so(body: bytes) -> None:
    async def ask() -> None:
        async with running(create_app(tiny_service())) as client:
            headers = {"content-type": "application/json"}
            answer = await client.post("/v1/canvas", content=body, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")

    asyncio.run(ask())


def test_bodies_are_bounded_with_and_without_a_stated_length() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 1000

    async def ask() -> None:
        async with running(create_app(tiny_service(limits=Limits(body_bytes=10_000)))) as client:
            for content in (b" " * 20_000, pieces()):
                headers = {"content-type": "application/json"}
                answer = await client.post("/v1/completions", content=content, headers=headers)
                assert answer.status_code == 413 and set(answer.json()) == {"error"}
            headers = {"content-type": "application/json", "content-length": "-1"}
            assert (await client.post("/v1/completions", content=b"{}", headers=headers)).status_code == 413

    asyncio.run(ask())


def test_each_answer_has_an_id_and_is_counted() -> None:
    async def ask() -> None:
        async with running(create_app(tiny_service())) as client:
            answers = [await client.post("/v1/completions", json=ASK) for _ in range(2)]
            answers.append(await client.post("/v1/completions", json={}))
            answers.append(await client.get("/made/up"))
            assert len({answer.headers["x-request-id"] for answer in answers}) == 4
            metrics = (await client.get("/metrics")).text
            assert 'trimask_requests_total{path="/v1/completions",status="200"} 2.0' in metrics
            assert 'trimask_requests_total{path="/v1/completions",status="400"} 1.0' in metrics
            assert (
                'trimask_requests_total{path="other",status="404"} 1.0' in metrics and "made" not in metrics
            )
            assert 'trimask_steps_total{model="tiny"}' in metrics

    asyncio.run(ask())


def test_errors_say_whether_to_try_again() -> None:
    """Clients repeat 408, 409, 429 and 5xx unless they are told not to."""

    async def ask() -> None:
        async with running(create_app(tiny_service())) as client:
            wrong = await client.post("/v1/completions", json={})
            chat = await client.post("/v1/chat/completions", json={"model": "tiny", "messages": []})
            for answer, status in ((wrong, 400), (chat, 404), (await client.get("/gone"), 404)):
                assert answer.status_code == status and answer.headers["x-should-retry"] == "false"
                assert answer.headers["x-request-id"] and set(answer.json()) == {"error"}
            for method, path in (("HEAD", "/v1/models"), ("OPTIONS", "/v1/models"), ("PUT", "/v1/canvas")):
                answer = await client.request(method, path)
                assert answer.status_code == 405 and answer.headers["allow"] in ("GET", "POST")
                assert "access-control-allow-origin" not in answer.headers

    asyncio.run(ask())


def test_pages_of_other_servers() -> None:
    """May read nothing, unless their server is allowed."""
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}

    async def ask() -> None:
        mine = "https://mine.example"
        app = create_app(tiny_service(), keys=("key",), origins=(mine,))
        async with running(app) as client:
            for origin, allowed in ((mine, mine), ("https://evil.example", None)):
                headers = {"origin": origin}
                before = await client.options("/v1/completions", headers=headers | asked)
                assert before.status_code == (200 if allowed else 400)
                refused = await client.get("/v1/models", headers=headers)
                answer = await client.get("/v1/models", headers=headers | {"authorization": "Bearer key"})
                assert (refused.status_code, answer.status_code) == (401, 200)
                for each in (before, refused, answer):
                    assert each.headers.get("access-control-allow-origin") == allowed

    asyncio.run(ask())


def test_a_full_queue_says_when_to_come_back() -> None:
    service = tiny_service(most_jobs=2)
    scheduler = service.worker.schedulers["tiny"]

    async def ask() -> None:
        async with openai_client(service) as client:
            # Held without the thread's knowledge, so that they stay.
            held = [Job(lambda: pytest.fail("carried out"), lambda message: None) for _ in range(2)]
            for job in held:
                job.cancel()
                scheduler.submit(job)
            with pytest.raises(openai.RateLimitError) as caught:
                await client.completions.create(model="tiny", prompt="once")
            assert caught.value.response.headers["retry-after"] == "1" and caught.value.code == "queue_full"
            # A request of two prompts, one of which does not fit, leaves none behind; and other models go on.
            await client.completions.create(model="other", prompt="once", max_tokens=3)

    asyncio.run(ask())


def test_what_nobody_foresaw(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Is logged, and its details stay here; the next request is answered."""

    def break_down(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("the secret of the house")

    async def ask() -> None:
        async with running(create_app(tiny_service())) as client:
            with monkeypatch.context() as patch:
                patch.setattr(Codecs, "decode_text", break_down)
                answer = await client.post("/v1/completions", json=ASK)
                assert answer.status_code == 500 and answer.headers["x-should-retry"] == "false"
                assert "secret" not in answer.text and answer.json()["error"]["type"] == "server_error"
                streamed = await client.post("/v1/completions", json=ASK | {"stream": True})
                *_, error, done = [line for line in streamed.text.splitlines() if line]
                assert '"error"' in error and "secret" not in streamed.text and done == "data: [DONE]"
            assert (await client.post("/v1/completions", json=ASK)).status_code == 200

    asyncio.run(ask())
    assert "the secret of the house" in caplog.text
