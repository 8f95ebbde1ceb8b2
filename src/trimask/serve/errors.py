"""Errors in the one shape that clients expect: {"error": {message, type, param, code}}."""

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, final

from starlette.requests import ClientDisconnect

from trimask.errors import UserError
from trimask.serve.scheduler import Busy

_LOG = logging.getLogger("trimask.serve")
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_FIELD = re.compile(r"(?!(str|int|float|bool|Voice)$)[A-Za-z0-9_]+")
_WORD = re.compile(r"\w+")
_ALIASES = {
    "speech": ("file",),
    "recording": ("file", "speech"),
    "picture": ("image",),
    "prompt": ("input",),
    "text": ("prompt", "input"),
}
_BESIDES = ("model", "task")


@final
class ApiError(Exception):
    """An error with its HTTP status, and the name of the field that it is about."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = dict(headers or {})
        if 400 <= status != 429:
            # It would fail again: nothing depends on chance. Clients repeat 408, 409 and all of 5xx.
            self.headers["x-should-retry"] = "false"

    @property
    def body(self) -> dict[str, Any]:
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def explain(error: Exception, fields: Sequence[str] = ()) -> ApiError:
    """Convert an error of a request to what its client is told. An unforeseen one is logged, and its details
    stay here.

    Args:
        fields: of the request; the one that a UserError's message begins with is named.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ClientDisconnect):
        return ApiError(499, "the client has gone")
    if isinstance(error, Busy):
        return ApiError(429, str(error), code="queue_full", headers={"Retry-After": "1"})
    if isinstance(error, UserError):
        return ApiError(400, str(error), param=find_param(str(error), fields), code="invalid_value")
    _LOG.error("a request has failed", exc_info=error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        message = "the server is out of memory for this request: ask for less"
        return ApiError(503, message, code="out_of_memory")
    return ApiError(500, "the server failed, and its log says why", code="internal")


def find_param(message: str, fields: Sequence[str]) -> str | None:
    """Return the field that a message is about, the first that it names before its remedy: "num_steps is 0:
    give …". Many name the model or the task besides.
    """
    words = _WORD.findall(message.partition(": ")[0])
    named = [each for word in words for each in (word, *_ALIASES.get(word, ())) if each in fields]
    return next((each for each in named if each not in _BESIDES), named[0] if named else None)


def _name(place: Sequence[str | int]) -> str | None:
    """Return the field at a place in the body, without pydantic's names of the types that it tried there."""
    parts = [str(part) for part in place if part not in ("body", "query", "path")]
    stop = next((i for i, part in enumerate(parts) if i and not _FIELD.fullmatch(part)), len(parts))
    return ".".join(parts[:stop]) or None


def explain_invalid(errors: Sequence[Mapping[str, Any]]) -> ApiError:
    """Convert the first of pydantic's errors. Of a field that may have several types, it is that of the type
    which was given, if its value is wrong.
    """
    param = _name(errors[0]["loc"])
    same = [error for error in errors if _name(error["loc"]) == param]
    error = next((error for error in same if not error["type"].endswith("_type")), errors[0])
    if error["type"] == "extra_forbidden":
        message = f"unknown field {param}: leave it out (this server refuses what it would not use)"
        return ApiError(400, message, param=param, code="unknown_parameter")
    if error["type"] == "missing":
        return ApiError(400, f"{param or 'the body'} is missing: give it", param=param, code="missing")
    if error["type"] == "json_invalid":
        return ApiError(400, "the body is not JSON", code="invalid_json")
    if error["type"] == "model_attributes_type" and param is None:
        message = "the body is no JSON object: send one, with Content-Type: application/json"
        return ApiError(400, message, code="invalid_json")
    what = str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = f"{param or 'the body'}: {what[:1].lower()}{what[1:]}"
    return ApiError(400, message, param=param, code="invalid_value")
