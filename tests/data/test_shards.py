"""Shards as one source: the same as holding all examples in memory."""

from pathlib import Path

import numpy as np
import pytest

from in_memory import InMemory
from trimask import io
from trimask.data.mixture import Component, Mixture, MixtureConfig
from trimask.data.shards import Example, ShardedTokens, write_shard
from trimask.data.source import ExampleSource

PLACE = "train/x-000000"


def make_examples(count: int, seed: int = 0) -> list[Example]:
    drawn = np.random.default_rng(seed)
    return [
        Example(
            key=f"fäden/{number}",
            group=int(drawn.integers(-5, 5)),
            codes={
                "text": drawn.integers(0, 1000, (int(drawn.integers(1, 9)), 1)),
                "image": drawn.integers(0, 60_000, (4, 2)),
            },
        )
        for number in range(count)
    ]


def write(folder: Path, examples: list[Example], sizes: list[int]):
    entries, start = [], 0
    for number, size in enumerate(sizes):
        chosen = examples[start : start + size]
        entries.append(
            write_shard(
                folder, f"{PLACE}-{number:03d}.safetensors", source="x", split="train", examples=chosen
            )
        )
        start += size
    return [(folder, entry) for entry in entries]


def test_shards_give_back_the_examples(tmp_path: Path):
    examples = make_examples(11)
    source = ShardedTokens("x", write(tmp_path, examples, [4, 1, 6]))
    assert isinstance(source, ExampleSource) and len(source) == 11 and source.name == "x"
    assert source.groups.tolist() == [example.group for example in examples]
    for index in [10, 3, 4, 0, 5, 7]:
        found = source.example(index)
        assert source.key(index) == examples[index].key and found.keys() == examples[index].codes.keys()
        for modality, codes in examples[index].codes.items():
            np.testing.assert_array_equal(found[modality], codes)
    assert {m: counts.tolist() for m, counts in source.num_codes.items()} == {
        modality: [example.codes[modality].size for example in examples] for modality in source.example(0)
    }


def test_a_mixture_draws_from_shards_as_from_memory(tmp_path: Path):
    examples = make_examples(11)
    sharded = ShardedTokens("x", write(tmp_path, examples, [4, 1, 6]))
    whole = InMemory(
        name="x",
        codes={m: [example.codes[m] for example in examples] for m in examples[0].codes},
        groups=np.array([example.group for example in examples]),
    )
    config = MixtureConfig(components=(Component(source="x", task="joint", weight=1.0),), block_length=4)
    mixtures = [Mixture(config, {"x": source}, 0) for source in (sharded, whole)]
    assert [mixtures[0].example(i) for i in range(30)] == [mixtures[1].example(i) for i in range(30)]


def test_equal_examples_give_equal_bytes_and_large_codes_survive(tmp_path: Path):
    examples = make_examples(3)
    (_, first), (_, again) = (*write(tmp_path / "a", examples, [3]), *write(tmp_path / "b", examples, [3]))
    assert first == again and io.sha256(tmp_path / "a" / first.file) == first.sha256
    large = Example(key="k", group=1, codes={"text": np.array([[199_999], [3]])})
    entry = write_shard(tmp_path, f"{PLACE}-000.safetensors", source="x", split="train", examples=[large])
    assert ShardedTokens("x", [(tmp_path, entry)]).example(0)["text"].tolist() == [[199_999], [3]]


def test_equal_groups_of_two_folders_are_two(tmp_path: Path):
    examples = make_examples(4)
    folders = [write(tmp_path / name, examples, [4])[0] for name in ("a", "b")]
    groups = ShardedTokens("x", folders).groups
    assert not set(groups[:4].tolist()) & set(groups[4:].tolist())
    assert len(set(groups[4:].tolist())) == len(set(groups[:4].tolist()))


def test_a_shard_that_was_cut_is_named(tmp_path: Path):
    shards = write(tmp_path, make_examples(4), [2, 2])
    path = tmp_path / shards[1][1].file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        ValueError, match=r"x-000000-001.safetensors has \d+ bytes, not \d+: run `trimask prepare --verify"
    ):
        ShardedTokens("x", shards)
    path.unlink()
    with pytest.raises(ValueError, match=r"x-000000-001.safetensors is missing"):
        ShardedTokens("x", shards)
