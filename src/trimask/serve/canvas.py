"""POST /v1/canvas: any task, any part of its targets given, and all that happens while it is unmasked."""

import asyncio
import base64
import functools
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import numpy as np
import torch
from fastapi import APIRouter, Request
from fastapi.responses import Response

from trimask.generation.generated import Generated
from trimask.generation.results import Results
from trimask.sampling.row import Event
from trimask.serve.described import describe_answers
from trimask.serve.errors import ApiError
from trimask.serve.events import respond_with_events
from trimask.serve.images import count_tokens, preview_picture
from trimask.serve.job import Began, Made, Watch
from trimask.serve.media import (
    measure,
    read_base64,
    read_mask,
    read_picture,
    read_recording,
    write_picture,
    write_sound,
)
from trimask.serve.requests import Body, CanvasRequest
from trimask.serve.service import Served, Service, choose_seed, show_warnings
from trimask.serve.text import read_pieces
from trimask.vocabulary.layout import Vocabulary
from trimask.vocabulary.tokenizer import SpeechCodec
from trimask.vocabulary.transcript import is_transcript

_FIELDS = tuple(CanvasRequest.model_fields)
_GAP = "_"
_DIGITS = 3  # of probabilities
LAST_DIGIT = 10**-_DIGITS


def make_router(service: Service) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/canvas", response_model=None, responses=describe_answers("text/event-stream"))
    async def fill(body: CanvasRequest, request: Request) -> Response:
        served = service.find(body.model)
        service.check_text("prompt", body.prompt)
        service.check_tokens("span_length", body.span_length)
        inputs = await _read_inputs(service, served, body)
        return await respond_with_events(request, _fill(service, served, body, inputs), fields=_FIELDS)

    return router


async def _read_inputs(service: Service, served: Served, body: CanvasRequest) -> dict[str, Any]:
    """Decode what is given, as options of `Generator.generate_each`."""
    generator, limits = served.generator, service.limits
    inputs: dict[str, Any] = {"pair": body.pair, "voice": body.voice, "span_length": body.span_length}
    inputs["seconds"] = body.seconds
    if body.image is not None:
        data = read_base64("image", body.image, limits)
        size = measure("image", data, limits)
        inputs["image"] = await read_picture("image", data, generator, limits)
        if body.mask is not None:
            mask = read_base64("mask", body.mask, limits)
            inputs["mask"] = await read_mask("mask", mask, generator, limits, like=size)
    elif body.mask is not None:
        message = "mask says where to paint image, and there is none: give one"
        raise ApiError(400, message, param="mask", code="invalid_value")
    if body.speech is not None:
        data = read_base64("speech", body.speech, limits)
        inputs["speech"] = await read_recording("speech", data, generator, limits)
    for name, rows in (body.codes or {}).items():
        service.check_tokens(f"codes.{name}", len(rows))
    vocabulary = served.generator.vocabulary
    codes = {name: _read_codes(vocabulary, name, rows) for name, rows in (body.codes or {}).items()}
    for name in ("image", "speech"):  # these have a tokenizer, and are given as its codes all the same
        if name in codes:
            if name in inputs:
                raise ApiError(400, f"codes has {name}, which is given: give one", param="codes")
            inputs[name] = codes.pop(name)
    return inputs | {"codes": codes or None}


def _read_codes(vocabulary: Vocabulary, name: str, rows: list[list[int]]) -> np.ndarray:
    if name not in vocabulary.modalities:
        known = ", ".join(vocabulary.modalities)
        message = f"codes has {name[:100]!r}, no modality of the model: name one of {known}"
        raise ApiError(400, message, param="codes", code="invalid_value")
    if not rows:  # a text or recording that is given, and is empty
        return np.zeros((0, vocabulary.space(name).num_codebooks), dtype=np.int64)
    widths = {len(row) for row in rows}
    if len(widths) != 1 or not all(-(2**31) < code < 2**31 for row in rows for code in row):
        message = f"codes.{name} must be frames × codebooks: give as many whole numbers in each frame"
        raise ApiError(400, message, param=f"codes.{name}", code="invalid_value")
    return np.array(rows, dtype=np.int64)


