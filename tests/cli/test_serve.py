"""`trimask serve`: starts, answers, ends when told; and says at once what is wrong."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import openai
import pytest

from trimask.cli import main


@contextlib.contextmanager
def serving(*words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a server; give its process and its address."""
    command = [sys.executable, "-m", "trimask", "serve", *words, "--port", "0", "--json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            told = ""
            while not told.rstrip().endswith("}"):
                line = process.stdout.readline()
                assert line, process.communicate()[1]
                told += line
            yield process, json.loads(told)["url"]
        finally:
            process.kill()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_it_answers_until_it_is_told_to_end(number: signal.Signals, status: int, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("one\n\ntwo\n")
    with serving("quickstart", "mine=quickstart", "--api-keys", str(keys)) as (process, url):
        with openai.OpenAI(api_key="two", base_url=url) as client:
            assert [model.id for model in client.models.list().data] == ["quickstart", "mine"]
            described = client.models.retrieve("mine").model_dump()
            assert set(described["presets"]) == {"fast", "balanced", "best"}
        page = httpx2.get(url.removesuffix("v1"))
        assert page.status_code == 200 and "<title>trimask playground</title>" in page.text
        with openai.OpenAI(api_key="two", base_url=url) as client:
            pictures = [
                client.images.generate(
                    prompt="strawberry", model=name, extra_body={"num_steps": 2, "seed": 0}
                ).data
                for name in ("quickstart", "mine")
            ]
            assert pictures[0] == pictures[1] and pictures[0]
        with (
            openai.OpenAI(api_key="three", base_url=url) as stranger,
            pytest.raises(openai.AuthenticationError),
        ):
            stranger.models.list()
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == status, errors
        assert "trimask: serving quickstart, mine at http://127.0.0.1:" in errors
        assert f"playground at {url.removesuffix('v1')}" in errors
        assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 0), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_second_signal_waits_for_nothing(number: signal.Signals, status: int) -> None:
    body = {"task": "text", "prompt": f"a [{'_' * 2000}]", "num_steps": 1000}  # minutes
    with (
        serving("quickstart") as (process, url),
        httpx2.stream("POST", f"{url}/canvas", json=body, timeout=60) as answer,
    ):
        lines = answer.iter_lines()
        assert next(lines) == "event: canvas"
        process.send_signal(number)
        assert sum(line == "event: canvas" for line, _ in zip(lines, range(9), strict=False)) == 3
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == status, errors
        assert "Traceback" not in errors and "ERROR" not in errors


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", "quickstart", "--port", str(taken.getsockname()[1])]) == 1
    assert "Address already in use; choose another" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "no model to serve"),
        (["quickstar"], "did you mean quickstart"),
        (["quickstart", "quickstart"], "two models have the name quickstart"),
        (["=quickstart"], "is no NAME=RUN"),
        ([".=quickstart"], "can be no model's name"),
        (["a\nb=quickstart"], "can be no model's name"),
        (["quickstart", "--allow-origin", "example.org"], "--allow-origin is 'example.org'"),
        (["quickstart", "--allow-origin", "https://example.org/"], "give scheme and host alone"),
        (["quickstart", "--port", "70000"], "--port is 70000"),
        (["quickstart", "--most-rows", "0"], "--most-rows is 0"),
        (["quickstart", "--most-positions", "0"], "--most-positions is 0"),
        (["quickstart", "--receive-seconds", "0"], "--receive-seconds is 0"),
        (["quickstart", "--backend", "gone"], "unknown backend 'gone'"),
        (["quickstart", "--prot", "80"], "--port"),
    ],
)
def test_wrong_arguments(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", *words]) == 2
    assert told in capsys.readouterr().err


def test_a_file_without_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "keys"
    empty.write_text("\n")
    assert main(["serve", "quickstart", "--api-keys", str(empty)]) == 2
    assert "has no keys" in capsys.readouterr().err
    assert main(["serve", "quickstart", "--api-keys", str(tmp_path / "gone")]) == 1


def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["serve", "quickstart"]) == 1
    assert "pip install 'trimask[serve]'" in capsys.readouterr().err
