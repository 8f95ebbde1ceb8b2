"""POST /v1/images/generations and /v1/images/edits: pictures, with previews while they are unmasked."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, final

import numpy as np
import PIL.Image
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError

from trimask.generation.results import Results
from trimask.sampling.row import Event
from trimask.serve.described import describe_answers, describe_form
from trimask.serve.errors import ApiError, explain_invalid
from trimask.serve.events import respond_with_events, unless_gone
from trimask.serve.job import Began, Made, Watch
from trimask.serve.media import (
    measure,
    read_alpha,
    read_form,
    read_mask,
    read_picture,
    write_picture,
)
from trimask.serve.requests import Body, EditForm, ImageRequest
from trimask.serve.service import Service, choose_seed, show_warnings

_TASK = "text_to_image"
_ANSWERS = describe_answers("application/json", "text/event-stream")
_FIELDS = (*ImageRequest.model_fields, "image", "mask")


def make_router(service: Service) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/images/generations", response_model=None, responses=_ANSWERS)
    async def generate(body: ImageRequest, request: Request) -> Response:
        return await _answer(request, Pictures(service, body, event="image_generation"))

    @router.post(
        "/v1/images/edits",
        response_model=None,
        responses=_ANSWERS,
        openapi_extra=describe_form(EditForm, "image", "mask"),
    )
    async def edit(request: Request) -> Response:
        form = await read_form(request, service.limits, files=("image", "mask"))
        try:
            body = EditForm.model_validate(form.fields)
        except ValidationError as error:
            raise explain_invalid(error.errors()) from error
        pictures = Pictures(service, body, event="image_edit")
        if "image" not in form.files:
            raise ApiError(400, "image is missing: give a picture", param="image", code="missing")
        data, generator, limits = form.files["image"], pictures.served.generator, service.limits
        like = measure("image", data, limits)
        mask = form.files.get("mask", data)
        if mask is data and await asyncio.to_thread(read_alpha, data) is None:
            message = "mask is missing: give one, or a picture that is transparent where it is to be painted"
            raise ApiError(400, message, param="mask", code="missing")
        pictures.inputs = {
            "image": await read_picture("image", data, generator, limits),
            "mask": await read_mask("mask", mask, generator, limits, like=like),
        }
        return await _answer(request, pictures)

    return router


async def _answer(request: Request, pictures: "Pictures") -> Response:
    if pictures.body.stream:
        return await respond_with_events(request, pictures.stream(), fields=_FIELDS)
    return JSONResponse(await unless_gone(request, pictures.collect()))


@final
class Pictures:
    """One request. `inputs` are what is given of the pictures."""

    def __init__(self, service: Service, body: ImageRequest, *, event: str):
        self.service, self.body, self.event = service, body, event
        self.served = service.find(body.model)
        self.seed, self.number = choose_seed(body), body.n or 1
        self.kind = body.output_format or "png"
        self.inputs: dict[str, Any] = {}
        service.check_count("n", self.number)
        service.check_text("prompt", body.prompt)
        codec = self.served.generator.codecs.image
        if codec is None:
            raise ApiError(400, f"model {self.served.name} has no pictures", param="model")
        self.size = f"{codec.image_size}x{codec.image_size}"
        if body.size not in (None, "auto", self.size):
            message = f"size is {body.size}: model {self.served.name} makes pictures of {self.size}, or auto"
            raise ApiError(400, message, param="size", code="invalid_value")
        if body.response_format == "url":
            message = "response_format url needs a store, and this server has none: choose b64_json"
            raise ApiError(400, message, param="response_format", code="invalid_value")
        if body.partial_images and not body.stream:
            raise ApiError(400, "partial_images are for streams: set stream", param="partial_images")

    def _events(self) -> AsyncGenerator[tuple[int, Any], None]:
        prepared = self.service.prepare(
            self.served,
            _TASK,
            self.body.prompt,
            self.body,
            seed=self.seed,
            num_samples=self.number,
            **self.inputs,
        )
        watch = _watch_pictures(self.body.partial_images or 0, self.kind)
        return self.service.worker.carry_out(self.served.name, [prepared], watch=watch)

    async def collect(self) -> Body:
        """Return all pictures at once."""
        made: dict[int, str] = {}
        warnings: list[str] = []
        usage: Body = {}
        async with aclosing(self._events()) as events:
            async for _, message in events:
                if isinstance(message, Began):
                    warnings += message.warnings
                    usage = count_tokens(message.results)
                elif isinstance(message, Made):
                    made[message.index] = await self._write(message)
        told = show_warnings(warnings)
        data = [{"b64_json": made[index]} for index in range(self.number)]
        return {"data": data, **self._head("created"), "usage": usage, "seed": self.seed, **told}

    async def stream(self) -> AsyncGenerator[Body, None]:
        """Yield previews, and each picture when it is done."""
        usage, told = {}, {}
        async with aclosing(self._events()) as events:
            async for _, message in events:
                if isinstance(message, Began):
                    usage, told = count_tokens(message.results), show_warnings(message.warnings)
                elif isinstance(message, Made):
                    done = {"type": f"{self.event}.completed", "b64_json": await self._write(message)}
                    yield {**done, **self._head("created_at"), "usage": usage, "seed": self.seed, **told}
                else:
                    number, preview = message.value
                    part = {"type": f"{self.event}.partial_image", "b64_json": preview}
                    yield {**part, "partial_image_index": number, **self._head("created_at")}

    async def _write(self, message: Made) -> str:
        picture = message.generated.image
        assert picture is not None
        return await asyncio.to_thread(write_picture, picture, self.kind)

    def _head(self, created: str) -> Body:
        return {
            created: int(time.time()),
            "size": self.size,
            "output_format": self.kind,
            "background": "opaque",
            "quality": "auto",
        }


def _watch_pictures(number: int, kind: str) -> Watch | None:
    """Watch for `number` previews of each picture, evenly spread over what is to be painted."""
    if not number:
        return None
    shown: dict[int, int] = {}

    def watch(results: Results, index: int, event: Event) -> tuple[int, str] | None:
        due = shown.get(index, 0)
        all_slots = int(results.documents[index].maskable.sum())
        if (
            due == number
            or 1 - event.num_masked / all_slots < (due + 1) / (number + 1)
            or not event.num_masked
        ):
            return None
        shown[index] = due + 1
        return due, write_picture(
            preview_picture(results, event.tokens(), results.documents[index].spans["image"]), kind
        )

    return watch


def preview_picture(results: Results, tokens: np.ndarray, span: tuple[int, int]) -> PIL.Image.Image:
    """Return what a picture decodes to while it is unmasked: what is masked is grey."""
    vocabulary, (start, stop) = results.codecs.vocabulary, span
    num_codebooks = vocabulary.space("image").num_codebooks
    starts = np.tile([r.start for r in vocabulary.ranges_of("image")], (stop - start) // num_codebooks)
    masked = tokens[start:stop] == vocabulary.mask("image")
    codes = np.where(masked, 0, tokens[start:stop] - starts).reshape(-1, num_codebooks)
    return results.codecs.veil(results.codecs.decode_image(codes), masked.reshape(codes.shape).mean(1))


def count_tokens(results: Results) -> Body:
    """Return the usage of a request: tokens of its conditions and of its targets."""
    given = {"text": 0, "image": 0}
    made = 0
    for document in results.documents:
        for modality, (start, stop) in document.spans.items():
            is_target = modality in document.task.targets_of(list(document.spans))
            number = int(document.maskable[start:stop].sum()) if is_target else 0
            made += number
            given[modality] = given.get(modality, 0) + (stop - start - number)
    asked = sum(given.values())
    return {
        "input_tokens": asked,
        "input_tokens_details": {"text_tokens": given["text"], "image_tokens": given["image"]},
        "output_tokens": made,
        "total_tokens": asked + made,
    }