async def _fill(
    service: Service, served: Served, body: CanvasRequest, inputs: Mapping[str, Any]
) -> AsyncGenerator[Body, None]:
    """Yield an event for each pass, and the result."""
    seed = choose_seed(body)
    prepared = service.prepare(served, body.task, body.prompt, body, seed=seed, **inputs)
    warnings: list[str] = []
    usage: Body = {}
    watch = watch_canvas(body.previews)
    async with aclosing(service.worker.carry_out(served.name, [prepared], watch=watch)) as events:
        async for _, message in events:
            if isinstance(message, Began):
                warnings += message.warnings
                usage = count_tokens(message.results)
            elif isinstance(message, Made):
                warnings += message.warnings
                shown = await asyncio.to_thread(_show_result, message.generated)
                told = {"usage": usage, "seed": seed, **show_warnings(warnings)}
                yield {"type": "done", "model": served.name, **shown, **told}
            else:
                yield message.value


def watch_canvas(previews: int) -> Watch:
    """Watch all of a sequence. The value of a pass is an event `canvas`:

    step: passes so far; t: the share of the targets that is masked.
    spans: by modality, [first slot, slot behind the last, codebooks]; in the first event, and where a span
        has grown. Slots count frames and in them codebooks.
    given: in the first event, [slot, code] of what is not masked.
    revealed: [slot, code], also of slots whose code a corrector has replaced; remasked: slots. An end is
        code −1.
    confidence: of each that is revealed, the probability that the pass gave the code: with guidance, before
        temperature, top-p and other filters.
    texts: [slot, what its token adds to the text] of the text that is given or revealed, and again where it
        has changed: a character of several tokens stands at the first (`read_pieces`).
    previews: what each `previews`-th pass, from the first on, decodes to.
    """
    spans: dict[str, list[int]] = {}
    pieces: dict[int, str] = {}
    num_targets = 0

    def watch(results: Results, index: int, event: Event) -> Body:
        nonlocal spans, pieces, num_targets
        vocabulary, tokens = results.codecs.vocabulary, event.tokens()
        now = _find_spans(results, index, tokens)
        codes = read_codes(vocabulary, tokens, now)
        if now != spans:
            num_targets += event.num_masked if not spans else _count(now) - _count(spans)
        found: Body = {"type": "canvas", "step": event.number, "t": event.num_masked / num_targets}
        before = pieces if now == spans else {}
        if now != spans:
            found["spans"] = spans = now
            masks = [vocabulary.mask(name) for name in now]
            found["given"] = [[slot, code] for slot, code in codes.items() if tokens[slot] not in masks]
        shown = [*event.revealed.tolist(), *event.edited.tolist()]
        found["revealed"] = [[slot, codes[slot]] for slot in shown]
        probability = np.exp(event.log_probability()[shown].astype(np.float64))
        found["confidence"] = [round(p, _DIGITS) if np.isfinite(p) else None for p in probability.tolist()]
        pieces = _read_texts(results, now, codes)
        found["texts"] = [[slot, text] for slot, text in pieces.items() if before.get(slot) != text]
        found["remasked"] = event.remasked.tolist()
        if previews and event.number % previews == 0:
            found["previews"] = _preview(results, index, tokens)
        return found

    return watch


def _read_texts(results: Results, spans: Mapping[str, list[int]], codes: Mapping[int, int]) -> dict[int, str]:
    """Return what the tokens of the text add to it, by slot, where they are known."""
    codecs, (start, stop, _) = results.codecs, spans.get("text", (0, 0, 1))
    if codecs.text is None:
        return {}
    read = read_pieces(codecs.text.decode, [codes[slot] for slot in range(start, stop)])
    return {start + i: text for i, text in enumerate(read) if text is not None}


def _count(spans: Mapping[str, list[int]]) -> int:
    return sum(stop - start for start, stop, _ in spans.values())


