"""`trimask.describe`: what `trimask show` prints, from Python."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import pytest

import trimask
from trimask.cli import main
from trimask.recipes import catalog
from trimask.runs.build import build_vocabulary
from trimask.tokenizers.bundle import Tokenizers
from trimask.training.logical_batch import BatchChange, BatchRule
from trimask.training.lr_schedule import LearningRateSchedule
from trimask.training.optimizers import AdamWConfig
from trimask.training.run import RunConfig


def reference() -> RunConfig:
    """A recipe whose data is stated: nothing has to be counted."""
    config = catalog.resolve("trimodal_3b")
    assert isinstance(config, RunConfig)
    return config


def test_it_is_what_show_prints(capsys: pytest.CaptureFixture[str]) -> None:
    found = trimask.describe("trimodal_3b")
    assert main(["show", "trimodal_3b"]) == 0
    assert capsys.readouterr().out.endswith(f"}}\n{found}\n")
    assert main(["show", "trimodal_3b", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown.pop("recipe") == "trimodal_3b" and shown.pop("config")
    assert json.loads(json.dumps(found.to_json())) == shown


def test_its_values_are_those_of_the_run() -> None:
    config = replace(reference(), physical_batch=1024)
    found = trimask.describe(config)
    values = {each.name: each.value for each in found.values}
    assert values["updates"] == config.num_updates and found.sequences == config.horizon
    assert values["learning_rate"] == config.scaled_optimizer.learning_rate
    assert values["token horizon"] == sum(row["target_tokens"] for row in found.mixture)
    assert found.parameters["total"] == 2_989_423_872
    qkv = next(each for each in found.tensors if each.tensor == "blocks.*.attention.qkv")
    factor = config.model.rule("blocks.0.attention.qkv.weight").learning_rate
    assert qkv.learning_rate == config.scaled_optimizer.learning_rate * factor
    assert re.search(rf"κ +{values['κ']:.4g} +\(D_base / D\)\^γ", str(found))


@pytest.mark.usefixtures("few_speeches")
def test_tokenizers_are_taken_by_folder(tokenizers_folder: Path) -> None:
    found = trimask.describe("debug", tokenizers=str(tokenizers_folder))
    debug = catalog.resolve("debug")
    assert isinstance(debug, RunConfig)
    vocabulary = build_vocabulary(debug, Tokenizers.load(tokenizers_folder))
    assert found.vocabulary == vocabulary.size
    assert all(row["epochs"] > 0 for row in found.mixture)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class _Halving(BatchRule):
    """A user's own."""

    def scale(self, optimizer: AdamWConfig, change: BatchChange) -> AdamWConfig:
        return replace(optimizer, learning_rate=optimizer.learning_rate / 2)

    def formula(self, name: str) -> tuple[str, str]:
        return ("/ 2" if name == "learning_rate" else "as stated"), "our notebook [D]"

    def cautions(self, change: BatchChange) -> tuple[str, ...]:
        return ("never tried",)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class _Steps(LearningRateSchedule):
    """A user's own, with phases of its own."""

    def phases(self) -> Mapping[str, float]:
        return {"first half": 0.5}

    def factor(self, progress: float) -> float:
        return 1.0 if progress < 0.5 else 0.1


def test_what_a_user_defines_explains_itself() -> None:
    found = trimask.describe(replace(reference(), batch_rule=_Halving(), lr_schedule=_Steps()))
    printed = str(found)
    assert "0.001 / 2: our notebook [D]" in printed and "0.9 as stated" in printed
    assert "first half tokens" in printed and printed.endswith("caution         never tried")
    values = {each.name: each.value for each in found.values}
    assert values["learning_rate"] == 5e-4
    assert values["first half tokens"] == pytest.approx(values["token horizon"] / 2, abs=1)


def test_what_is_no_model_or_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(trimask.UserError, match="image_tokenizer is no model: give a RunConfig"):
        trimask.describe("image_tokenizer")
    with pytest.raises(trimask.UserError, match="unknown recipe 'quickstrat': did you mean"):
        trimask.describe("quickstrat")
    with pytest.raises(trimask.UserError, match="leave out tokenizers"):
        trimask.describe("pilot_320m", tokenizers=tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        trimask.describe("debug", tokenizers=tmp_path / "nowhere")
