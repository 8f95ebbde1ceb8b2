"""POST /v1/audio/speech and /v1/audio/transcriptions: from text to a recording, and back."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import ValidationError

from trimask.generation.generated import Generated
from trimask.serve.described import describe_answers, describe_form
from trimask.serve.errors import ApiError, explain_invalid
from trimask.serve.events import respond_with_events, unless_gone
from trimask.serve.images import count_tokens
from trimask.serve.job import Began, Made
from trimask.serve.media import (
    SOUND_TYPES,
    check_sound,
    read_form,
    read_recording,
    write_sound,
)
from trimask.serve.requests import Body, SpeechRequest, TranscriptionForm
from trimask.serve.service import Served, Service, choose_seed, show_warnings
from trimask.serve.text import Written, watch_prefix

DEFAULT_VOICE = "default"
_FORMATS = ("json", "text", "verbose_json")
_FORM_FIELDS = (*TranscriptionForm.model_fields, "file")


def make_router(service: Service) -> APIRouter:
    router = APIRouter()

    @router.post(
        "/v1/audio/speech",
        response_model=None,
        responses=describe_answers("text/event-stream", *SOUND_TYPES.values()),
    )
    async def speak(body: SpeechRequest, request: Request) -> Response:
        served = service.find(body.model)
        speech = served.generator.codecs.speech
        if speech is None:
            raise ApiError(400, f"model {served.name} has no speech", param="model")
        service.check_text("input", body.input)
        service.check_tokens("span_length", body.span_length)
        check_sound(body.response_format, speech.sample_rate)
        if body.speed != 1.0:
            message = f"speed is {body.speed:g}: the model speaks at its own, 1"
            raise ApiError(400, message, param="speed", code="invalid_value")
        events = _speak(service, served, body)
        if body.stream_format == "sse":
            return await respond_with_events(request, events, fields=tuple(SpeechRequest.model_fields))
        found = await unless_gone(request, _gather(events))
        headers = {"X-Sample-Rate": str(speech.sample_rate), **_tell_in_headers(found)}
        return Response(
            base64.b64decode(found["audio"]), media_type=SOUND_TYPES[body.response_format], headers=headers
        )

    @router.post(
        "/v1/audio/transcriptions",
        response_model=None,
        responses=describe_answers("application/json", "text/event-stream", "text/plain"),
        openapi_extra=describe_form(TranscriptionForm, "file"),
    )
    async def transcribe(request: Request) -> Response:
        form = await read_form(request, service.limits, files=("file",))
        try:
            body = TranscriptionForm.model_validate(form.fields)
        except ValidationError as error:
            raise explain_invalid(error.errors()) from error
        served = service.find(body.model)
        _check_transcription(body)
        service.check_tokens("span_length", body.span_length)
        if "file" not in form.files:
            raise ApiError(400, "file is missing: give a recording", param="file", code="missing")
        waveform = await read_recording("file", form.files["file"], served.generator, service.limits)
        events = _transcribe(service, served, body, waveform)
        if body.stream:
            return await respond_with_events(request, events, fields=_FORM_FIELDS)
        found = await unless_gone(request, _gather(events))
        if body.response_format == "text":
            return PlainTextResponse(f"{found['text']}\n", headers=_tell_in_headers(found))
        answer = {key: value for key, value in found.items() if key != "type"}
        if body.response_format == "verbose_json":
            speech = served.generator.codecs.speech
            assert speech is not None
            # The language is not known to the model: "und" is undetermined (ISO 639).
            length = len(waveform) / speech.sample_rate
            answer |= {"task": "transcribe", "language": "und", "duration": length, "segments": []}
        return JSONResponse(answer)

    return router


async def _speak(service: Service, served: Served, body: SpeechRequest) -> AsyncGenerator[Body, None]:
    """Yield the recording, whole: it is unmasked all at once; and what it took."""
    voice, seed = body.voice if isinstance(body.voice, str) else body.voice.id, choose_seed(body)
    prepared = service.prepare(
        served,
        "text_to_speech",
        body.input,
        body,
        seed=seed,
        voice=None if voice == DEFAULT_VOICE else voice,
        span_length=body.span_length,
    )
    usage: Body = {}
    warnings: list[str] = []
    async with aclosing(service.worker.carry_out(served.name, [prepared])) as events:
        async for _, message in events:
            if isinstance(message, Began | Made):
                warnings += message.warnings
            if isinstance(message, Began):
                usage = count_tokens(message.results)
            elif isinstance(message, Made):
                yield {
                    "type": "speech.audio.delta",
                    "audio": await asyncio.to_thread(_encode, message.generated, body.response_format),
                }
    yield {"type": "speech.audio.done", "usage": usage, "seed": seed, **show_warnings(warnings)}


def _encode(generated: Generated, kind: str) -> str:
    waveform, sample_rate = generated.waveform, generated.sample_rate
    assert waveform is not None and sample_rate is not None
    return base64.b64encode(write_sound(waveform, sample_rate, kind)).decode()


def _check_transcription(body: TranscriptionForm) -> None:
    if body.response_format not in _FORMATS:
        message = (
            f"response_format {body.response_format!r} cannot be made: choose one of {', '.join(_FORMATS)}"
        )
        raise ApiError(400, message, param="response_format", code="invalid_value")
    if body.stream and body.response_format != "json":
        raise ApiError(400, "a stream has response_format json: leave it out", param="response_format")
    if body.negative_prompt is not None:
        message = "negative_prompt has nothing to act on: the model hears the recording alone; leave it out"
        raise ApiError(400, message, param="negative_prompt", code="invalid_value")


def _find_idle_hints(body: TranscriptionForm) -> list[str]:
    """Return warnings of fields that OpenAI's API calls hints, which many clients always send: they change
    nothing here, and the answer says so.
    """
    given = [field for field in ("language", "prompt") if getattr(body, field)]
    return [f"{field} has no effect: the model hears the recording alone" for field in given]


async def _transcribe(
    service: Service, served: Served, body: TranscriptionForm, waveform: Any
) -> AsyncGenerator[Body, None]:
    """Yield the stable prefix as it grows, if the request streams; then all, and what it took."""
    seed = choose_seed(body)
    prepared = service.prepare(
        served,
        "speech_to_text",
        None,
        body,
        seed=seed,
        speech=waveform,
        span_length=body.span_length,
    )
    usage, written = {}, Written()
    watch = watch_prefix() if body.stream else None
    warnings = _find_idle_hints(body)
    async with aclosing(service.worker.carry_out(served.name, [prepared], watch=watch)) as events:
        async for _, message in events:
            if isinstance(message, Began):
                usage = {"type": "tokens", **count_tokens(message.results)}
                continue
            if isinstance(message, Made):
                added = written.go_on(message.generated.text or "", is_last=True)
                warnings += message.warnings
            else:
                added = written.go_on(message.value)
            if body.stream and added:
                yield {"type": "transcript.text.delta", "delta": added}
    told = {"usage": usage, "seed": seed, **show_warnings(warnings)}
    yield {"type": "transcript.text.done", "text": written.text, **told}


def _tell_in_headers(found: Body) -> dict[str, str]:
    """Return what an answer that is no JSON tells besides."""
    headers = {"X-Seed": str(found["seed"])}
    if "warnings" in found:
        headers["X-Warnings"] = json.dumps(found["warnings"])
    return headers


async def _gather(events: AsyncGenerator[Body, None]) -> Body:
    """Return all fields of the events as one object."""
    found: Body = {}
    async with aclosing(events):
        async for event in events:
            found |= event
    return found
