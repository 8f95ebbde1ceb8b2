"""The mixture of a run as a tree: kind of data, task, source."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_NAME = 38
_AMOUNTS = f"{'target tokens':>16} {'share':>8} {'sequences':>13}"


def tree(components: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """One line per node of `figures(...)["mixture"]`: its target tokens in the run and their share, and its
    sequences. A source also says how often the run sees its groups, and its target tokens, where it is known
    how many there are; before it stands its number among the components
    (`--mixture.components.NUMBER.weight`).
    """
    yield f"{'mixture':<{_NAME}} {_AMOUNTS} {'epochs':>9} {'of tokens':>10}"
    numbered = list(enumerate(components))
    for data in dict.fromkeys(row["data"] for _, row in numbered):
        here = [(number, row) for number, row in numbered if row["data"] == data]
        yield _node(data, here)
        for task in dict.fromkeys(row["task"] for _, row in here):
            leaves = [(number, row) for number, row in here if row["task"] == task]
            if len(leaves) > 1:
                yield _node(f"  {task}", leaves)
            for number, row in leaves:
                name = f"    {row['source']}" if len(leaves) > 1 else f"  {task}, {row['source']}"
                name = f"{name:<{_NAME - 5}} {f'[{number}]':>4}"
                epochs = f"{_number(row['epochs']):>9} {_number(row['token_epochs']):>10}"
                yield f"{_node(name, [(number, row)])} {epochs}"


def _node(name: str, leaves: Sequence[tuple[int, Mapping[str, Any]]]) -> str:
    tokens, share, sequences = (
        sum(row[field] for _, row in leaves) for field in ("target_tokens", "share", "sequences")
    )
    return f"{name:<{_NAME}} {tokens:>16,} {100 * share:>6.2f} % {sequences:>13,}"


def _number(epochs: float | None) -> str:
    return "–" if epochs is None else f"{epochs:,g}"
