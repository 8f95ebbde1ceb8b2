"""Recipe of the text tokenizer that ships: `python -m trimask.recipes.text_tokenizer OUT.json`."""

import sys
from pathlib import Path

from trimask.data.quickstart import load_images, load_text
from trimask.tokenizers.text import TextTokenizer

VOCABULARY_SIZE = 1024
"""Small, since the head is half of a small model's cost (PERFORMANCE) and rare units are never learned from
2M words [D].
"""

CAPTION_REPEATS = 8
"""Captions are 1 % of the text but a third of what is prompted: repeated, so that their words earn merges
[D].
"""


def train_text_tokenizer() -> TextTokenizer:
    """Byte-level BPE on the training split: the speeches, and the emoji captions several times over."""
    captions = [row.caption for row in load_images("train")]
    speeches = [row.text for row in load_text("train")]
    return TextTokenizer.train([*speeches, *(captions * CAPTION_REPEATS)], VOCABULARY_SIZE)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m trimask.recipes.text_tokenizer OUT.json")
    train_text_tokenizer().save(Path(sys.argv[1]))
