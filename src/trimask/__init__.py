"""trimask: tri-modal masked diffusion models, pretrained from scratch.

import trimask
model = trimask.load("quickstart")
picture = model.generate(task="text_to_image", prompt="strawberry", seed=0)
"""

# Heavy imports are deferred: Ctrl-C is handled only once the command line has been imported.
from trimask.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trimask.generation.generate import Generator
    from trimask.planning.describe import Description
    from trimask.training.run import RunConfig

__all__ = [
    "UserError",
    "__version__",
    "describe",
    "from_pretrained",
    "load",
    "push_to_hub",
    "save_pretrained",
]
__version__ = "0.1.0"


def load(
    run: "str | Path",
    *,
    tokenizers: "str | Path | None" = None,
    backend: str = "torch",
    preset: str | None = None,
    revision: str | None = None,
    trust_code: bool = False,
) -> "Generator":
    """Load a generator.

    Args:
        run: a run directory, a file or folder that `trimask export` wrote, `quickstart`, the shipped model,
            or the name of a model on the Hugging Face hub: `owner/name`, or `owner/name@revision`.
        tokenizers: tokenizer folder of an exported file; by default the shipped one.
        backend: what computes predictions: `torch`; `torch-compiled`, which first compiles for a minute or
            so; or ONNX Runtime, faster on CPUs (the extra `onnx`), with the same results up to rounding
            (`onnx`) or in 8-bit integers (`onnx-int8`).
        preset: sampler settings in place of the run's own: `fast`, `balanced` or `best` of the run's presets,
            or FILE:NAME of those that `trimask study run sampling` wrote.
        revision: of a model on the hub: a branch, tag or commit.
        trust_code: whether to run user code that a model on the hub was made with. Without it, such a model
            is refused, unless this process has imported the same code already.

    Raises:
        ImportError: the backend's extra is not installed; the message has the remedy.
        FileNotFoundError, UserError: there is no such model, or it cannot be used (see `trimask.runs.load`).
    """
    from trimask.runs import load as runs  # deferred: this imports torch, which `trimask --help` does without

    return runs.load(
        run, tokenizers=tokenizers, backend=backend, preset=preset, revision=revision, trust_code=trust_code
    )


from_pretrained = load
"""`load`, under the name that users of other libraries on the hub look for."""


def save_pretrained(
    run: "str | Path",
    folder: "str | Path",
    *,
    dtype: str = "float32",
    name: str | None = None,
    license: str | None = None,
    languages: "Sequence[str]" = (),
) -> None:
    """Write the model of `run` into a folder that `load` can read: weights, tokenizers, settings, a card.

    Args:
        run: as in `load`.
        folder: must not exist, or be empty.
        dtype: of the weights: `float32`, for the same model to the last bit, `bfloat16` or `float16`.
        name: the model's name in its card; by default that of the folder.
        license: an identifier such as `apache-2.0`, for the card.
        languages: codes such as `en`, for the card.

    Raises:
        FileNotFoundError, UserError: there is no such run, or the folder is not empty.
    """
    from trimask.sharing.folder import save_model  # deferred: as above

    save_model(run, folder, dtype=dtype, name=name, license=license, languages=languages)


def push_to_hub(
    run: "str | Path",
    repo: str,
    *,
    dtype: str = "float32",
    private: bool = False,
    license: str | None = None,
    languages: "Sequence[str]" = (),
) -> str:
    """Push what `save_pretrained` writes to the Hugging Face hub as one commit, and return its address.

    Args:
        repo: `owner/name`, which is created if need be.
        private: whether a new repository is private.

    Raises:
        FileNotFoundError, UserError: there is no such run, or the hub refuses it.
    """
    from trimask.sharing.push import push_model  # deferred: as above

    return push_model(run, repo, dtype=dtype, private=private, license=license, languages=languages)


def describe(config: "RunConfig | str", *, tokenizers: "str | Path | None" = None) -> "Description":
    """Compute what follows from a configuration: size, sequences, epochs, cost. `trimask show` prints this.

    Args:
        config: a model's configuration, or the name of a recipe.
        tokenizers: a folder; by default that of the data, else the shipped one.

    Returns:
        Data whose `str` is readable text (see `trimask.planning.describe`).
    """
    from trimask.planning.describe import describe  # deferred: as above

    return describe(config, tokenizers=tokenizers)
