"""A user's own file: its recipe, classes and study work in every verb, and a run keeps what it needs of them.

The file is the one that docs/add-a-schedule.md shows.
"""

import gc
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import jaxtyping
import PIL.Image
import pytest
import torch

import trimask
from command_lines import commands
from narrow import resolve_run
from trimask import modules, parallel
from trimask.cli import main
from trimask.cli.failure import Failed, convert_user_code_errors
from trimask.config import ConfigError, from_dict, override, to_dict
from trimask.diffusion.schedule import Linear, Schedule
from trimask.io import keep_modules
from trimask.model.denoiser import Denoiser
from trimask.model.weights import read_denoiser, save_denoiser
from trimask.parallel import Engine, Local, Ray, Work
from trimask.recipes.quickstart import debug
from trimask.sampling import SamplerConfig
from trimask.tokenizers.bundle import Tokenizers, assemble
from trimask.tokenizers.image import ImageTokenizer, ImageTokenizerConfig
from trimask.training.run import RunConfig
from trimask.training.tracker import WALL_CLOCK_FIELDS, read_metrics

pytestmark = pytest.mark.usefixtures("few_speeches", "few_sampling_steps")

DOCS = Path(__file__).parents[2] / "docs"
FEW = ["--data.num-concepts=9", "--data.num-sentences=2"]
SMALL = [*FEW, "--model.width=64", "--model.num-heads=1", "--model.depth=1"]
STEPS = ["--num-steps=4", "--log-every=1", "--checkpoint-every=2", "--threads=1"]
COPY = re.compile(r"mine-[0-9a-f]{16}\.py")


def blocks(page: str) -> list[str]:
    """The Python of a page of the documentation, block by block."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


MINE = blocks("add-a-schedule.md")[0]
HALVES = '''
from trimask.recipes.quickstart import debug
from trimask.studies.pretraining import train
from trimask.studies.study import Study
from trimask.studies.findings import Claim, Findings
from trimask.studies.trial import Trial
from trimask.training.tracker import read_metrics


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Exponents(Study):
    base: RunConfig
    exponents: tuple[float, ...] = (1.0, 2.0)

    def trials(self, results):
        return tuple(self._trial(exponent) for exponent in self.exponents)

    def _trial(self, exponent):
        config = self.base.with_modality("image", schedule=Steep(exponent=exponent))
        return Trial(factors={"exponent": exponent}, config=config)

    def measure(self, trial, folder, tokens):
        train(trial.config, folder, tokens)
        return {"loss": read_metrics(folder)[-1]["loss"]}

    def findings(self, results):
        best = min(results, key=lambda result: result.figure("loss"))
        return Findings(
            claims=(Claim(text=f"best: {best.factors['exponent']}", holds=None),), tables=(), pictures={}
        )


def exponents():
    """Which exponent is best? Two are tried."""
    return Exponents(base=debug())
'''


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Each test begins and ends as a process that has imported nothing of the user's."""
    yield
    forget()


def forget() -> None:
    loaded = [file.copy.removesuffix(".py") for file in modules.loaded_files()]
    for name in {*loaded, "mine"} & set(sys.modules):
        del sys.modules[name]
    if loaded:
        gc.collect()  # their classes, which configurations find as subclasses


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the user's with `mine.py`, in which commands are typed."""
    folder = tmp_path / "desk"
    folder.mkdir()
    (folder / "mine.py").write_text(MINE)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def trained(tokenizers_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the user's recipe, whose file is gone."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "mine.py").write_text(MINE)
    words = ["train", f"{folder}/mine.py:pictures", "--tokenizers", str(tokenizers_folder)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main([*words, *SMALL, *STEPS, "--out", "run"]) == 0
    (folder / "mine.py").unlink()
    forget()
    return folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path, few_speeches: None) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def copy_in(run: Path) -> Path:
    (copy,) = (run / "modules").iterdir()
    return copy


def error(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(words) in (1, 2)
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("trimask: error: ")]
    return line


def figures(run: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in WALL_CLOCK_FIELDS} for row in read_metrics(run)]


# Runs


