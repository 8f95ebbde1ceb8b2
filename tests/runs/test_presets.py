"""Presets: sampler settings by name, kept beside a run, in an exported file, or in a file of their own."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import trimask
from trimask.cli import main
from trimask.config import to_dict
from trimask.datasets.quickstart import load_speech
from trimask.generation.generate import UntunedTaskWarning
from trimask.runs import load as loading
from trimask.runs.export import export
from trimask.runs.load import load_trained, load_with_presets
from trimask.runs.presets import PRESETS, Presets, hash_weights
from trimask.sampling.config import SamplerConfig
from trimask.sampling.grid import Tabulated
from trimask.sampling.recompute import Everything, Needed

FAST = SamplerConfig(
    num_steps=2, grid=Tabulated(times_of_steps=((1.0, 0.4, 0.0),)), recompute=Needed(renew_every=3)
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, few_speeches: None) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", "debug", "--out", str(out), "--threads=1", "--num-steps=1"]) == 0
    return out


def write(path: Path, run: Path, **changes: object) -> Presets:
    own = Presets(weights=hash_weights(load_trained(run)[0]), presets={"fast": {"text": FAST}, "mine": {}})
    found = replace(own, **changes)
    path.write_text(json.dumps(to_dict(found)))
    return found


def test_a_run_and_its_export_have_the_same_presets(run: Path, tmp_path: Path):
    own = trimask.load(run).samplers
    with pytest.raises(ValueError, match=r"preset 'fast': .*run has no presets of its own: make them with"):
        trimask.load(run, preset="fast")
    assert load_with_presets(run, warn=pytest.fail)[1] == {}
    write(run / PRESETS, run)
    exported = tmp_path / "model.safetensors"
    try:
        export(run, exported)
        for place in (run, exported):
            assert trimask.load(place, preset="fast").samplers == {**own, "text": FAST}
            assert trimask.load(place, preset="mine").samplers == own
            generator, presets = load_with_presets(place, preset="fast", warn=pytest.fail)
            assert presets == {"fast": {"text": FAST}, "mine": {}} and generator.samplers["text"] == FAST
            with pytest.raises(ValueError, match="no preset is named 'best': choose one of fast, mine"):
                trimask.load(place, preset="best")
    finally:
        (run / PRESETS).unlink()
    export(run, exported)
    with pytest.raises(ValueError, match="has no presets of its own"):
        trimask.load(exported, preset="fast")


def test_a_file_of_presets_is_named_with_the_preset(run: Path, tmp_path: Path):
    file = tmp_path / "a:b.json"
    write(file, run)
    assert trimask.load(run, preset=f"{file}:fast").samplers["text"] == FAST
    with pytest.raises(ValueError, match=r"presets .*nothing does not exist"):
        trimask.load(run, preset=f"{tmp_path}/nothing:fast")


def test_weights_are_read_once_and_unusable_presets_told(run: Path, monkeypatch: pytest.MonkeyPatch):
    read: list[object] = []
    monkeypatch.setattr(loading, "load_trained", lambda place: read.append(place) or load_trained(place))
    told: list[str] = []
    write(run / PRESETS, run, weights="0" * 16)
    try:
        generator, presets = load_with_presets(run, warn=told.append)
    finally:
        (run / PRESETS).unlink()
    assert read == [run] and presets == {} and generator.samplers == trimask.load(run).samplers
    assert len(told) == 1 and "presets of a model with other weights" in told[0]


def test_presets_of_other_weights_are_refused(run: Path, tmp_path: Path):
    file = tmp_path / PRESETS
    write(file, run, weights="0" * 16)
    with pytest.raises(ValueError, match="presets of a model with other weights: run `trimask study run"):
        trimask.load(run, preset=f"{file}:fast")
    (run / PRESETS).write_bytes(file.read_bytes())
    try:
        with pytest.raises(ValueError, match="presets of a model with other weights"):
            export(run, tmp_path / "model.safetensors")
    finally:
        (run / PRESETS).unlink()
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"weights": "x"}', '{"weights": "x", "presets": {"a": 1}}'])
def test_damaged_presets_are_told(run: Path, tmp_path: Path, text: str):
    file = tmp_path / PRESETS
    file.write_text(text)
    with pytest.raises(ValueError, match=PRESETS):
        trimask.load(run, preset=f"{file}:fast")


@pytest.mark.filterwarnings("ignore::trimask.generation.length.SpanTooShortWarning")
def test_a_backend_that_keeps_nothing_computes_everything(run: Path, tmp_path: Path):
    write(tmp_path / PRESETS, run)
    generator = trimask.load(run, preset=f"{tmp_path / PRESETS}:fast", backend="onnx")
    assert generator.samplers["text"] == replace(FAST, recompute=Everything())
    assert isinstance(generator.generate("text", seed=1), str)


def test_the_shell_takes_presets(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / PRESETS
    write(file, run)
    folder = tmp_path / "out"
    words = ["sample", str(run), "--task=text", "--out", str(folder)]
    assert main([*words, "--preset", f"{file}:fast"]) == 0
    (stored,) = folder.glob("*.json")
    assert json.loads(stored.read_text())["sampler"] == to_dict(FAST)
    assert main([*words, "--preset", f"{file}:slow"]) == 1
    assert "no preset is named 'slow': choose one of fast, mine" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--preset", "slow"]) == 1
    assert "has no presets of its own" in capsys.readouterr().err


def test_presets_of_no_task_are_told(run: Path, tmp_path: Path):
    file = tmp_path / PRESETS
    write(file, run, presets={"fast": {"txt": FAST}})
    with pytest.raises(
        ValueError, match=r"preset .*:fast' is for task txt, and .* has only text, text_to_image"
    ):
        trimask.load(run, preset=f"{file}:fast")
    write(file, run, presets={})
    with pytest.raises(ValueError, match="no preset is named 'fast': there is none; run `trimask study run"):
        trimask.load(run, preset=f"{file}:fast")


def test_a_task_that_a_preset_has_no_settings_for_is_told(run: Path, tmp_path: Path):
    write(tmp_path / PRESETS, run, presets={"fast": {"text": FAST}})
    model = trimask.load(run, preset=f"{tmp_path / PRESETS}:fast")
    with pytest.warns(UntunedTaskWarning, match="no settings for text_to_image: the run's own are used"):
        model.generate("text_to_image", "x", num_steps=1, raw_prompt=True)
    assert model.samplers == {**trimask.load(run).samplers, "text": FAST}


@pytest.mark.parametrize("name", ["fast", "balanced", "best"])
def test_the_model_that_ships_has_presets(name: str):
    own, found = trimask.load("quickstart").samplers, trimask.load("quickstart", preset=name).samplers
    judged = {"text", "text_to_image", "image_to_text", "text_to_speech", "speech_to_text"}
    assert {task for task in found if found[task] != own[task]} == judged
    # Settings that empty a text are named, and never a preset.
    assert not any(law.may_flood for law in (found["text"], found["image_to_text"], found["speech_to_text"]))


@pytest.mark.parametrize("name", ["fast", "balanced", "best"])
def test_transcripts_of_the_presets_that_ship_are_whole(name: str):
    model = trimask.load("quickstart", preset=name)
    for clip in [clip for clip in load_speech("validation") if clip.kind == "sentence"][:4]:
        heard = model.generate("speech_to_text", speech=(clip.waveform(), clip.sample_rate))
        assert isinstance(heard, str)
        assert 0.6 < len(heard) / len(clip.text) < 1.6
