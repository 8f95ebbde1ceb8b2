"""Answers: as one JSON object, or as server-sent events; and what happens when the client leaves."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse

from trimask.serve.errors import ApiError, explain

T = TypeVar("T")
_DONE = "data: [DONE]\n\n"


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns; cancel it as soon as the client has gone."""
    task, watch = asyncio.ensure_future(work), asyncio.ensure_future(_wait_until_gone(request))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ApiError(499, "the client has gone")
        return task.result()
    finally:
        for each in (task, watch):
            each.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _wait_until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def respond_with_events(
    request: Request,
    events: AsyncGenerator[dict[str, Any], None],
    *,
    fields: Sequence[str],
    is_ended: bool = False,
) -> StreamingResponse:
    """Answer with events, each with its `type` as its name if it has one. An error before the first has a
    status of its own; later ones are a line of the stream.

    Args:
        fields: of the request, to name in errors.
        is_ended: whether `data: [DONE]` follows the last.
    """
    with_first = contextlib.AsyncExitStack()
    await with_first.enter_async_context(contextlib.aclosing(events))
    try:
        first = await unless_gone(request, _take_first(events))
    except BaseException:
        await with_first.aclose()
        raise

    async def lines() -> AsyncIterator[str]:
        async with with_first:
            try:
                if first is not None:
                    yield _line(first)
                async for event in events:
                    yield _line(event)
            except Exception as error:
                yield _line(explain(error, fields).body)
        if is_ended:
            yield _DONE

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(lines(), media_type="text/event-stream", headers=headers)


async def _take_first(events: AsyncGenerator[dict[str, Any], None]) -> dict[str, Any] | None:
    async for event in events:
        return event
    return None


def _line(event: dict[str, Any]) -> str:
    name = f"event: {event['type']}\n" if "type" in event else ""
    return f"{name}data: {json.dumps(event, allow_nan=False)}\n\n"
