"""`trimask prepare` and `trimask train --data`: from raw files to a run, and what happens in between."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from trimask import io, seals
from trimask.cli import main
from trimask.cli.denoiser_job import DenoiserJob
from trimask.cli.jobs import make_job
from trimask.data.mixture import Mixture
from trimask.data.selection import QuickstartData
from trimask.data.source_names import TEXT
from trimask.parallel import Local
from trimask.prepare.manifest import Manifest, Speakers, load_split
from trimask.prepare.prepare import Progress, prepare
from trimask.recipes.quickstart import debug
from trimask.runs.build import build_stream, build_vocabulary
from trimask.runs.embedded import pictures
from trimask.runs.kinds import kind_of
from trimask.runs.own_prompt import suggest_prompt
from trimask.runs.prepared import with_prepared
from trimask.sources.options import PrepareOptions
from trimask.tokenizers.bundle import Tokenizers
from trimask.tokenizers.text import TextTokenizer
from trimask.training.tracker import WALL_CLOCK_FIELDS, read_metrics

NUM_IMAGES, NUM_CLIPS, NUM_LINES = 30, 12, 40
SMALL = ["--model.width=16", "--model.num-heads=1", "--log-every=1", "--threads=1"]


def make_photos(folder: Path) -> Path:
    """Captioned pictures of which two are alike in caption, and a damaged one."""
    folder.mkdir(parents=True)
    drawn = np.random.default_rng(0)
    for number in range(NUM_IMAGES):
        pixels = drawn.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"{number:03d}.png")
        (folder / f"{number:03d}.txt").write_text(f"picture {number // 2}")
    (folder / "broken.png").write_bytes((folder / "000.png").read_bytes()[:200])
    (folder / "broken.txt").write_text("broken")
    return folder


def make_clips(folder: Path) -> Path:
    folder.mkdir(parents=True)
    drawn = np.random.default_rng(1)
    rows = ["file_name,sentence,who"]
    for number in range(NUM_CLIPS):
        soundfile.write(folder / f"{number}.wav", 0.1 * drawn.normal(size=4000), 8000)
        rows.append(f'{number}.wav,"Clip {number}",Ann B.')
    soundfile.write(folder / "silence.wav", np.zeros(4000), 8000)
    (folder / "metadata.csv").write_text("\n".join([*rows, "silence.wav,Nothing,Ann B."]) + "\n")
    return folder


def make_lines(folder: Path, num_files: int = 3) -> Path:
    folder.mkdir(parents=True)
    for file in range(num_files):
        lines = [
            json.dumps({"text": f"File {file} has line {number}. It ends."}) for number in range(NUM_LINES)
        ]
        (folder / f"{file}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def snapshot(folder: Path) -> dict[str, tuple[int, str]]:
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, io.sha256(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def contents(folder: Path) -> dict[str, str]:
    """Bytes of all that does not name its own place."""
    return {name: found for name, (_, found) in snapshot(folder).items()}


@pytest.fixture
def tokenized(tokenizers_folder: Path) -> list[str]:
    return ["--tokenizers", str(tokenizers_folder), "--workers=1"]


@pytest.fixture(scope="module")
def prepared(tokenizers_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Pictures, clips and text, each in a folder."""
    root = tmp_path_factory.mktemp("prepared")
    options = PrepareOptions(validation=0.2, test=0.1, text_window=32)
    made = {"photos": make_photos, "clips": make_clips, "lines": make_lines}
    for name, make in made.items():
        prepare(
            str(make(root / "raw" / name)), root / name, options=options, tokenizer_folder=tokenizers_folder
        )
    return [root / name for name in made]


