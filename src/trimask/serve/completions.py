"""POST /v1/completions: text that goes on from a prompt, or is written between a prompt and a suffix."""

import secrets
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, final

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from trimask.generation.generated import Generated
from trimask.generation.infill import has_gaps
from trimask.generation.results import Results
from trimask.serve.described import describe_answers
from trimask.serve.errors import ApiError
from trimask.serve.events import respond_with_events, unless_gone
from trimask.serve.job import Began, Made
from trimask.serve.requests import Body, CompletionRequest
from trimask.serve.service import Served, Service, choose_seed, show_warnings
from trimask.serve.text import Written, find_gap, watch_prefix

_FIELDS = tuple(CompletionRequest.model_fields)
_TASK = "text"
_ANSWERS = describe_answers("application/json", "text/event-stream")


def make_router(service: Service) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/completions", response_model=None, responses=_ANSWERS)
    async def complete(body: CompletionRequest, request: Request) -> Response:
        completion = Completion(service, body)
        if body.stream:
            chunks = completion.stream()
            return await respond_with_events(request, chunks, fields=_FIELDS, is_ended=True)
        return JSONResponse(await unless_gone(request, completion.collect()))

    @router.post("/v1/chat/completions", response_model=None)
    async def chat() -> Response:
        message = (
            "these are base models, which were not trained to chat: use /v1/completions to continue a text, "
            "or /v1/canvas for any task"
        )
        raise ApiError(404, message, code="no_chat")

    return router


@final
class Completion:
    """One request."""

    def __init__(self, service: Service, body: CompletionRequest):
        self.service, self.body = service, body
        self.served: Served = service.find(body.model)
        self.prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
        self.seed = choose_seed(body)
        self.stops = [body.stop] if isinstance(body.stop, str) else body.stop or []
        self.id, self.created = f"cmpl-{secrets.token_hex(12)}", int(time.time())
        self.num_prompt, self.num_made = 0, 0
        self.warnings: list[str] = []
        self._check()
        codec = self.served.generator.codecs.text
        assert codec is not None
        encode = codec.encode
        self.prefix_lengths = [len(encode(prompt)) if prompt.strip() else 0 for prompt in self.prompts]

    def _check(self) -> None:
        body, service = self.body, self.service
        service.check_count("n", body.n * len(self.prompts))
        service.check_tokens("max_tokens", body.max_tokens)
        if self.served.generator.codecs.text is None:
            raise ApiError(400, f"model {self.served.name} has no text tokenizer", param="model")
        for field, texts in (("prompt", self.prompts), ("suffix", [body.suffix])):
            for text in texts:
                service.check_text(field, text)
                if text is not None and has_gaps(text):
                    message = f"{field} has a gap to fill, [____]: use suffix, or /v1/canvas for several gaps"
                    raise ApiError(400, message, param=field, code="invalid_value")
        if body.stream_options is not None and not body.stream:
            raise ApiError(400, "stream_options are for streams: set stream", param="stream_options")

    def _events(self, *, is_watched: bool) -> AsyncGenerator[tuple[int, Any], None]:
        """Carry out all prompts together."""
        body, counts = self.body, Counter[str]()
        prepared = []
        for prompt, length in zip(self.prompts, self.prefix_lengths, strict=True):
            first = counts[prompt] * body.n  # equal prompts of a request have noise of their own
            counts[prompt] += 1
            options: dict[str, Any] = {"num_samples": body.n}
            options["numbers"] = list(range(first, first + body.n))
            text: str | None = prompt if prompt.strip() else None
            if body.suffix is not None:
                room = body.max_tokens or self.served.generator.lengths.text_length
                text = f"{prompt}[{'_' * room}]{body.suffix}"
            elif body.max_tokens is not None:
                options["span_length"] = length + body.max_tokens
            prepared.append(self.service.prepare(self.served, _TASK, text, body, seed=self.seed, **options))
        watch = watch_prefix(is_infilled=body.suffix is not None) if is_watched else None
        return self.service.worker.carry_out(self.served.name, prepared, watch=watch)

    def _begin(self, number: int, message: Began) -> None:
        results = message.results
        self.warnings += message.warnings
        first, _ = find_gap(results, 0)
        self.num_prompt += first
        if self.body.suffix is not None:
            start, stop = results.documents[0].spans[_TASK]
            self.num_prompt += int((~results.documents[0].maskable[start:stop]).sum()) - first

    def _read(self, results: Results, made: Made) -> tuple[str, str]:
        """Return the generated part of a text, and why it ended; count its tokens."""
        first, room = find_gap(results, made.index)
        codes = made.generated.codes[_TASK]
        own = codes[first : first + room] if self.body.suffix is not None else codes[first:]
        self.num_made += len(own) + _has_end(made.generated, self.body)
        self.warnings += made.warnings
        text, is_stopped = Written(self.stops).cut(results.codecs.decode_text(own, is_spoken=False))
        return text, "stop" if is_stopped or made.generated.is_complete else "length"

    async def collect(self) -> Body:
        """Return all choices at once."""
        begun: dict[int, Results] = {}
        choices: dict[int, Body] = {}
        async with aclosing(self._events(is_watched=False)) as events:
            async for number, message in events:
                if isinstance(message, Began):
                    begun[number] = message.results
                    self._begin(number, message)
                elif isinstance(message, Made):
                    text, reason = self._read(begun[number], message)
                    index = number * self.body.n + message.index
                    choices[index] = self._choice(index, self._echo(number) + text, reason)
        listed = [choices[index] for index in sorted(choices)]
        told = show_warnings(self.warnings)
        return {**self._head(), "choices": listed, "usage": self._usage(), **told}

    async def stream(self) -> AsyncGenerator[Body, None]:
        """Yield chunks: each choice grows by its stable prefix."""
        begun: dict[int, Results] = {}
        written: dict[int, Written] = {}
        has_usage = self.body.stream_options is not None and self.body.stream_options.include_usage
        none = {"usage": None} if has_usage else {}
        async with aclosing(self._events(is_watched=True)) as events:
            async for number, message in events:
                if isinstance(message, Began):
                    begun[number] = message.results
                    self._begin(number, message)
                    for index in range(number * self.body.n, (number + 1) * self.body.n):
                        written[index] = Written(self.stops)
                        first = self._choice(index, self._echo(number), None)
                        yield {**self._head(), "choices": [first], **none, **show_warnings(message.warnings)}
                    continue
                index = number * self.body.n + message.index
                if isinstance(message, Made):
                    text, reason = self._read(begun[number], message)
                    added, told = written[index].go_on(text, is_last=True), show_warnings(message.warnings)
                else:
                    added, reason, told = written[index].go_on(message.value), None, {}
                if added or reason:
                    yield {**self._head(), "choices": [self._choice(index, added, reason)], **none, **told}
        if has_usage:
            yield {**self._head(), "choices": [], "usage": self._usage()}

    def _head(self) -> Body:
        return {
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.served.name,
            "seed": self.seed,
        }

    def _echo(self, number: int) -> str:
        return self.prompts[number] if self.body.echo else ""

    def _choice(self, index: int, text: str, reason: str | None) -> Body:
        return {"text": text, "index": index, "finish_reason": reason, "logprobs": None}

    def _usage(self) -> Body:
        return {
            "prompt_tokens": self.num_prompt,
            "completion_tokens": self.num_made,
            "total_tokens": self.num_prompt + self.num_made,
        }


def _has_end(generated: Generated, body: CompletionRequest) -> int:
    """Return 1 if an end token was generated."""
    return int(generated.is_complete and body.suffix is None)
