"""Completions through the real openai package, and their errors."""

import asyncio
import warnings
from typing import Any

import openai
import pytest

from generation.fakes import tiny_generator
from serve.clients import openai_client, running, tiny_service
from trimask.sampling import ReMDMCap, SamplerConfig
from trimask.serve.app import create_app
from trimask.serve.text import Written


def alone(prompt: str | None = None, **options: Any) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [each.text or "" for each in tiny_generator().generate_many("text", prompt, **options)]


def test_the_text_is_that_of_generate() -> None:
    async def ask() -> None:
        async with openai_client(tiny_service()) as client:
            found = await client.completions.create(
                model="tiny", prompt="once", max_tokens=9, seed=5, n=3, extra_body={"num_steps": 4}
            )
            expected = alone("once", seed=5, num_steps=4, num_samples=3, span_length=13)
            assert [f"once{choice.text}" for choice in found.choices] == expected
            assert [choice.index for choice in found.choices] == [0, 1, 2]
            assert found.object == "text_completion" and found.model == "tiny"
            assert found.usage is not None and found.usage.prompt_tokens == 4
            assert found.usage.total_tokens == 4 + found.usage.completion_tokens <= 4 + 27
            reasons = {choice.finish_reason for choice in found.choices}
            assert reasons <= {"stop", "length"}
            echoed = await client.completions.create(
                model="tiny", prompt=["once", "", "once"], max_tokens=9, seed=5, echo=True
            )
            assert [choice.text for choice in echoed.choices] == [
                *alone("once", seed=5, span_length=13),
                *alone(seed=5, span_length=9),
                alone("once", seed=5, span_length=13, num_samples=2)[1],
            ]

    asyncio.run(ask())


@pytest.mark.parametrize("suffix", [None, " a hat"])
@pytest.mark.parametrize("block", [None, 2])
def test_streams_add_up(suffix: str | None, block: int | None) -> None:
    async def ask() -> None:
        async with openai_client(tiny_service()) as client:
            sampler = {"block_length": block} if block else {}
            given: dict[str, Any] = {"model": "tiny", "prompt": "once ", "seed": 3, "n": 2, "suffix": suffix}
            given |= {"max_tokens": 10, "extra_body": {"num_steps": 10, "sampler": sampler}}
            whole = await client.completions.create(**given)
            texts, reasons, usage, num_chunks = {0: "", 1: ""}, {}, None, 0
            async for chunk in await client.completions.create(
                **given, stream=True, stream_options={"include_usage": True}
            ):
                assert chunk.object == "text_completion"
                usage = chunk.usage or usage
                for choice in chunk.choices:
                    assert choice.index not in reasons
                    num_chunks += 1
                    texts[choice.index] += choice.text
                    if choice.finish_reason is not None:
                        reasons[choice.index] = choice.finish_reason
            assert [texts[i] for i in range(2)] == [choice.text for choice in whole.choices]
            assert [reasons[i] for i in range(2)] == [choice.finish_reason for choice in whole.choices]
            assert usage == whole.usage
            assert num_chunks > 6 or block is None
            if suffix is not None:
                assert all(len(choice.text) == 10 for choice in whole.choices)

    asyncio.run(ask())


def test_a_corrected_text_comes_at_once() -> None:
    """What may be hidden again is not told."""
    generator = tiny_generator()
    generator.samplers = {"text": SamplerConfig(num_steps=6, corrector=ReMDMCap())}
    service = tiny_service()
    service.models["tiny"].generator.samplers = generator.samplers

    async def ask() -> None:
        async with openai_client(service) as client:
            stream = await client.completions.create(model="tiny", prompt="a", seed=1, stream=True)
            texts = [chunk.choices[0].text async for chunk in stream]
            assert [bool(text) for text in texts] == [False, True]

    asyncio.run(ask())


def test_stop_strings_end_a_text() -> None:
    async def ask() -> None:
        async with openai_client(tiny_service()) as client:
            given: dict[str, Any] = {"model": "tiny", "prompt": "", "seed": 3, "max_tokens": 12}
            whole = (await client.completions.create(**given)).choices[0].text
            stop = whole[3:5]
            cut = await client.completions.create(**given, stop=["nowhere", stop])
            assert cut.choices[0].text == whole[: whole.index(stop)]
            assert cut.choices[0].finish_reason == "stop"
            stream = await client.completions.create(**given, stop=stop, stream=True)
            assert "".join([chunk.choices[0].text async for chunk in stream]) == whole[: whole.index(stop)]

    asyncio.run(ask())


def test_half_a_character_is_held_back() -> None:
    written = Written()
    assert written.go_on("na\ufffd") == "na"
    assert written.go_on("naïve", is_last=True) == "ïve"


def test_the_beginning_of_a_stop_string_is_held_back() -> None:
    written = Written(["END"])
    assert [written.go_on(text) for text in ("some", "some E", "some END, and", "some END, and more")] == [
        "so",
        "me",
        " ",
        "",
    ]
    assert written.is_stopped and written.text == "some "


