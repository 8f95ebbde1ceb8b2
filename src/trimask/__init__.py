"""trimask: tri-modal masked diffusion models, pretrained from scratch.

import trimask
model = trimask.load("quickstart")
picture = model.generate(task="text_to_image", prompt="strawberry", seed=0)
"""

# Heavy imports are deferred: Ctrl-C is handled only once the command line has been imported.
from trimask.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from trimask.generation.generate import Generator
    from trimask.planning.describe import Description
    from trimask.training.run import RunConfig

__all__ = ["UserError", "__version__", "describe", "load"]
__version__ = "0.1.0"


def load(
    run: "str | Path",
    *,
    tokenizers: "str | Path | None" = None,
    backend: str = "torch",
    preset: str | None = None,
) -> "Generator":
    """Load a generator.

    Args:
        run: a run directory, a file that `trimask export` wrote, or `quickstart`, the shipped model.
        tokenizers: tokenizer folder of an exported file; by default the shipped one.
        backend: what computes predictions: `torch`; `torch-compiled`, which first compiles for a minute or
            so; or ONNX Runtime, faster on CPUs (the extra `onnx`), with the same results up to rounding
            (`onnx`) or in 8-bit integers (`onnx-int8`).
        preset: sampler settings in place of the run's own: `fast`, `balanced` or `best` of the run's presets,
            or FILE:NAME of those that `trimask study run sampling` wrote.

    Raises:
        ImportError: the backend's extra is not installed; the message has the remedy.
        FileNotFoundError, UserError: there is no such model, or it cannot be used (see `trimask.runs.load`).
    """
    from trimask.runs import load as runs  # deferred: this imports torch, which `trimask --help` does without

    return runs.load(run, tokenizers=tokenizers, backend=backend, preset=preset)


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
