"""/openapi.json describes the server: requests made from it, right and wrong, are answered as it says."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from generation.fakes import _ALPHABET, FakeText, tiny_generator
from serve.clients import FastSpeech, tiny_service
from serve.test_server import listening_to
from trimask.serve.app import create_app
from trimask.serve.limits import Limits
from trimask.serve.service import Service
from trimask.vocabulary.task import TASKS


class AnyText(FakeText):
    """Takes every character, as real tokenizers do."""

    def encode(self, text: str, *, is_spelled: bool = False) -> list[int]:
        known = "".join(letter if letter in _ALPHABET else " " for letter in text)
        return super().encode(known, is_spelled=is_spelled)


KNOWN: dict[str, list[Any]] = {
    "model": ["tiny"],
    "task": [task.name for task in TASKS],
    "order": [None, "Random", "LargestProbability"],
    "sampler": [{}, {"block_length": 4}, {"gone": 1}],
    "guidance_scale": [None, 1.0],
    "negative_prompt": [None],
    "preset": [None],
    "voice": ["default"],
    "temperature": [0, 1],
}


def narrow(app: Any) -> None:
    """Give the description of some fields values that are known, so that made-up requests come further."""
    schema = app.openapi()
    shapes = list(schema["components"]["schemas"].values())
    for path in schema["paths"].values():
        content = path.get("post", {}).get("requestBody", {}).get("content", {})
        shapes.append(content.get("multipart/form-data", {}).get("schema", {}))
    for shape in shapes:
        for name in KNOWN.keys() & shape.get("properties", {}).keys():
            shape["properties"][name] = {"enum": KNOWN[name]}


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked_shapes")
def test_requests_made_from_the_description(tmp_path: Path) -> None:
    generator = tiny_generator(text=AnyText(), speech=FastSpeech())
    service = Service({"tiny": generator}, limits=Limits(num_steps=8, tokens=64, num_results=3))
    app = create_app(service)
    narrow(app)
    with listening_to(app) as (url, _):
        # What is valid by its type may still be refused: a prompt too long, a picture without a mask. What
        # the narrowed description forbids may be right.
        command = f"run {url}/openapi.json --max-examples 12 --phases coverage,fuzzing --seed 1"
        command += (
            " --exclude-checks positive_data_acceptance,negative_data_rejection --suppress-health-check all"
        )
        done = subprocess.run(
            [str(Path(sys.executable).with_name("schemathesis")), *command.split()],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert "Tested: 11" in done.stdout
        assert httpx2.get(f"{url}/health").json() == {
            "status": "ok",
            "models": {"tiny": {"requests": 0, "rows": 0}},
        }
        assert service.worker.schedulers["tiny"].num_steps > 20


@pytest.mark.parametrize("path", ["/v1/images/edits", "/v1/audio/transcriptions", "/v1/canvas"])
def test_each_body_is_described(path: str) -> None:
    schema = create_app(tiny_service()).openapi()
    body = schema["paths"][path]["post"]["requestBody"]["content"]
    assert set(body) <= {"multipart/form-data", "application/json"} and body
    assert set(schema["paths"][path]["post"]["responses"]) == {"200", "default"}
