"""The catalogue says what the sets are and take."""

from dataclasses import fields, is_dataclass

import pytest

from trimask.datasets.catalogue import CATALOGUE


def _names_of_fields(value: object) -> set[str]:
    assert is_dataclass(value)
    return {field.name for field in fields(value)}


@pytest.mark.parametrize("name", list(CATALOGUE))
def test_entries_fit_their_sets(name: str):
    entry = CATALOGUE[name]
    assert entry.benchmark.name == name
    assert set(entry.options) == _names_of_fields(entry.benchmark())
    assert set(entry.counts) <= {"train", "composition", "validation", "test"} and entry.counts["train"] > 100
    assert entry.download > 1e7 and entry.size > 1e7
