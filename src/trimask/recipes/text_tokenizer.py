"""Text tokenizers: the recipe, and how one is trained and measured."""

from trimask.tokenizer_training.text import TextTokenizerRun


def text_tokenizer() -> TextTokenizerRun:
    """The text tokenizer that ships: byte-level BPE of 1,024 units, from English speeches and captions.

    Small, since the head is half of a small model's cost and rare units are never learned from 2M words [D].
    Other languages cost about a token a byte over it: train one of your own with --data, and a larger
    --vocabulary-size (8,000 for a small model of one language).
    Cost: seconds. Expect: 3.1 bytes a token on English speeches that it has not seen (report.json).
    """
    return TextTokenizerRun()
