"""The speech tokenizer: 16 kHz mono speech as a few coarse-to-fine codes, 25 times a second."""

from trimask.tokenizers.speech.tokenizer import SpeechTokenizer, SpeechTokenizerConfig

__all__ = ["SpeechTokenizer", "SpeechTokenizerConfig"]
