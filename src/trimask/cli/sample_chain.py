"""`trimask sample --task A,B,C`: a chain of tasks."""

from collections.abc import Mapping
from typing import Any

from trimask.cli.arguments import choose
from trimask.cli.console import print_json
from trimask.cli.destination import check_writable
from trimask.cli.failure import UsageError
from trimask.cli.sample import Sample
from trimask.cli.sample_inputs import check_overrides
from trimask.cli.sample_output import NO_FILES, name_stem, print_sample, print_warnings_once

_OF_ONE_TASK = ("prompts", "mask", "seconds", "span_length", "pair", "filmstrip", "negative_prompt", "guide")


def run_chain(request: Sample, overrides: Mapping[str, str]) -> int:
    """Carry out the tasks of `request`; write all results to its folder."""
    from trimask.cli.samples import SampleFolder

    if request.out is None:
        raise UsageError("a chain of tasks writes files: give a folder for them with --out DIR")
    for name in _OF_ONE_TASK:
        if getattr(request, name):
            option = name.replace("_", "-")
            raise UsageError(f"--{option} is for one task, and --task names several: leave it out")
    check_writable(request.out)
    generator = request.load()
    generator.override(overrides)
    known = [task.name for task in generator.vocabulary.tasks]
    names = [choose("task", name.strip(), known) for name in request.task.split(",")]
    check_overrides(names, overrides, generator.vocabulary.tasks)
    given = request.options(generator)
    chain = {"chain": names, "samplers": {name: request.describe_sampler(generator, name) for name in names}}
    folder, described = SampleFolder(request.out), []
    for number in range(request.num_samples):
        with print_warnings_once():
            results = generator.chain(
                names, request.prompt, numbers=[number], raw_prompt=request.raw_prompt, **given
            )
        for place, result in enumerate(results):
            task = generator.task(names[place])
            settings = request.describe_settings(generator, task, request.prompt, number, result.is_complete)
            sample: dict[str, Any] = {"task": task.name, "is_complete": result.is_complete}
            if result.text is not None:
                sample["text"] = result.text
            sample |= folder.write(
                result,
                stem=name_stem(f"{place + 1}_{task.name}", request.prompt, request.seed),
                made_with=settings | chain,
            )
            described.append(sample)
            if not request.json:
                print_sample(sample)
    if request.json:
        files = [each[kind] for each in described for kind in each if kind not in NO_FILES]
        print_json(
            {
                "model": request.model,
                "tasks": names,
                "seed": request.seed,
                "samples": described,
                "files": files,
            }
        )
    return 0
