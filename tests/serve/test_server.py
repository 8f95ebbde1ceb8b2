"""A real server in this process: many clients at once, clients that leave, and an end that waits."""

import concurrent.futures
import contextlib
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest
import uvicorn

from serve.clients import served_generator, tiny_service
from trimask.serve import server
from trimask.serve.app import create_app
from trimask.serve.service import Service


def listening(service: Service) -> contextlib.AbstractContextManager[tuple[str, uvicorn.Server]]:
    return listening_to(create_app(service))


@contextlib.contextmanager
def listening_to(app: Any, *, head_seconds: float = 30.0) -> Iterator[tuple[str, uvicorn.Server]]:
    """Run an application in a thread; give its address and its server."""
    listener = server.bind("127.0.0.1", 0)
    running = uvicorn.Server(server.configure(app, patience=30, head_seconds=head_seconds))
    thread = threading.Thread(target=lambda: running.run(sockets=[listener]))
    thread.start()
    try:
        while not running.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", running
    finally:
        running.should_exit = True
        thread.join(60)
        listener.close()


def ask(url: str, seed: int, num_steps: int) -> str:
    with openai.OpenAI(api_key="none", base_url=f"{url}/v1") as client:
        options: dict[str, Any] = {"extra_body": {"num_steps": num_steps}, "seed": seed, "max_tokens": 9}
        return client.completions.create(model="tiny", prompt="once", **options).choices[0].text


def wait_until_idle(service: Service) -> None:
    end = time.monotonic() + 30
    while any(each.num_jobs for each in service.worker.schedulers.values()):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_many_clients_get_what_each_would_get_alone() -> None:
    service = tiny_service()
    asked = [(seed, 1 + seed % 7) for seed in range(24)]
    with listening(service) as (url, _), concurrent.futures.ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda each: ask(url, *each), asked))
    generator = served_generator()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for (seed, num_steps), text in zip(asked, found, strict=True):
            made = generator.generate("text", "once", seed=seed, num_steps=num_steps, span_length=13)
            assert made == f"once{text}"


@pytest.mark.parametrize("stream", [False, True])
def test_the_request_of_a_client_that_has_gone_is_dropped(stream: bool) -> None:
    service = tiny_service()
    body = {"model": "tiny", "prompt": "once", "max_tokens": 1000, "num_steps": 1000, "stream": stream}
    with listening(service) as (url, _), httpx2.Client(base_url=url) as client:
        scheduler = service.worker.schedulers["tiny"]
        if stream:
            with client.stream("POST", "/v1/completions", json=body, timeout=30) as answer:
                next(answer.iter_lines())
        else:
            with pytest.raises(httpx2.ReadTimeout):
                client.post("/v1/completions", json=body, timeout=0.5)
        wait_until_idle(service)
        assert 0 < scheduler.num_steps < 900 and scheduler.num_rows == 0


def test_a_client_that_does_not_read_is_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    """Its place would never be free, and the events of a stream would pile up for it."""
    with listening_to(create_app(tiny_service()), head_seconds=0.1) as (url, running):
        host, _, port = url.removeprefix("http://").partition(":")
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((host, int(port)))
            client.sendall(b"GET /playground/app.js HTTP/1.1\r\nHost: a\r\n\r\n" * 500)  # of 16 kB each
            end = time.monotonic() + 30
            while not running.server_state.connections:
                assert time.monotonic() < end
            while running.server_state.connections:
                assert time.monotonic() < end
                time.sleep(0.01)
    assert "Exception" not in capsys.readouterr().err


def test_what_is_under_way_is_carried_out_before_the_end() -> None:
    service = tiny_service()
    with listening(service) as (url, running), concurrent.futures.ThreadPoolExecutor(1) as pool:
        future = pool.submit(ask, url, 3, 9)
        while not service.worker.schedulers["tiny"].num_jobs and not future.done():
            time.sleep(0.001)
        running.should_exit = True
        assert future.result(60)
    assert not service.worker.is_alive
