"""`trimask evaluate` on runs of prepared data: the same table as for the embedded data, from shards alone."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import soundfile

from trimask import io, seals
from trimask.cli import main
from trimask.evaluation.judges import recognizer
from trimask.evaluation.judges.images import ImageJudge
from trimask.evaluation.judges.panel import Panel
from trimask.evaluation.judges.quality import QualityJudge
from trimask.evaluation.judges.sentences import SentenceJudge
from trimask.evaluation.judges.speaker import SpeakerJudge
from trimask.prepare.manifest import load_split
from trimask.prepare.prepare import prepare
from trimask.recipes.quickstart import debug
from trimask.runs import load as runs
from trimask.runs.lengths import load_lengths
from trimask.runs.prepared import with_prepared
from trimask.runs.pretrain import pretrain
from trimask.sources.options import PrepareOptions

pytestmark = pytest.mark.usefixtures("few_sampling_steps")

NUM_PICTURES, NUM_CLIPS = 48, 40
WORDS = ("red", "old", "round", "small", "apple", "house", "river", "cloud")


def make_media(folder: Path) -> Path:
    """Captioned pictures, and clips of two speakers."""
    folder.mkdir(parents=True)
    drawn = np.random.default_rng(0)
    for number in range(NUM_PICTURES):
        pixels = drawn.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).resize((64, 64)).save(folder / f"{number}.png")
        caption = f"{WORDS[number % 4]} {WORDS[4 + number // 4 % 4]} {number}"
        (folder / f"{number}.txt").write_text(caption)
    rows = ["file_name,sentence,speaker,locale"]
    for number in range(NUM_CLIPS):
        soundfile.write(folder / f"clip{number}.wav", 0.1 * drawn.normal(size=3200), 8000)
        who = ("Ann B.,de", "Carl,pt-BR")[number % 2]
        rows.append(f'clip{number}.wav,"Say {WORDS[number % 8]} {number}",{who}')
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    return folder


def make_lines(folder: Path) -> Path:
    folder.mkdir(parents=True)
    drawn = np.random.default_rng(1)
    lines = [" ".join(drawn.choice(WORDS, 12).tolist()) + "." for _ in range(60)]
    (folder / "lines.jsonl").write_text("\n".join(json.dumps({"text": line}) for line in lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("prepared")
    options = PrepareOptions(validation=0.3, test=0.2, text_window=32)
    made = {"media": make_media, "lines": make_lines}
    for name, make in made.items():
        raw = make(root / "raw" / name)
        speaker = "speaker" if name == "media" else None
        prepare(str(raw), root / name, options=replace(options, speaker_column=speaker))
    return [root / name for name in made]


def train(folders: list[Path], run: Path, *words: str) -> Path:
    small = ["--model.width=16", "--model.num-heads=1", "--num-steps=2", "--threads=1"]
    data = [word for folder in folders for word in ("--data", str(folder))]
    assert main(["train", "debug", *data, "--out", str(run), *small, *words]) == 0
    return run


@pytest.fixture(scope="module")
def run(prepared: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(prepared, tmp_path_factory.mktemp("runs") / "run")


def evaluate(run: Path, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["evaluate", str(run), "--num-sequences=6", "--num-masks=1", "--json", *words]) == 0
    return json.loads(capsys.readouterr().out)


def play_judges(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Judges without weights: where their answers go is what is tested. Returns the languages that are
    listened in, call by call.
    """
    languages: list[tuple[str, ...]] = []

    def loudness(self: Any, clips: list[np.ndarray], rate: int) -> np.ndarray:
        return np.array([1 + float(np.abs(clip).mean()) for clip in clips])

    def spectra(self: Any, clips: list[np.ndarray], rate: int) -> np.ndarray:
        found = np.stack([np.abs(np.fft.rfft(clip, 1 << 15))[:64] + 1e-6 for clip in clips])
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    def letters(self: Any, texts: list[str]) -> np.ndarray:
        return np.array([[1.0 + text.lower().count(chr(97 + i)) for i in range(26)] for text in texts])

    def colours(self: Any, pixels: np.ndarray) -> np.ndarray:
        return pixels.reshape(len(pixels), 4, 16, 4, 16, 3).mean((2, 4)).reshape(len(pixels), -1)

    def say_one(clips: list[np.ndarray], rate: int, folder: str, **options: Any) -> list[str]:
        languages.append(tuple(options["languages"]))
        return ["say"] * len(clips)

    monkeypatch.setattr(recognizer, "transcribe", say_one)
    monkeypatch.setattr(Panel, "problems", lambda self: [])
    monkeypatch.setattr(SpeakerJudge, "vectors", spectra)
    monkeypatch.setattr(QualityJudge, "scores", loudness)
    monkeypatch.setattr(SentenceJudge, "vectors", letters)
    monkeypatch.setattr(ImageJudge, "features", colours)
    return languages


