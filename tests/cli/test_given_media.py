"""A picture or recording has the codes in `sample` and `generate` that `prepare` gave it."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import soundfile

import trimask
from odd_media import ENCODINGS, RATE, coloured, odd_pictures, odd_sounds, saved, sounded, tone
from trimask.cli import main
from trimask.generation.generate import Generator
from trimask.media.picture import reject_decoder_errors
from trimask.prepare.manifest import load_split

pytestmark = [
    pytest.mark.filterwarnings("ignore::trimask.generation.length.SpanTooShortWarning"),
    pytest.mark.filterwarnings("ignore::trimask.generation.length.EmptySpanWarning"),
]
PICTURES, SOUNDS = odd_pictures(), odd_sounds()
HOSTILE = {
    "eps_named.png": saved(coloured(), "EPS"),
    "qoi_named.png": saved(coloured(), "QOI"),
    "avif_without_a_picture.png": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(600),
    "half.wav": sounded(tone())[:32_000],
    "mp3_of_frames_that_are_not_there.mp3": sounded(tone(), "mp3")[:2000],
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """The codes of each odd file, by its name."""
    folder = tmp_path_factory.mktemp("odd")
    for name, found in (PICTURES | SOUNDS).items():
        (folder / "raw" / name).parent.mkdir(exist_ok=True)
        (folder / "raw" / name).write_bytes(found[0])
        (folder / "raw" / name).with_suffix(".txt").write_text(f"a hum, {name}")
    words = ["--workers=1", "--validation=0", "--test=0"]
    assert main(["prepare", str(folder / "raw"), "--out", str(folder / "data"), *words]) == 0
    assert not (folder / "data" / "rejected.jsonl").read_text()
    codes: dict[str, np.ndarray] = {}
    for source in load_split([folder / "data"], "train").values():
        for row in range(len(source)):
            example = source.example(row)
            codes[source.key(row)] = example["image" if "image" in example else "speech"]
    assert codes.keys() == (PICTURES | SOUNDS).keys()
    assert len({found.tobytes() for found in codes.values()}) > 20
    return codes


@pytest.fixture(scope="module")
def generator() -> Generator:
    return trimask.load("quickstart")


def codes_of(generator: Generator, **given: Any) -> np.ndarray:
    modality = "image" if "image" in given else "speech"
    task = "image_to_text" if "image" in given else "speech_to_text"
    document = generator.codecs.document(task, given)
    tokens = document.tokens[slice(*document.spans[modality])]
    width = generator.vocabulary.space(modality).num_codebooks
    return generator.vocabulary.codes(modality, tokens.reshape(-1, width))[0]


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(name: str, prepared: dict[str, np.ndarray], generator: Generator, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(PICTURES[name][0])
    for given in (path, str(path), PICTURES[name][0]):
        np.testing.assert_array_equal(codes_of(generator, image=given), prepared[name])
    try:
        with reject_decoder_errors(), PIL.Image.open(path) as opened:
            opened.load()
    except Exception:
        assert name in ("long_text.png", "without_end.jpg", "padded_with_zeros.jpg")  # Pillow alone cannot
        return
    with reject_decoder_errors(), PIL.Image.open(path) as opened:
        np.testing.assert_array_equal(codes_of(generator, image=opened), prepared[name])


@pytest.mark.parametrize("name", SOUNDS)
def test_recordings(name: str, prepared: dict[str, np.ndarray], generator: Generator, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(SOUNDS[name][0])
    for given in (path, str(path), SOUNDS[name][0]):
        np.testing.assert_array_equal(codes_of(generator, speech=given), prepared[name])


@pytest.mark.parametrize("name", [*(f"whole.{name}" for name in ENCODINGS), "float_hot.wav", "opposed.wav"])
def test_arrays(name: str, prepared: dict[str, np.ndarray], generator: Generator) -> None:
    samples, rate = soundfile.read(io.BytesIO(SOUNDS[name][0]), dtype="float32")
    np.testing.assert_array_equal(codes_of(generator, speech=(samples, rate)), prepared[name])
    np.testing.assert_array_equal(codes_of(generator, speech=samples.astype(np.float64)), prepared[name])


def test_arrays_of_another_rate_are_resampled(generator: Generator) -> None:
    t = np.arange(44_100) / 44_100
    fast = (0.4 * np.sin(2 * np.pi * 140 * t)).astype(np.float32)
    integers = np.rint(fast * 32767).astype(np.int16)
    encoded = io.BytesIO()
    soundfile.write(encoded, integers, 44_100, format="WAV")
    right = codes_of(generator, speech=encoded.getvalue())
    np.testing.assert_array_equal(codes_of(generator, speech=(integers, 44_100)), right)
    assert (
        generator.generate("speech_to_text", speech=(integers, 44_100), num_steps=1, span_length=4)
        is not None
    )
    many = generator.generate_many(
        "speech_to_text", speech=[(integers, 44_100), encoded.getvalue()], num_steps=1, span_length=4
    )
    assert len(many) == 2


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ((np.zeros(9), 0), "rate of 0 Hz"),
        ((np.zeros(9), 10**9), "rate of 1000000000 Hz"),
        ((np.zeros((2, 9)), RATE), "shape \\(2, 9\\)"),
        ((np.zeros(0), RATE), "no samples"),
        ((np.full(99, 1e9), RATE), "scale it to"),
        (b"", "0 bytes"),
        ("no/such/file.wav", "does not exist"),
    ],
)
def test_what_is_no_recording(given: Any, match: str, generator: Generator) -> None:
    with pytest.raises(ValueError, match=match):
        generator.generate_many("speech_to_text", speech=[given])


@pytest.mark.parametrize("name", ["turned.jpg", "grey16.png", "white_logo.png", "opposed.wav", "twice.opus"])
def test_sample(
    name: str,
    prepared: dict[str, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, is_picture = tmp_path / name, name in PICTURES
    path.write_bytes((PICTURES | SOUNDS)[name][0])
    asked: list[np.ndarray] = []
    plain = Generator.generate_each

    def generate_each(self: Generator, *words: Any, **options: Any) -> Any:
        kind = "image" if is_picture else "speech"
        asked.append(codes_of(self, **{kind: options[kind]}))
        return plain(self, *words, **options)

    monkeypatch.setattr(Generator, "generate_each", generate_each)
    words = ["image_to_text", "--image"] if is_picture else ["speech_to_text", "--speech"]
    assert main(["sample", "quickstart", "--task", *words, str(path), "--num-steps=1", "--json"]) == 0
    np.testing.assert_array_equal(asked[0], prepared[name])
    printed = capsys.readouterr()
    assert "the model gets the centre square" in printed.err or "the model gets one channel" in printed.err
    assert json.loads(printed.out)["samples"]


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_hostile_is_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("subprocess.check_call", lambda *words, **options: pytest.fail("started a program"))
    path = tmp_path / name
    path.write_bytes(HOSTILE[name])
    words = ["image_to_text", "--image"] if name.endswith("png") else ["speech_to_text", "--speech"]
    assert main(["sample", "quickstart", "--task", *words, str(path)]) == 1
    printed = capfd.readouterr()
    assert printed.out == "" and len(printed.err.splitlines()) == 1
    assert str(path) in printed.err and "cannot be read" in printed.err
