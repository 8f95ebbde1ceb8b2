"""Describe a model's configuration before it runs: size, cost and derived values."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from trimask.config.derived import Derived
from trimask.errors import UserError
from trimask.planning.derived import TensorValues, derived_values, tensor_values
from trimask.planning.figures import figures
from trimask.planning.mixture_tree import tree
from trimask.recipes.catalog import resolve
from trimask.runs.build import build_vocabulary
from trimask.runs.kinds import kind_of
from trimask.tokenizers.bundle import Tokenizers
from trimask.training.run import RunConfig


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """What `trimask show` says of a model below its fields. `str` gives it for reading.

    Attributes:
        parameters: `total`, and those of `blocks`, `embedding` and `unembedding`.
        vocabulary: token ids.
        sequences: of the whole run.
        mixture: of each component what its source has, and how much of it the run draws.
        training_flops: of the whole run.
        values: numbers of the run that follow from others.
        tensors: how each kind of tensor starts and learns.
        cautions: rules used outside their validated domain.
    """

    parameters: Mapping[str, int]
    vocabulary: int
    sequences: int
    mixture: Sequence[Mapping[str, Any]]
    training_flops: float
    values: Sequence[Derived]
    tensors: Sequence[TensorValues]
    cautions: Sequence[str]

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def to_json(self) -> dict[str, Any]:
        """The same as `trimask show --json` has it."""
        found = asdict(self)
        names = ("values", "tensors", "cautions")
        derived = {name: list(found.pop(name)) for name in names}
        return {**found, "derived": derived}

    def _lines(self) -> Iterator[str]:
        parts = self.parameters
        yield (
            f"parameters      {parts['total']:,}: {parts['blocks']:,} in blocks, {parts['embedding']:,} in "
            f"the embedding, {parts['unembedding']:,} in the head"
        )
        yield f"vocabulary      {self.vocabulary:,} tokens"
        yield f"sequences       {self.sequences:,}"
        yield f"training FLOPs  {self.training_flops:.2e}"
        yield from tree(self.mixture)
        yield "derived values"
        for each in self.values:
            yield f"  {each.name:<20} {_number(each.value):>12}   {each.rule}: {each.source}"
        heads = f"{'init std':>10} {'peak rate':>10} {'ε':>10} {'decay':>10}"
        yield f"{'tensors':<34} {'role':<16} {heads}   × on rate; ε; decay"
        yield from map(_tensor_line, self.tensors)
        for caution in self.cautions:
            yield f"caution         {caution}"


def _tensor_line(row: TensorValues) -> str:
    start = f"{row.init_mean:g} ± " * bool(row.init_mean) + _number(row.init_std)
    others = map(_number, (row.learning_rate, row.eps, row.weight_decay))
    amounts = " ".join(f"{amount:>10}" for amount in (start, *others))
    rules = "; ".join(row.rules[name] for name in ("learning_rate", "eps", "weight_decay"))
    return f"  {row.tensor:<32} {row.role:<16} {amounts}   {rules}"


def _number(value: float | int) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def describe(config: RunConfig | str, *, tokenizers: Path | str | None = None) -> Description:
    """What `trimask show` prints of a model, or of the recipe of this name. Tokens of the embedded data are
    counted for it, which takes seconds.

    Args:
        tokenizers: a folder of the three; None for those of the data, or that ship.

    Raises:
        UserError: no recipe has this name, it is a tokenizer's, or data or tokenizers are damaged.
        FileNotFoundError: naming the file of the tokenizers, or of the data, that is not there.
    """
    chosen = resolve(config) if isinstance(config, str) else config
    if not isinstance(chosen, RunConfig):
        name = config if isinstance(config, str) else type(config).__name__
        raise UserError(f"{name} is no model: give a RunConfig, or the name of a model's recipe")
    return description(chosen, _tokenizers(chosen, tokenizers))


def description(config: RunConfig, tokenizers: Tokenizers | None) -> Description:
    """Describe `config` with `tokenizers`; stated data has none."""
    found = figures(config, tokenizers)
    target_tokens = sum(row["target_tokens"] for row in found["mixture"])
    return Description(
        **found,
        values=tuple(derived_values(config, target_tokens=target_tokens)),
        tensors=tuple(tensor_values(config, build_vocabulary(config, tokenizers))),
        cautions=config.batch_rule.cautions(config.batch_change),
    )


def _tokenizers(config: RunConfig, folder: Path | str | None) -> Tokenizers | None:
    kind = kind_of(config.data)
    if not kind.is_there:
        if folder is not None:
            raise UserError(
                f"the data states its code spaces: leave out tokenizers {folder}, or describe the "
                "recipe on prepared data"
            )
        return None
    return Tokenizers.load(kind.tokenizers() if folder is None else Path(folder))
