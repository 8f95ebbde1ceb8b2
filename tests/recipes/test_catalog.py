import pytest

from trimask.recipes import catalog
from trimask.tokenizer_training.image import ImageTokenizerRun
from trimask.tokenizer_training.speech import SpeechTokenizerRun
from trimask.tokenizer_training.text import TextTokenizerRun
from trimask.training.run import RunConfig


@pytest.mark.parametrize("name", catalog.RECIPES)
def test_each_name_is_a_recipe_with_a_purpose(name: str) -> None:
    assert isinstance(
        catalog.resolve(name), RunConfig | ImageTokenizerRun | SpeechTokenizerRun | TextTokenizerRun
    )
    assert len(catalog.purpose(name)) > 20


def test_an_unknown_name_gets_the_closest() -> None:
    with pytest.raises(ValueError, match="unknown recipe 'quickstat': did you mean quickstart"):
        catalog.resolve("quickstat")
