"""What stands before every route: an id for each request, keys, and a bound on bodies."""

import hmac
import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, final

from trimask.serve import page
from trimask.serve.errors import ApiError
from trimask.serve.metrics import Metrics

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Message, _Receive, _Send], Awaitable[None]]
_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(?::\d+)?")
_OPEN = ("/health", "/")
"""Paths that need no key: whoever watches over the server has none, and the page asks for one."""


@final
class Gate:
    """An application before the application.

    Args:
        keys: if given, each request needs one of them. They are compared in constant time.
        hosts: if given, the names that requests may call this server by. A page on the web may make a name of
            its own mean this machine, and so read what only this machine should.
        body_bytes: the largest body.
    """

    def __init__(
        self,
        app: _App,
        *,
        keys: Sequence[str] | None,
        hosts: Sequence[str] | None,
        body_bytes: int,
        metrics: Metrics,
    ):
        self.app, self.body_bytes, self.metrics, self._hosts = app, body_bytes, metrics, hosts
        self._keys = None if keys is None else [key.encode() for key in keys]

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        name, began, status = secrets.token_hex(12).encode(), time.monotonic(), 499
        headers = {key.lower(): value for key, value in scope["headers"]}

        async def send_with_id(message: _Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", name)]
            await send(message)

        try:
            error = self._refuse(scope["path"], headers)
            if error is None:
                await self.app(scope, self._bound(receive), send_with_id)
            else:
                await _answer(error, send_with_id)
        finally:
            self.metrics.note_request(scope, status, time.monotonic() - began)

    def _refuse(self, path: str, headers: dict[bytes, bytes]) -> ApiError | None:
        host = _HOST.fullmatch(headers.get(b"host", b"").decode("latin-1"))
        if self._hosts is not None and (host is None or host[1] not in self._hosts):
            return ApiError(403, "this server is for its own machine: call it 127.0.0.1", code="wrong_host")
        if self._keys is not None and path not in _OPEN and not path.startswith(page.OPEN):
            scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
            matches = [hmac.compare_digest(key.strip(), known) for known in self._keys]
            if scheme.lower() != b"bearer" or not any(matches):
                message = "no key, or a wrong one: send Authorization: Bearer KEY"
                return ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length[:20]) > self.body_bytes:
            return self._too_large()
        return None

    def _too_large(self) -> ApiError:
        message = f"the body is larger than {self.body_bytes:,} bytes: send less"
        return ApiError(413, message, code="request_too_large", headers={"Connection": "close"})

    def _bound(self, receive: _Receive) -> _Receive:
        """Bound a body that does not state its length."""
        received = 0

        async def receive_some() -> _Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.body_bytes:
                raise self._too_large()
            return message

        return receive_some


async def _answer(error: ApiError, send: _Send) -> None:
    body = json.dumps(error.body).encode()
    own = [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *own]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
