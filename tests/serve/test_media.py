"""Pictures and recordings through the real openai package: the same results as `Generator.generate`."""

import asyncio
import base64
import io
import json
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import openai
import PIL.Image
import pytest
import soundfile

from generation.fakes import hum, picture
from serve.clients import RATE, openai_client, running, served_generator, tiny_service
from trimask.generation.generated import Generated
from trimask.sampling import DEFAULTS, Scheduled
from trimask.serve.app import create_app
from trimask.serve.errors import ApiError
from trimask.serve.limits import Limits
from trimask.serve.media import check_sound, read_alpha, write_sound

LOW_RATE = 16_000


def alone(task: str, prompt: str | None = None, **options: Any) -> list[Generated]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return served_generator().generate_many(task, prompt, **options)


def to_png(pixels: PIL.Image.Image) -> bytes:
    file = io.BytesIO()
    pixels.save(file, format="PNG")
    return file.getvalue()


def to_wav(waveform: np.ndarray, rate: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, waveform, rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


def pixels_of(found: str | None) -> np.ndarray:
    assert found is not None
    return np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(found))))


@pytest.mark.parametrize("kind", ["png", "webp", "jpeg"])
def test_pictures_are_those_of_generate(kind: Any) -> None:
    async def ask() -> None:
        async with openai_client(tiny_service()) as client:
            found = await client.images.generate(
                prompt="a red hat",
                n=2,
                size="auto",
                output_format=kind,
                extra_body={"seed": 4, "num_steps": 3},
            )
            expected = alone("text_to_image", "a red hat", seed=4, num_steps=3, num_samples=2)
            assert found.data is not None and found.usage is not None
            for each, made in zip(found.data, expected, strict=True):
                pixels = pixels_of(each.b64_json)
                assert pixels.shape == (8, 8, 3)
                assert kind == "jpeg" or np.array_equal(pixels, np.asarray(made.image))
            assert found.output_format == kind
            assert found.usage.output_tokens == 16 and found.usage.input_tokens == 2 * 9

    asyncio.run(ask())


@pytest.mark.parametrize("number", [0, 1, 3])
def test_previews_of_pictures(number: int) -> None:
    async def ask() -> None:
        async with openai_client(tiny_service()) as client:
            events = await client.images.generate(
                prompt="a red hat",
                stream=True,
                partial_images=number,
                extra_body={"seed": 4, "num_steps": 8, "sampler": {"count": "Scheduled"}},
            )
            *parts, last = [event async for event in events]
            assert [part.type for part in parts] == ["image_generation.partial_image"] * number
            assert [part.to_dict()["partial_image_index"] for part in parts] == list(range(number))
            assert last.type == "image_generation.completed" and last.usage.output_tokens == 8
            grey = [(pixels_of(part.b64_json) == 128).all(-1).sum() for part in parts]
            assert grey == sorted(grey, reverse=True)

    asyncio.run(ask())


def test_edits_keep_what_the_mask_does_not_cover() -> None:
    given = picture()
    clear = given.convert("RGBA")
    clear.putalpha(
        PIL.Image.fromarray(np.repeat(np.repeat(np.array([[0, 255], [255, 255]], np.uint8), 4, 0), 4, 1))
    )
    white = PIL.Image.fromarray(np.where(np.asarray(clear)[..., 3] == 0, 255, 0).astype(np.uint8))
    cells = np.array([[True, False], [False, False]])
    (expected,) = alone("text_to_image", "a hat", image=given, mask=cells, seed=2)
    settings = DEFAULTS["text_to_image"]
    config = replace(settings, count=Scheduled(), num_steps=2)
    (other,) = alone("text_to_image", "a hat", image=given, mask=cells, seed=2, config=config)

    async def ask() -> None:
        async with openai_client(tiny_service()) as client:
            for mask in (to_png(white), to_png(clear)):
                found = await client.images.edit(
                    image=to_png(given),
                    mask=mask,
                    prompt="a hat",
                    model="tiny",
                    n=1,
                    extra_body={"seed": 2},
                )
                assert found.data is not None
                assert np.array_equal(pixels_of(found.data[0].b64_json), np.asarray(expected.image))
            steps = {"seed": 2, "sampler": {"count": "Scheduled", "num_steps": 2}}
            given_sampler = await client.images.edit(
                image=to_png(given), mask=mask, prompt="a hat", extra_body=steps
            )
            assert given_sampler.data is not None
            assert np.array_equal(pixels_of(given_sampler.data[0].b64_json), np.asarray(other.image))
            own = await client.images.edit(
                image=to_png(clear), prompt="a hat", stream=True, partial_images=1, extra_body={"seed": 2}
            )
            assert [event.type async for event in own][-1] == "image_edit.completed"
            with pytest.raises(openai.BadRequestError, match="mask is missing") as caught:
                await client.images.edit(image=to_png(given), prompt="a hat")
            assert caught.value.param == "mask"
            small = to_png(white.resize((4, 4)))
            with pytest.raises(openai.BadRequestError, match="4 x 4 pixels, and the picture 8 x 8"):
                await client.images.edit(image=to_png(given), mask=small, prompt="a hat")

    asyncio.run(ask())


