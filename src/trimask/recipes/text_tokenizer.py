"""The recipe of text tokenizers."""

from trimask.tokenizer_training.text import TextTokenizerRun


def text_tokenizer() -> TextTokenizerRun:
    """The text tokenizer that ships: byte-level BPE of 1,024 units, from English speeches and captions.

    The vocabulary is small because the head is half of a small model's cost, and rare units cannot be learned
    from 2M words [D]. Other languages need about one token per byte with it: train a tokenizer with --data
    and a larger --vocabulary-size (8,000 for a small model of one language).
    Cost: seconds. Expect: 3.1 bytes per token on unseen English speeches (report.json).
    """
    return TextTokenizerRun()
