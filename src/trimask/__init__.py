"""trimask: tri-modal masked diffusion models, pretrained from scratch.

import trimask
model = trimask.load("quickstart")
picture = model.generate(task="text_to_image", prompt="strawberry", seed=0)
"""

# Little is imported here: Ctrl-C is answered once the command line is.
from trimask.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from trimask.planning.describe import Description
    from trimask.sampling.generate import Generator
    from trimask.training.run import RunConfig

__all__ = ["UserError", "__version__", "describe", "load"]
__version__ = "0.1.0"


def load(run: "str | Path", *, tokenizers: "str | Path | None" = None) -> "Generator":
    """A generator from a run directory, a file that `trimask export` wrote, or `quickstart`, the model that
    ships (see `trimask.runs.load`). `tokenizers`: of an exported file, where they do not ship.
    """
    from trimask.runs import load as runs  # torch takes seconds to import: `trimask --help` does without

    return runs.load(run, tokenizers=tokenizers)


def describe(config: "RunConfig | str", *, tokenizers: "str | Path | None" = None) -> "Description":
    """What follows from a model's configuration, or from the recipe of this name: what `trimask show` prints,
    as data whose `str` is for reading (see `trimask.planning.describe`). `tokenizers`: a folder, if they are
    neither those of the data nor those that ship.
    """
    from trimask.planning.describe import describe  # likewise

    return describe(config, tokenizers=tokenizers)