def test_speech_is_that_of_generate() -> None:
    (expected,) = alone("text_to_speech", "good morning", seed=3)
    waveform = expected.waveform
    assert waveform is not None

    async def ask() -> None:
        async with openai_client(tiny_service()) as client:
            given: dict[str, Any] = {"input": "good morning", "model": "tiny", "voice": "default"}
            given["extra_body"] = {"seed": 3}
            for kind in ("wav", "flac"):
                found = await client.audio.speech.create(**given, response_format=kind)
                samples, rate = soundfile.read(io.BytesIO(found.content), dtype="float32")
                assert rate == RATE and found.response.headers["content-type"] == f"audio/{kind}"
                assert np.allclose(samples, waveform, atol=1 / 32768)
            found = await client.audio.speech.create(**given)
            assert found.response.headers["content-type"] == "audio/mpeg"
            short = await client.audio.speech.create(
                input="good morning",
                model="tiny",
                voice="default",
                extra_body={"span_length": 1, "num_steps": 1, "seed": 0},
            )
            assert short.response.headers["x-seed"] == "0"
            assert "did not end within its span of 1" in short.response.headers["x-warnings"]
            found = await client.audio.speech.create(**given, response_format="pcm")
            assert len(found.content) == 2 * len(waveform)
            with pytest.raises(openai.BadRequestError, match="'aac' cannot be made here") as caught:
                await client.audio.speech.create(**given, response_format="aac")
            assert caught.value.param == "response_format"
        async with running(create_app(tiny_service())) as plain:
            body = {"input": "good morning", "model": "tiny", "voice": {"id": "default"}, "seed": 3}
            body |= {"response_format": "pcm", "stream_format": "sse"}
            answer = await plain.post("/v1/audio/speech", json=body)
            assert "speech.audio.delta" in answer.text and "speech.audio.done" in answer.text
            assert base64.b64encode(found.content).decode() in answer.text

    asyncio.run(ask())


@pytest.mark.parametrize("kind", ["mp3", "wav", "flac", "opus"])
def test_sounds_of_each_format(kind: str) -> None:
    tone = np.sin(np.arange(LOW_RATE) * 0.05).astype(np.float32) * 0.5
    check_sound(kind, LOW_RATE)
    samples, rate = soundfile.read(io.BytesIO(write_sound(tone, LOW_RATE, kind)), dtype="float32")
    assert abs(len(samples) / rate - 1) < 0.2
    power = np.abs(np.fft.rfft(samples))
    frequency = power.argmax() * rate / len(samples)
    assert frequency == pytest.approx(0.05 * LOW_RATE / (2 * np.pi), abs=2)
    with pytest.raises(ApiError, match="'aac' cannot be made"):
        check_sound("aac", LOW_RATE)


@pytest.mark.parametrize("stream", [False, True])
def test_transcripts_are_those_of_generate(stream: bool) -> None:
    (expected,) = alone("speech_to_text", speech=hum(), seed=1, num_steps=6)

    async def ask() -> None:
        async with openai_client(tiny_service()) as client:
            given: dict[str, Any] = {"file": ("a.wav", to_wav(hum(), RATE)), "model": "tiny"}
            given["extra_body"] = {"seed": 1, "num_steps": 6}
            if not stream:
                found = await client.audio.transcriptions.create(**given)
                assert found.text == expected.text
                text = await client.audio.transcriptions.create(**given, response_format="text")
                assert text == f"{expected.text}\n"
                verbose = await client.audio.transcriptions.create(**given, response_format="verbose_json")
                assert verbose.text == expected.text and verbose.duration == pytest.approx(24 / RATE)
                hinted: Any = {**given, "language": "en", "prompt": ""}  # as many clients always send them
                found = await client.audio.transcriptions.create(**hinted)
                told = ["language has no effect: the model hears the recording alone"]
                assert found.text == expected.text and (found.model_extra or {})["warnings"][:1] == told
                raw = await client.audio.transcriptions.with_raw_response.create(
                    **hinted, response_format="text"
                )
                assert json.loads(raw.headers["x-warnings"])[:1] == told and raw.headers["x-seed"] == "1"
                return
            events = [event async for event in await client.audio.transcriptions.create(**given, stream=True)]
            *deltas, done = events
            told = "".join(str(each.to_dict()["delta"]) for each in deltas)
            assert told == done.to_dict()["text"] == expected.text

    asyncio.run(ask())


