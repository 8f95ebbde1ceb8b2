"""`Service`: the models that are served, and how a request becomes a job for them."""

import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, final

from trimask.config import override
from trimask.errors import UserError
from trimask.generation.generate import Generator
from trimask.generation.results import Results
from trimask.sampling.config import SamplerConfig
from trimask.sampling.defaults import Samplers
from trimask.sampling.kept import require_partial
from trimask.sampling.length import Grown
from trimask.sampling.predictor import PartialPredictor
from trimask.sampling.recompute import Everything
from trimask.serve.errors import ApiError
from trimask.serve.limits import DEFAULT, Limits
from trimask.serve.requests import Settings
from trimask.serve.scheduler import Scheduler
from trimask.serve.worker import Worker


@final
@dataclass(frozen=True, kw_only=True)
class Served:
    """A model by the name that requests give. `created` is when it was loaded, in seconds since 1970, and
    `presets` its sampler settings by preset name and task name.
    """

    name: str
    generator: Generator
    created: int
    presets: Mapping[str, Mapping[str, SamplerConfig]] = field(default_factory=dict)

    @property
    def description(self) -> dict[str, Any]:
        return {"id": self.name, "object": "model", "created": self.created, "owned_by": "trimask"}

    def find_preset(self, name: str, task: str) -> SamplerConfig:
        """Return the settings of a preset. ApiError: there is none of this name for the task."""
        known = [each for each, of_tasks in self.presets.items() if task in of_tasks]
        if name not in known:
            fix = f"choose one of {', '.join(known)}" if known else "leave it out"
            message = f"preset {name[:100]!r} is none of model {self.name} for task {task}: {fix}"
            raise ApiError(400, message, param="preset", code="invalid_value")
        config = self.presets[name][task]
        if isinstance(self.generator.predictor, PartialPredictor):
            return config
        return replace(config, recompute=Everything())  # it keeps no keys and values


@final
class Service:
    """All that endpoints need.

    Args:
        models: by name; the first is that of requests which name none.
        presets: of each model, sampler settings by preset name and task name, for requests to choose.
        most: bounds of each model's `Scheduler`, by its arguments' names; None leaves the usual one.
    """

    def __init__(
        self,
        models: Mapping[str, Generator],
        *,
        presets: Mapping[str, Mapping[str, Mapping[str, SamplerConfig]]] | None = None,
        limits: Limits = DEFAULT,
        **most: int | None,
    ):
        now, presets = int(time.time()), {} if presets is None else presets
        bounds = {name: bound for name, bound in most.items() if bound is not None}
        self.models = {
            name: Served(name=name, generator=generator, created=now, presets=presets.get(name, {}))
            for name, generator in models.items()
        }
        self.limits = limits
        self.worker = Worker(
            {name: Scheduler(generator.predictor, **bounds) for name, generator in models.items()}
        )

    def find(self, name: str | None) -> Served:
        """Return the model of a request. ApiError: there is none of this name."""
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            known = ", ".join(self.models)
            message = f"there is no model {name[:100]!r}: choose one of {known}"
            raise ApiError(404, message, param="model", code="model_not_found")
        return self.models[name]

    def check_count(self, field: str, number: int) -> None:
        """Raise ApiError for more results than a request may have."""
        if number > self.limits.num_results:
            bound = self.limits.num_results
            raise ApiError(400, f"{field} asks for {number} results: ask for at most {bound}", param=field)

    def check_text(self, field: str, text: str | None) -> None:
        """Raise ApiError for a text that is too long."""
        if text is not None and len(text) > self.limits.characters:
            message = f"{field} has {len(text):,} characters: give at most {self.limits.characters:,}"
            raise ApiError(400, message, param=field, code="string_above_max_length")

    def check_tokens(self, field: str, number: int | None) -> None:
        """Raise ApiError for more tokens or frames than a text or recording may be generated with."""
        if number is not None and number > self.limits.tokens:
            raise ApiError(400, f"{field} is {number:,}: ask for at most {self.limits.tokens:,}", param=field)

    def prepare(
        self,
        served: Served,
        task: str,
        prompt: str | None,
        settings: Settings,
        *,
        seed: int,
        **inputs: Any,
    ) -> Callable[[], Results]:
        """Return what checks a request and makes its results, for the thread of the models.

        Args:
            inputs: options of `Generator.generate_each`.
        """
        self.check_text("negative_prompt", settings.negative_prompt)

        def make() -> Results:
            generator = served.generator
            results = generator.generate_each(
                task,
                prompt,
                seed=seed,
                config=self._configure(served, task, settings),
                negative_prompt=settings.negative_prompt,
                raw_prompt=settings.raw_prompt,
                guidance_scale=settings.guidance_scale,
                **inputs,
            )
            self._check_size(results)
            if not isinstance(results.config.recompute, Everything):
                require_partial(generator.predictor)  # else the first step would fail, that of all others too
            return results

        return make

    def _configure(self, served: Served, task: str, settings: Settings) -> SamplerConfig:
        """Return the sampler's settings. Errors name the request's field."""
        given = {"num_steps": settings.num_steps, "guidance_scale": settings.guidance_scale}
        given |= {"temperature": settings.temperature, "top_p": settings.top_p}
        config = served.generator.settings(task)
        if settings.preset is not None:
            config = served.find_preset(settings.preset, task)
        paths: dict[str, tuple[str, Any]] = {}
        if settings.order is not None:
            paths["order"] = ("order", settings.order)
        paths |= {path: ("sampler", value) for path, value in settings.sampler.items()}
        for name, value in paths.values():
            if isinstance(value, str) and (":" in value or ".py" in value):
                # A class of the server's own files or packages: naming one would run code.
                message = f"{name} names {value!r}: name a class of trimask, without a file or package"
                raise ApiError(400, message, param=name, code="invalid_value")
        if paths:
            values = {f"sampler.{task}.{path}": _spell(value) for path, (_, value) in paths.items()}
            try:
                config = override(Samplers(sampler={task: config}), values).sampler[task]
            except UserError as error:
                name = "order" if set(paths) == {"order"} else "sampler"
                raise ApiError(400, str(error), param=name, code="invalid_value") from error
        config = config.adjust(**given)
        for law in config.laws:
            if law.num_steps is not None and law.num_steps > self.limits.num_steps:
                message = f"num_steps is {law.num_steps:,}: give at most {self.limits.num_steps:,}"
                raise ApiError(400, message, param="num_steps", code="invalid_value")
        return config

    def _check_size(self, results: Results) -> None:
        """Raise ApiError for spans that are too long, or may grow too long."""
        length = results.config.length
        growth = length.most if isinstance(length, Grown) else 1.0
        for document in results.documents:
            for modality in document.task.targets_of(list(document.spans)):
                start, stop = document.spans[modality]
                space = results.codecs.vocabulary.space(modality)
                frames = (stop - start) // space.num_codebooks
                if space.has_end and frames * growth > self.limits.tokens:
                    message = (
                        f"the {modality} may have {frames * growth:,.0f} tokens or frames: ask for at most "
                        f"{self.limits.tokens:,}"
                    )
                    raise ApiError(400, message, param="span_length", code="invalid_value")


def choose_seed(settings: Settings) -> int:
    """Return the request's seed, or draw one: it is told with the results."""
    return secrets.randbelow(2**31) if settings.seed is None else settings.seed


def show_warnings(lines: Iterable[str]) -> dict[str, Any]:
    """Return the field of an answer that tells warnings, if there are any."""
    found = list(dict.fromkeys(lines))
    return {"warnings": found} if found else {}


def _spell(value: Any) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
