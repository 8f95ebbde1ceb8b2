"""Tokenized examples: a source of training data, random-access, kept in one file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, final, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int

from trimask import io
from trimask.errors import UserError


@runtime_checkable
class ExampleSource(Protocol):
    """What a mixture draws from: examples that all have the same modalities, by index.

    `groups` numbers each example's group: sampling draws a group first, then one of its examples. `num_codes`
    counts each example's codes (frames × codebooks) per modality; both are read without the codes themselves.
    """

    @property
    def name(self) -> str: ...
    @property
    def groups(self) -> Int[np.ndarray, "examples"]: ...
    @property
    def num_codes(self) -> Mapping[str, Int[np.ndarray, "examples"]]: ...
    def __len__(self) -> int: ...
    def example(self, index: int) -> dict[str, Int[np.ndarray, "_frames _codebooks"]]: ...


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Ragged:
    """Arrays of differing length, end to end: item i is values[offsets[i] : offsets[i + 1]]."""

    values: Int[np.ndarray, "frames codebooks"]
    offsets: Int[np.ndarray, "boundaries"]

    @classmethod
    def of(cls, items: Sequence[Int[np.ndarray, "_frames codebooks"]]) -> "Ragged":
        offsets = np.concatenate([[0], np.cumsum([len(item) for item in items])]).astype(np.int64)
        return cls(values=np.concatenate(items).astype(np.int32), offsets=offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Int[np.ndarray, "_frames codebooks"]:
        return self.values[self.offsets[index] : self.offsets[index + 1]]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class TokenSource:
    """Examples that all have the same modalities, as codes.

    Attributes:
        name: what metrics and messages call it.
        codes: per modality, the codes of each example (frames × codebooks).
        groups: group number of each example. Sampling draws a group first, then one of its examples, so
            that groups count equally however many variants they have (skin tones of one emoji).
    """

    name: str
    codes: Mapping[str, Ragged]
    groups: Int[np.ndarray, "examples"]

    def __post_init__(self) -> None:
        lengths = {len(ragged) for ragged in self.codes.values()} | {len(self.groups)}
        if len(lengths) != 1:
            raise UserError(f"source {self.name}: modalities and groups differ in length ({sorted(lengths)})")
        if not len(self.groups):
            raise UserError(f"source {self.name} is empty: give at least one example")

    def __len__(self) -> int:
        return len(self.groups)

    def example(self, index: int) -> dict[str, Int[np.ndarray, "_frames _codebooks"]]:
        return {modality: ragged[index] for modality, ragged in self.codes.items()}

    @property
    def num_codes(self) -> dict[str, Int[np.ndarray, "examples"]]:
        return {m: np.diff(ragged.offsets) * ragged.values.shape[1] for m, ragged in self.codes.items()}

    def save(self, path: Path) -> None:
        tensors = {"groups": torch.from_numpy(self.groups.astype(np.int64))}
        for modality, ragged in self.codes.items():
            tensors[f"{modality}.values"] = torch.from_numpy(ragged.values)
            tensors[f"{modality}.offsets"] = torch.from_numpy(ragged.offsets)
        io.save_tensors(path, tensors, kind="tokens", config={"name": self.name})

    @classmethod
    def load(cls, path: Path) -> "TokenSource":
        """Read what `save` wrote. UserError or FileNotFoundError for a file that is damaged or something
        else.
        """
        artifact = io.load_tensors(path, kind="tokens")
        arrays = {name: tensor.numpy() for name, tensor in artifact.tensors.items()}
        codes = {
            name.removesuffix(".values"): Ragged(
                values=array, offsets=arrays[f"{name.removesuffix('.values')}.offsets"]
            )
            for name, array in arrays.items()
            if name.endswith(".values")
        }
        return cls(name=artifact.config["name"], codes=codes, groups=arrays["groups"])