SPOKEN = {"input": "a", "model": "tiny", "voice": "default"}
JSON_ERRORS: list[tuple[str, dict[str, Any], str | None]] = [
    ("images/generations", {"prompt": ""}, "prompt"),
    ("images/generations", {"prompt": "a", "size": "1024x1024"}, "size"),
    ("images/generations", {"prompt": "a", "response_format": "url"}, "response_format"),
    ("images/generations", {"prompt": "a", "partial_images": 2}, "partial_images"),
    ("images/generations", {"prompt": "a", "partial_images": 4, "stream": True}, "partial_images"),
    ("images/generations", {"prompt": "a", "quality": "hd"}, "quality"),
    ("images/generations", {"prompt": "a", "n": 1000}, "n"),
    ("audio/speech", SPOKEN | {"speed": 2}, "speed"),
    (
        "audio/speech",
        {"input": "a", "model": "tiny", "voice": "default", "stream_format": "ogg"},
        "stream_format",
    ),
    (
        "audio/speech",
        {"input": "a", "model": "tiny", "voice": "default", "instructions": "b"},
        "instructions",
    ),
    ("audio/speech", {"input": "", "model": "tiny", "voice": "default", "response_format": "wav"}, "input"),
    ("audio/speech", {"input": "a", "model": "tiny", "response_format": "wav"}, "voice"),
    ("audio/speech", {"input": "a", "model": "tiny", "voice": ":", "response_format": "wav"}, "voice"),
]


def test_wrong_requests_name_the_field() -> None:
    async def ask() -> None:
        async with running(create_app(tiny_service())) as client:
            for path, body, param in JSON_ERRORS:
                answer = await client.post(f"/v1/{path}", json=body)
                error = answer.json()["error"]
                assert (answer.status_code, error["param"]) == (400, param), (body, error)

    asyncio.run(ask())


def test_hostile_files() -> None:
    """Bombs, noise, names that lead elsewhere, forms that are none."""
    bomb = io.BytesIO()
    PIL.Image.new("L", (4000, 4000)).save(bomb, format="PNG")
    limits = Limits(pixels=1_000_000, seconds=1.0, file_bytes=300_000, body_bytes=500_000)
    long = to_wav(np.zeros(RATE * 2, dtype=np.float32), RATE)

    async def ask() -> None:
        async with running(create_app(tiny_service(limits=limits))) as client:

            async def post(path: str, files: Any, **fields: str) -> tuple[int, str | None, str]:
                answer = await client.post(f"/v1/{path}", files=files, data=fields)
                error = answer.json()["error"]
                return answer.status_code, error["param"], error["message"]

            edits, heard = "images/edits", "audio/transcriptions"
            status, param, message = await post(edits, {"image": bomb.getvalue()}, prompt="a")
            assert (status, param) == (400, "image") and "4000 x 4000 pixels" in message
            status, param, message = await post(edits, {"image": b"\x89PNG" + b"x" * 99}, prompt="a")
            assert (status, param) == (400, "image") and "no picture" in message
            # Pillow would start a program to draw this one.
            script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
            for files in ({"image": script}, {"image": to_png(picture()), "mask": script}):
                status, _, message = await post(edits, files, prompt="a")
                assert status == 400 and "no picture that can be read: give one of PNG" in message
            status, param, message = await post(edits, {"image": b"x" * 400_000}, prompt="a")
            assert (status, param) == (400, "image") and "at most 300,000" in message
            assert (await post(edits, {"image": b"x" * 600_000}, prompt="a"))[0] == 413
            cut = to_png(picture())[:45]
            status, param, message = await post(edits, {"image": cut, "mask": to_png(picture())}, prompt="a")
            assert (status, param) == (400, "image") and "cannot be read" in message
            small = {"image": to_png(picture()), "mask": to_png(picture())}
            assert (await post(edits, small, prompt=""))[:2] == (400, "prompt")
            assert (await post(edits, small, prompt="a", num_steps="0"))[:2] == (400, "num_steps")
            assert (await post(edits, small, prompt="a", quality="high"))[:2] == (400, "quality")
            status, param, _ = await post(edits, {"other": b"x"}, prompt="a")
            assert (status, param) == (400, "other")
            status, param, message = await post(edits, {"mask": b"x"}, prompt="a", image="/etc/passwd")
            assert (status, param) == (400, "image") and "give a file" in message
            status, param, message = await post(heard, {"file": long}, model="tiny")
            assert (status, param) == (400, "file") and "cannot be read" in message
            status, param, _ = await post(heard, {"file": ("../../etc/passwd", b"RIFF")}, model="tiny")
            assert (status, param) == (400, "file")
            sound = {"file": to_wav(hum(), RATE)}
            status, param, message = await post(heard, sound, model="tiny", negative_prompt="en")
            assert (status, param) == (400, "negative_prompt") and "hears the recording alone" in message
            answer = await client.post(
                f"/v1/{heard}", content=b"--x", headers={"content-type": "multipart/form-data"}
            )
            assert answer.status_code == 400 and answer.json()["error"]["code"] == "invalid_form"
            answer = await client.post(f"/v1/{heard}", json={"file": "/etc/passwd"})
            assert answer.status_code == 400 and "error" in answer.json()
            answer = await client.post("/v1/images/generations", content=b"[" * 100_000)
            assert answer.status_code in (400, 413, 422) and "error" in answer.json()
            assert (await client.get("/health")).json()["status"] == "ok"

    asyncio.run(ask())


def test_opaque_pictures_have_no_mask_of_their_own() -> None:
    assert read_alpha(to_png(picture())) is None
    assert read_alpha(to_png(picture().convert("RGBA"))) is None
