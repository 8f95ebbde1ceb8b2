"""The demo with a tiny model and a tiny run: its report is self-contained and survives what goes wrong."""

import os
import re
import signal
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from trimask import io
from trimask.demo import demo, showcase
from trimask.demo import report as demo_report
from trimask.demo.demo import fit_num_steps, run_demo
from trimask.demo.report import card_blocks, describe_shipped
from trimask.model.weights import save_denoiser
from trimask.recipes.quickstart import debug
from trimask.runs import load as runs
from trimask.runs.build import build_denoiser, build_vocabulary
from trimask.tokenizers.bundle import Tokenizers
from trimask.training.run import RunConfig

pytestmark = pytest.mark.usefixtures("few_speeches", "few_sampling_steps")

_SMALL = debug().data


class _Sources(HTMLParser):
    """What a page asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.titles: list[str] = []
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        self._in_title = tag in ("h2", "h3")

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.titles.append(data)
            self._in_title = False


def _read(report: Path) -> _Sources:
    reader = _Sources()
    reader.feed(report.read_text(encoding="utf-8"))
    assert all(source.startswith(("data:image/", "data:audio/", "#")) for source in reader.sources)
    return reader


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An untrained model in the place of the one that ships, with a card."""
    folder = tmp_path / "assets"
    denoiser = build_denoiser(debug(), build_vocabulary(debug(), Tokenizers.load()))
    save_denoiser(folder / "model.safetensors", denoiser)
    (folder / "README.md").write_text("# Card\n\n## What it cannot do\n- count **sheep**\n", encoding="utf-8")
    monkeypatch.setattr(runs, "QUICKSTART", folder / "model.safetensors")
    monkeypatch.setattr(demo, "describe_shipped", lambda: describe_shipped(folder))
    return folder


def _demo(out: Path, **changes: Any) -> Path:
    options = {"minutes": 0.02, "recipe": debug, "model_data": _SMALL, "num_images": 2, "num_clips": 2}
    return run_demo(out, **(options | changes))


def _shorten(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Ask the shipped model for the first `count` things alone: another test asks for all."""
    whole = showcase.Showcase.shipped
    monkeypatch.setattr(showcase.Showcase, "shipped", lambda self: whole(self)[:count])


def test_demo_generates_trains_and_reports(
    shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    (out / "samples").mkdir(parents=True)
    io.write_json(out / "demo.json", {"format": "trimask demo"})  # an earlier one is replaced
    for name in ("samples/old.png", "thesis.txt"):
        (out / name).write_text("years of work", encoding="utf-8")
    report = _demo(out)
    assert not (out / "samples" / "old.png").exists()
    assert (out / "thesis.txt").exists(), "only what a demo writes is removed"
    page = _read(report)
    assert [title for title in page.titles if title in ("The shipped model", "Fresh run", "Go on")] == [
        "The shipped model",
        "Fresh run",
        "Go on",
    ]
    assert "What it can and cannot do" in page.titles and "How a picture is unmasked" in page.titles
    assert "count sheep" in report.read_text(encoding="utf-8")
    assert (out / "samples" / "shipped" / "image-seen-00.png").exists()
    assert (out / "samples" / "fresh" / "speech-seen-00.wav").exists()
    assert (out / "run" / "model.safetensors").exists() and not (out / "warm-up").exists()
    assert set(io.read_json(out / "demo.json")["stages"]) == {"shipped", "fresh"}
    said = capsys.readouterr().out
    assert "report.html" in said and "trimask sample quickstart --task text_to_image" in said
    assert "trimask serve quickstart" in said
    assert f"evaluate {out / 'run'}" in said


def test_a_failure_after_the_first_stage_keeps_what_was_generated(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(demo, "pretrain", fail)
    _shorten(monkeypatch, 1)
    with pytest.raises(OSError, match="no space"):
        _demo(tmp_path / "demo")
    page = _read(tmp_path / "demo" / "report.html")
    assert "The shipped model" in page.titles and "Fresh run" not in page.titles
    assert "Pictures for captions seen in training" in page.titles


def test_a_signal_ends_the_training_and_generates_with_what_there_is(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = demo.pretrain

    def interrupted(config: RunConfig, out: Path, **options: Any) -> Any:
        def stop(step: int, row: Mapping[str, Any]) -> None:
            os.kill(os.getpid(), signal.SIGTERM)  # SIGINT is ignored where the tests run in the background

        if options["recipe"] == "warm-up":
            return real(config, out, **options)
        return real(replace(config, log_every=2, num_steps=10_000), out, **{**options, "on_progress": stop})

    monkeypatch.setattr(demo, "pretrain", interrupted)
    _shorten(monkeypatch, 0)
    report = _demo(tmp_path / "demo", minutes=5)
    assert "stopped by Ctrl-C" in report.read_text(encoding="utf-8")
    assert (tmp_path / "demo" / "samples" / "fresh" / "image-seen-00.png").exists()


def test_ctrl_c_while_generating_keeps_what_is_made(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: showcase.Showcase) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(showcase.Showcase, "filmstrip", stop)
    report = _demo(tmp_path / "demo", minutes=0)
    page = _read(report)
    assert "Speech for texts seen in training" in page.titles and "Text" not in page.titles
    assert "Stopped here by Ctrl-C" in report.read_text(encoding="utf-8")
    assert "trimask evaluate" not in report.read_text(encoding="utf-8"), "there is no run"


def test_a_folder_of_another_kind_is_left_alone(shipped: Path, tmp_path: Path) -> None:
    out = tmp_path / "theirs"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(ValueError, match="holds no demo: choose another --out"):
        _demo(out)
    assert [entry.name for entry in out.iterdir()] == ["thesis.txt"]
    io.write_json(out / "demo.json", {"format": "another program"})
    with pytest.raises(ValueError, match="was not written by trimask demo"):
        _demo(out)


@pytest.mark.parametrize("minutes", [-1, float("nan"), float("inf")])
def test_minutes_must_be_a_number(tmp_path: Path, minutes: float) -> None:
    with pytest.raises(ValueError, match="minutes"):
        run_demo(tmp_path / "demo", minutes=minutes)
    assert not (tmp_path / "demo").exists()


def test_absent_weights_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "QUICKSTART", tmp_path / "nothing.safetensors")
    with pytest.raises(FileNotFoundError, match="the shipped model is missing"):
        run_demo(tmp_path / "demo", minutes=1)
    assert not (tmp_path / "demo").exists()


def test_steps_fill_the_minutes() -> None:
    config = fit_num_steps(debug(), seconds=300, seconds_a_step=0.5)
    assert config.num_steps == 570
    assert config.log_every <= 14 and config.checkpoint_every == 114
    assert fit_num_steps(debug(), seconds=1, seconds_a_step=10.0).num_steps == 1


def test_card_gives_only_what_the_model_can_and_cannot_do(tmp_path: Path) -> None:
    card = "# Model\nmade of x\n## What it can do\nPictures.\n| a |\n## Data\nmuch\n## Limits\n* none\n"
    html = "".join(block.html() for block in card_blocks(card))
    assert "Pictures." in html and "• none" in html
    wrapped = card_blocks("## What it can do\n- a long\n  item\n- another\n\nA para\ngraph\n")
    assert [re.sub("<[^>]*>", "", block.html()).strip() for block in wrapped] == [
        "• a long item",
        "• another",
        "A para graph",
    ]
    assert "made of" not in html and "much" not in html and "| a |" not in html
    assert demo_report.describe_shipped(tmp_path) is None
