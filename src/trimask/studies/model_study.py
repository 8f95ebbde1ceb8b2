"""Studies of a trained model: its held-out sequences, and the model itself by place and content."""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import final

from trimask.config import fingerprint
from trimask.data.mixture import MixtureConfig
from trimask.data.source import ExampleSource
from trimask.errors import UserError
from trimask.model.denoiser import Denoiser
from trimask.runs.embedded_tokens import load_encoded, write_encoded
from trimask.runs.exported import find_tokenizers_of_file
from trimask.runs.kinds import kind_of
from trimask.runs.load import find_run_folder, load_config_of, load_tokenizers_of, load_trained
from trimask.runs.presets import hash_weights
from trimask.runs.validation import draw_sequences
from trimask.sampling.config import SamplerConfig
from trimask.studies.question import Question, TrialT
from trimask.tokenizers.bundle import SHIPPED, Tokenizers
from trimask.training.run import RunConfig
from trimask.training.run_directory import CONFIG
from trimask.vocabulary import sequence
from trimask.vocabulary.layout import Vocabulary

_BLOCK = 64  # sequences: shares of a task's sources hold in each block


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class StudiedRun:
    """A trained model, by place and content.

    Attributes:
        path: a run directory, a checkpoint folder, an exported file, or `quickstart`.
        weights: hash of its weights, the same wherever it lies.
        codebooks: by task that it was trained on, the largest number of codebooks of a modality that the task
            generates.
        conditional: the tasks that have a condition.
        samplers: the run's own settings, by task.
        data: where the run's prepared data is, if it has moved.
    """

    path: str
    weights: str
    codebooks: dict[str, int]
    conditional: tuple[str, ...] = ()
    samplers: dict[str, SamplerConfig] = field(default_factory=dict)
    data: tuple[Path, ...] = ()

    def load_config(self) -> RunConfig:
        """Return the run's configuration, with its data where it is now. UserError if it is damaged."""
        config = load_config_of(self.path)
        return replace(config, data=kind_of(config.data).moved(self.data)) if self.data else config

    def load_denoiser(self) -> Denoiser:
        """Load the weights.

        Raises:
            UserError: they have changed since the study began.
        """
        denoiser, weights = _load_weights(self.path)
        if weights != self.weights:
            raise UserError(
                f"the weights of {self.path} have changed since the study began: choose another --out"
            )
        return denoiser


class ModelStudy(Question[TrialT]):
    """A question about a trained model: no trial changes its weights."""

    __slots__ = ()

    run: StudiedRun
    """The model that all trials measure."""

    @property
    def weights(self) -> str:
        return self.run.weights

    @property
    def uses_gpu(self) -> bool:
        return False  # weights are loaded on the CPU

    def with_data(self, folders: Sequence[Path]) -> "ModelStudy[TrialT]":
        return replace(self, run=replace(self.run, data=tuple(folder.absolute() for folder in folders)))

    def with_run(self, run: str | Path) -> "ModelStudy[TrialT]":
        """Return the study of another run. Raises like `identify_run`."""
        return replace(self, run=identify_run(run))

    def with_judges(self, words: Sequence[str]) -> "ModelStudy[TrialT]":
        """Return the study with outside models, given as for `trimask evaluate`. UserError if it has no use
        for them.
        """
        raise UserError("this study judges no samples: leave --judges out")

    def make_tokens(self, tokens: Path, report: Callable[[str], None]) -> None:
        load_held_out(self.run, tokens, report=report)


def identify_run(run: str | Path) -> StudiedRun:
    """Return `run` by place and content.

    Args:
        run: as for `trimask.load`.

    Raises:
        FileNotFoundError, UserError: no such run, or a damaged one; the message has the remedy.
    """
    path = str(Path(run).absolute()) if os.path.lexists(run) else str(run)
    denoiser, weights = _load_weights(path)
    vocabulary, config = denoiser.vocabulary, load_config_of(path)
    tasks = dict.fromkeys(component.task for component in config.mixture.components)
    codebooks = {
        name: max(vocabulary.space(target).num_codebooks for target in vocabulary.task(name).targets)
        for name in tasks
    }
    return StudiedRun(
        path=path,
        weights=weights,
        codebooks=codebooks,
        conditional=tuple(name for name in tasks if vocabulary.task(name).condition),
        samplers={name: config.sampler[name] for name in tasks if name in config.sampler},
    )


def load_held_out(
    run: StudiedRun, tokens: Path, *, report: Callable[[str], None] = lambda message: None
) -> Mapping[str, ExampleSource]:
    """Load the validation sources of the run's data, kept in `tokens`."""
    config = run.load_config()
    folder = tokens / fingerprint(config.data)
    kind = kind_of(config.data)
    if kind.embedded is None:
        return kind.sources(_load_tokenizers(run.path), "validation", folder, report)
    if not folder.exists():
        # Training sequences, which take minutes to encode, are of no use here.
        data = replace(kind.embedded, readings=None)
        write_encoded(data, _load_tokenizers(run.path), folder, ("validation",), report=report)
    return load_encoded(folder, "validation")


def draw_held_out(
    run: StudiedRun,
    vocabulary: Vocabulary,
    tokens: Path,
    task: str,
    *,
    number: int,
    seed: int,
) -> Sequence[sequence.Sequence]:
    """Draw held-out sequences of a task, from its sources in the shares of the training mixture, with end
    frames as in training. The first ones are the same for any `number`.

    Raises:
        UserError: the validation split has no example of the task.
    """
    config, sources = run.load_config(), load_held_out(run, tokens)
    components = tuple(c for c in config.mixture.components if c.task == task and c.source in sources)
    if not components:
        raise UserError(f"the run's data has no held-out example of {task}: leave it out with --tasks")
    mixture = MixtureConfig(components=components, block_length=_BLOCK)
    return draw_sequences(replace(config, seed=seed), mixture, sources, vocabulary, number=number)


def _load_tokenizers(path: str) -> Tokenizers:
    if Path(path).is_file():
        return Tokenizers.load(find_tokenizers_of_file(Path(path), load_trained(path)[1], None))
    folder = find_run_folder(path)
    return load_tokenizers_of(folder) if os.path.lexists(folder / CONFIG) else Tokenizers.load(SHIPPED)


@functools.lru_cache(maxsize=1)  # trials of a process load the same model
def _load_weights(path: str) -> tuple[Denoiser, str]:
    """Load a model and the hash of its weights."""
    denoiser, _ = load_trained(path)
    return denoiser.eval(), hash_weights(denoiser)
