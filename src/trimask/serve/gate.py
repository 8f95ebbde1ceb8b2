"""What stands before every route: an id for each request, keys, and bounds on what arrives."""

import asyncio
import hmac
import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, NoReturn, final

from trimask.serve import page
from trimask.serve.errors import ApiError
from trimask.serve.limits import Limits
from trimask.serve.metrics import Metrics

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Message, _Receive, _Send], Awaitable[None]]
_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(?::\d+)?")
_CLOSE = {"Connection": "close"}  # or what else the client sends would be read
_NOSNIFF = (b"x-content-type-options", b"nosniff")
_OPEN = ("/health", "/")
"""Paths that need no key: whoever watches over the server has none, and the page asks for one."""


@final
class Gate:
    """An application before the application.

    Args:
        keys: if given, each request needs one of them. They are compared in constant time.
        hosts: if given, the names that requests may call this server by. A page on the web may make a name of
            its own mean this machine, and so read what only this machine should.
        origins: of pages of other servers that may call; "*" is any. A page may send a form anywhere without
            asking, and though it cannot read the answer, the model would work for it.
    """

    def __init__(
        self,
        app: _App,
        *,
        keys: Sequence[str] | None,
        hosts: Sequence[str] | None,
        origins: Sequence[str] = (),
        limits: Limits,
        metrics: Metrics,
    ):
        self.app, self.limits, self.metrics, self._hosts = app, limits, metrics, hosts
        self._origins = [origin.encode() for origin in origins]
        self._num_active, self._held_bytes = 0, 0
        self._keys = None if keys is None else [key.encode() for key in keys]

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        name, began, status = secrets.token_hex(12).encode(), time.monotonic(), 499
        headers = {key.lower(): value for key, value in scope["headers"]}
        body, is_refused = _Body(self, receive), False

        async def send_with_id(message: _Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", name), _NOSNIFF]
            await send(message)

        async def send_unless_refused(message: _Message) -> None:
            """Whatever a route makes of a body that did not arrive, the client is told why it did not."""
            nonlocal is_refused
            if body.error is not None and message["type"] == "http.response.start":
                is_refused = True
                await _answer(body.error, send_with_id)
            elif not is_refused:
                await send_with_id(message)

        self._num_active += 1
        try:
            error = self._refuse(scope["method"], scope["path"], headers)
            if error is None:
                await self.app(scope, body.receive, send_unless_refused)
            else:
                await _answer(error, send_with_id)
        finally:
            self._num_active -= 1
            self._held_bytes -= body.num_bytes
            self.metrics.note_request(scope, status, time.monotonic() - began)

    def _refuse(self, method: str, path: str, headers: dict[bytes, bytes]) -> ApiError | None:
        host = _HOST.fullmatch(headers.get(b"host", b"").decode("latin-1").lower())
        if self._hosts is not None and (host is None or host[1] not in self._hosts):
            return ApiError(403, "this server is for its own machine: call it 127.0.0.1", code="wrong_host")
        if method == "POST" and self._is_foreign(headers):
            message = (
                "pages of other servers may not call this one: trimask serve --allow-origin ORIGIN lets them"
            )
            return ApiError(403, message, code="wrong_origin")
        if self._keys is not None and path not in _OPEN and not path.startswith(page.OPEN):
            scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
            matches = [hmac.compare_digest(key.strip(), known) for known in self._keys]
            if scheme.lower() != b"bearer" or not any(matches):
                message = "no key, or a wrong one: send Authorization: Bearer KEY"
                return ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length[:20]) > self.limits.body_bytes:
            return self.say_too_large()
        if self._num_active > self.limits.num_active and path not in _OPEN:
            return _say_busy(f"{self.limits.num_active:,} requests are under way")
        return None

    def _is_foreign(self, headers: dict[bytes, bytes]) -> bool:
        """Whether a page of another server has sent a request. Browsers say so, to addresses that they trust
        in `Sec-Fetch-Site`, which a proxy's change of `Host` does not touch; other clients say nothing.
        """
        origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site")
        if b"*" in self._origins or origin in self._origins:
            return False
        if site is not None:
            return site in (b"cross-site", b"same-site")
        return origin is not None and origin.partition(b"://")[2] != headers.get(b"host")

    def say_too_large(self) -> ApiError:
        message = f"the body is larger than {self.limits.body_bytes:,} bytes: send less"
        return ApiError(413, message, code="request_too_large", headers=_CLOSE)

    def hold(self, num_bytes: int) -> ApiError | None:
        """Note that so many more bytes have arrived; return an error if they are more than can be held."""
        self._held_bytes += num_bytes
        if self._held_bytes > self.limits.held_bytes:
            return _say_busy("the requests under way are too large together")
        return None


@final
class _Body:
    """The body of a request while it arrives, within bounds whether or not it states its length."""

    def __init__(self, gate: Gate, receive: _Receive):
        self._gate, self._receive = gate, receive
        self._ends = time.monotonic() + gate.limits.receive_seconds
        self._is_whole = False
        self.num_bytes = 0
        self.error: ApiError | None = None

    async def receive(self) -> _Message:
        if self._is_whole:
            return await self._receive()
        try:
            async with asyncio.timeout(max(self._ends - time.monotonic(), 0)):
                message = await self._receive()
        except TimeoutError:
            seconds = self._gate.limits.receive_seconds
            self._fail(ApiError(408, f"the body did not arrive within {seconds:g} s", headers=_CLOSE))
        self._is_whole = not message.get("more_body", False)
        number = len(message.get("body", b""))
        self.num_bytes += number
        error = self._gate.hold(number)
        if self.num_bytes > self._gate.limits.body_bytes:
            error = self._gate.say_too_large()
        if error is not None:
            self._fail(error)
        return message

    def _fail(self, error: ApiError) -> NoReturn:
        self.error = error
        raise error


def _say_busy(what: str) -> ApiError:
    return ApiError(
        429, f"{what}: try again later", code="server_busy", headers={"Retry-After": "1", **_CLOSE}
    )


async def _answer(error: ApiError, send: _Send) -> None:
    body = json.dumps(error.body).encode()
    own = [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *own]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
