"""What a model says of itself, and presets by request."""

import asyncio
from typing import Any

from serve.clients import running, served_generator, tiny_service
from serve.test_canvas import read_events
from trimask.generation.prompts import Seen
from trimask.sampling.config import SamplerConfig
from trimask.sampling.filters import Temperature
from trimask.sampling.order import LeftToRight
from trimask.serve.app import create_app
from trimask.serve.service import Service

FAST = SamplerConfig(num_steps=2, order=LeftToRight(), filters=(Temperature(value=0.0),))


def service() -> Service:
    generator = served_generator()
    generator.seen = Seen(tasks=("text", "text_to_image"), voices={"slt": 3, "rms": 1})
    return Service({"tiny": generator}, presets={"tiny": {"fast": {"text_to_image": FAST}}})


def test_a_model_describes_what_it_can_be_asked_for() -> None:
    async def ask() -> None:
        async with running(create_app(service())) as client:
            listed = (await client.get("/v1/models")).json()["data"][0]
            told = (await client.get("/v1/models/tiny")).json()
        assert set(listed) == {"id", "object", "created", "owned_by"} and listed.items() <= told.items()
        text, image, speech = told["modalities"]
        assert (text["decodes_to"], image["decodes_to"], speech["decodes_to"]) == ("text", "image", "audio")
        assert image["grid"] == [2, 2] and image["image_size"] == 8 and image["num_codebooks"] == 2
        assert (speech["sample_rate"], speech["frame_rate"], speech["has_end"]) == (8000, 2000, True)
        tasks = {task["name"]: task for task in told["tasks"]}
        assert tasks["joint"]["spans"] == [["text", "image"], ["text", "speech"]]
        assert tasks["text_to_image"]["condition"] == ["text"]
        assert tasks["text"]["is_trained"] and not tasks["triple"]["is_trained"]
        own = {"num_steps": 64, "guidance_scale": 1, "temperature": 0.8, "top_p": 0.95, "order": "Random"}
        assert tasks["text"]["sampler"] == own
        fast = {"num_steps": 2, "guidance_scale": 1, "temperature": 0, "top_p": 1, "order": "LeftToRight"}
        assert told["presets"] == {"fast": {"text_to_image": fast}}
        assert told["voices"] == ["slt", "rms"] and told["limits"]["num_steps"] == 1024
        assert {"Random", "Confidence", "LeftToRight"} <= set(told["orders"])

    asyncio.run(ask())


def test_each_order_that_is_offered_can_be_asked_for() -> None:
    async def ask() -> None:
        async with running(create_app(tiny_service())) as client:
            told = (await client.get("/v1/models/tiny")).json()
            for order in told["orders"]:
                body = {"task": "text_to_image", "prompt": "a", "num_steps": 2, "order": order}
                answer = await client.post("/v1/canvas", json=body)
                assert answer.status_code == 200, (order, answer.text)

    asyncio.run(ask())


def test_a_preset_is_asked_for_by_its_name() -> None:
    async def ask() -> None:
        async with running(create_app(service())) as client:

            async def post(**more: Any) -> Any:
                return await client.post("/v1/canvas", json={"task": "text_to_image", "prompt": "a", **more})

            by_name = read_events((await post(seed=3, preset="fast")).text)
            by_hand = {"seed": 3, "num_steps": 2, "temperature": 0, "order": "LeftToRight", "sampler": {}}
            by_hand["sampler"] = {"count": "Scheduled", "grid": "Uniform", "guidance_scale": 1}
            expected = read_events((await post(**by_hand)).text)
            assert by_name == expected and len(by_name) == 4
            other = read_events((await post(seed=3, preset="fast", num_steps=1)).text)
            assert len(other) == 3  # settings beside it override it
            error = (await post(preset="gone")).json()["error"]
            assert (error["param"], error["code"]) == ("preset", "invalid_value")
            assert "choose one of fast" in error["message"]

    asyncio.run(ask())
