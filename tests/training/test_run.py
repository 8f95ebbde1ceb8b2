"""What a run's configuration promises of itself."""

from dataclasses import replace

import pytest

from trimask.config import from_dict, override, to_dict
from trimask.data.mixture import Component
from trimask.diffusion.schedule import Cosine
from trimask.recipes.quickstart import debug
from trimask.sampling.order import Confidence
from trimask.tokenizers.bundle import Tokenizers
from trimask.training.modalities import ModalityConfig
from trimask.training.run import RunConfig
from trimask.vocabulary.codebooks import Delayed, Parallel
from trimask.vocabulary.layout import CodeSpace
from trimask.vocabulary.task import Task


def test_a_run_is_read_back() -> None:
    assert from_dict(RunConfig, to_dict(debug())) == debug()


def test_rows_are_set_by_name() -> None:
    config = override(
        debug(),
        {
            "modalities.image.schedule": "Cosine",
            "modalities.speech.layout": "Delayed",
            "modalities.text.weight": "2",
            "sampler.text_to_image.order": "Confidence",
        },
    )
    assert config.modalities["image"] == ModalityConfig(layout=Parallel(), schedule=Cosine())
    assert config.modalities["speech"].layout == Delayed()
    assert config.modalities["text"].weight == 2
    assert config.sampler["text_to_image"].order == Confidence()
    assert debug().with_modality("image", schedule=Cosine()).modalities["image"] == config.modalities["image"]


def test_the_vocabulary_has_the_rows_of_the_run() -> None:
    depth = CodeSpace(name="depth", num_codebooks=1, codebook_size=3, has_end=False, grid=(2, 2))
    task = Task(name="depth_to_text", spans=(("depth", "text"),), condition=("depth",))
    config = replace(debug(), spaces=(depth,), tasks=(*debug().tasks, task))
    vocabulary = config.vocabulary(Tokenizers.load().spaces)
    assert vocabulary.modalities == ("text", "image", "speech", "depth")
    assert vocabulary.layout("image") == Parallel()
    assert vocabulary.task("depth_to_text").target == "text"


def test_rows_that_do_not_fit_are_named() -> None:
    config, spaces = debug(), Tokenizers.load().spaces
    with pytest.raises(ValueError, match="no modality 'depth': choose one of text, image, speech"):
        config.with_modality("depth", weight=2.0).vocabulary(spaces)
    with pytest.raises(ValueError, match=r"codebook_weights has 3 for image.*give 2"):
        config.with_modality("image", codebook_weights=(1.0, 1.0, 1.0)).vocabulary(spaces)
    component = Component(source="emoji", task="image_to_speech", weight=1.0)
    with pytest.raises(ValueError, match="component emoji/image_to_speech: there is no such task, only text"):
        replace(config, mixture=replace(config.mixture, components=(component,)))
    with pytest.raises(ValueError, match=r"sampler\.image_to_speech: there is no such task"):
        replace(config, sampler={"image_to_speech": config.sampler["text"]})
