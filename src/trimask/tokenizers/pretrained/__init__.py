"""Public tokenizers that other libraries load, as tokenizers of ours: frozen, float32, safetensors only.

The library behind a model is imported when the model is loaded (extra `pretrained`), and never before.
"""

from trimask.tokenizers.pretrained.codec import PretrainedSpeechTokenizer
from trimask.tokenizers.pretrained.image import PretrainedImageTokenizer, load_image_tokenizer
from trimask.tokenizers.pretrained.speech import load_speech_tokenizer

__all__ = [
    "PretrainedImageTokenizer",
    "PretrainedSpeechTokenizer",
    "load_image_tokenizer",
    "load_speech_tokenizer",
]
