"""The connection of one client: uvicorn's, with bounds on waiting for the client, and errors in our shape."""

import asyncio
import json
from typing import Any, final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from trimask.serve.errors import ApiError

_NOT_HTTP = "what was sent is no HTTP request"


@final
class Connection(H11Protocol):
    """Closes a connection that has been open for `head_seconds` without the whole head of a request: one that
    sends a byte now and then would be kept forever. So would one that does not read its answer, and the
    events of a stream would pile up for it: it is cut off, and its request dropped, after four times as long
    [D: a picture or recording takes longer than a head].
    """

    def __init__(self, *args: Any, head_seconds: float, **options: Any):
        super().__init__(*args, **options)
        self._head_seconds = head_seconds
        self._head_timer: asyncio.TimerHandle | None = None
        self._send_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        self._unwatch_sending()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """What was sent waits for the client."""
        super().pause_writing()
        self._send_timer = self.loop.call_later(4 * self._head_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        self._unwatch_sending()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def _watch(self) -> None:
        """Start the time, unless it runs already or a request is being answered."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._unwatch()
        elif self._head_timer is None and not self.transport.is_closing():
            self._head_timer = self.loop.call_later(self._head_seconds, self._give_up)

    def _unwatch(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _unwatch_sending(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self._close_with(ApiError(408, f"no request within {self._head_seconds:g} s"))

    def send_400_response(self, msg: str) -> None:
        self._close_with(ApiError(400, _NOT_HTTP, code="invalid_http"))

    def _close_with(self, error: ApiError) -> None:
        """Tell the client, if no answer has begun, and close the connection."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps(error.body).encode()
            headers = {**error.headers, "content-type": "application/json", "connection": "close"}
            headers["content-length"] = str(len(body))
            pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
            for event in (
                h11.Response(status_code=error.status, headers=pairs),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
