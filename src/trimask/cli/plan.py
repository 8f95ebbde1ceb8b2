"""`trimask plan`: compute memory, batch, time and cost of a recipe on given devices, without running it."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, final

import tyro

from trimask.cli.arguments import Verb, check_range
from trimask.cli.console import COUNTING, Report, print_json
from trimask.cli.failure import Failed, UsageError
from trimask.seals import parse_json

if TYPE_CHECKING:  # these import torch, which takes seconds
    from trimask.planning.hardware import Hardware
    from trimask.planning.plan import Assumptions
    from trimask.tokenizers.bundle import Tokenizers
    from trimask.training.run import RunConfig

_GIB = 2**30
_RANGES = {
    "devices": (1, 10_000_000),
    "price": (0, 1e9),
    "memory": (1e-3, 1e6),
    "network": (1e-3, 1e6),
    "write": (1e-3, 1e6),
    "failures": (1e-3, 1e12),
}
_UNITS = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


def _arg(metavar: str) -> Any:
    return tyro.conf.arg(metavar=metavar)


@final
@dataclass(frozen=True, kw_only=True)
class Plan(Verb):
    """Estimate what a recipe needs on given devices: memory of each device by part, the largest batch, time
    per update, days and device-hours, communication, and how often to save. Nothing is run.

    Any field can be overridden by its path: `trimask plan trimodal_3b --devices 64 --compute.micro-batch 4`.
    """

    takes_overrides: ClassVar[bool] = True

    recipe: Annotated[tyro.conf.Positional[str], _arg("RECIPE")]
    """one of `trimask list`, or your own function (mine.py:NAME); or a run directory, or an exported file"""
    devices: Annotated[int, _arg("N")] = 1
    """number of devices"""
    device: Literal["h100", "h200", "a100", "b200", "l40s", "cpu"] = "h100"
    """type of the devices"""
    mfu: Annotated[str | None, _arg("SHARE|FILE[:NAME]")] = None
    """model FLOPs utilization: achieved share of the device's peak (on GPUs the bf16 peak), or the JSON file
    of a benchmark that measured it (NAME: end of the path of one of several); default 0.5"""
    tokens: Annotated[str | None, _arg("N")] = None
    """another horizon in tokens, such as 6.4T or 13B: slots of rows, padding included"""
    price: Annotated[float | None, _arg("P")] = None
    """price of a device-hour: adds the cost to the plan"""
    memory: Annotated[float | None, _arg("GIB")] = None
    """memory of a device (default: that of its type; for a CPU, that of this machine)"""
    network: Annotated[float | None, _arg("GB/S")] = None
    """bandwidth of a device to other machines"""
    write: Annotated[float, _arg("GB/S")] = 5.0
    """bandwidth at which all devices together write a checkpoint"""
    failures: Annotated[float, _arg("HOURS")] = 50_000.0
    """mean time between failures of a device"""
    tokenizers: Annotated[Path | None, _arg("DIR")] = None
    """tokenizers to train over (default: the shipped ones, or the code spaces that the recipe states)"""
    data: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction, _arg("DIR")] = ()
    """data that `trimask prepare` made, instead of the recipe's; may be given several times"""
    json: bool = False
    """print one JSON object on stdout"""

    def run(self, overrides: Mapping[str, str]) -> int:
        with Report() as report:
            report.expect(COUNTING)
            found = self._plan(overrides)
        if self.json:
            print_json(found)
        else:
            print("\n".join(format_plan(found)))
        return 0

    def _plan(self, overrides: Mapping[str, str]) -> dict[str, Any]:
        config, tokenizers = self._recipe(overrides)
        from trimask.planning.plan import plan

        planned = plan(
            config,
            tokenizers,
            hardware=self._hardware(),
            num_devices=self.devices,
            assumptions=self._assumptions(),
        )
        return {"recipe": self.recipe, **planned}

    def _recipe(self, overrides: Mapping[str, str]) -> "tuple[RunConfig, Tokenizers | None]":
        from trimask.cli.denoiser_job import DenoiserJob, StatedJob
        from trimask.cli.jobs import find_job
        from trimask.planning.plan import count_steps
        from trimask.planning.workload import workload

        for option, (least, most) in _RANGES.items():
            check_range(f"--{option}", getattr(self, option), least, most)
        tokens = None if self.tokens is None else parse_tokens(self.tokens)
        planned = find_job(self.recipe, overrides, data=self.data, tokenizers=self.tokenizers)
        if not isinstance(planned, DenoiserJob | StatedJob):
            raise UsageError(f"{self.recipe} is a tokenizer's recipe: plan one of a model")
        tokenizers = planned.tokenizers if isinstance(planned, DenoiserJob) else None
        config = planned.config
        if tokens is not None:
            config = replace(config, num_steps=count_steps(config, tokens, workload(config, tokenizers)))
        return config, tokenizers

    def _hardware(self) -> "Hardware":
        from trimask.planning.hardware import HARDWARE

        hardware = HARDWARE[self.device]
        if self.network is not None:
            hardware = replace(hardware, network_bandwidth=self.network * 1e9)
        if self.memory is not None:
            return replace(hardware, memory=self.memory * _GIB)
        if hardware.memory is None:
            pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
            return replace(hardware, memory=float(pages * size))
        return hardware

    def _assumptions(self) -> "Assumptions":
        from trimask.planning.plan import Assumptions

        values: dict[str, Any] = {
            "price": self.price,
            "write_bandwidth": self.write * 1e9,
            "failure_hours": self.failures,
        }
        if self.mfu is not None:
            values["mfu"], values["mfu_source"] = _parse_mfu(self.mfu)
        return Assumptions(**values)


