"""Adapters for public tokenizers of other libraries: frozen, float32, safetensors only.

A model's library (extra `pretrained`) is imported only when the model is loaded.
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
