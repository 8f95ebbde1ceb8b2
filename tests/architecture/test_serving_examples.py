"""The examples of serving: two replicas of Ray Serve and a page of Gradio, each with a client; an image."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx2
import pytest

import trimask
from serve.test_server import listening
from trimask.serve.service import Service

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
EXAMPLES = ROOT / "examples" / "serving"
REQUEST = {"model": "quickstart", "prompt": "It was the", "max_tokens": 8, "seed": 3, "num_steps": 4}


def test_the_dockerfile_is_clean() -> None:
    done = subprocess.run(
        [BIN / "hadolint", EXAMPLES / "Dockerfile"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_an_image_gets_what_the_dockerfile_copies() -> None:
    kept = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().split() if line[0] == "!"}
    lines = (EXAMPLES / "Dockerfile").read_text().splitlines()
    copied = {name for line in lines if line.startswith("COPY") for name in line.split()[1:-1]}
    assert copied == kept and all((ROOT / name).exists() for name in kept)


@contextlib.contextmanager
def running(command: list[str], url: str, environment: Mapping[str, str], log: Path) -> Iterator[None]:
    """Run a server in the folder of the examples until the block ends; Ctrl-C ends it."""
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=EXAMPLES, env={**os.environ, **environment}, stdout=file, stderr=file
        )
    try:
        deadline = time.monotonic() + 240
        while not is_answering(url):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def is_answering(url: str) -> bool:
    with contextlib.suppress(httpx2.TransportError):
        return httpx2.get(url, timeout=10).status_code == 200
    return False


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked_shapes")
def test_two_replicas_answer_alike(tmp_path: Path) -> None:
    pytest.importorskip("ray.serve")
    url = "http://127.0.0.1:8000"  # that of Ray Serve, unless it is configured
    command = [str(BIN / "serve"), "run", "replicas:app"]
    environment = {
        "OMP_NUM_THREADS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_OVERRIDE_RESOURCES": '{"CPU": 4}',
    }
    with (
        running(command, f"{url}/health", environment, tmp_path / "log.txt"),
        httpx2.Client(base_url=url) as client,
    ):
        answers = [client.post("/v1/completions", json=REQUEST, timeout=120) for _ in range(12)]
        listed = client.get("/v1/models").json()
        refused = client.post("/v1/completions", json=REQUEST | {"nobody": 1})
        served = [client.get("/metrics").text for _ in range(12)]
    (text,) = {answer.json()["choices"][0]["text"] for answer in answers}
    with listening(Service({"quickstart": trimask.load("quickstart")})) as (alone, _):
        answer = httpx2.post(f"{alone}/v1/completions", json=REQUEST)
    assert text == answer.json()["choices"][0]["text"]
    assert [each["id"] for each in listed["data"]] == ["quickstart"]
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "nobody"
    assert len(set(served)) > 1  # two replicas, each with counts of its own


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.filterwarnings("ignore")  # of gradio's client
def test_the_page_of_gradio_answers_its_client(tmp_path: Path) -> None:
    client = pytest.importorskip("gradio_client")
    url, environment = (
        "http://127.0.0.1:7861",
        {"GRADIO_SERVER_PORT": "7861", "GRADIO_ANALYTICS_ENABLED": "False"},
    )
    with running([sys.executable, str(EXAMPLES / "gradio_app.py")], url, environment, tmp_path / "log.txt"):
        picture, sound, text = client.Client(url, verbose=False).predict("strawberry", 0, 4, api_name="/fill")
    model = trimask.load("quickstart")
    assert text == model.generate("text", "strawberry", seed=0, num_steps=4)
    assert Path(picture).stat().st_size and Path(sound).read_bytes().startswith(b"RIFF")