def test_two_commands_from_raw_files_to_a_run(
    tokenized: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, out, run = make_photos(tmp_path / "raw"), tmp_path / "data", tmp_path / "run"
    options = ["--validation=0.2", "--licence=CC0", "--json"]
    assert main(["prepare", str(raw), "--out", str(out), *tokenized, *options]) == 0
    printed = capsys.readouterr()
    described = json.loads(printed.out)
    counts = {split: found["images"]["examples"] for split, found in described["counts"].items()}
    assert sum(counts.values()) == NUM_IMAGES and counts["validation"] > 0
    assert described["rejected"] == {"corrupt": 1}
    assert "part 1/1" in printed.err and f"--data {out}" in printed.err
    steps = ["--num-steps=2", "--evaluate-every=1"]
    assert main(["train", "debug", "--data", str(out), "--out", str(run), *SMALL, *steps]) == 0
    config = io.read_json(run / "config.json")["run"]
    assert config["data"] == {
        "type": "PreparedData",
        "folders": [str(out)],
        "manifests": [io.sha256(out / "manifest.json")],
        "text_window": 128,
    }
    assert [c["task"] for c in config["mixture"]["components"]] == ["text_to_image", "image_to_text"]
    rows = read_metrics(run)
    assert {name for row in rows for name in row if name.startswith("evaluation/")} == {
        "evaluation/text_to_image_image_bits_per_token",
        "evaluation/image_to_text_text_bits_per_token",
    }
    capsys.readouterr()
    sampled = ["sample", str(run), "--task", "text_to_image", "--prompt", "picture 3", "--num-steps=2"]
    assert main([*sampled, "--out", str(tmp_path / "samples")]) == 0
    spoken = ["sample", str(run), "--task", "text_to_speech", "--prompt", "hi", "--num-steps=1"]
    capsys.readouterr()
    assert main([*spoken, "--out", str(tmp_path / "samples")]) == 2
    assert "not trained on text_to_speech: it was trained on text_to_image" in capsys.readouterr().err
    # The raw data and the tokenizers may go: what was prepared stands alone.
    shutil.rmtree(raw)
    assert main(["prepare", "--verify", str(out)]) == 0


def test_the_shards_hold_what_the_tokenizers_say(prepared: list[Path], tokenizers_folder: Path) -> None:
    tokenizers = Tokenizers.load(tokenizers_folder)
    sources = load_split(prepared, "train")
    assert set(sources) == {"images", "speech", "text"}

    def text(name: str, index: int) -> str:
        return tokenizers.text.decode(sources[name].example(index)["text"][:, 0].tolist())

    for index in range(len(sources["images"])):
        number = int(sources["images"].key(index).removesuffix(".png"))
        assert text("images", index) == f"picture {number // 2}"
        assert sources["images"].example(index)["image"].shape == (64, 2)
    for index in range(len(sources["speech"])):
        assert text("speech", index).startswith("slt: clip ")
        frames = sources["speech"].example(index)["speech"]
        assert len(frames) == pytest.approx(0.5 * tokenizers.speech.frame_rate, abs=1)
    whole = "".join(text("text", index) for index in range(len(sources["text"])))
    assert "File 0 has line" in whole and "It ends." in whole
    assert len(set(sources["text"].groups.tolist())) == len(sources["text"])


def test_no_group_crosses_splits(prepared: list[Path], tokenizers_folder: Path) -> None:
    tokenizers = Tokenizers.load(tokenizers_folder)
    seen: dict[str, set[str]] = {}
    for split in ("train", "validation", "test"):
        source = load_split(prepared[:1], split).get("images")
        for index in range(len(source) if source else 0):
            assert source is not None
            caption = tokenizers.text.decode(source.example(index)["text"][:, 0].tolist())
            seen.setdefault(caption, set()).add(split)
    assert len(seen) == NUM_IMAGES // 2
    assert all(len(splits) == 1 for splits in seen.values())
    assert len({split for splits in seen.values() for split in splits}) > 1


def test_groups_of_a_column(tokenizers_folder: Path, tmp_path: Path) -> None:
    raw = make_photos(tmp_path / "raw")
    rows = [f"{number:03d}.png,caption {number},{number % 5}" for number in range(NUM_IMAGES)]
    (raw / "metadata.csv").write_text("\n".join(["file,text,scene", *rows]) + "\n")
    options = PrepareOptions(group_by="scene", validation=0.4)
    with pytest.raises(ValueError, match="files without a table, so there is no column 'scene'"):
        prepare(str(make_photos(tmp_path / "x")), tmp_path / "y", options=options)
    prepare(str(raw), tmp_path / "data", options=options, tokenizer_folder=tokenizers_folder)
    groups = {}
    for split in ("train", "validation", "test"):
        for source in load_split([tmp_path / "data"], split).values():
            groups[split] = set(source.groups.tolist())
            assert len(source) == 6 * len(groups[split])
    assert sum(map(len, groups.values())) == len(set().union(*groups.values())) == 5


def test_speakers_become_voices(tokenizers_folder: Path, tmp_path: Path) -> None:
    options = PrepareOptions(speaker_column="who", validation=0.0, test=0.0)
    out = tmp_path / "data"
    raw = make_clips(tmp_path / "raw")
    manifest = prepare(str(raw), out, options=options, tokenizer_folder=tokenizers_folder)
    source = load_split([out], "train")["speech"]
    codes = source.example(0)["text"][:, 0].tolist()
    assert Tokenizers.load(tokenizers_folder).text.decode(codes) == "ann_b: clip 0"
    assert manifest.rejected == {"silent": 1}
    assert manifest.speakers == Speakers(number=1, recordings={"ann_b": NUM_CLIPS})
    (line,) = (out / "rejected.jsonl").read_text().splitlines()
    assert json.loads(line)["reason"] == "silent" and json.loads(line)["key"].startswith("metadata.csv@")


def test_speakers_of_folders_are_counted_and_told(
    tokenized: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = 0.1 * np.sin(np.arange(16000) / 10)
    for speaker, count in (("p1", 1), ("p2", 2)):
        for kind in ("wav48", "txt"):
            (tmp_path / "raw" / kind / speaker).mkdir(parents=True)
        for number in range(count):
            name = f"{speaker}/{speaker}_{number}"
            soundfile.write(tmp_path / "raw" / "wav48" / f"{name}.wav", (1 + number) * sound, 16000)
            (tmp_path / "raw" / "txt" / f"{name}.txt").write_text(f"text {name}")
    out = tmp_path / "data"
    assert main(["prepare", str(tmp_path / "raw"), "--out", str(out), *tokenized]) == 0
    assert "speakers    2: p2 2, p1 1\n" in capsys.readouterr().out
    assert io.read_json(out / "manifest.json")["speakers"] == {"number": 2, "recordings": {"p2": 2, "p1": 1}}


def test_a_folder_in_which_nothing_came_out_can_be_used(
    tokenized: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, out = tmp_path / "raw", tmp_path / "data"
    for text in make_photos(raw / "noise").glob("*.txt"):
        text.unlink()
    words = ["prepare", str(raw), "--out", str(out), *tokenized]
    assert main(words) == 1
    told = capsys.readouterr().err
    assert "no example is left to train on; the first that was set aside, noise/000.png" in told
    assert "--caption-from folder" in told
    assert main([*words, "--caption-from", "folder"]) == 0
    assert Manifest.load(out).rejected == {"corrupt": 1}
    assert "speakers" not in io.read_json(out / "manifest.json")
    assert main(words) == 2 and "was prepared with other settings" in capsys.readouterr().err


def test_what_to_try_is_of_the_data(prepared: list[Path], tokenizers_folder: Path) -> None:
    photos, clips, lines = (make_job("debug", {}, data=[folder]).try_it(Path("a run")) for folder in prepared)
    assert "sample 'a run' --task text_to_image --prompt 'picture " in photos
    assert "--task text_to_speech --prompt 'clip " in clips
    assert lines.endswith("--task text --out samples")
    embedded = make_job("debug", {}, tokenizers=tokenizers_folder)
    assert isinstance(embedded, DenoiserJob) and isinstance(embedded.config.data, QuickstartData)
    task, prompt = suggest_prompt(embedded.config, embedded.tokenizers)
    assert task.name == "text_to_image"
    assert prompt in {row.caption for row in pictures("train", embedded.config.data)}
    told = make_job("debug", {}, data=[prepared[1]]).caution(18.0)
    assert told is not None and told.startswith("18 seconds") and "speech" in told and "pictures" not in told


def test_a_damaged_manifest_has_one_fix(prepared: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    stored = io.read_json(prepared[0] / "manifest.json")
    io.write_json(path, {**stored, "licence": "MIT"})
    with pytest.raises(ValueError, match=r"is damaged, .*: run the command that prepared the data again$"):
        Manifest.load(tmp_path)


@pytest.mark.parametrize("column", ["speaker", "Speaker_ID"])
def test_a_column_of_speakers_is_found_by_its_name(
    column: str, tokenizers_folder: Path, tmp_path: Path
) -> None:
    raw, clip = tmp_path / "raw", "clip.wav"
    raw.mkdir()
    soundfile.write(raw / clip, 0.1 * np.sin(np.arange(8000) / 10), 16000)
    sound = {"bytes": (raw / clip).read_bytes(), "path": None}
    rows = {"audio": [sound], "text": ["hi there"], column: ["Ana María"]}
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
    with tarfile.open(tmp_path / "rows.tar", "w") as archive:
        facts = json.dumps({"text": "hi there", column: "Ana María"}).encode()
        for name, data in (("0.wav", sound["bytes"]), ("0.json", facts)):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, BytesIO(data))
    (raw / "metadata.csv").write_text(f"file_name,text,{column}\n{clip},hi there,Ana María\n", "utf-8")
    lines = tmp_path / "lines"
    lines.mkdir()
    (lines / clip).write_bytes(sound["bytes"])
    row = {"file_name": clip, "text": "hi there", column: "Ana María"}
    (lines / "metadata.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    text = Tokenizers.load(tokenizers_folder).text
    for number, source in enumerate((raw, lines, tmp_path / "rows.parquet", tmp_path / "rows.tar")):
        out = tmp_path / f"data{number}"
        options = PrepareOptions(validation=0.0, test=0.0)
        prepare(str(source), out, options=options, tokenizer_folder=tokenizers_folder)
        codes = load_split([out], "train")["speech"].example(0)["text"][:, 0].tolist()
        assert text.decode(codes) == "ana_maría: hi there", source


def test_data_that_moved(prepared: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new, run = tmp_path / "old", tmp_path / "new", tmp_path / "run"
    shutil.copytree(prepared[1], old)
    steps = ["--num-steps=2", "--checkpoint-every=1", *SMALL]
    assert main(["train", "debug", "--data", str(old), "--out", str(run), *steps]) == 0
    old.rename(new)
    (run / "model.safetensors").unlink()
    shutil.rmtree(run / "checkpoints" / "step_00000002")
    resume = ["train", "--out", str(run), "--resume", "--threads=1"]
    for words in (resume, ["evaluate", str(run)]):
        capsys.readouterr()
        assert main(words) == 1
        assert f"{old} is where the run's data was" in capsys.readouterr().err
    assert main([*resume, "--data", str(prepared[0])]) == 2
    assert "is not the data that the run began with" in capsys.readouterr().err
    assert main([*resume, "--data", str(new)]) == 0
    assert io.read_json(run / "config.json")["run"]["data"]["folders"] == [str(new)]
    new.rename(old)
    few = ["--num-sequences=2", "--num-masks=1", "--data", str(old), "--out", str(tmp_path / "scores.json")]
    assert main(["evaluate", str(run), *few]) == 0
    # An exported file knows its data by their name alone.
    file, given = tmp_path / "x.safetensors", ["--tokenizers", str(run / "tokenizers")]
    assert main(["export", str(run), "--out", str(file)]) == 0
    assert main(["show", str(file), *given]) == 2
    assert "trained on prepared data (new), which the file does not contain" in capsys.readouterr().err
    assert main(["show", str(file), *given, "--data", str(old), "--json"]) == 0


def test_triples_count_as_pairs_too(tokenizers_folder: Path, tmp_path: Path) -> None:
    photos, clips = make_photos(tmp_path / "photos"), make_clips(tmp_path / "clips")
    rows = {
        "image": [(photos / f"{number:03d}.png").read_bytes() for number in range(5)],
        "audio": [{"bytes": (clips / f"{n}.wav").read_bytes(), "path": None} for n in range(4)] + [None],
        "caption": [f"thing {number}" for number in range(5)],
    }
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
    options = PrepareOptions(validation=0.0, test=0.0)
    source, out = str(tmp_path / "rows.parquet"), tmp_path / "data"
    manifest = prepare(source, out, options=options, tokenizer_folder=tokenizers_folder)
    assert {name: found.examples for name, found in manifest.counts["train"].items()} == {
        "images": 4,
        "speech": 4,
        "triples": 4,
    }
    assert manifest.rejected == {"empty": 1}
    sources = load_split([out], "train")
    triple, image, speech = (sources[name].example(2) for name in ("triples", "images", "speech"))
    np.testing.assert_array_equal(triple["image"], image["image"])
    np.testing.assert_array_equal(triple["speech"], speech["speech"])
    np.testing.assert_array_equal(triple["text"], image["text"])


def test_a_column_of_splits_has_the_last_word(tokenizers_folder: Path, tmp_path: Path) -> None:
    splits = ["train", "dev", "test", "elsewhere", "Training", "composition"]
    lines = [json.dumps({"text": f"line {n}", "split": name}) for n, name in enumerate(splits)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    manifest = prepare(
        str(tmp_path / "rows.jsonl"),
        tmp_path / "data",
        options=PrepareOptions(validation=0.9),
        tokenizer_folder=tokenizers_folder,
    )
    counts = {split: found["text"].examples for split, found in manifest.counts.items()}
    assert counts == {"composition": 1, "test": 1, "train": 2, "validation": 1}
    assert manifest.rejected == {"unknown_split": 1}


def test_what_was_decided_about_splits_is_told(
    tokenized: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, out = tmp_path / "raw", tmp_path / "data"
    raw.mkdir()
    for name, words in {"train": ["one", "two", "Three."], "val": ["four"], "test": ["three"]}.items():
        (raw / f"{name}.jsonl").write_text("".join(json.dumps({"text": word}) + "\n" for word in words))
    assert main(["prepare", str(raw), "--out", str(out), *tokenized]) == 0
    told = capsys.readouterr().err
    assert (
        "splits: 1 set aside, since their text or file is also in a split that the source holds out" in told
    )
    assert "set aside: 1 held_out" in told and "--group-by image" not in told
    manifest = Manifest.load(out)
    assert manifest.splits is not None and manifest.splits.own == ("test", "train", "validation")
    assert manifest.splits.counts == {"held_out": 1} == manifest.rejected
    assert manifest.splits.examples["held_out"][0].startswith("train.jsonl@")
    assert {split: found["text"].examples for split, found in manifest.counts.items()} == {
        "train": 2,
        "validation": 1,
        "test": 1,
    }
    # What an earlier version prepared is trained on as it is, and not gone on with.
    for name in ("manifest.json", "prepare.json"):
        older = io.read_json(out / name)
        # It sealed nothing either.
        kept = {key: value for key, value in older.items() if key not in ("splits", seals.SEAL)}
        io.write_json(out / name, kept)
    assert Manifest.load(out).splits is None and len(load_split([out], "train")["text"]) == 2
    assert main(["prepare", str(raw), "--out", str(out), *tokenized]) == 2
    assert "assigned splits by other rules" in capsys.readouterr().err


def test_texts_that_are_labels_are_told(
    tokenized: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where each caption stands in every split, little is left to train on: the fix is named, and works."""
    raw = make_photos(tmp_path / "raw")
    for path in raw.glob("*.png"):
        split = raw / ("test" if path.stem < "010" else "train")
        split.mkdir(exist_ok=True)
        (split / f"{path.stem}.txt").write_text("a cat" if path.stem[-1] < "5" else "a dog")
        path.with_suffix(".txt").unlink()
        path.rename(split / path.name)
    words = ["prepare", str(raw), *tokenized, "--validation=0"]
    assert main([*words, "--out", str(tmp_path / "data")]) == 0
    told = capsys.readouterr().err
    assert "--group-by image (or audio) compares files only" in told and "has no train split" in told
    assert main([*words, "--out", str(tmp_path / "other"), "--group-by=image"]) == 0
    assert Manifest.load(tmp_path / "other").counts["train"]["images"].examples == 20
    assert "--group-by" not in capsys.readouterr().err


def test_a_full_shard_is_followed_by_another(tokenizers_folder: Path, tmp_path: Path) -> None:
    raw, kinds = make_lines(tmp_path / "raw", num_files=1), {}
    for size in (100, 1_000_000):
        options = PrepareOptions(shard_codes=size, validation=0.0, test=0.0)
        out = tmp_path / str(size)
        prepare(str(raw), out, options=options, tokenizer_folder=tokenizers_folder)
        kinds[size] = (len(Manifest.load(out).shards), load_split([out], "train")["text"])
    (num_small, small), (num_large, large) = kinds.values()
    assert num_large == 1 < num_small and len(small) == len(large)
    assert [small.key(i) for i in range(len(small))] == [large.key(i) for i in range(len(large))]


def test_the_manifest_counts_and_hashes_what_is_there(prepared: list[Path], tokenizers_folder: Path) -> None:
    for folder in prepared:
        manifest = Manifest.load(folder)
        assert {entry.file: entry.sha256 for entry in manifest.shards} == {
            path.relative_to(folder).as_posix(): io.sha256(path)
            for path in folder.glob("*/*.safetensors")
            if path.parent.name != "tokenizers"
        }
        for split, sources in manifest.counts.items():
            for name, source in load_split([folder], split).items():
                assert sources[name].examples == len(source)
                lengths = [source.example(index) for index in range(len(source))]
                for modality in lengths[0]:
                    total = sum(example[modality].size for example in lengths)
                    assert sources[name].tokens[modality] == total
        assert manifest.tokenizers == {
            path.name: io.sha256(path) for path in tokenizers_folder.iterdir() if path.name != seals.INDEX
        }
        num_rejected = len((folder / "rejected.jsonl").read_text().splitlines())
        assert num_rejected == sum(manifest.rejected.values())


def test_twice_changes_nothing_and_otherwise_is_an_error(
    tokenized: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, out = make_lines(tmp_path / "raw"), tmp_path / "data"
    words = ["prepare", str(raw), "--out", str(out), *tokenized]
    assert main(words) == 0
    before = snapshot(out)
    assert main(words) == 0
    assert snapshot(out) == before
    capsys.readouterr()

    def fails(words: list[str], *parts: str) -> None:
        assert main(words) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and not [part for part in parts if part not in lines[0]], lines

    fails([*words, "--text-window=64"], "options.text_window was 128, is 64", "--out")
    fails([*words, "--licence=MIT"], "licence was None, is 'MIT'")
    other = tmp_path / "other"
    shutil.copytree(tokenized[1], other)
    TextTokenizer.train(["quite another"], 300).save(other / "text.json")
    fails([*words, "--tokenizers", str(other)], "tokenizers.text.json was")
    (raw / "0.jsonl").write_text('{"text": "new"}\n')
    fails(words, "is another source or has changed since")
    fails(["prepare", str(raw), "--out", str(tmp_path / "other"), *tokenized], "holds no prepared data")
    fails(["prepare", str(raw), "--out", str(raw / "out"), *tokenized], "would be read as input")
    fails(["prepare", str(raw)], "trimask prepare SOURCE --out DIR")
    fails([*words, "--workers=0"], "--workers is 0")
    (raw / "columns.csv").write_text("a,b\n1,2\n")
    fails(["prepare", str(raw / "columns.csv"), "--out", str(tmp_path / "x"), *tokenized], "only a, b")
    fails(["train", "debug", "--data", str(raw), "--out", str(tmp_path / "x")], "holds no prepared data")
    fails(
        ["train", "debug", "--data", str(out), *tokenized[:2], "--out", str(tmp_path / "x")], "--tokenizers"
    )
    assert snapshot(out) == before


def test_any_number_of_workers_gives_the_same_bytes(
    prepared: list[Path], tokenizers_folder: Path, tmp_path: Path
) -> None:
    raw = prepared[0].parent / "raw"
    for folder in prepared:
        options = Manifest.load(folder).options
        source, out = str(raw / folder.name), tmp_path / folder.name
        prepare(source, out, options=options, tokenizer_folder=tokenizers_folder, engine=Local(workers=2))
        assert contents(out) == contents(folder)


def test_cut_passages_have_no_end(tokenizers_folder: Path, tmp_path: Path) -> None:
    """As of the embedded data: a window has an end just where it is not filled."""
    raw, out = tmp_path / "raw", tmp_path / "data"
    raw.mkdir()
    for number in range(6):
        long = " ".join(f"word{number + place}" for place in range(20))
        (raw / f"{number}.txt").write_text(f"A short one, {number}. {long}. And {number} more.")
    options = PrepareOptions(text_window=16, validation=0.0, test=0.0)
    prepare(str(raw), out, options=options, tokenizer_folder=tokenizers_folder)
    config = with_prepared(debug(), [out])
    tokenizers = Tokenizers.load(tokenizers_folder)
    sources = kind_of(config.data).sources(tokenizers, "train", out / "unused")
    stream = build_stream(config, sources, build_vocabulary(config, tokenizers))
    end = stream.vocabulary.ranges_of("text")[0].stop - 1
    lengths = sources[TEXT].num_codes["text"]
    assert config.data.text_window == lengths.max() == 16
    examples = [stream.mixture.example(index)[1] for index in range(len(lengths))]  # each of them once
    ended = [bool((stream.sequence(index).tokens == end).any()) for index in range(len(lengths))]
    assert sorted(examples) == list(range(len(lengths)))
    assert ended == [lengths[example] < 16 for example in examples]
    assert 0.1 < sum(ended) / len(ended) < 0.9


def test_an_interrupted_preparation_goes_on(tokenizers_folder: Path, tmp_path: Path) -> None:
    raw, out, whole = make_lines(tmp_path / "raw"), tmp_path / "data", tmp_path / "whole"
    options = PrepareOptions(text_window=16)

    def interrupt(progress: Progress) -> None:
        if progress.counts.num_done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(str(raw), out, options=options, tokenizer_folder=tokenizers_folder, on_progress=interrupt)
    with pytest.raises(ValueError, match="is not finished: continue with `trimask prepare"):
        Manifest.load(out)
    before = snapshot(out)
    (out / "train" / ".text-000001.x.tmp.safetensors").write_bytes(b"half")
    seen: list[Progress] = []
    prepare(str(raw), out, options=options, tokenizer_folder=tokenizers_folder, on_progress=seen.append)
    first, last = seen[0].counts, seen[-1].counts
    assert (first.num_done, first.num_fresh, last.num_done) == (1, 0, 3)
    assert last.items == last.num_items == first.num_items and first.items + last.fresh_items == last.items
    assert {name: snapshot(out)[name] for name in before} == before
    prepare(str(raw), whole, options=options, tokenizer_folder=tokenizers_folder)
    assert contents(out) == contents(whole)


@pytest.mark.parametrize("new", ["more", "fewer", "swapped"])
def test_a_source_that_changes_while_it_is_read_is_no_data(
    tokenizers_folder: Path, tmp_path: Path, new: str
) -> None:
    raw, out, whole = make_lines(tmp_path / "raw"), tmp_path / "data", tmp_path / "whole"
    options = PrepareOptions(text_window=16)
    file = sorted(path for path in raw.rglob("*") if path.is_file())[-1]
    content = file.read_bytes()
    lines = content.splitlines(keepends=True)
    changed = {"more": [*lines, lines[0]], "fewer": lines[:-1], "swapped": lines[::-1]}[new]

    def change(progress: Progress) -> None:
        if progress.counts.num_done == 0:  # what belongs together is decided
            file.write_bytes(b"".join(changed))

    with pytest.raises(ValueError, match=rf"{file.name} has changed since .*: restore it|source changed"):
        prepare(str(raw), out, options=options, tokenizer_folder=tokenizers_folder, on_progress=change)
    with pytest.raises(ValueError, match="no prepared data"):
        Manifest.load(out)
    file.write_bytes(content)
    prepare(str(raw), out, options=options, tokenizer_folder=tokenizers_folder)
    prepare(str(raw), whole, options=options, tokenizer_folder=tokenizers_folder)
    assert contents(out) == contents(whole)


def test_damage_is_found_set_aside_and_mended(
    tokenized: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, out, run = make_lines(tmp_path / "raw"), tmp_path / "data", tmp_path / "run"
    words = ["prepare", str(raw), "--out", str(out), *tokenized]
    train = ["train", "debug", "--data", str(out), *SMALL, "--num-steps=1"]
    assert main(words) == 0
    before = contents(out)
    path = out / "train" / "text-000001-000.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    capsys.readouterr()
    assert main([*train, "--out", str(run)]) == 1
    assert f"train/{path.name}" in capsys.readouterr().err.splitlines()[-1]
    assert main(["prepare", "--verify", str(out), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["damaged"] == [f"train/{path.name}"]
    assert not path.exists() and path.with_name(path.name + ".corrupt").exists()
    assert Manifest.load(out).damaged == (f"train/{path.name}",)
    assert main([*train, "--out", str(tmp_path / "less")]) == 0  # on what is whole
    assert main(words) == 0
    path.with_name(path.name + ".corrupt").unlink()
    assert contents(out) == before


def test_resume_is_exact_and_other_data_is_an_error(
    prepared: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [tmp_path / folder.name for folder in prepared]
    for folder, copy in zip(prepared, folders, strict=True):
        shutil.copytree(folder, copy)
    data = [word for folder in folders for word in ("--data", str(folder))]
    words = ["train", "debug", *data, *SMALL, "--num-steps=4", "--checkpoint-every=2"]
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    assert main([*words, "--out", str(tmp_path / "parts"), "--minutes=1e-9"]) == 0
    assert main([*words, "--out", str(tmp_path / "parts"), "--resume"]) == 0

    def figures(run: Path) -> list[dict[str, Any]]:
        return [{k: v for k, v in row.items() if k not in WALL_CLOCK_FIELDS} for row in read_metrics(run)]

    assert figures(tmp_path / "parts") == figures(tmp_path / "whole")
    models = [(tmp_path / run / "model.safetensors").read_bytes() for run in ("parts", "whole")]
    assert models[0] == models[1]
    manifest = io.read_json(folders[0] / "manifest.json")
    io.write_json(folders[0] / "manifest.json", manifest | {"licence": "another"})
    capsys.readouterr()
    assert main([*words, "--out", str(tmp_path / "whole"), "--resume"]) == 2
    assert "its manifest.json differs" in capsys.readouterr().err


def test_show_prints_the_mixture(prepared: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    data = [word for folder in prepared for word in ("--data", str(folder))]
    assert main(["show", "debug", *data, "--json", "--mixture.components.0.weight=0.4"]) == 0
    shown = json.loads(capsys.readouterr().out)
    rows = {row["task"]: row for row in shown["mixture"]}
    assert list(rows) == ["text", "text_to_image", "image_to_text", "text_to_speech", "speech_to_text"]
    counts = Manifest.load(prepared[0]).counts["train"]["images"]
    images = rows["text_to_image"]
    assert images["tokens"] == sum(counts.tokens.values())
    weights = {row["task"]: row["weight"] for row in shown["config"]["mixture"]["components"]}
    assert weights["text"] == 0.4
    total = sum(row["target_tokens"] for row in rows.values())
    for task, row in rows.items():
        assert row["target_tokens"] / total == pytest.approx(weights[task] / sum(weights.values()), abs=1e-3)
    per_picture = counts.tokens["image"] / counts.examples
    assert images["sequences"] == pytest.approx(images["target_tokens"] / per_picture, abs=1)
    assert images["epochs"] == pytest.approx(images["sequences"] / counts.examples, abs=0.02)
    assert shown["config"]["data"]["text_window"] == 32


def test_show_prints_the_mixture_of_the_run(
    prepared: list[Path], tokenizers_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The shares of prepared data are read off the shards: exactly those that the run draws."""
    data = [word for folder in prepared for word in ("--data", str(folder))]
    assert main(["show", "debug", *data, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    config = with_prepared(debug(), prepared)
    sources = kind_of(config.data).sources(
        Tokenizers.load(tokenizers_folder), "train", prepared[0] / "unused"
    )
    shares = Mixture(config.mixture, sources, config.seed).shares
    assert [row["sequences"] for row in shown["mixture"]] == [
        round(share * shown["sequences"]) for share in shares.tolist()
    ]


def command(words: list[str], *, start_new_session: bool = False) -> "subprocess.Popen[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = [sys.executable, "-m", "trimask", *words]
    return subprocess.Popen(
        run,
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=start_new_session,
    )


def finish(process: "subprocess.Popen[str]") -> str:
    errors = process.communicate(timeout=600)[1]
    assert process.returncode == 0, errors
    return errors


@pytest.mark.slow
def test_a_killed_preparation_goes_on_to_the_same_bytes(tokenizers_folder: Path, tmp_path: Path) -> None:
    raw, out, whole = make_lines(tmp_path / "raw", num_files=40), tmp_path / "data", tmp_path / "whole"
    words = ["prepare", str(raw), "--tokenizers", str(tokenizers_folder), "--workers=2"]
    finish(command([*words, "--out", str(whole)]))
    process = command([*words, "--out", str(out)])
    end = time.monotonic() + 300
    while len(list(out.glob("parts/*.json"))) < 3:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (out / "manifest.json").exists()
    assert "parts were done before" in finish(command([*words, "--out", str(out)]))
    assert contents(out) == contents(whole)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_at_any_moment_is_one_line(workers: int, tokenizers_folder: Path, tmp_path: Path) -> None:
    """Also while workers start; what a worker was writing is removed at the next start."""
    raw = make_lines(tmp_path / "raw", num_files=20)
    words = ["prepare", str(raw), "--tokenizers", str(tokenizers_folder), f"--workers={workers}"]
    for number in range(8):
        out = tmp_path / f"out{number}"
        process = command([*words, "--out", str(out)], start_new_session=True)
        time.sleep(1 + number)
        os.killpg(process.pid, signal.SIGINT)
        errors = process.communicate(timeout=600)[1]
        if process.returncode != 0:
            assert process.returncode == 130 and "Traceback" not in errors, errors
            assert "interrupted" in errors.splitlines()[-1]
    out = tmp_path / "begun"
    process = command([*words, "--out", str(out)], start_new_session=True)
    while not (out / "prepare.json").exists():  # however long a busy machine takes
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=600)
    (out / "train").mkdir(exist_ok=True)
    (out / "train" / ".text-000000-000.abcdefgh.tmp.safetensors").write_bytes(b"half")
    assert main([*words, "--out", str(out)]) == 0
    assert not list(out.rglob(".*.tmp*"))


@pytest.mark.slow
def test_ray_gives_the_same_bytes(prepared: list[Path], tokenizers_folder: Path, tmp_path: Path) -> None:
    folder = prepared[2]
    raw, out = folder.parent / "raw" / folder.name, tmp_path / "data"
    options = ["--validation=0.2", "--test=0.1", "--text-window=32", "--tokenizers", str(tokenizers_folder)]
    finish(command(["prepare", str(raw), "--out", str(out), "--engine=ray", "--workers=2", *options]))
    mine, theirs = contents(out), contents(folder)
    assert {name for name in mine if mine[name] != theirs.get(name)} <= {"prepare.json", "manifest.json"}
    assert mine == theirs