def test_nulls_are_as_if_left_out_and_warnings_are_told() -> None:
    async def ask() -> None:
        async with running(create_app(tiny_service())) as client:
            body = {"model": "tiny", "prompt": "a", "seed": 1, "max_tokens": 3, "num_steps": 1}
            found = (await client.post("/v1/completions", json=body)).json()
            nulls = body | {"n": None, "stream": None, "suffix": None, "order": None}
            same = (await client.post("/v1/completions", json=nulls)).json()
            neutral = body | {"frequency_penalty": 0, "presence_penalty": 0.0, "user": "someone"}
            alike = (await client.post("/v1/completions", json=neutral)).json()
            assert found["choices"] == alike["choices"]
            assert found["choices"] == same["choices"] and found["choices"][0]["finish_reason"] == "length"
            assert "did not end within its span" in found["warnings"][0]
            streamed = await client.post("/v1/completions", json=body | {"stream": True})
            assert "did not end within its span" in streamed.text

    asyncio.run(ask())


WRONG: list[tuple[dict[str, Any], int, str | None]] = [
    ({"model": "gone", "prompt": "a"}, 404, "model"),
    ({"prompt": "a"}, 400, "model"),
    ({"model": "tiny"}, 400, "prompt"),
    ({"model": "tiny", "prompt": "a", "best_of": 2}, 400, "best_of"),
    ({"model": "tiny", "prompt": "a", "presence_penalty": 0.5}, 400, "presence_penalty"),
    ({"model": "tiny", "prompt": "a", "num_steps": 0}, 400, "num_steps"),
    ({"model": "tiny", "prompt": "a", "num_steps": 10_000}, 400, "num_steps"),
    ({"model": "tiny", "prompt": "a", "n": 17}, 400, "n"),
    ({"model": "tiny", "prompt": "a", "max_tokens": 10**9}, 400, "max_tokens"),
    ({"model": "tiny", "prompt": "a" * 40_000}, 400, "prompt"),
    ({"model": "tiny", "prompt": "a [__] b"}, 400, "prompt"),
    ({"model": "tiny", "prompt": 7}, 400, "prompt"),
    ({"model": "tiny", "prompt": []}, 400, "prompt"),
    ({"model": "tiny", "prompt": "a", "temperature": -1}, 400, "temperature"),
    ({"model": "tiny", "prompt": "a", "order": "gone"}, 400, "order"),
    ({"model": "tiny", "prompt": "a", "order": "os:system"}, 400, "order"),
    ({"model": "tiny", "prompt": "a", "order": "evil.py"}, 400, "order"),
    ({"model": "tiny", "prompt": "a", "sampler": {"order": "evil.py:Order"}}, 400, "sampler"),
    ({"model": "tiny", "prompt": "a", "sampler": {"gone": 1}}, 400, "sampler"),
    (
        {"model": "tiny", "prompt": "a", "sampler": {"length": "Grown", "length.most": 1e6}},
        400,
        "span_length",
    ),
    ({"model": "tiny", "prompt": "a", "guidance_scale": 2.0}, 400, "guidance_scale"),
    ({"model": "tiny", "prompt": "a", "stream_options": {}}, 400, "stream_options"),
    ({"model": "tiny", "prompt": "a", "stream_options": {"x": 1}, "stream": True}, 400, "stream_options.x"),
]


@pytest.mark.parametrize("stream", [False, True])
def test_errors_have_one_shape(stream: bool) -> None:
    async def ask() -> None:
        async with running(create_app(tiny_service())) as client:
            for body, status, param in WRONG:
                given = body | ({"stream": True} if stream and "stream_options" not in body else {})
                answer = await client.post("/v1/completions", json=given)
                error = answer.json()["error"]
                assert (answer.status_code, error["param"]) == (status, param), (body, error)
                assert set(error) == {"message", "type", "param", "code"} and error["message"]

    asyncio.run(ask())


def test_errors_of_the_real_client() -> None:
    async def ask() -> None:
        async with openai_client(tiny_service()) as client:
            with pytest.raises(openai.NotFoundError, match="choose one of tiny, other"):
                await client.completions.create(model="gone", prompt="a")
            with pytest.raises(openai.NotFoundError, match="not trained to chat"):
                await client.chat.completions.create(model="tiny", messages=[])
            with pytest.raises(openai.BadRequestError) as caught:
                await client.completions.create(model="tiny", prompt="a", logprobs=3)
            assert caught.value.param == "logprobs" and caught.value.code == "unknown_parameter"
            with pytest.raises(openai.BadRequestError, match="stop: list should have at most 8 items"):
                await client.completions.create(model="tiny", prompt="a", stop=["x"] * 9)

    asyncio.run(ask())


def test_models_and_health() -> None:
    async def ask() -> None:
        async with openai_client(tiny_service()) as client:
            models = await client.models.list()
            assert [model.id for model in models.data] == ["tiny", "other"]
            assert (await client.models.retrieve("other")).owned_by == "trimask"
            with pytest.raises(openai.NotFoundError):
                await client.models.retrieve("a/b/../gone")
        async with running(create_app(tiny_service())) as plain:
            answer = await plain.get("/health")
            assert answer.json()["status"] == "ok" and answer.json()["models"]["tiny"]["requests"] == 0
            for method, path in (("GET", "/gone"), ("GET", "/v1/completions"), ("POST", "/../etc/passwd")):
                answer = await plain.request(method, path)
                assert answer.status_code in (404, 405) and set(answer.json()) == {"error"}

    asyncio.run(ask())
