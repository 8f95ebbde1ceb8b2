"""Make a job from a name on the command line: a recipe, a run directory or an exported file."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from trimask import modules
from trimask.cli.console import say
from trimask.cli.denoiser_job import DenoiserJob, StatedJob
from trimask.cli.failure import UsageError, convert_file_errors
from trimask.cli.job import Job
from trimask.cli.recipe import find_tokenizer_folder, load_tokenizers, resolve_recipe
from trimask.cli.tokenizer_job import TextTokenizerJob, TokenizerJob
from trimask.config import override, to_dict
from trimask.recipes.catalog import RECIPES


def make_job(
    recipe: str,
    overrides: Mapping[str, str],
    *,
    data: Sequence[Path] = (),
    tokenizers: Path | None = None,
    weights: Path | None = None,
    group_by: str | None = None,
) -> Job:
    """Make the job of `recipe` with `overrides`.

    Raises:
        UsageError, ConfigError: an unknown recipe or field, or a value that does not fit.
        Failed: data or tokenizers that cannot be read.
    """
    config = resolve_recipe(recipe, overrides, data, group_by=group_by)
    recipe = modules.label(recipe)
    from trimask.runs.kinds import kind_of
    from trimask.tokenizer_training.text import TextTokenizerRun
    from trimask.training.run import RunConfig

    if not isinstance(config, RunConfig):
        if tokenizers is not None:
            raise UsageError(f"--tokenizers is for a model, and {recipe} is a tokenizer: leave it out")
        if weights is not None:
            raise UsageError(f"--weights is for a model, and {recipe} is a tokenizer: leave it out")
        if isinstance(config, TextTokenizerRun):
            return TextTokenizerJob(recipe=recipe, config=config)
        return TokenizerJob(recipe=recipe, config=config)
    if not kind_of(config.data).is_there:
        if tokenizers is not None:
            raise UsageError(
                f"{recipe} states its code spaces (--data.spaces.text.codebook_size N, …): leave out "
                "--tokenizers, or give data that was prepared with them by --data DIR"
            )
        return StatedJob(recipe=recipe, config=config)
    folder = find_tokenizer_folder(tokenizers, data)
    return DenoiserJob(
        recipe=recipe,
        config=config,
        folder=folder,
        tokenizers=load_tokenizers(tokenizers, data),
        weights=weights,
    )


def find_job(
    name: str, overrides: Mapping[str, str], *, data: Sequence[Path] = (), tokenizers: Path | None = None
) -> Job:
    """Find the job that `name` means: of a recipe, or of the run of a run directory or exported file.

    A recipe's name always means the recipe, also where a file of that name exists. Raises as `make_job` and
    `resume_job`.
    """
    path = Path(name)
    is_recipe = name in RECIPES or modules.is_own(name)
    if not (is_recipe or path.exists()) and (path.name != name or path.suffix):
        raise UsageError(f"{name} does not exist: give a run directory, an exported file, or a recipe")
    if is_recipe or not path.exists():
        return make_job(name, overrides, data=data, tokenizers=tokenizers)
    if path.is_dir():
        found = resume_job(path, overrides, data=data, tokenizers=tokenizers)
        if found is None:
            raise UsageError(
                f"{path} is not a run directory: give one that `trimask train` made, or a recipe"
            )
        return found
    from trimask import io
    from trimask.model.weights import KIND
    from trimask.runs.exported import find_tokenizers_of_file, read_run_config
    from trimask.runs.kinds import kind_of
    from trimask.tokenizers.bundle import Tokenizers

    with convert_file_errors():
        facts = io.load_tensors(path, kind=KIND).metadata
        config = read_run_config(facts, path)
    kind = kind_of(config.data)
    if kind.folders and not data:
        names = ", ".join(folder.name for folder in kind.folders)
        raise UsageError(
            f"{path} was trained on prepared data ({names}), which the file does not contain: give its "
            "folder with --data DIR"
        )
    with convert_file_errors():
        if data:
            config = replace(config, data=kind.moved(data))
        folder = find_tokenizers_of_file(path, facts, tokenizers)
        loaded = Tokenizers.load(folder)
    config = override(config, overrides)
    recipe = facts.get("recipe", path.name)
    return DenoiserJob(recipe=recipe, config=config, folder=folder, tokenizers=loaded, weights=path)


def resume_job(
    out: Path,
    overrides: Mapping[str, str],
    *,
    recipe: str | None = None,
    data: Sequence[Path] = (),
    tokenizers: Path | None = None,
    weights: Path | None = None,
) -> Job | None:
    """Load the job of the run in `out`: its stored configuration, with `overrides`. None if no run has begun.

    Raises:
        UsageError, ConfigError: another recipe, a field that does not exist, or data other than the run's.
        Failed: the directory is damaged.
    """
    from trimask.runs.resume import check_horizon, find_tokenizers, override_run, read_start
    from trimask.tokenizer_training.text import TextTokenizerRun
    from trimask.tokenizers.bundle import Tokenizers
    from trimask.training.run import RunConfig

    with convert_file_errors():
        start = read_start(out)
    if start is None:
        return None
    if recipe is not None and modules.label(recipe) != start.recipe:
        raise UsageError(
            f"{out} is a run of {start.recipe}, not of {recipe}: leave the recipe out, or choose another "
            "--out"
        )
    kept = None if recipe is None else modules.find_changed_copy(recipe, to_dict(start.config))
    if kept is not None:
        say(f"{recipe} has changed: {out} continues with its own copy, {modules.MODULES}/{kept}")
    elif recipe is not None and modules.is_own(recipe):
        say(f"{out} continues with its stored configuration; {recipe} is not read again")
    config = override_run(start, overrides, data)
    if not isinstance(config, RunConfig):
        for name, value in (("tokenizers", tokenizers), ("weights", weights)):
            if value is not None:
                raise UsageError(f"--{name} is for a model, and {start.recipe} is a tokenizer: leave it out")
        if isinstance(config, TextTokenizerRun):
            return TextTokenizerJob(recipe=start.recipe, config=config)
        return TokenizerJob(recipe=start.recipe, config=config)
    check_horizon(start, config)
    with convert_file_errors():
        folder = find_tokenizers(start, out) if tokenizers is None else find_tokenizer_folder(tokenizers)
        loaded = Tokenizers.load(folder)
    return DenoiserJob(recipe=start.recipe, config=config, folder=folder, tokenizers=loaded, weights=weights)
