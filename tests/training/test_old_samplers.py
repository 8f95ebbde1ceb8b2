"""Sampler settings of an earlier version are read: as the same law if there is one, else as the default."""

import json
import logging
from typing import Any

import pytest

from trimask.config import from_dict, to_dict
from trimask.sampling.config import SamplerConfig
from trimask.sampling.count import Ancestral, Scheduled
from trimask.sampling.defaults import DEFAULTS, OTHER, Samplers
from trimask.sampling.filters import Temperature, TopP
from trimask.sampling.grid import Cosine
from trimask.sampling.guidance import LinearGuidance
from trimask.sampling.order import Confidence
from trimask.training import old_samplers
from trimask.training.old_samplers import convert_old_samplers

STORED = json.loads(
    """{"sampler": {
        "text": {
            "num_steps": 64, "grid": {"type": "Uniform"}, "order": {"type": "Ancestral"},
            "filters": [{"type": "Temperature", "value": 0.8}, {"type": "TopP", "value": 0.95}],
            "guidance_scale": 1.0, "guidance_ramp": {"type": "ConstantGuidance"},
            "schedule": {"type": "Linear"}
        },
        "image_to_text": {
            "num_steps": 24, "grid": {"type": "Uniform"},
            "order": {
                "type": "LeftToRightBlocks", "block_length": 4,
                "inner": {"type": "Confidence", "noise_temperature": 0.25, "codebook_penalty": 0.0}
            },
            "filters": [{"type": "Temperature", "value": 0.0}],
            "guidance_scale": 1.0, "guidance_ramp": {"type": "ConstantGuidance"},
            "schedule": {"type": "Linear"}
        },
        "speech_to_text": {
            "num_steps": 8,
            "order": {"type": "LeftToRightBlocks", "block_length": 3, "inner": {"type": "Ancestral"}}
        },
        "text_to_speech": {
            "num_steps": 32, "grid": {"type": "Cosine"},
            "order": {"type": "Confidence", "noise_temperature": 0.5, "codebook_penalty": 5.0},
            "filters": [], "guidance_scale": 2.0, "guidance_ramp": {"type": "LinearGuidance"},
            "schedule": {"type": "Linear"}
        }
    }, "seed": 3}"""
)
LAWS = {
    "text": SamplerConfig(
        num_steps=64, count=Ancestral(), filters=(Temperature(value=0.8), TopP(value=0.95))
    ),
    "image_to_text": SamplerConfig(
        num_steps=24,
        order=Confidence(noise_temperature=0.25),
        count=Scheduled(),
        block_length=4,
        filters=(Temperature(value=0.0),),
    ),
    "speech_to_text": SamplerConfig(num_steps=8, count=Ancestral(), block_length=3),
    "text_to_speech": SamplerConfig(
        num_steps=32,
        grid=Cosine(),
        order=Confidence(noise_temperature=0.5, codebook_penalty=5.0),
        guidance_scale=2.0,
        guidance_ramp=LinearGuidance(),
    ),
}


def test_orders_of_earlier_versions_are_split() -> None:
    converted = convert_old_samplers(STORED)
    assert converted["seed"] == 3
    assert from_dict(Samplers, {"sampler": converted["sampler"]}).sampler == LAWS
    assert "schedule" in STORED["sampler"]["text"]  # what is given is not changed


@pytest.mark.parametrize(
    "row",
    [
        {"num_steps": 9, "order": {"type": "Ancestral"}, "schedule": {"type": "Cosine"}},
        {"num_steps": 9, "order": {"type": "Confidence"}, "schedule": {"type": "LogLinear", "eps": 0.2}},
        {"num_steps": 9, "order": {"type": "mine-0123456789abcdef.py:Own"}, "schedule": {"type": "Linear"}},
        {"num_steps": 9, "order": {"type": "LeftToRightBlocks", "block_length": 4}},
        {"schedule": {"type": "Linear"}, "order": 5},
    ],
    ids=lambda row: str(row.get("order", row)),
)
@pytest.mark.parametrize(("task", "default"), [("text", DEFAULTS["text"]), ("text_to_depth", OTHER)])
def test_what_there_is_no_more_gets_the_default_and_is_told(
    row: dict[str, Any], task: str, default: SamplerConfig, caplog: pytest.LogCaptureFixture
) -> None:
    old_samplers._warn.cache_clear()
    with caplog.at_level(logging.WARNING):
        found = [convert_old_samplers({"sampler": {task: row}}) for _ in range(3)]
    assert found == [{"sampler": {task: to_dict(default)}}] * 3
    (told,) = caplog.messages
    assert told.startswith(f"sampler.{task} was stored by an earlier version") and "the defaults" in told


@pytest.mark.parametrize(
    "stored",
    [
        {"sampler": to_dict(Samplers(sampler=dict(DEFAULTS)))["sampler"]},
        {"sampler": {"text": {"num_steps": 3, "order": {"type": "Confidence"}}}},
        {"sampler": {"text": 5, "joint": {}, "image_to_text": {"order": ["Ancestral"]}}},
        {"sampler": [1]},
        {},
        None,
        [STORED],
    ],
)
def test_what_is_not_of_an_earlier_version_stays(stored: Any) -> None:
    assert convert_old_samplers(stored) == stored
