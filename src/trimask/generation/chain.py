"""Chains of tasks: each uses what is given or was generated before it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trimask.errors import UserError
from trimask.generation.codecs import ImageInput, SpeechInput
from trimask.generation.generated import Generated
from trimask.generation.request import check_request, describe_value, is_many
from trimask.vocabulary.task import MODALITIES, Task

if TYPE_CHECKING:
    from trimask.generation.generate import Generator


def run_chain(
    generator: "Generator",
    tasks: Sequence[str],
    prompt: str | None = None,
    *,
    image: ImageInput | None = None,
    speech: SpeechInput | None = None,
    codes: Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
    **options: Any,
) -> list[Generated]:
    """Carry out `tasks` in order; return all results.

    A task uses the latest of each modality that it needs. Pictures and recordings are passed on as codes,
    without loss.

    Args:
        options: those of `Generator.generate_each` that fit all tasks.

    Raises:
        UserError: as in `generate_each`; no tasks; a task needs what nothing before it gives; something is
            given that no task uses before another one generates it; or a text that a task needs was generated
            empty.
    """
    check_request(seed=seed, raw_prompt=bool(options.get("raw_prompt", False)))
    if not isinstance(tasks, list | tuple) or not tasks:
        raise UserError(f"tasks are {describe_value(tasks)}: give a list of at least one task")
    if codes is not None and not isinstance(codes, Mapping):
        raise UserError(f"codes are {describe_value(codes)}: give arrays by modality")
    for name, value in {"prompt": prompt, "image": image, "speech": speech, **(codes or {})}.items():
        if is_many(value):
            raise UserError(f"{name} is {describe_value(value)}: give one; call `chain` for each")
    if options.get("num_samples", 1) != 1:
        raise UserError(
            f"num_samples is {describe_value(options['num_samples'])}: a chain gives one result of each "
            "task; call it for each sample, with numbers=[0], numbers=[1], …"
        )
    given = {"text": prompt, "image": image, "speech": speech, **(codes or {})}
    known = {modality: value for modality, value in given.items() if value is not None}
    _check([generator.task(name) for name in tasks], set(known))
    results: list[Generated] = []
    for name in tasks:
        needed = {modality: known[modality] for modality in generator.task(name).condition}
        if needed.get("text") == "" and results:
            raise UserError(f"the text for task {name} was generated empty: try another seed")
        others = {m: value for m, value in needed.items() if m not in MODALITIES}
        (result,) = generator.generate_each(
            name,
            needed.get("text"),
            image=needed.get("image"),
            speech=needed.get("speech"),
            codes=others or None,
            seed=seed,
            **options,
        )
        known |= dict(result.codes)
        if result.text is not None:
            known["text"] = result.text
        results.append(result)
    return results


def _check(tasks: Sequence[Task], given: set[str]) -> None:
    """Raise UserError if a task needs what is neither given nor generated before it, or none uses what is
    given.
    """
    generated, unused = set[str](), set(given)
    for task in tasks:
        missing = [modality for modality in task.condition if modality not in given | generated]
        if missing:
            raise UserError(
                f"task {task.name} needs {_join(missing)}, which no task before it generates: give it"
            )
        unused -= set(task.condition) - generated
        generated |= set(task.targets_of(task.spans[0]))
    if unused:
        raise UserError(
            f"no task of the chain uses the {_join(sorted(unused))} that is given (they use what those "
            "before them generate): leave it out"
        )


def _join(modalities: Sequence[str]) -> str:
    return " and ".join("prompt" if modality == "text" else modality for modality in modalities)
