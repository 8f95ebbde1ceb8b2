"""What all tests share: one thread each (two workers run side by side), the same drawn cases every time."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
from hypothesis import settings

import typechecking  # noqa: F401, before trimask: it decides how annotations are checked

torch.set_num_threads(1)
settings.register_profile("trimask", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("trimask")


@pytest.fixture(scope="session")
def tokenizers_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokenizers that have learned nothing: what is tested holds whatever ships."""
    from trimask.tokenizers.bundle import Tokenizers
    from trimask.tokenizers.image import ImageTokenizer, ImageTokenizerConfig
    from trimask.tokenizers.speech import SpeechTokenizer, SpeechTokenizerConfig
    from trimask.tokenizers.text import TextTokenizer

    folder = tmp_path_factory.mktemp("tokenizers")
    tokenizers = Tokenizers(
        text=TextTokenizer.train(["red apple", "good morning"], 260),
        image=ImageTokenizer(ImageTokenizerConfig()),
        speech=SpeechTokenizer(SpeechTokenizerConfig()),
    )
    tokenizers.save(folder)
    return folder


@pytest.fixture(scope="module")
def few_speeches() -> Iterator[None]:
    """The embedded data with two speeches a split, and two validation sequences of each task: encoding and
    evaluating all of them takes longer than most tests.
    """
    from trimask.datasets.quickstart import load_text
    from trimask.runs import embedded as tokens
    from trimask.runs import sizes, validation
    from trimask.scorecard import examples_quickstart

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "NUM_SEQUENCES", 14)
        for module in (examples_quickstart, tokens, sizes):
            patch.setattr(module, "load_text", lambda split: load_text(split)[:2])
        yield


@pytest.fixture(scope="module")
def few_sampling_steps() -> Iterator[None]:
    """Eight steps in the place of the 24 to 64 of each task: models that have learned nothing gain nothing by
    more.
    """
    from trimask.generation.generate import Generator
    from trimask.sampling.config import SamplerConfig

    settings = Generator.settings

    def few(self: Generator, task: str, **given: Any) -> SamplerConfig:
        found = settings(self, task, **given)
        is_given = given.get("num_steps") is not None or not found.count.has_steps
        return found if is_given else replace(found, num_steps=8)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Generator, "settings", few)
        yield


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    """For thousands of samples, which take minutes while each call's shapes are checked; other tests check
    them.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jaxtyping.config, "jaxtyping_disable", True)
        yield