def parse_tokens(text: str) -> int:
    """Parse a number of tokens such as "13B" (13_000_000_000). UsageError if it is none, or out of range."""
    number, unit = text.replace(",", ""), 1.0
    if number and number[-1].upper() in _UNITS:
        number, unit = number[:-1], _UNITS[number[-1].upper()]
    try:
        tokens = float(number) * unit
    except ValueError:
        tokens = 0.0
    if not 1 <= tokens < 1e18:
        raise UsageError(f"--tokens is {text!r}: give a number such as 6.4T, 13B or 500M")
    return round(tokens)


def _parse_mfu(text: str) -> tuple[float, str]:
    """Parse --mfu into a share and the name of its source."""
    try:
        share, source = float(text), "given"
    except ValueError:
        share, source = _read_mfu(text)
    if not 0 < share <= 1:
        raise UsageError(f"--mfu is {share:g}: give a share above 0 and up to 1")
    return share, source


def _read_mfu(text: str) -> tuple[float, str]:
    """Read the measured share from `FILE` or `FILE:NAME`; NAME is the end of the path of an `mfu` field."""
    path, name = Path(text), ""
    if not path.is_file() and ":" in text:
        path, name = Path(text.rpartition(":")[0]), text.rpartition(":")[2]
    if not path.is_file():
        raise UsageError(f"--mfu is {text!r}: give a share such as 0.5, or a JSON file")
    try:
        found = dict(_find_mfu(parse_json(path.read_text(encoding="utf-8"))))
    except ValueError as error:
        raise Failed(f"{path} cannot be read ({error}): give a benchmark's result, or a share") from error
    chosen = {where: share for where, share in found.items() if where.endswith(name)}
    if len(chosen) != 1:
        which = f"{path}:NAME with one of {', '.join(found)}" if found else "a benchmark's result, or a share"
        raise UsageError(f"{text} has {len(chosen)} fields `mfu`: give {which}")
    ((where, share),) = chosen.items()
    return share, f"measured: {path.name}{where and ', '}{where}"


