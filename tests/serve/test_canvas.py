"""The canvas: every task, any part given; its events replay what the sampler did."""

import asyncio
import base64
import io
import json
import warnings
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from generation.fakes import hum, picture
from serve.clients import RATE, running, served_generator, tiny_service
from serve.test_media import to_png, to_wav
from trimask.generation.generated import Generated
from trimask.serve.app import create_app
from trimask.vocabulary.batch import make_batch

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
    ({"task": "text_to_image", "prompt": "a", "codes": {"image": []}}, "image"),
    ({"task": "speech_to_text", "codes": {"speech": []}}, "speech"),
    ({"task": "text_to_image", "prompt": "a", "codes": {"gone": [[1]]}}, "codes"),
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


def test_events_carry_the_probability_and_the_text_of_each_code() -> None:
    """The probability is that of the model's own prediction for the canvas as it was, guidance included."""
    body = {"task": "text_to_image", "prompt": "a hat", "num_steps": 5, "seed": 4, "guidance_scale": 1.0}
    generator = served_generator()
    vocabulary = generator.vocabulary
    document = generator.codecs.document("text_to_image", {"text": "a hat"})
    batch = make_batch([document], [0])
    z = torch.from_numpy(np.where(document.maskable, vocabulary.mask("image"), document.tokens))

    async def ask() -> list[dict[str, Any]]:
        async with running(create_app(tiny_service())) as client:
            return read_events((await client.post("/v1/canvas", json=body)).text)

    *events, _ = asyncio.run(ask())
    number = 0
    for event in events:
        prediction = generator.predictor(z[None], batch)
        after = z.clone()
        assert len(event["confidence"]) == len(event["revealed"])
        for (slot, code), told in zip(event["revealed"], event["confidence"], strict=True):
            index = int(document.range_index[slot])
            log_p = prediction(torch.tensor([slot]), index)[0]
            assert told == pytest.approx(float(log_p[code].exp()), abs=6e-4)
            after[slot] = vocabulary.ranges[index].start + code
            number += 1
        z = after
    assert number == 8
    assert [text for _, text in events[0]["texts"]] == list("a hat")
    assert not any(event["texts"] for event in events[1:])


def test_a_code_that_a_corrector_replaces_is_told() -> None:
    sampler = {"corrector": "TokenEditing", "corrector.probability": 0.03, "count": "Scheduled"}
    body = {"task": "text", "num_steps": 6, "seed": 1, "sampler": sampler}

    async def ask() -> list[dict[str, Any]]:
        async with running(create_app(tiny_service())) as client:
            return read_events((await client.post("/v1/canvas", json=body)).text)

    *events, done = asyncio.run(ask())
    start, _, _ = events[0]["spans"]["text"]
    canvas: dict[int, int] = {}
    replaced = 0
    for event in events:
        for slot, code in event["revealed"]:
            replaced += slot in canvas
            canvas[slot] = code
    codes = [code for (code,) in done["codes"]["text"]]
    assert replaced and [canvas[start + i] for i in range(len(codes))] == codes


def test_a_run_goes_on_from_its_codes() -> None:
    """As the playground does it: what is brushed is −1, all else of every target is given."""

    async def ask() -> None:
        async with running(create_app(tiny_service())) as client:
            body = {"task": "joint", "seed": 3, "num_steps": 4, "order": "Random"}
            done = read_events((await client.post("/v1/canvas", json=body)).text)[-1]
            codes = done["codes"] | {"image": [[-1, -1], *done["codes"]["image"][1:]]}
            more = {**body, "seed": 5, "codes": codes}
            first, *_, again = read_events((await client.post("/v1/canvas", json=more)).text)
            assert again["codes"]["text"] == done["codes"]["text"]
            assert again["codes"]["image"][1:] == done["codes"]["image"][1:]
            assert first["t"] == 1 and again["text"] == done["text"]
            spoken = {**body, "pair": "speech", "codes": {"text": [[1], [-1]], "speech": []}}
            *_, silent = read_events((await client.post("/v1/canvas", json=spoken)).text)
            assert silent["codes"]["speech"] == [] and silent["codes"]["text"][0] == [1]
            wrong = {**more, "prompt": "a hat"}
            error = (await client.post("/v1/canvas", json=wrong)).json()["error"]
            assert error["param"] == "codes" and "which prompt gives" in error["message"]

    asyncio.run(ask())


def test_speech_is_heard_as_soon_as_its_coarsest_code_is_there() -> None:
    """Other codes are those of silence until they are revealed; the fake codec has one code for each half."""
    codes = [[1, -1], [-1, 1], [1, 1], [0, -1]]
    body = {"task": "text_to_speech", "prompt": "hello", "codes": {"speech": codes}, "previews": 1}

    async def ask() -> list[dict[str, Any]]:
        async with running(create_app(tiny_service())) as client:
            return read_events((await client.post("/v1/canvas", json=body)).text)

    first, *_ = asyncio.run(ask())
    samples, _ = soundfile.read(io.BytesIO(base64.b64decode(first["previews"]["audio"])))
    loud, quiet = [0.5, 0.5], [-0.5, -0.5]  # code 0 is silence's: the codec hears it as below 0
    assert samples == pytest.approx([*loud, *quiet, *[0.0] * 4, *loud, *loud, *quiet, *quiet], abs=1e-4)