def test_a_run_keeps_its_code_and_goes_on_by_it(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = figures(run)
    assert COPY.fullmatch(copy_in(run).name) and copy_in(run).read_text() == MINE
    stored = json.loads((run / "config.json").read_text())
    assert stored["recipe"] == "mine.py:pictures"
    assert stored["run"]["modalities"]["image"]["schedule"] == {
        "type": f"{copy_in(run).name}:Steep",
        "exponent": 3.0,
    }
    assert stored["run"]["modalities"]["text"]["schedule"] == {"type": "Linear"}
    (run / "model.safetensors").unlink()
    shutil.rmtree(run / "checkpoints" / "step_00000004")
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--out", "run", "--resume", "--threads=1"]) == 0
    assert figures(run) == whole
    said = [message for message in caplog.messages if "user code" in message]
    assert said == [f"run contains user code, which is now run: {Path('run/modules') / copy_in(run).name}"]


def test_a_changed_file_is_told_and_does_not_count(
    run: Path, desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "mine.py:pictures", "--out", str(run), "--resume", "--dry-run", "--json"]
    assert main(words) == 0
    assert "its own copy" not in capsys.readouterr().err
    (desk / "mine.py").write_text("# another version\n")
    assert main(words) == 0
    said = capsys.readouterr()
    assert f"continues with its own copy, modules/{copy_in(run).name}" in said.err
    assert json.loads(said.out)["config"]["modalities"]["image"]["schedule"]["exponent"] == 3.0


def test_a_run_is_loaded_shown_and_sampled_in_an_order_of_ones_own(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "order.py").write_text(blocks("add-an-order.md")[0])
    assert main(["show", str(run), "--modalities.text.schedule", "Steep", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["config"]["modalities"]
    shown = {name: row["schedule"] for name, row in rows.items()}
    assert shown["text"] == {**shown["image"], "exponent": 2.0} and "Steep" in shown["text"]["type"]
    order, count = (modules.load(f"{tmp_path}/order.py:{name}") for name in ("Outwards", "Certain"))
    model = trimask.load(run)
    captions = ["red apple", "good morning"]
    for config in (
        SamplerConfig(num_steps=3, order=order()),
        SamplerConfig(count=count(nats=7.0)),  # more than the entropy of any code: one pass
    ):
        together = model.generate_many("text_to_image", captions, config=config, raw_prompt=True)
        alone = model.generate("text_to_image", captions[1], config=config, raw_prompt=True, numbers=[0])
        both = [together[1].value, alone]
        first, second = (picture for picture in both if isinstance(picture, PIL.Image.Image))
        assert first.tobytes() == second.tobytes()
        assert from_dict(SamplerConfig, to_dict(config)) == config


def test_samples_keep_the_code_of_their_order(
    desk: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = blocks("add-an-order.md")[0]
    (desk / "order.py").write_text(source)
    words = [
        "sample",
        str(run),
        "--task=text_to_image",
        "--prompt=red apple",
        "--raw-prompt",
        "--out=samples",
        "--sampler.text_to_image.num-steps=none",
        "--sampler.text_to_image.grid=Uniform",
    ]
    order, count = "--sampler.text_to_image.order", "--sampler.text_to_image.count"
    assert main([*words, order, "order.py:Outwards", count, "order.py:Certain", f"{count}.nats=7"]) == 0
    copy = desk / "samples" / "modules" / modules.SourceFile.read(desk / "order.py").copy
    assert copy.read_text() == source
    assert f"wrote samples/modules/{copy.name}" in capsys.readouterr().err
    (desk / "order.py").unlink()
    forget()
    (settings,) = (desk / "samples").glob("*.json")
    made_with = json.loads(settings.read_text())
    assert made_with["sampler"]["order"] == {"type": f"{copy.name}:Outwards"}
    assert made_with["sampler"]["count"] == {"type": f"{copy.name}:Certain", "nats": 7.0}
    again = [order, f"{copy}:Outwards", count, f"{copy}:Certain", f"{count}.nats=7"]
    assert main([*words, *again]) == 0
    assert f"wrote samples/modules/{copy.name}" not in capsys.readouterr().err
    assert len({path.read_bytes() for path in (desk / "samples").glob("*.png")}) == 1
    assert len({path.read_bytes() for path in (desk / "samples").glob("*.json")}) == 1
    forget()
    modules.load_all(made_with, desk / "samples")
    assert to_dict(from_dict(SamplerConfig, made_with["sampler"])) == made_with["sampler"]


@pytest.mark.slow
def test_a_run_is_scored(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["evaluate", "run", "--num-sequences=2", "--num-masks=1", "--threads=1", "--out", "scores.json"]
    assert main(words) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["likelihood"] and not scores.get("failed")


@pytest.mark.parametrize(
    "words", [["train", "--resume", "--out"], ["show"], ["plan"], ["export", "--out=x.safetensors"]]
)
def test_a_copy_that_is_missing_or_changed_is_named(
    words: list[str], run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (run / "model.safetensors").unlink()  # else an export would need nothing of the run's own configuration
    copy = copy_in(run)
    source = copy.read_text()
    copy.write_text(source + "\n")
    assert f"run/modules/{copy.name} has changed since run was made with it" in error([*words, "run"], capsys)
    copy.unlink()
    assert f"run/modules/{copy.name} is missing" in error([*words, "run"], capsys)
    assert not (tmp_path / "x.safetensors").exists()


def test_an_export_brings_the_code_along(
    run: Path, tmp_path: Path, tokenizers_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    name = copy_in(run).name
    assert main(["export", "run", "--out", "out/mine.safetensors"]) == 0
    shutil.rmtree(run)
    forget()
    assert (tmp_path / "out" / "modules" / name).read_text() == MINE
    tokenizers = ["--tokenizers", str(tokenizers_folder)]
    assert main(["show", "out/mine.safetensors", *tokenizers, "--json"]) == 0
    assert f"{name}:Steep" in capsys.readouterr().out
    forget()
    shutil.rmtree(tmp_path / "out" / "modules")
    missing = error(["show", "out/mine.safetensors", *tokenizers], capsys)
    assert f"out/modules/{name} is missing" in missing
    trimask.load(Path("out/mine.safetensors"), tokenizers=tokenizers_folder)  # which needs no schedule


PARAMETRIZATION = """
from dataclasses import dataclass
from typing import final

from trimask.model.parametrization import Parametrization, Standard


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Usual(Parametrization):
    def check(self, *, width, num_heads):
        pass

    def residual_multiplier(self, depth):
        return Standard().residual_multiplier(depth)

    def row(self, role):
        return Standard().row(role)

    def rule(self, name, *, width, depth):
        return Standard().rule(name, width=width, depth=depth)
"""


def test_weights_whose_network_is_of_ones_own(run: Path, desk: Path) -> None:
    (desk / "usual.py").write_text(PARAMETRIZATION)
    before, _ = read_denoiser(run / "model.safetensors")
    config = replace(before.config, parametrization=modules.load("usual.py:Usual")())
    save_denoiser(desk / "model.safetensors", Denoiser(config, before.vocabulary))
    keep_modules(to_dict(config), desk)
    forget()
    (desk / "usual.py").unlink()
    after, _ = read_denoiser(desk / "model.safetensors")
    assert to_dict(after.config) == to_dict(config)
    forget()
    shutil.rmtree(desk / "modules")
    with pytest.raises(trimask.UserError, match=r"desk/modules/usual-[0-9a-f]*\.py is missing"):
        read_denoiser(desk / "model.safetensors")


def test_two_files_of_one_name_are_two(desk: Path, run: Path) -> None:
    """Two runs of different `mine.py`, and a third one that is being written, side by side."""
    (desk / "mine.py").write_text(MINE.replace("t**self.exponent", "t ** (2 * self.exponent)"))
    mine: Any = resolve_run("mine.py:pictures").modalities["image"].schedule
    kept = resolve_run(f"{copy_in(run)}:pictures").modalities["image"].schedule
    t = torch.tensor([0.5], dtype=torch.float64)
    assert mine.mask_ratio(t).item() == 0.5**6 and kept.mask_ratio(t).item() == 0.5**3
    both = debug().with_modality("text", schedule=mine).with_modality("image", schedule=kept)
    stored = to_dict(both)
    types = [stored["modalities"][name]["schedule"]["type"] for name in ("text", "image")]
    assert types[1] == f"{copy_in(run).name}:Steep" != types[0]
    assert from_dict(RunConfig, stored) == override(both, {"seed": "0"}) == both
    assert sorted(file.copy for file in modules.files_of(stored)) == sorted(
        each.removesuffix(":Steep") for each in types
    )
    with pytest.raises(
        ConfigError, match=r"schedule = 'Steep' .*the name is ambiguous: give .*:Steep or mine.py:Steep"
    ) as caught:
        override(both, {"modalities.text.schedule": "Steep"})
    names = re.findall(r"[^ ]+:Steep", str(caught.value))
    (desk / "mine.py").unlink()  # now only its tag names it
    for name, exponent, expected in ((names[0], "3", kept), (types[0], "4", replace(mine, exponent=4.0))):
        path = "modalities.text.schedule"
        given = override(both, {path: name, f"{path}.exponent": exponent})
        assert given.modalities["text"].schedule == expected


# Names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mine.py:pictres", "mine.py has no pictres: did you mean pictures?"),
        (
            "mine.py",
            "mine.py is a module without a name in it: give path.py:Name or package.module:Name; it defines",
        ),
        ("none.py:pictures", "none.py does not exist: give another name"),
        ("notes.txt:pictures", "notes.txt is not a Python file: name one that ends in .py"),
        ("mine.py:Steep", "mine.py:Steep is not a function but ABCMeta"),
        ("mine.py:three", "mine.py:three returned int: return a RunConfig, or a tokenizer's run"),
        ("mine.py:asks", "mine.py:asks takes arguments"),
        (
            "mine.py:fails",
            "mine.py:fails: logical_batch 0: must be at least 1 (mine.py, line 49, in fails",
        ),
        ("mine.py:fails", "(mine.py, line 49, in fails: return replace(quickstart_mini(), logical_batch=0))"),
        ("mine.py:divides", "mine.py:divides failed (code outside of trimask): ZeroDivisionError"),
        ("stops.py:pictures", "stops.py failed (code outside of trimask): Odd: no more (stops.py, line 4,"),
        ("pipe.py:pictures", "pipe.py is a pipe or a device, not a file: give a file"),
        ("many.py:name10", "many.py has no name10: did you mean name"),
        ("many.py:zzz", " more"),
        ("cut.py:pictures", "cut.py failed (code outside of trimask): SyntaxError"),
        (
            "helped.py:pictures",
            "helped.py imports helper_of_mine, which is not installed: install it as a package",
        ),
        ("no_such.package:pictures", "there is no module no_such: install it"),
        ("json:pictures", "json has no pictures"),
    ],
)
def test_a_name_that_leads_nowhere(
    name: str, message: str, desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = (
        "\n\ndef three():\n    return 3\n\n\ndef asks(x):\n    return x\n"
        "\n\ndef fails():\n    from dataclasses import replace\n\n"
        "    return replace(quickstart_mini(), logical_batch=0)\n"
        "\n\ndef divides(*a, **k):\n    return 1 / 0\n"
    )
    (desk / "many.py").write_text("".join(f"def name{n}(): pass\n" for n in range(20, 40)))
    (desk / "stops.py").write_text("class Odd(BaseException): pass\n\n\nraise Odd('no more')\n")
    os.mkfifo(desk / "pipe.py")
    (desk / "mine.py").write_text(MINE + more)
    (desk / "notes.txt").write_text(MINE)
    (desk / "cut.py").write_text(MINE[:-3])
    (desk / "helped.py").write_text("import helper_of_mine")
    for verb in (["train", "--out=x"], ["show"], ["plan"]):
        assert message in error([*verb, name], capsys)
    if "return" not in message and "three" not in message:
        assert message in error(["study", "plan", name], capsys)
    assert not (desk / "x").exists()


BARE = """
from dataclasses import dataclass
from typing import final
from trimask.diffusion.schedule import Schedule

class Plain(Schedule): pass

@dataclass(frozen=True)
class Open(Schedule): pass

@final
@dataclass(frozen=True)
class Unfinished(Schedule): pass

@final
@dataclass(frozen=True)
class Other: pass

Number = 3

def make(name):
    class made(Plain):
        _unclipped_mask_ratio = _slope = _time = None
    made.__name__ = made.__qualname__ = name or made.__qualname__
    return final(dataclass(frozen=True)(made))

made, renamed = make(None), make("Renamed")
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bare.py:Plain", "only final dataclasses can be stored: put `@final` and `@dataclass(frozen=True,"),
        ("bare.py:Open", "only final dataclasses can be stored"),
        ("bare.py:Unfinished", "it does not implement _slope, _time, _unclipped_mask_ratio of Schedule"),
        ("bare.py:Other", "expected a subclass of trimask.diffusion.schedule.Schedule"),
        ("bare.py:Number", "expected a subclass of trimask.diffusion.schedule.Schedule"),
        ("bare.py:Stepe", "bare.py has no Stepe"),
        ("none.py:Steep", "none.py does not exist"),
        ("bare.py:made", "made could not be imported again: define it at the top level of a .py file"),
        ("bare.py:renamed", "Renamed could not be imported again: define it at the top level"),
        ("pipe.py:Steep", "pipe.py is a pipe or a device, not a file: give a file"),
        ("Steep", "expected one of Cosine, Geometric, Linear"),
    ],
)
def test_a_class_that_does_not_fit(
    name: str, message: str, desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (desk / "bare.py").write_text(BARE)
    os.mkfifo(desk / "pipe.py")
    said = error(["show", "debug", "--modalities.text.schedule", name], capsys)
    assert message in said and "modalities.text.schedule" in said


def test_a_class_of_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    package = tmp_path / "installed" / "my_package_of_schedules"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "shapes.py").write_text(MINE)
    name = "my_package_of_schedules.shapes"
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(package.parent))
        config = resolve_run(f"{name}:pictures")
        stored = to_dict(override(config, {"modalities.text.schedule": f"{name}:Steep"}))
        assert stored["modalities"]["text"]["schedule"] == {"type": f"{name}:Steep", "exponent": 2.0}
        assert to_dict(from_dict(type(config), stored))["modalities"]["image"]["schedule"]["exponent"] == 3.0
    for known in [each for each in sys.modules if each.startswith("my_package_of_schedules")]:
        del sys.modules[known]
    with pytest.raises(ConfigError, match="there is no module my_package_of_schedules: install it"):
        from_dict(type(config), stored)
    with pytest.raises(trimask.UserError, match=rf"runs/p was made with user code in {name}: there is"):
        modules.load_all(stored, Path("runs/p"))


def test_a_class_that_could_not_be_imported_again() -> None:
    @final
    @dataclass(frozen=True)
    class Local(Schedule):
        _unclipped_mask_ratio = Linear._unclipped_mask_ratio
        _slope = Linear._slope
        _time = Linear._time

    with pytest.raises(ConfigError, match=r"schedule = .*Local.* could not be imported again: define it at"):
        to_dict(debug().with_modality("text", schedule=Local()))


def test_a_script_names_its_own_classes(desk: Path) -> None:
    (desk / "mine.py").write_text(
        MINE + "\n\nif __name__ == '__main__':\n    from trimask.config import from_dict, to_dict\n"
        "    stored = to_dict(pictures())\n    print(stored['modalities']['image']['schedule']['type'])\n"
        "    assert from_dict(RunConfig, stored) == pictures()\n"
    )
    done = subprocess.run([sys.executable, "mine.py"], capture_output=True, text=True, check=True)
    assert done.stdout == f"{modules.SourceFile.read(Path('mine.py')).copy}:Steep\n"


# Code that fails when it is used

FAULTS = """
import sys
from dataclasses import dataclass
from typing import ClassVar, final

from trimask.diffusion.schedule import Linear, Schedule
from trimask.parallel import Work
from trimask.recipes.quickstart import debug
from trimask.sampling.corrector import Editing, Remasking
from trimask.sampling.count import AdaptiveCount, PlannedCount
from trimask.sampling.filters import Filter
from trimask.sampling.order import DrawnOrder, EvidenceOrder, FixedOrder

print("imported")


def printing():
    print("called")
    return debug()


def config(cls):
    return final(dataclass(frozen=True, kw_only=True)(cls))


class Base(Schedule):
    def _unclipped_mask_ratio(self, t):
        return t

    _slope = _time = _unclipped_mask_ratio


@config
class Checked(Base):
    how: str = "none"

    def __post_init__(self):
        checks = {"key": lambda: {}["a"], "int": lambda: int("q"), "len": lambda: len(3)}
        checks.get(self.how, str)()


@config
class Undefined(Base):
    other: "Other | None" = None


@config
class Fails(Base):
    error: str = "ZeroDivisionError"

    def _slope(self, t):
        raise {"SystemExit": SystemExit, "OSError": OSError}.get(
            self.error, ZeroDivisionError
        )("no more")

    def stop(self):
        raise KeyboardInterrupt

    def through(self):
        return Linear().mask_ratio(None)


@config
class Ranks(FixedOrder):
    def rank(self, canvas, step):
        return canvas.slot[1 // 0]


@config
class Scores(EvidenceOrder):
    def score(self, log_probabilities):
        return log_probabilities[2 // 0]


@config
class ScoresDrawn(DrawnOrder):
    def score(self, log_probabilities, code, row):
        return code[3 // 0]


@config
class Numbers(PlannedCount):
    has_steps: ClassVar[bool] = True

    def times(self, canvas, grid):
        return grid

    def number(self, canvas, num_masked, num_remasked, step):
        return 4 // 0


@config
class Measures(AdaptiveCount):
    def measure(self, log_probabilities, previous):
        return log_probabilities[5 // 0]

    def accept(self, history):
        return history[0][:, 0] > 0


@config
class Accepts(AdaptiveCount):
    def measure(self, log_probabilities, previous):
        return log_probabilities[:, :1]

    def accept(self, history):
        return history[6 // 0]


@config
class Chooses(Remasking):
    def choose(self, revealed):
        return revealed.visible[7 // 0]


@config
class Edits(Editing):
    def edit(self, log_probabilities, code):
        return code[8 // 0]


@config
class Cuts(Filter):
    def __call__(self, log_probabilities, masked):
        return log_probabilities[9 // 0]


@config
class Item(Work):
    def __call__(self, item):
        return item / 0
"""


@pytest.fixture
def faults(desk: Path) -> Path:
    """A file with code of the user's that fails when it is used."""
    (desk / "faults.py").write_text(FAULTS)
    return desk / "faults.py"


def line_of(text: str) -> int:
    return 1 + FAULTS[: FAULTS.index(text)].count("\n")


@pytest.mark.parametrize(
    ("how", "message"),
    [("key", "KeyError: 'a'"), ("int", "ValueError: invalid"), ("len", "TypeError: object")],
)
def test_a_check_of_a_class_that_fails(how: str, message: str, faults: Path, capsys: Any) -> None:
    path = "modalities.text.schedule"
    said = error(["show", "debug", f"--{path}", "faults.py:Checked", f"--{path}.how", how], capsys)
    assert f"{path}: faults.py:{line_of('{}[')}, in <lambda>: {message}" in said
    assert said.endswith("repair the code of faults.py")


def test_a_type_that_is_not_defined(faults: Path, capsys: Any) -> None:
    said = error(["show", "debug", "--modalities.text.schedule", "faults.py:Undefined"], capsys)
    assert "Undefined.other has the type 'Other | None', which cannot be resolved (NameError: name" in said
    assert said.endswith("define or import it at the top level of faults.py")


@pytest.mark.parametrize(
    ("part", "name", "line", "method"),
    [
        ("order", "Ranks", "1 // 0", "rank"),
        ("order", "Scores", "2 // 0", "score"),
        ("order", "ScoresDrawn", "3 // 0", "score"),
        ("count", "Numbers", "4 // 0", "number"),
        ("count", "Measures", "5 // 0", "measure"),
        ("count", "Accepts", "6 // 0", "accept"),
        ("corrector", "Chooses", "7 // 0", "choose"),
        ("corrector", "Edits", "8 // 0", "edit"),
        ("filters.0", "Cuts", "9 // 0", "__call__"),
    ],
)
def test_a_part_of_a_sampler_that_fails(
    part: str, name: str, line: str, method: str, faults: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    words = ["sample", "quickstart", "--task", "text", f"--sampler.text.{part}", f"faults.py:{name}"]
    words += ["--sampler.text.num-steps", "none"] if method in ("measure", "accept") else []
    place = f"faults.py:{line_of(line)}, in {method}"
    assert f"{place}: ZeroDivisionError: integer division or modulo by zero: repair" in error(words, capsys)
    monkeypatch.setenv("TRIMASK_TRACEBACK", "1")
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "Traceback (most recent call last)" in said and line in said


def test_a_schedule_that_fails_in_training(faults: Path, capsys: Any) -> None:
    schedule = ["--modalities.text.schedule", "faults.py:Fails"]
    said = error(["train", "debug", *schedule, *FEW, *STEPS, "--model.depth=1", "--out", "run"], capsys)
    assert f"faults.py:{line_of('raise {')}, in _slope: ZeroDivisionError: no more: repair the code" in said


@pytest.mark.parametrize("kind", ["SystemExit", "OSError", "ZeroDivisionError"])
def test_errors_of_users_code_have_their_place(kind: str, faults: Path) -> None:
    fails = modules.load("faults.py:Fails")(error=kind)
    message = rf"faults.py:\d+, in _slope: {kind}: no more: repair the code of faults.py"
    with pytest.raises(Failed, match=message), convert_user_code_errors():
        fails.alpha_prime(torch.ones(1))


def test_errors_of_trimask_itself_stay(faults: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    fails = modules.load("faults.py:Fails")()
    with pytest.raises(KeyboardInterrupt), convert_user_code_errors():
        fails.stop()
    with pytest.raises(ZeroDivisionError), convert_user_code_errors():
        raise ZeroDivisionError
    with pytest.raises(AttributeError, match="'NoneType' object") as caught, convert_user_code_errors():
        fails.through()
    (note,) = caught.value.__notes__
    assert note.startswith(
        f"trimask: error: faults.py:{line_of('Linear().mask')}, in through: AttributeError"
    )


def test_errors_in_other_processes_have_their_place(faults: Path) -> None:
    packed = parallel._pack(modules.load("faults.py:Item")(), 1)
    with pytest.raises(trimask.UserError, match=rf"faults.py:{line_of('item / 0')}, in __call__: ZeroDiv"):
        parallel._run_packed(*packed)


def test_what_users_code_prints_goes_to_stderr(faults: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "faults.py:printing", *FEW, "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["recipe"] == "faults.py:printing"
    assert printed.err.startswith("imported\ncalled\n")


# Studies, and other processes


@final
@dataclass(frozen=True)
class Half(Work[Schedule, float]):
    """The mask ratio of a schedule half-way."""

    def __call__(self, item: Schedule) -> float:
        return item.mask_ratio(torch.tensor([0.5], dtype=torch.float64)).item()


@pytest.mark.slow
@pytest.mark.parametrize("engine", [Local(workers=2), Ray(workers=1)], ids=["local", "ray"])
@pytest.mark.filterwarnings("default")  # Ray's own
def test_workers_know_the_classes(engine: Engine, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(Path(__file__).parents[2])
    monkeypatch.syspath_prepend(root)  # workers must find this module
    monkeypatch.setenv("PYTHONPATH", f"{root}:{root}/tests:{root}/src")
    steep = modules.load("mine.py:Steep")
    (desk / "mine.py").unlink()
    items = [steep(exponent=float(exponent)) for exponent in (1, 2, 3)]
    assert sorted(engine.run(Half(), items)) == [0.125, 0.25, 0.5]


def test_a_study_of_ones_own(
    desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (desk / "mine.py").write_text(MINE + HALVES)
    small = [f"--base.{word.removeprefix('--')}" for word in FEW] + [
        "--base.num-steps=1",
        "--base.log-every=1",
    ]
    words = ["mine.py:exponents", "--out=study", *small]
    assert main(["study", "run", *words, "--workers=1"]) == 0
    first = capsys.readouterr()
    assert "best: " in first.out and "trial 2/2: exponent=" in first.err
    rows = (desk / "study" / "results.jsonl").read_text()
    forget()
    assert main(["study", "plan", *words]) == 0
    assert "2 trials, 2 done" in capsys.readouterr().out
    assert main(["study", "run", *words, "--workers=1"]) == 0
    assert (desk / "study" / "results.jsonl").read_text() == rows
    report = desk / "study" / "report.md"
    assert "Which exponent is best" in report.read_text()
    assert "trimask study run mine.py:exponents" in report.read_text()
    report.unlink()
    shutil.move(desk / "study", tmp_path / "study")
    forget()
    assert main(["study", "report", "mine.py:exponents", "--out", str(tmp_path / "study")]) == 0
    assert (tmp_path / "study" / "report.md").exists()
    forget()
    (desk / "mine.py").unlink()
    (tmp_path / "study" / "report.md").unlink()
    assert main(["study", "report", str(tmp_path / "study")]) == 0
    assert "Which exponent is best" in (tmp_path / "study" / "report.md").read_text()


def test_a_study_without_a_short_form(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (desk / "mine.py").write_text(MINE + HALVES)
    words = ["study", "plan", "mine.py:exponents", "--short"]
    assert "mine.py:exponents has no short form: --short calls exponents_short in mine.py" in error(
        words, capsys
    )
    short = "\n\ndef exponents_short():\n    return Exponents(base=debug(), exponents=(1.0,))\n"
    (desk / "mine.py").write_text(MINE + HALVES + short)
    assert main(words) == 0
    assert "1 trials, 0 done" in capsys.readouterr().out


def test_a_study_goes_on_with_its_copy_of_a_file_that_has_changed(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, changed = MINE + HALVES, "t ** (2 * self.exponent)"
    (desk / "mine.py").write_text(source)
    words = [f"--base.{word.removeprefix('--')}" for word in [*FEW, "--num-steps=1", "--log-every=1"]]
    words = ["study", "run", "mine.py:exponents", *words, "--workers=1"]
    assert main([*words, "--exponents=1", "--out=study"]) == 0
    (copy,) = (desk / "study" / "modules").iterdir()
    assert copy.read_text() == source
    first = (desk / "study" / "results.jsonl").read_text()
    forget()
    (desk / "mine.py").write_text(source.replace("t**self.exponent", changed) + "# edited\n")
    capsys.readouterr()
    assert main([*words, "--exponents=1,2", "--out=study"]) == 0
    said = capsys.readouterr().err
    assert f"mine.py:exponents has changed: study continues with its own copy, modules/{copy.name}" in said
    assert "trial 2/2: exponent=2.0" in said
    assert (desk / "study" / "results.jsonl").read_text().startswith(first)
    assert list((desk / "study" / "modules").iterdir()) == [copy]
    forget()
    # With the copy too, the first result is of another configuration.
    assert "the result of exponent=1.0 is of another configuration" in error(
        [*words, "--exponents=1", "--out=study", "--base.seed=5"], capsys
    )
    forget()
    copy.unlink()
    assert f"study/modules/{copy.name} is missing" in error([*words, "--exponents=1", "--out=study"], capsys)
    assert main([*words, "--exponents=1", "--out=other"]) == 0


def test_a_study_whose_class_of_another_file_has_changed_names_it(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (desk / "mine.py").write_text(MINE + HALVES)
    (desk / "other.py").write_text(MINE)
    words = [f"--base.{word.removeprefix('--')}" for word in [*FEW, "--num-steps=1", "--log-every=1"]]
    words += ["--exponents=1", "--base.modalities.text.schedule=other.py:Steep", "--out=study"]
    words = ["study", "run", "mine.py:exponents", *words, "--workers=1"]
    assert main(words) == 0
    kept = modules.SourceFile.read(desk / "other.py").copy
    (desk / "other.py").write_text(MINE + "# edited\n")
    assert (
        f"other.py has changed since study was run with it: restore it from study/modules/{kept}, or choose "
        "another --out"
    ) in error(words, capsys)


def test_findings_may_change_where_no_configuration_does(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, plain = 'self.base.with_modality("image", schedule=Steep(exponent=exponent))', "self.base"
    assert own in HALVES
    source = MINE + HALVES.replace(own, plain)
    (desk / "mine.py").write_text(source)
    words = [f"--base.{word.removeprefix('--')}" for word in [*FEW, "--num-steps=1", "--log-every=1"]]
    words = ["study", "run", "mine.py:exponents", *words, "--workers=1", "--out=study"]
    assert main(words) == 0
    forget()
    (desk / "mine.py").write_text(source.replace("best: ", "the best one: "))
    capsys.readouterr()
    assert main(words) == 0
    said = capsys.readouterr()
    assert "the best one: " in said.out and "its own copy" not in said.err
    assert len(list((desk / "study" / "modules").iterdir())) == 2


# The pages


def test_the_page_about_schedules(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (DOCS / "add-a-schedule.md").read_text(encoding="utf-8")
    for program, *words in commands(page):
        if words[0] == "study":  # a form, not a command
            continue
        small = [*SMALL, *STEPS] if words[0] == "train" and "--resume" not in words else []
        small = [*FEW, "--dry-run"] if words[1] == "debug" else FEW if words[0] == "show" else small
        small += ["--num-steps", "2"] if words[0] == "sample" else []
        assert program == "trimask" and main([*words, *small]) == 0, words
    assert (desk / "samples").is_dir()
    monkeypatch.syspath_prepend(str(desk))
    exec(compile(blocks("add-a-schedule.md")[1], "page", "exec"), {})


def test_the_page_about_orders(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, use = blocks("add-an-order.md")
    (desk / "mine.py").write_text(mine)
    monkeypatch.syspath_prepend(str(desk))
    exec(compile(use, "page", "exec"), {})
    assert (desk / "strawberry.png").stat().st_size > 1000
    for words in commands((DOCS / "add-an-order.md").read_text(encoding="utf-8")):
        assert main(words[1:]) == 0


QUANTIZER = """
from dataclasses import dataclass
from typing import final

from trimask.tokenizers.quantizer import FiniteScalarConfig, Quantizer, QuantizerConfig


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Coarse(QuantizerConfig):
    levels: int = 4

    def build(self) -> Quantizer:
        return FiniteScalarConfig(levels=(self.levels,) * 4, num_codebooks=2).build()
"""


def test_a_tokenizer_folder_carries_the_code_of_its_quantizer(
    desk: Path, tokenizers_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (desk / "mine.py").write_text(QUANTIZER)
    config = replace(ImageTokenizerConfig(), quantizer=modules.load("mine.py:Coarse")(levels=3))
    given = Tokenizers.load(tokenizers_folder)
    replace(given, image=ImageTokenizer(config)).save(desk / "first")
    assemble(desk / "second", image=desk / "first" / "image.safetensors")
    shutil.copytree(desk / "second", desk / "third")
    (desk / "mine.py").unlink()
    (copy,) = (desk / "third" / "modules").iterdir()
    for folder in ("first", "second", "third"):
        forget()
        found = Tokenizers.load(desk / folder).image
        assert isinstance(found, ImageTokenizer) and found.codebook_size == 3**4
        assert type(found.config.quantizer).__name__ == "Coarse"
    forget()
    copy.unlink()
    train = ["train", "debug", "--tokenizers", "third", "--out", "run"]
    assert f"third/modules/{copy.name} is missing" in error(train, capsys)
