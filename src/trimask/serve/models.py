"""GET /v1/models/NAME: what a model can be asked for, so that a client needs no list of its own."""

from collections.abc import Mapping
from typing import Any

from trimask.config.annotations import classes_of
from trimask.generation.codecs import Codecs
from trimask.generation.generate import Generator
from trimask.sampling.config import SamplerConfig
from trimask.sampling.filters import Temperature, TopP
from trimask.sampling.order import Order
from trimask.serve.limits import Limits
from trimask.vocabulary.layout import CodeSpace


def describe_model(
    generator: Generator, presets: Mapping[str, Mapping[str, SamplerConfig]], limits: Limits
) -> dict[str, Any]:
    """Describe a model beyond the fields of OpenAI's API.

    modalities: its kinds of codes; `decodes_to` is the field of results that shows them, null for none.
    tasks: `spans`, the modalities of its sequences, in alternatives; `condition`, those that are given; what
        is left is generated. `sampler` has the settings of a request that gives none.
    presets: by name and task, the settings that `preset` stands for.
    voices: most common first. examples: captions that it has seen, or
        transcripts if it has seen no captions. orders: names for `order`.
    """
    seen = generator.seen
    return {
        "modalities": [_describe_space(space, generator.codecs) for space in generator.vocabulary.spaces],
        "tasks": [
            {
                "name": task.name,
                "spans": [list(spans) for spans in task.spans],
                "condition": list(task.condition),
                "is_trained": not seen.tasks or task.name in seen.tasks,
                "sampler": _describe_sampler(generator.settings(task.name)),
            }
            for task in generator.vocabulary.tasks
        ],
        "presets": {
            name: {task: _describe_sampler(config) for task, config in of_tasks.items()}
            for name, of_tasks in presets.items()
        },
        "voices": list(seen.voices),
        "examples": _choose_examples(generator),
        "orders": _find_orders(),
        "limits": {
            "num_steps": limits.num_steps,
            "tokens": limits.tokens,
            "characters": limits.characters,
            "file_bytes": limits.file_bytes,
            "seconds": limits.seconds,
        },
    }


def _describe_space(space: CodeSpace, codecs: Codecs) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": space.name,
        "num_codebooks": space.num_codebooks,
        "codebook_size": space.codebook_size,
        "has_end": space.has_end,
        "grid": None if space.grid is None else list(space.grid),
        "frame_rate": space.frame_rate,
        "decodes_to": None,
    }
    if space.name == "text" and codecs.text is not None:
        found["decodes_to"] = "text"
    elif space.name == "image" and codecs.image is not None:
        found |= {"decodes_to": "image", "image_size": codecs.image.image_size}
    elif space.name == "speech" and codecs.speech is not None:
        rates = {"sample_rate": codecs.speech.sample_rate, "frame_rate": codecs.speech.frame_rate}
        found |= {"decodes_to": "audio", **rates}
    return found


def _describe_sampler(config: SamplerConfig) -> dict[str, Any]:
    """Return the settings that requests have fields for; null where there is none."""
    temperature = next((each.value for each in config.filters if isinstance(each, Temperature)), None)
    return {
        "num_steps": config.num_steps,
        "guidance_scale": config.guidance_scale,
        "temperature": 1.0 if temperature is None else temperature,
        "top_p": next((each.value for each in config.filters if isinstance(each, TopP)), 1.0),
        "order": type(config.order).__name__,
    }


def _find_orders() -> list[str]:
    """Return the names of trimask's orders that need no settings of their own."""
    found = []
    for tag, order in (classes_of(Order) or {}).items():
        if ":" in tag:
            continue  # a user's own, which requests may not name
        try:
            order()
        except TypeError:
            continue
        found.append(tag)
    return found


def _choose_examples(generator: Generator) -> list[str]:
    texts = generator.seen.captions or generator.seen.transcripts
    return [] if texts is None else list(texts.examples)
