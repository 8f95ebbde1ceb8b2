import pathlib

import pytest

from trimask.tokenizers.bundle import Tokenizers
from trimask.tokenizers.image import ImageTokenizer, ImageTokenizerConfig
from trimask.tokenizers.speech import SpeechTokenizer, SpeechTokenizerConfig
from trimask.tokenizers.text import TextTokenizer


@pytest.fixture(scope="session")
def tokenizers_folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Tokenizers that have learned nothing: these tests are about the commands, whatever ships."""
    folder = tmp_path_factory.mktemp("tokenizers")
    tokenizers = Tokenizers(
        text=TextTokenizer.train(["red apple", "good morning"], 260),
        image=ImageTokenizer(ImageTokenizerConfig()),
        speech=SpeechTokenizer(SpeechTokenizerConfig()),
    )
    tokenizers.save(folder)
    return folder