def test_the_whole_table_from_shards(
    prepared: list[Path], run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    languages = play_judges(monkeypatch)
    roles = ("recognizer", "speaker", "quality", "images", "sentences")
    steps = "--sampler.text_to_speech.num_steps=5"
    scores = evaluate(run, capsys, steps, "--judges", *(f"{role}=judge" for role in roles))
    samplers = {task: sampler["num_steps"] for task, sampler in scores["sampler"].items()}
    assert samplers["text_to_speech"] == 5 and samplers["text"] == 64
    assert scores["data"]["folders"] == [str(folder) for folder in prepared] and "claims" not in scores
    assert "round trip" in scores["reference"] and scores["held_out"] == "validation"
    rows = {(row["task"], row["split"], row["modality"]): row for row in scores["likelihood"]}
    tasks = ("text", "text_to_image", "image_to_text", "text_to_speech", "speech_to_text")
    assert {(task, split) for task, split, _ in rows} == {
        (task, split) for task in tasks for split in ("train", "validation")
    }
    for (task, _, _), row in rows.items():
        assert {"conditional", "unigram", "uniform"} <= set(row)
        assert ("bits_per_byte" in row) == (task == "text")
        assert ("gain_over_shuffled" in row) == (task != "text")
    for name in ("seen", "unseen"):
        assert scores["images"][name]["ceiling"]["top1"]["value"] == 1  # what is compared with, itself
        assert set(scores["image_distances"][name]["judge"]) == {
            *("n", "num_references", "frechet_needs", "generated", "noise", "constant", "round_trip")
        }
        assert {"generated", "round_trip", "shuffled"} < set(scores["caption_agreement"][name])
        assert scores["captions"][name]["word_f1"]["n"] == 6
        assert scores["speech"]["transcripts"][name]["character_error_rate"]["n"] == 6
        said = scores["speech"]["generated"][name]
        assert said["round_trip_word_error_rate"]["value"] == pytest.approx(2 / 3), "say … number: one heard"
        assert {"generated_character_error_rate", "shuffled_word_error_rate", "duration_ratio"} < set(said)
        assert not [key for key in said if key.startswith("teacher")]
        assert {"noise", "shuffled", "generated"} < set(said["mel_cepstral_distance"])
        assert {"same_voice", "other_voice", "generated"} < set(said["speaker_similarity"])
        assert set(said["quality"]) == {"judge", "generated", "noise", "round_trip"}
    assert set().union(*languages) == {"de", "pt"} and scores["failed"] == []
    assert said["languages"] == ["de", "pt-BR"] and not said["language_is_assumed"]
    assert scores["text"]["real"]["known_words"]["value"] > 0.9  # all but those that are cut
    assert scores["continuation"]["model"]["n"] > 10
    assert [row["why"] for row in scores["left_out"]] == [
        "no judge language-model: give --judges DIR or --judges language-model=NAME"
    ]


def test_a_judge_that_fails_and_a_language_that_is_unknown_cost_their_own_part_alone(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    languages = play_judges(monkeypatch)
    out = tmp_path / "scores.json"
    monkeypatch.setattr(QualityJudge, "scores", lambda self, clips, rate: 1 / 0)
    words = ["--num-sequences=4", "--num-masks=1", "--out", str(out), "--language", "French"]
    assert main(["evaluate", str(run), *words, "--judges", "quality=judge", "recognizer=judge"]) == 1
    scores = io.read_json(out)
    assert set().union(*languages) == {"fr"}
    assert [row["scores"] for row in scores["failed"]] == ["speech quality: seen", "speech quality: unseen"]
    said = scores["speech"]["generated"]["unseen"]
    assert "quality" not in said and said["generated_word_error_rate"]["n"] == 4
    assert scores["continuation"] and "seconds" in scores
    assert "not scored: speech quality: seen: ZeroDivisionError" in capsys.readouterr().err


def test_the_language_of_recordings_is_kept(prepared: list[Path]) -> None:
    source = load_split(prepared, "train")["speech"]
    names = {source.language(i) for i in range(len(source))}
    assert names == {"de", "pt-BR"}
    assert {load_split(prepared, "train")["images"].language(0)} == {""}


def test_the_test_split_and_tables_for_people(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--num-sequences=4", "--num-masks=1", "--split=test"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for part in (
        "decoded codes of real examples (the tokenizer's round trip)",
        "Likelihood",
        "Captions",
        "Speech",
        "Continuations",
    ):
        assert part in printed, part
    assert main(["evaluate", str(run), "--split=train"]) == 2
    assert "split" in capsys.readouterr().err


def test_what_data_lacks_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pictures alone, of which none was held out; and a run that never learned to caption."""
    raw = tmp_path / "raw"
    raw.mkdir()
    drawn = np.random.default_rng(2)
    for number in range(8):
        PIL.Image.fromarray(drawn.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(raw / f"{number}.png")
        (raw / f"{number}.txt").write_text(f"shade {number}")
    options = PrepareOptions(validation=0.0, test=0.0)
    prepare(str(raw), tmp_path / "data", options=options)
    config = with_prepared(debug(), [tmp_path / "data"])
    painter = replace(config.mixture, components=config.mixture.components[:1])
    config = replace(config, mixture=painter, num_steps=1)
    pretrain(config, tmp_path / "run", recipe="debug", tokenizer_folder=tmp_path / "data" / "tokenizers")
    scores = evaluate(tmp_path / "run", capsys)
    assert {(row["task"], row["split"]) for row in scores["likelihood"]} == {("text_to_image", "train")}
    assert set(scores["images"]) == {"measure", "seen"} and scores["captions"] == {}
    assert scores["speech"]["generated"] == {} and scores["text"] is None
    why = {row["scores"]: row["why"] for row in scores["left_out"]}
    assert why["generated speech"] == "the run was not trained on text_to_speech"
    assert why["captions of pictures"] == "the run was not trained on image_to_text"
    assert "no images in its validation split" in why["pictures from captions of unseen data"]


def test_data_that_changed_is_refused(
    prepared: list[Path], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = seals.unseal(io.read_json(run / "config.json"), "config.json")
    (tmp_path / "run").mkdir()
    for name in ("model.safetensors", "tokenizers"):
        (tmp_path / "run" / name).symlink_to(run / name)
    config["run"]["data"]["manifests"] = ["0" * 64] * 2
    io.write_json(tmp_path / "run" / "config.json", seals.seal(config))
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run")]) == 1
    assert "has changed since the run began" in capsys.readouterr().err


def test_the_model_is_given_codes_as_they_are_and_spans_to_fit(prepared: list[Path], run: Path) -> None:
    """A caption is of the example's own codes, not of those of its decoded picture."""
    generator = runs.load(run)
    codes = load_split(prepared, "train")["images"].example(0)["image"]
    document = generator.codecs.document("image_to_text", {"image": codes})
    start, stop = document.spans["image"]
    expected = generator.vocabulary.tokens("image", codes.astype(np.int64), 0)
    np.testing.assert_array_equal(document.tokens[start:stop], expected.reshape(-1))
    spoken = load_split(prepared, "train")["speech"].example(0)["speech"]
    document = generator.codecs.document("speech_to_text", {"speech": spoken})
    policy = load_lengths(run)
    assert policy is not None and generator.lengths == policy and policy.text_length == 32
    assert document.spans["speech"][1] - document.spans["speech"][0] == spoken.size
