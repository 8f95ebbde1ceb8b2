"""The text tokenizer: byte-level BPE through the `tokenizers` library."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import final

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from trimask import io, seals
from trimask.errors import UserError

# Sorted, so that training gives the same file each time.
_ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


@final
class TextTokenizer:
    """Byte-level BPE: every string can be encoded, and decodes to itself exactly.

    All 256 bytes are tokens, so a string can also be *spelled*, with one id per UTF-8 byte and no merges.
    Transcripts of speech are spelled, since letters say more about sounds than merged tokens do [D].
    """

    def __init__(self, backend: Tokenizer):
        self._backend = backend
        ids = [backend.token_to_id(_byte_to_unit(byte)) for byte in range(256)]
        self._byte_ids = [i for i in ids if i is not None]
        if len(self._byte_ids) < 256:
            missing = 256 - len(self._byte_ids)
            raise UserError(
                f"the text tokenizer lacks {missing} of the 256 bytes as tokens: train one with "
                "`TextTokenizer.train`"
            )

    @classmethod
    def train(cls, texts: Iterable[str], vocabulary_size: int) -> "TextTokenizer":
        """Learn merges from `texts` until there are `vocabulary_size` ids (at least the 256 bytes)."""
        if vocabulary_size < 256:
            raise UserError(f"vocabulary_size {vocabulary_size}: byte-level BPE needs at least 256")
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary_size, initial_alphabet=_ALPHABET, special_tokens=[], show_progress=False
        )
        backend.train_from_iterator(texts, trainer)
        return cls(backend)

    @property
    def vocabulary_size(self) -> int:
        return self._backend.get_vocab_size()

    def encode(self, text: str, *, is_spelled: bool = False) -> list[int]:
        """Encode `text`; with `is_spelled`, as one id per UTF-8 byte."""
        if is_spelled:
            return [self._byte_ids[byte] for byte in text.encode("utf-8")]
        return self._backend.encode(text).ids

    def decode(self, ids: list[int]) -> str:
        """Decode ids; bytes that are not valid UTF-8 (a model may generate them) become U+FFFD.

        Raises:
            UserError: an id is out of range.
        """
        out_of_range = [i for i in ids if not 0 <= i < self.vocabulary_size]
        if out_of_range:
            raise UserError(
                f"text id {out_of_range[0]} is outside 0…{self.vocabulary_size - 1}: use the tokenizer that "
                "made it"
            )
        return self._backend.decode(ids)

    def save(self, path: Path) -> None:
        with io.atomic_write(path) as temporary:
            temporary.write_text(self._backend.to_str(), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "TextTokenizer":
        """Load a tokenizer that `save` wrote.

        Raises:
            FileNotFoundError, UserError: the file is missing, damaged, or not a byte-level BPE of the
                `tokenizers` library.
        """
        data = io.read_json(path)
        seals.check_indexed(path)
        model = data.get("model") if isinstance(data, dict) else None
        problem = f"{path} is not a BPE tokenizer of the `tokenizers` library"
        if not isinstance(model, dict) or model.get("type") != "BPE":
            raise UserError(f"{problem}: write it again with `save`")
        try:
            return cls(Tokenizer.from_str(json.dumps(data)))
        except Exception as error:  # the library raises no more specific type
            raise UserError(f"{problem} ({error}): write it again with `save`") from error


def _byte_to_unit(byte: int) -> str:
    """Return the printable character that represents `byte` in byte-level BPE, by GPT-2's rule."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    if byte in printable:
        return chr(byte)
    return chr(256 + sum(1 for other in range(byte) if other not in printable))
