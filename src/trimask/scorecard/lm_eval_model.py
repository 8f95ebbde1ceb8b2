"""Our models by name in lm-eval: what `--model trimask --model_args run=RUN` stands for.

Imports lm-eval (extra `eval`): import this module only where it is needed.
"""

from collections.abc import Mapping
from typing import Any, final

from lm_eval.api.model import LM  # pyright: ignore[reportMissingImports]  (an extra)
from lm_eval.api.registry import register_model  # pyright: ignore[reportMissingImports]  (an extra)

from trimask.errors import UserError
from trimask.evaluation.continuation import ContinuationScorer
from trimask.evaluation.harness import HarnessModel
from trimask.runs import load as runs
from trimask.runs.hub import fetch, is_hub_name
from trimask.scorecard.score import denoiser_of, tokenizers_of

NAME = "trimask"
_LOADED = ("preset", "tokenizers", "revision", "trust_code")  # arguments of `trimask.load`
_SCORED = ("num_masks", "seed", "text_window")
_HARNESS = ("batch_size", "max_batch_size", "device")  # which lm-eval adds
_DEFAULT_DEVICE = "cuda:0"  # of lm-eval, where the user names none


def register() -> None:
    """Make lm-eval know our models under `NAME`, in this process."""
    register_model(NAME)(NamedModel)


@final
class NamedModel(LM):
    """Makes a `HarnessModel` of lm-eval's arguments: a dictionary, or `run=RUN,num_masks=64`.

    They are `run`, `preset`, `tokenizers`, `revision` and `trust_code`, as in `trimask.load`; `num_masks` per
    bound (32), `seed` of the masks and samples (0), and `text_window` (the run's own). A batch size above 1
    is the number of sequences in a pass; results do not depend on it.
    """

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: Mapping[str, Any], additional_config: Mapping[str, Any] | None = None
    ) -> HarnessModel:
        """Raises UserError for arguments that are unknown, missing or no numbers, and as `trimask.load`."""
        given = {name: value for name, value in arg_dict.items() if value is not None}
        if "run" not in given:
            raise UserError("--model_args names no run: give run=RUN, a run directory or quickstart")
        ours = ("run", *_LOADED, *_SCORED)
        for name in given:
            if name not in (*ours, *_HARNESS):
                raise UserError(f"--model_args has {name}, which is unknown: give {', '.join(ours)}")
        added = (additional_config or {}).items()
        more = given | {name: value for name, value in added if value is not None}
        if str(more.get("device", "cpu")) not in ("cpu", _DEFAULT_DEVICE):
            raise UserError(f"--device {more['device']}: the model is computed on the CPU, leave it out")
        return _make_model(str(given["run"]), given, str(more.get("batch_size", 1)))

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str, additional_config: Mapping[str, Any] | None = None
    ) -> HarnessModel:
        """Parse `name=value,…`, and go on as `create_from_arg_obj`."""
        from lm_eval.utils import simple_parse_args_string  # pyright: ignore[reportMissingImports]

        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> Any:
        raise AssertionError("only what it makes is asked")

    loglikelihood_rolling = generate_until = loglikelihood


def _make_model(run: str, given: Mapping[str, Any], batch_size: str) -> HarnessModel:
    options = {name: given[name] for name in _LOADED if name in given}
    generator = runs.load(run, raw_prompts=True, **options)
    numbers = {"text_window": _text_window(run, given), "num_masks": 32, "seed": 0}
    for name in numbers:
        value = given.get(name, numbers[name])
        if type(value) is not int or value < (name != "seed"):
            raise UserError(f"--model_args has {name}={value}: give a whole number")
        numbers[name] = value
    rows = {"batch_size": int(batch_size)} if batch_size.isdecimal() and int(batch_size) > 1 else {}
    denoiser, text = denoiser_of(generator), tokenizers_of(generator).text
    return HarnessModel(generator, ContinuationScorer(denoiser=denoiser, text=text, **numbers, **rows))


def _text_window(run: str, given: Mapping[str, Any]) -> int:
    """Return the ids of a full text span in the run's training data."""
    if "text_window" in given:
        return given["text_window"]
    found = fetch(run, given.get("revision")) if is_hub_name(run) else run
    return runs.load_config_of(found).data.text_window