def _find_spans(results: Results, index: int, tokens: np.ndarray) -> dict[str, list[int]]:
    """Return the spans of a sequence as it is now: a length rule may have changed those that were asked for.
    Spans stand between their boundary tokens, in the order of the document.
    """
    vocabulary, found = results.codecs.vocabulary, {}
    for name in results.documents[index].spans:
        (first,), (behind,) = (
            (tokens == vocabulary.special(f"{side}:{name}")).nonzero()[0] for side in ("begin", "close")
        )
        found[name] = [int(first) + 1, int(behind), vocabulary.space(name).num_codebooks]
    return found


def read_codes(vocabulary: Vocabulary, tokens: np.ndarray, spans: Mapping[str, list[int]]) -> dict[int, int]:
    """Return the code of each slot of the spans; −1 at ends and masks."""
    found: dict[int, int] = {}
    for name, (start, stop, num_codebooks) in spans.items():
        firsts, size = [r.start for r in vocabulary.ranges_of(name)], vocabulary.space(name).codebook_size
        for slot in range(start, stop):
            code = int(tokens[slot]) - firsts[(slot - start) % num_codebooks]
            found[slot] = code if 0 <= code < size else -1
    return found


@functools.lru_cache(maxsize=16)  # tokenizers, of models that are served
@torch.inference_mode()
def find_silence(speech: SpeechCodec) -> np.ndarray:
    """Return the codes of a frame of silence, from the middle of a second of it."""
    frames = speech.encode(torch.zeros(speech.sample_rate))
    return frames[len(frames) // 2].cpu().numpy()


def _preview(results: Results, index: int, tokens: np.ndarray) -> Body:
    """Return what the targets decode to: masked text is `_`, and cells are grey. A frame is silent until its
    first code is revealed, the coarsest; other codes that are masked are those of silence.
    """
    vocabulary, codecs = results.codecs.vocabulary, results.codecs
    document, found = results.documents[index], {}
    spans = _find_spans(results, index, tokens)
    for name in document.task.targets_of(list(document.spans)):
        start, stop, num_codebooks = spans[name]
        masked = (tokens[start:stop] == vocabulary.mask(name)).reshape(-1, num_codebooks)
        if name == "image":
            found["image"] = write_picture(preview_picture(results, tokens, (start, stop)), "png")
            continue
        listed = read_codes(vocabulary, tokens, {name: spans[name]})
        codes = np.array(list(listed.values())).reshape(masked.shape)
        is_end = ((codes < 0) & ~masked).any(1)
        length = int(is_end.argmax()) if is_end.any() else len(codes)
        codes, masked = codes[:length], masked[:length]
        if name == "text":
            found["text"] = _preview_text(results, codes[:, 0], is_spoken=is_transcript(document.spans))
        elif name == "speech" and codecs.speech is not None:
            waveform, rate = codecs.decode_speech(np.where(codes < 0, find_silence(codecs.speech), codes))
            hidden = np.repeat(masked[:, 0], -(-len(waveform) // max(length, 1)))[: len(waveform)]
            found["audio"] = base64.b64encode(
                write_sound(np.where(hidden, 0, waveform), rate, "wav")
            ).decode()
    return found


def _preview_text(results: Results, codes: np.ndarray, *, is_spoken: bool) -> str:
    """Return a text with a `_` for each masked token."""
    parts, begin = [], 0
    for place in [*(codes < 0).nonzero()[0].tolist(), len(codes)]:
        if place > begin:
            parts.append(results.codecs.decode_text(codes[begin:place, None], is_spoken=False))
        begin = place + 1
        if place < len(codes):
            parts.append(_GAP)
    return "".join(parts)


def _show_result(made: Generated) -> Body:
    shown: Body = {"task": made.task, "is_complete": made.is_complete}
    shown["codes"] = {name: codes.tolist() for name, codes in made.codes.items()}
    if made.text is not None:
        shown["text"] = made.text
    if made.image is not None:
        shown["image"] = write_picture(made.image, "png")
    if made.waveform is not None and made.sample_rate is not None:
        shown["audio"] = base64.b64encode(write_sound(made.waveform, made.sample_rate, "wav")).decode()
        shown["sample_rate"] = made.sample_rate
    return shown
