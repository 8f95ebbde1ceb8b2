"""The canvas: every task, any part given; its events replay what the sampler did."""

import asyncio
import base64
import json
import warnings
from typing import Any

import numpy as np
import pytest

from generation.fakes import hum, picture
from serve.clients import RATE, running, served_generator, tiny_service
from serve.test_media import to_png, to_wav
from trimask.generation.generated import Generated
from trimask.serve.app import create_app

FILES = {
    "image": base64.b64encode(to_png(picture())).decode(),
    "speech": base64.b64encode(to_wav(hum(), RATE)).decode(),
}
REQUESTS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"task": "text"}, {}),
    ({"task": "text", "prompt": "once [___] a"}, {}),
    ({"task": "text_to_image", "prompt": "a hat", "guidance_scale": 2.0, "negative_prompt": "a cat"}, {}),
    ({"task": "image_to_text", "image": FILES["image"]}, {"image": picture()}),
    ({"task": "text_to_speech", "prompt": "hello", "span_length": 9}, {}),
    (
        {"task": "text_to_speech", "prompt": "hello", "speech": FILES["speech"], "seconds": [0.0005, 0.0015]},
        {"speech": hum(), "seconds": (0.0005, 0.0015)},
    ),
    ({"task": "speech_to_text", "speech": FILES["speech"]}, {"speech": hum()}),
    ({"task": "joint", "pair": "speech"}, {}),
    ({"task": "triple", "order": "Confidence", "sampler": {"ends_last": True}}, {}),
    (
        {"task": "text_to_image", "prompt": "a hat", "codes": {"image": [[1, 2], [-1, -1], [0, 0], [3, -1]]}},
        {"image": np.array([[1, 2], [-1, -1], [0, 0], [3, -1]])},
    ),
    ({"task": "text", "sampler": {"length": "Grown", "length.most": 3.0}}, {}),
    ({"task": "text", "sampler": {"corrector": "ReMDMCap", "count": "Scheduled"}}, {}),
]


def alone(body: dict[str, Any], inputs: dict[str, Any]) -> Generated:
    generator = served_generator()
    given = {key: value for key, value in body.items() if key not in ("image", "speech", "codes")} | inputs
    settings = {"order": given.pop("order", None)} | given.pop("sampler", {})
    task, prompt = given.pop("task"), given.pop("prompt", None)
    values = {
        f"sampler.{task}.{path}": str(value).lower() if isinstance(value, bool) else str(value)
        for path, value in settings.items()
        if value is not None
    }
    generator.override(values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (made,) = generator.generate_many(task, prompt, **given)
    return made


def read_events(text: str) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("number", range(len(REQUESTS)))
def test_events_lead_to_the_result_of_generate(number: int) -> None:
    body, inputs = REQUESTS[number]
    body = body | {"seed": 3, "num_steps": 6, "previews": 2}
    expected = alone({k: v for k, v in body.items() if k != "previews"}, inputs)

    async def ask() -> list[dict[str, Any]]:
        async with running(create_app(tiny_service())) as client:
            answer = await client.post("/v1/canvas", json=body)
            assert answer.status_code == 200, answer.text
            return read_events(answer.text)

    *events, done = asyncio.run(ask())
    assert done["type"] == "done" and done["seed"] == 3
    assert done["is_complete"] == expected.is_complete and done.get("text") == expected.text
    assert done["codes"] == {name: codes.tolist() for name, codes in expected.codes.items()}
    assert ("image" in done) == (expected.image is not None)
    assert ("audio" in done) == (expected.waveform is not None)
    assert events[0]["step"] == 0 and events[0]["t"] == 1 and events[-1]["t"] == 0
    canvas: dict[int, int] = {}
    spans: dict[str, list[int]] = {}
    for event in events:
        assert event["type"] == "canvas"
        if "spans" in event:
            spans, canvas = event["spans"], dict(map(tuple, event["given"]))
        for slot in event["remasked"]:
            del canvas[slot]
        canvas |= dict(map(tuple, event["revealed"]))
        assert ("previews" in event) == (event["step"] % 2 == 0)
    for name, codes in expected.codes.items():
        start, stop, num_codebooks = spans[name]
        found = np.array([canvas[slot] for slot in range(start, stop)]).reshape(-1, num_codebooks)
        assert np.array_equal(found[: len(codes)], codes)
    previews = events[0]["previews"]
    assert set(previews) == {"audio" if name == "speech" else name for name in expected.codes}


WRONG: list[tuple[dict[str, Any], str | None]] = [
    ({}, "task"),
    ({"task": "gone"}, "task"),
    ({"task": "text_to_image"}, "prompt"),
    ({"task": "image_to_text", "image": "/etc/passwd"}, "image"),
    ({"task": "image_to_text", "image": "file:///etc/passwd"}, "image"),
    ({"task": "image_to_text", "image": "Li4vLi4vZXRjL3Bhc3N3ZA=="}, "image"),
    ({"task": "speech_to_text", "speech": "Li4vLi4vZXRjL3Bhc3N3ZA=="}, "speech"),
    ({"task": "text_to_image", "prompt": "a", "mask": "AAAA"}, "mask"),
    ({"task": "text_to_image", "prompt": "a", "codes": {"image": [[1], [1, 2]]}}, "codes.image"),
    ({"task": "text_to_image", "prompt": "a", "codes": {"image": [[2**40]]}}, "codes.image"),
    ({"task": "text_to_speech", "prompt": "a", "span_length": 10**7}, "span_length"),
    ({"task": "text_to_speech", "prompt": "a", "pair": "gone"}, "pair"),
    ({"task": "text_to_image", "prompt": "a", "codes": {"image": [[-1, -1]] * 3000}}, "codes.image"),
    ({"task": "text", "previews": -1}, "previews"),
    ({"task": "text", "sampler": {"order": "x.y:z"}}, "sampler"),
    ({"task": "text", "sampler": {"length": "Grown", "length.most": 1e9}}, "span_length"),
    ({"task": "text", "num_steps": 10**6}, "num_steps"),
]


def test_wrong_requests_name_the_field() -> None:
    async def ask() -> None:
        async with running(create_app(tiny_service())) as client:
            for body, param in WRONG:
                answer = await client.post("/v1/canvas", json=body)
                error = answer.json()["error"]
                assert (answer.status_code, error["param"]) == (400, param), (body, error)

    asyncio.run(ask())
