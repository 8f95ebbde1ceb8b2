"""Listen and serve until a signal; what is under way is carried out first."""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any, final

import uvicorn

from trimask.errors import UserError
from trimask.serve.connection import Connection

_BACKLOG = 2048


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 takes a free one. UserError: the address cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise UserError(
            f"cannot listen at {host}, port {port}: {error.strerror or error}; choose another"
        ) from error
    return listener


def configure(app: Any, *, patience: int, head_seconds: float) -> uvicorn.Config:
    """Return how uvicorn serves `app`.

    Args:
        patience: the most seconds to wait at the end for answers that are under way.
        head_seconds: within which the head of a request must arrive.
    """
    protocol: Any = partial(Connection, head_seconds=head_seconds)
    return uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        log_level="error",  # strangers must not fill the log with what is no HTTP
        access_log=False,
        timeout_graceful_shutdown=patience,
        server_header=False,
    )


def run(
    app: Any,
    listener: socket.socket,
    *,
    when_ready: Callable[[], None],
    patience: int,
    head_seconds: float,
) -> None:
    """Serve `app` until SIGTERM or SIGINT; then take no more, and wait for what is under way. A second signal
    waits for none.

    Args:
        when_ready: called once, when requests are answered.
        patience, head_seconds: as in `configure`.
    """
    config = configure(app, patience=patience, head_seconds=head_seconds)
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    # uvicorn raises the signal again when it is done, which would end the process as if it had failed.
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        _Server(config, when_ready).run(sockets=[listener])
    finally:
        signal.signal(signal.SIGTERM, before)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a line belongs in the log. An answer that is cut off at the end is none: we have cut it off."""
    name = asyncio.CancelledError.__name__  # Starlette logs the text of its traceback
    is_ours = record.exc_info is not None and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not is_ours and not record.getMessage().rstrip().endswith(name)


@final
class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, when_ready: Callable[[], None]):
        super().__init__(config)
        self._when_ready = when_ready

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; end at once at a second signal, of which uvicorn knows SIGINT alone."""
        self.force_exit = self.should_exit
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._when_ready()
