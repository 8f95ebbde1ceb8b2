"""Text for systems that want a Hugging Face tokenizer: one without text, and random tokens."""

import importlib

import torch
from shape import Shape


def tokenizer_of(shape: Shape):
    """A tokenizer of `vocabulary` words, the last of them the mask."""
    tokenizers = importlib.import_module("tokenizers")
    words = {f"w{number}": number for number in range(shape.vocabulary - 1)}
    words["[MASK]"] = shape.vocabulary - 1
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w0"))
    return importlib.import_module("transformers").PreTrainedTokenizerFast(
        tokenizer_object=model,
        mask_token="[MASK]",
        pad_token="w0",
        bos_token="w1",
        eos_token="w2",
        padding_side="right",
    )


def text_tokens(shape: Shape) -> torch.Tensor:
    """Random tokens, no mask among them."""
    return torch.randint(shape.vocabulary - 1, (shape.rows, shape.length))
