import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import soundfile
from safetensors import safe_open
from safetensors.torch import save_file

from trimask.cli import main
from trimask.cli.sample import BACKENDS
from trimask.cli.sample_output import print_sample
from trimask.generation.prompts import Seen
from trimask.io import read_json, write_json
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.model.weights import save_denoiser
from trimask.runs.pretrain import MODEL, TOKENIZERS
from trimask.runs.seen import SEEN, measure_spelling, save_seen
from trimask.tokenizers.bundle import Tokenizers
from trimask.vocabulary.codebooks import CodebookLayout, Parallel
from trimask.vocabulary.layout import Vocabulary

FEW = ["--num-steps", "2", "--json"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tokenizers_folder: Path) -> Path:
    """A run whose denoiser has learned nothing."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    tokenizers = Tokenizers.load(tokenizers_folder)
    shutil.copytree(tokenizers_folder, folder / TOKENIZERS)
    layouts: dict[str, CodebookLayout] = {"image": Parallel(), "speech": Parallel()}
    vocabulary = Vocabulary(spaces=tokenizers.spaces, layouts=layouts)
    denoiser = Denoiser(DenoiserConfig(width=16, depth=1, num_heads=1), vocabulary)
    denoiser.initialize(0)
    save_denoiser(folder / MODEL, denoiser)
    write_json(folder / "config.json", {"recipe": "debug", "run": {}})
    captions = measure_spelling(["red apple", "Santa Claus", "x", "so"])
    save_seen(
        folder, Seen(captions=captions, transcripts=captions, voices={"slt": 2, "rms": 1, "ana_maría": 1})
    )
    picture = PIL.Image.new("RGB", (100, 80), "red")
    picture.save(folder.parent / "red.png")
    soundfile.write(folder.parent / "tone.wav", 0.1 * np.sin(np.arange(8000) / 10), 16000)
    soundfile.write(folder.parent / "stereo.wav", np.zeros((4000, 2)), 16000)
    soundfile.write(folder.parent / "fast.wav", np.zeros(44100), 44100)
    return folder


def pixels(path: Path) -> np.ndarray:
    with PIL.Image.open(path) as picture:
        return np.array(picture)


@pytest.mark.parametrize(
    ("task", "words", "kinds"),
    [
        ("text", ["--prompt", "My fellow", "--span-length", "16"], {"text"}),
        ("text_to_image", ["--prompt", "red apple", "--num-samples", "2"], {"image"}),
        ("image_to_text", ["--image", "red.png"], {"text"}),
        ("text_to_speech", ["--prompt", "Hi.", "--voice", "rms"], {"speech"}),
        ("speech_to_text", ["--speech", "tone.wav"], {"text"}),
        ("speech_to_text", ["--speech", "stereo.wav"], {"text"}),
        ("speech_to_text", ["--speech", "fast.wav"], {"text"}),
        ("joint", [], {"text", "image"}),
        ("joint", ["--pair", "speech"], {"text", "speech"}),
        ("triple", [], {"text", "image", "speech"}),
    ],
)
def test_each_task(
    task: str,
    words: list[str],
    kinds: set[str],
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(run.parent)
    out = tmp_path / "new" / "samples"
    assert main(["sample", str(run), "--task", task, *words, *FEW, "--out", str(out)]) == 0
    printed = capsys.readouterr()
    described = json.loads(printed.out)
    assert len(described["samples"]) == (2 if "--num-samples" in words else 1)
    for sample in described["samples"]:
        assert {kind for kind in ("text", "image", "speech") if kind in sample} == kinds
        if "image" in kinds:
            assert pixels(Path(sample["image"])).shape == (64, 64, 3)
        if "speech" in kinds:
            assert soundfile.info(sample["speech"]).subtype == "PCM_16"
        if "text" in kinds:
            written = Path(sample["text_file"]).read_bytes().decode()  # as bytes, or "\r" would become "\n"
            assert written == sample["text"] + "\n"
    assert sorted(map(str, out.iterdir())) == sorted(described["files"])
    assert ("the centre square at 64 x 64" in printed.err) == ("red.png" in words)
    assert ("one channel at 16000 Hz" in printed.err) == ("--speech" in words)
    assert ".py:" not in printed.err, "a warning of Python's own shape"


def test_a_filmstrip(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--task", "text_to_image", "--prompt", "red apple", "--num-steps", "6", "--filmstrip"]
    assert main(["sample", str(run), *words, "--out", str(tmp_path)]) == 0
    (strip,) = tmp_path.glob("*_filmstrip.png")
    (first,) = tmp_path.glob("*_0.png")
    assert pixels(strip).shape == (64, 6 * 64, 3)
    assert np.array_equal(pixels(strip)[:, 5 * 64 :], pixels(first))


def test_samples_are_never_written_over(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each has its settings beside it, enough to make it again."""
    words = ["sample", str(run), "--task", "text_to_image", "--num-steps", "2", "--out", str(tmp_path)]
    for settings in (["--temperature", "0.5"], [], ["--guidance-scale", "3", "--num-samples", "2"]):
        assert main([*words, "--prompt", "A Red Apple.", *settings]) == 0
    stems = [tmp_path / f"text_to_image_a-red-apple_seed0_{number}" for number in range(4)]
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(before) == sorted(Path(f"{stem}{suffix}") for stem in stems for suffix in (".json", ".png"))
    told = [read_json(f"{stem}.json") for stem in stems]
    assert {each["prompt"] for each in told} == {"A Red Apple."}
    assert {each["prompt_as_spelled"] for each in told} == {"red apple"}
    assert [each["sample"] for each in told] == [0, 0, 0, 1]
    assert [each["sampler"]["guidance_scale"] for each in told] == [1.5, 1.5, 3.0, 3.0]
    capsys.readouterr()
    made_again = ["--prompt", told[3]["prompt_as_spelled"], "--guidance-scale", "3", "--num-samples", "2"]
    assert main([*words, *made_again, "--raw-prompt", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)["samples"][1]
    assert Path(again["image"]).read_bytes() == before[Path(f"{stems[3]}.png")]
    assert all(path.read_bytes() == content for path, content in before.items())


def test_settings_say_all_that_a_sample_depends_on(run: Path, tmp_path: Path) -> None:
    """So do those of a chain's last task: it is made of what the tasks before it gave."""
    exported, folder = tmp_path / "model.safetensors", run / TOKENIZERS
    shutil.copy(run / MODEL, exported)
    words = ["--task", "image_to_text,text_to_image", "--image", str(run.parent / "red.png")]
    steps = ["--sampler.image_to_text.num_steps", "3", "--sampler.text_to_image.num_steps", "2"]
    out = tmp_path / "chain"
    assert main(["sample", str(run), *words, *steps, "--seed", "1", "--out", str(out)]) == 0
    told = [read_json(each) for each in sorted(out.glob("*.json"))]
    assert [each["sampler"]["num_steps"] for each in told] == [3, 2]
    for each in told:
        assert each["chain"] == ["image_to_text", "text_to_image"]
        assert [each["samplers"][name]["num_steps"] for name in each["chain"]] == [3, 2]
    words = ["--task", "text_to_image", "--prompt", "A Red Apple.", "--raw-prompt", "--num-steps", "2"]
    out = tmp_path / "raw"
    assert main(["sample", str(exported), *words, "--tokenizers", str(folder), "--out", str(out)]) == 0
    (settings,) = (read_json(each) for each in out.glob("*.json"))
    assert settings["tokenizers"] == str(folder) and settings["raw_prompt"]


def test_what_could_not_be_written_leaves_no_settings(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(*words: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("trimask.cli.samples._write", write)
    words = ["--task", "text_to_image", "--prompt", "red apple", "--num-steps", "1", "--out", str(tmp_path)]
    assert main(["sample", str(run), *words]) == 1
    told = capsys.readouterr().err
    assert f"{tmp_path}/text_to_image_red-apple_seed0_0: No space left on device: free some space" in told
    assert list(tmp_path.iterdir()) == []


def test_prompts_from_a_file(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each gives what it gives alone."""
    file, out = tmp_path / "prompts.txt", tmp_path / "out"
    file.write_text("\ufeffred apple\n\n  Santa claus\r\nxylophone\n", encoding="utf-8")
    words = ["sample", str(run), "--task", "text_to_image", *FEW, "--seed", "3", "--out", str(out)]
    assert main([*words, "--prompts", str(file), "--num-samples", "2"]) == 0
    printed = capsys.readouterr()
    samples = json.loads(printed.out)["samples"]
    told = [read_json(sample["settings"]) for sample in samples]
    given = ["red apple", "red apple", "Santa claus", "Santa claus", "xylophone", "xylophone"]
    assert [each["prompt"] for each in told] == given
    assert "'xylophone' is not in its data" in printed.err and "generating 6/6" in printed.err
    for prompt, place in (("red apple", 0), ("Santa Claus", 2)):
        assert main([*words, "--prompt", prompt, "--num-samples", "2"]) == 0
        alone = json.loads(capsys.readouterr().out)["samples"]
        for number in range(2):
            made = pixels(Path(samples[place + number]["image"]))
            assert np.array_equal(made, pixels(Path(alone[number]["image"])))
    _fails(capsys, [*words[1:], "--prompts", str(file), "--prompt", "x"], 2, "--prompt and --prompts")
    for content, status, part in ((b"\n \n", 2, "contains no prompt"), (b"\xff\xfe", 1, "is not UTF-8")):
        file.write_bytes(content)
        _fails(capsys, [*words[1:], "--prompts", str(file)], status, part)


def test_voices_have_any_name(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sample", str(run), "--task", "text_to_speech", "--prompt", "x", *FEW, "--out", str(tmp_path)]
    voices = []
    for more in ([], ["--voice", "Ana María"]):
        assert main([*words, *more]) == 0
        (sample,) = json.loads(capsys.readouterr().out)["samples"]
        voices.append(read_json(sample["settings"])["voice"])
    assert voices == ["slt", "ana_maría"]
    old = _copy(run, tmp_path)
    (old / SEEN).unlink()
    assert main(["sample", str(old), *words[2:], "--voice", "anyone"]) == 0


def test_printed_text_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    print_sample({"text": "a\x1b[2Jb\r\tc\x7f\x9b\nд"})
    assert capsys.readouterr().out == "a␛[2Jb␍\tc␡�\nд\n"


def test_text_is_printed_and_nothing_is_written(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sample", str(run), "--task", "text", "--num-steps", "2", "--span-length", "8"]) == 0
    assert capsys.readouterr().out.strip()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--task", "text_to_imge"], ["unknown task 'text_to_imge'", "did you mean text_to_image"]),
        (["--task", "dream"], ["unknown task 'dream'", "choose one of text, text_to_image"]),
        (["--task", "text_to_image", "--prompt", "x"], ["--out DIR"]),
        (["--task", "text_to_image", "--out", "OUT"], ["needs prompt"]),
        (["--task", "text_to_image", "--prompt", " ", "--out", "OUT"], ["' ' is empty"]),
        (
            ["--task", "text_to_image", "--prompt", "so " * 500, "--out", "OUT"],
            ["the limit is 256", "shorten"],
        ),
        (
            ["--task", "text_to_speech", "--prompt", "so " * 99, "--out", "OUT"],
            ["the limit is 256", "shorten"],
        ),
        (["--task", "text", "--prompt", "so " * 9, "--span-length", "4"], ["raise span_length"]),
        (["--task", "text", "--image", "red.png"], ["does not use --image"]),
        (
            ["--task", "text_to_image", "--prompt", "x", "--image", "red.png", "--out", "OUT"],
            ["is what task text_to_image generates", "give --mask FILE"],
        ),
        (
            ["--task", "text_to_image", "--prompt", "x", "--mask", "red.png", "--out", "OUT"],
            ["--mask says which part of --image FILE", "or give --image"],
        ),
        (
            ["--task", "text_to_speech", "--prompt", "x", "--seconds", "0", "1", "--out", "OUT"],
            ["--seconds says which part of --speech FILE"],
        ),
        (
            ["--task", "text", "--seconds", "0", "1"],
            ["--seconds says which part of --speech FILE", "task text generates no speech"],
        ),
        (["--task", "text_to_image,image_to_text", "--prompt", "x"], ["a chain of tasks writes files"]),
        (
            ["--task", "text_to_image,image_to_text", "--pair", "image", "--out", "OUT"],
            ["--pair is for one task"],
        ),
        (
            [
                *("--task", "text_to_image,image_to_text", "--prompt", "x", "--out", "OUT"),
                *("--sampler.text_to_speech.num_steps", "2"),
            ],
            ["task text_to_image, image_to_text does not use --sampler.text_to_speech.num_steps"],
        ),
        (
            ["--task", "text_to_image,image_to_text", "--prompt", "x", "--image", "red.png", "--out", "OUT"],
            ["no task of the chain uses the image that is given"],
        ),
        (
            [
                *("--task", "text_to_image", "--prompt", "x", "--image", "red.png", "--mask", "red.png"),
                *("--filmstrip", "--out", "OUT"),
            ],
            ["--filmstrip shows a picture that is generated whole"],
        ),
        (
            ["--task", "image_to_text", "--image", "red.png", "--negative-prompt", "x"],
            ["--negative-prompt is for a task with a prompt as its condition, and image_to_text has none"],
        ),
        (["--task", "text", "--guide", "x:2"], ["--guide is for a task with a prompt", "leave it out"]),
        (
            ["--task", "text_to_image", "--prompt", "x", "--guide", "hat", "--out", "OUT"],
            ["--guide hat is not TEXT:W", "such as hat:2"],
        ),
        (
            ["--task", "text_to_image", "--prompt", "x", "--guide", ":2", "--out", "OUT"],
            ["--guide :2 is not TEXT:W"],
        ),
        (
            ["--task", "text_to_image", "--prompt", "x", "--guide", "hat:inf", "--out", "OUT"],
            ["the scale of a guide is inf: give a number"],
        ),
        (
            [
                *("--task", "text_to_image", "--prompt", "x", "--out", "OUT"),
                *("--negative-prompt", "y", "--guidance-scale", "1"),
            ],
            ["negative_prompt does nothing at guidance_scale 1", "give a larger guidance_scale"],
        ),
        (
            ["--task", "joint", "--out", "OUT", "--sampler.joint.targets.imge.num-steps", "2"],
            ["imge, which it does not generate: choose one of image, speech, text"],
        ),
        (
            ["--task", "text_to_image,image_to_text", "--negative-prompt", "x", "--out", "OUT"],
            ["--negative-prompt is for one task"],
        ),
        (["--task", "text,speech_to_text", "--out", "OUT"], ["speech_to_text needs speech, which no task"]),
        (["--task", "text,text_to_imag", "--out", "OUT"], ["did you mean text_to_image or text_to_speech?"]),
        (["--task", "joint", "--pair", "imag", "--out", "OUT"], ["did you mean image?"]),
        (["--task", "image_to_text"], ["needs --image FILE"]),
        (["--task", "image_to_text", "--image", "gone.png"], ["gone.png", "does not exist"]),
        (["--task", "text", "--filmstrip", "--out", "OUT"], ["--filmstrip is for task text_to_image"]),
        (["--task", "text", "--num-samples", "0"], ["num_samples is 0", "at least 1"]),
        (["--task", "text", "--num-steps", "0"], ["num_steps", "0"]),
        (["--task", "text", "--top-p", "2"], ["2"]),
        (["--task", "text", "--backend", "onnx-int4"], ["unknown backend 'onnx-int4'", "onnx-int8"]),
        (["--task", "text", "--guidance-scale", "3"], ["guidance_scale 3", "no condition"]),
        (
            ["--task", "text_to_speech", "--prompt", "x", "--voice", "bob", "--out", "OUT"],
            ["voice 'bob'", "one of slt (2), rms"],
        ),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else None,
)
def test_wrong_arguments(
    words: list[str],
    parts: list[str],
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(run.parent)
    out = tmp_path / "out"
    _fails(capsys, [str(run), *(str(out) if w == "OUT" else w for w in words)], 2, *parts)
    assert not out.exists()


def test_no_such_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _fails(capsys, ["quikstart", "--task", "text"], 2, "not a run directory", "did you mean quickstart")
    near = run.with_name("rum")
    _fails(capsys, [str(near), "--task", "text"], 2, "not a run directory", f"did you mean {run}")
    _fails(capsys, [str(run.parent), "--task", "text"], 1, "not a run directory", "config.json")


@pytest.mark.parametrize(
    ("name", "fix"),
    [(MODEL, "again"), ("tokenizers/text.json", "again"), ("tokenizers/speech.safetensors", "again")],
)
def test_a_truncated_file(
    name: str, fix: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = _copy(run, tmp_path)
    content = (broken / name).read_bytes()
    for length in (len(content) // 2, 4, 0):
        (broken / name).write_bytes(content[:length])
        _fails(capsys, [str(broken), "--task", "text"], 1, Path(name).name, fix)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"format_version": "99"}, ["format version 99", "this program reads"]),
        ({"format": "another"}, ["trimask did not write"]),
        ({"kind": "tokens"}, ["holds 'tokens'", "'denoiser' is needed"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_model_of_another_version_or_not_ours(
    change: dict[str, str], parts: list[str], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = _copy(run, tmp_path)
    with safe_open(broken / MODEL, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (no dict)
    save_file(tensors, broken / MODEL, metadata={**metadata, **change})
    _fails(capsys, [str(broken), "--task", "text"], 1, MODEL, *parts)


def test_backends(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Float32 gives torch's samples, and each sample says what computed it."""
    words = ["sample", str(run), "--task", "text_to_image", "--prompt", "red apple", "--num-steps", "3"]
    quick = [backend for backend in BACKENDS if backend != "torch-compiled"]  # see below
    for backend in quick:
        assert main([*words, "--backend", backend, "--out", str(tmp_path / backend)]) == 0
    stems = [tmp_path / backend / "text_to_image_red-apple_seed0_0" for backend in quick]
    assert [read_json(f"{stem}.json")["backend"] for stem in stems] == quick
    pictures = [Path(f"{stem}.png").read_bytes() for stem in stems]
    assert pictures[0] == pictures[1]


@pytest.mark.slow
def test_a_backend_that_compiles(run: Path, tmp_path: Path) -> None:
    """In a process of its own: checks of types cannot be compiled."""
    words = ["--task", "text_to_image", "--prompt", "red apple", "--num-steps", "3"]
    for backend in ("torch", "torch-compiled"):
        command = [sys.executable, "-m", "trimask", "sample", str(run), *words, "--backend", backend]
        done = subprocess.run(
            [*command, "--out", str(tmp_path / backend)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    plain, compiled = (
        (tmp_path / backend / "text_to_image_red-apple_seed0_0.png").read_bytes()
        for backend in ("torch", "torch-compiled")
    )
    assert plain == compiled


def test_a_backend_that_is_not_installed(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    words = [str(run), "--task", "text", "--backend", "onnx"]
    _fails(capsys, words, 1, "onnxruntime", "pip install 'trimask[onnx]'")


@pytest.mark.parametrize(("task", "option"), [("image_to_text", "--image"), ("speech_to_text", "--speech")])
def test_a_damaged_picture_or_recording(
    task: str, option: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "damaged"
    damaged.write_bytes((run.parent / "red.png").read_bytes()[:60])
    _fails(capsys, [str(run), "--task", task, option, str(damaged)], 1, str(damaged), "cannot be read")


def _copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


def _fails(capsys: pytest.CaptureFixture[str], words: list[str], status: int, *parts: str) -> None:
    assert main(["sample", *words]) == status
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if "the model gets" not in line]
    assert printed.out == "" and len(lines) == 1, printed
    assert lines[0].startswith("trimask: error: ")
    assert not [part for part in parts if part not in lines[0]], lines[0]
