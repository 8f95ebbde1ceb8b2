"""The speech tokenizer: 16 kHz mono speech <-> 25 frames per second of a few coarse-to-fine codes."""

from trimask.tokenizers.speech.tokenizer import SpeechTokenizer, SpeechTokenizerConfig

__all__ = ["SpeechTokenizer", "SpeechTokenizerConfig"]