def _find_mfu(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Yield (path of its parent, share) of each `mfu` in a JSON value: a number, or an object's `median`."""
    if isinstance(value, list):
        value = {str(number): item for number, item in enumerate(value)}
    if not isinstance(value, dict):
        return
    share = value.get("mfu")
    share = share.get("median") if isinstance(share, dict) else share
    if isinstance(share, int | float):
        yield path, float(share)
    for name, item in value.items():
        yield from _find_mfu(item, f"{path}/{name}" if path else name)


def format_plan(found: Mapping[str, Any]) -> Iterator[str]:
    """Format a plan (JSON values) as lines of text."""
    batch, time, saved = found["batch"], found["time"], found["checkpoint"]
    yield (
        f"{found['recipe']}: {found['parameters']:,} parameters on {found['devices']:,} × {found['device']}; "
        "a model, not a measurement"
    )
    yield from _memory_lines(found["memory"])
    length = batch["positions_per_row"]
    yield (
        f"batch        {batch['physical_batch']:,} sequences (logical {batch['logical_batch']:,}): "
        f"{batch['rows_per_device']:,} a device, in {batch['passes']:,} × {batch['micro_batch']:,}"
    )
    yield f"rows         {length['mean']:,.0f} positions on average; memory is for {length['longest']:,} each"
    if batch["largest_micro_batch"] is not None:
        yield (
            f"at most      {batch['largest_micro_batch']:,} rows in a pass; a physical batch of "
            f"{batch['largest_physical_batch_in_one_pass']:,} in one pass, of any size in more"
        )
    tokens = "" if time["row_tokens"] is None else f", {_format_tokens(time['row_tokens'])} tokens of rows"
    targets = _format_tokens(time["target_tokens"])
    yield (
        f"horizon      {time['updates']:,} updates{tokens}, {targets} target tokens, "
        f"{time['training_flops']:.2e} FLOPs"
    )
    yield (
        f"update       {_format_seconds(time['step_seconds'])}: {100 * time['mfu']:.3g} % of "
        f"{time['peak_flops_per_second'] / 1e12:,.4g} TFLOP/s ({time['mfu_source']}); "
        f"{time['positions_per_second_per_device']:,.0f} positions/s a device"
    )
    cost = "" if time["cost"] is None else f", cost {time['cost']:,.0f}"
    duration, hours = _format_seconds(86_400 * time["days"]), _format_number(time["device_hours"])
    yield f"whole run    {duration}, {hours} device-hours{cost}"
    yield from _exchange_lines(found["exchange"])
    size, duration = _format_number(saved["bytes"] / 1e9, 1), _format_seconds(saved["write_seconds"])
    yield f"checkpoint   {size} GB, written in {duration} at {saved['write_bandwidth'] / 1e9:,.3g} GB/s"
    yield (
        f"save every   {saved['every_updates']:,} updates ({_format_seconds(saved['every_seconds'])}), "
        f"if a device fails every {_format_seconds(3600 * saved['hours_between_failures'])}"
    )
    for caution in found["cautions"]:
        yield f"caution      {caution}"


def _memory_lines(memory: Mapping[str, Any]) -> Iterator[str]:
    yield f"memory of a device at its fullest: {memory['fullest']}"
    for name, size in memory["parts"].items():
        yield f"  {name:<28} {size / _GIB:>9,.2f} GiB"
    available = "" if memory["available"] is None else f" of {memory['available'] / _GIB:,.1f}"
    yield f"  {'total':<28} {memory['total'] / _GIB:>9,.2f} GiB{available}"


def _exchange_lines(exchange: Mapping[str, Any]) -> Iterator[str]:
    sizes = {name: exchange[f"{name}_bytes"] / 1e9 for name in ("gathered", "scattered", "replicated")}
    if any(sizes.values()):
        each = ", ".join(f"{size:,.1f} GB {name}" for name, size in sizes.items() if size)
        took = _format_seconds(exchange["seconds"])
        yield f"exchange     {each} an update: {took} at full bandwidth, beside the products"


def _format_tokens(tokens: float | int) -> str:
    for unit, size in reversed(_UNITS.items()):
        if tokens >= size:
            return f"{tokens / size:,.3g}{unit}"
    return f"{tokens:,.0f}"


def _format_number(value: float, digits: int = 0) -> str:
    """Format with `digits` decimals; a value below 10 with three significant digits."""
    return f"{value:,.{digits}f}" if value >= 10 else f"{value:.3g}"


def _format_seconds(seconds: float | int) -> str:
    if seconds < 1:
        return f"{1000 * seconds:,.3g} ms"
    if seconds < 120:
        return f"{seconds:,.3g} s"
    for unit, size in (("min", 60), ("h", 3600), ("days", 86_400)):
        if seconds < 200 * size:
            return f"{seconds / size:,.3g} {unit}"
    return f"{seconds / (365 * 86_400):,.3g} years"
