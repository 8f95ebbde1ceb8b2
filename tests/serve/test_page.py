"""docs/serve.md: its program runs against the shipped model, and its request to the canvas is answered."""

import contextlib
import io
import json
import re
import shlex
from pathlib import Path

import httpx2
import pytest

import trimask
from serve.test_server import listening
from trimask.serve.service import Service

PAGE = (Path(__file__).parents[2] / "docs" / "serve.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000"


@pytest.mark.usefixtures("unchecked_shapes", "few_sampling_steps")
def test_the_page_can_be_typed() -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (request,) = re.findall(r"^(curl .*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    printed = io.StringIO()
    with listening(Service({"quickstart": trimask.load("quickstart")})) as (url, _):
        with contextlib.redirect_stdout(printed):
            exec(program.replace(ADDRESS, url), names := {})
        _, _, address, *_, body = shlex.split(request)
        answer = httpx2.post(address.replace(ADDRESS, url), json=json.loads(body), timeout=60)
    assert names["png"].startswith(b"\x89PNG") and names["speech"].content.startswith(b"RIFF")
    events = ["image_generation.partial_image"] * 3 + ["image_generation.completed"]
    assert printed.getvalue().splitlines()[-4:] == events
    assert answer.text.count("event: canvas") >= 8 and answer.text.count("event: done") == 1
