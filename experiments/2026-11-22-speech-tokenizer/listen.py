"""`python listen.py DATA … --work DIR --judge WHISPER [--run RUN] [--save NAME]`: word errors of the clips
that `unseen.py` cut, after a trained tokenizer, wider searches for its codes, its vocoder alone, and Codec 2.

Decodes, listens and counts as `trimask tokenizers --measure` does. Transcripts are kept under DIR and not
made again; `--save` puts the figures into results.json (kept as results.json.gz) under that name.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from clips import SAMPLE_RATE, Row
from measure import compared, round_trip, slug, through_codec2, without_code
from torch import Tensor

from trimask.data.prepare.options import PrepareOptions
from trimask.data.signals import Signals
from trimask.evaluation.judges.recognizer import Recognizer
from trimask.evaluation.words import normalize_words
from trimask.io import read_json, write_json
from trimask.recipes.tokenizer_data import UNSEEN, as_floats, raw_signals, signals
from trimask.tokenizers.quantizer import ResidualVectorQuantizer
from trimask.tokenizers.speech import SpeechTokenizer

RATES = (3200, 2400)  # of Codec 2
Speak = Callable[[Tensor], Tensor]


def heard(
    work: Path, judge: Recognizer, data: dict[str, Signals], system: str, speak: Speak
) -> dict[str, str]:
    """What the judge hears in each clip of each folder after `speak`."""
    texts = {}
    for folder, clips in data.items():
        path = work / folder / "heard" / f"{slug(system)}.json"
        if not path.exists():
            made = [speak(clip)[: len(clip)].numpy() for clip in map(samples, clips)]
            written = judge.hear(made, SAMPLE_RATE)
            write_json(path, {clip.key: text for clip, text in zip(clips, written, strict=True)})
            print(f"heard {system} of {folder}", flush=True)
        texts |= {f"{folder}/{key}": text for key, text in read_json(path).items()}
    return texts


def samples(clip: Any) -> Tensor:
    return torch.from_numpy(as_floats(clip.values))


def searched(path: Path, width: int) -> Speak:
    """A round trip through the codes that a beam of `width` finds."""
    tokenizer = SpeechTokenizer.load(path).eval()
    quantizer = tokenizer.autoencoder.quantizer
    assert isinstance(quantizer, ResidualVectorQuantizer)
    quantizer.beam_width = width
    return round_trip(tokenizer)


def systems(run: Path | None, widths: list[int], rates: list[int]) -> Iterator[tuple[str, Speak]]:
    """Each system by its name."""
    for rate in rates:
        yield f"codec2 {rate}", through_codec2(rate)
    if run is not None:
        path = run / "speech.safetensors"
        tokenizer = SpeechTokenizer.load(path).eval()
        yield f"{run.name}", round_trip(tokenizer)
        for width in widths:
            yield f"{run.name} beam {width}", searched(path, width)
        yield f"{run.name} no code", without_code(tokenizer)


def voices(rows: list[Row]) -> dict[str, list[Row]]:
    """The clips of each voice, and all."""
    names = dict.fromkeys(row.speaker for row in rows)
    return {name: [row for row in rows if row.speaker == name] for name in names} | {"all": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--judge", required=True, help="folder of whisper-base for faster-whisper")
    parser.add_argument("--run", type=Path, help="what `trimask train speech_tokenizer_fine` left")
    parser.add_argument("--beam", type=int, nargs="*", default=[], help="further widths of the search")
    parser.add_argument("--codec2", type=int, nargs="*", default=RATES, help="bits a second")
    parser.add_argument("--save", help="name of the block in results.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    work, judge = options.work, Recognizer(source=options.judge)
    data = {
        folder.name: signals(
            raw_signals([str(folder)], PrepareOptions(needs_text=False, speaker_column="speaker")),
            "speech",
            size=SAMPLE_RATE,
            folder=work / folder.name / "clips",
        )[UNSEEN]
        for folder in options.data
    }
    groups = voices(
        [
            Row(file_name=f"{folder}/{clip.key}", text=clip.text, speaker=clip.speaker, split=UNSEEN)
            for folder, clips in data.items()
            for clip in clips
        ]
    )
    before = heard(work, judge, data, "clips", lambda clip: clip)
    texts: dict[str, dict[str, str]] = {}
    figures: dict[str, Any] = {"difference_to_the_clips": {}, "difference_to_codec2": {}}
    for name, speak in systems(options.run, options.beam, options.codec2):
        texts[name] = heard(work, judge, data, name, speak)
        references = {"difference_to_the_clips": before}
        if options.run is not None and name == options.run.name:
            references |= {f"codec2 {rate}": texts[f"codec2 {rate}"] for rate in options.codec2}
        for reference, theirs in references.items():
            found = {
                voice: compared(rows, theirs, texts[name], normalize_words) for voice, rows in groups.items()
            }
            if reference == "difference_to_the_clips":
                figures[reference][name] = found
            else:
                figures["difference_to_codec2"][reference] = found
            show(name, reference, found)
    if options.save:
        results = Path(__file__).with_name("results.json")
        write_json(results, read_json(results) | {options.save: figures})


def show(name: str, reference: str, found: dict[str, Any]) -> None:
    for voice, each in found.items():
        row = " | ".join(
            "{value:.1f} [{low:.1f}, {high:.1f}]".format(**each[key])
            for key in ("before", "after", "difference")
        )
        print(f"| {name} | {reference} | {voice} | {each['clips']} | {each['words']} | {row} |", flush=True)


if __name__ == "__main__":
    main()
