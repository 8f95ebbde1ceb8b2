"""`trimask prepare`: anyone's raw data becomes token shards."""

import contextlib
import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, final

import tyro

from trimask.cli.arguments import Verb, check_parallel
from trimask.cli.console import print_json, say
from trimask.cli.destination import check_writable
from trimask.cli.failure import Failed, UsageError, reading_files
from trimask.cli.prepare_progress import paced, prepare_progress, survey_progress
from trimask.cli.program import program
from trimask.cli.progress import JobProgress

if TYPE_CHECKING:  # torch takes seconds to import: wrong arguments are told before
    from trimask.parallel import Engine
    from trimask.prepare.manifest import Manifest, Speakers
    from trimask.sources.options import PrepareOptions

_INTERRUPTED = 130


def _arg(metavar: str) -> Any:
    return tyro.conf.arg(metavar=metavar)


_SHOWN = 5  # speakers
_FEW_BYTES = 1.5  # a token of text: below it another language's tokenizer was taken


@final
@dataclass(frozen=True, kw_only=True)
class Prepare(Verb):
    """Tokenize your own data: `trimask prepare SOURCE --out DIR`, then `trimask train RECIPE --data DIR`.

    SOURCE is a folder of pictures or recordings with their texts (a table that names the files, or a .txt of
    the same name beside each), parquet, WebDataset tar, text (.txt, or a table with a column of text), or a
    data set on the hub (owner/name or owner/name:configuration). Tables are CSV, TSV, JSON. What is damaged,
    empty or out of bounds is set aside in rejected.jsonl. Stopped at any point, the same command goes on.
    """

    source: Annotated[tyro.conf.Positional[str | None], _arg("SOURCE")] = None
    """what to read"""
    out: Annotated[Path | None, _arg("DIR")] = None
    """folder for the shards: new, or begun by the same command"""
    verify: Annotated[Path | None, _arg("DIR")] = None
    """check the shards of a prepared folder instead; damaged ones are set aside"""
    image_column: Annotated[str | None, _arg("NAME")] = None
    """where pictures stand; else found by its name"""
    text_column: Annotated[str | None, _arg("NAME")] = None
    """where captions, transcripts or texts stand; else found by its name"""
    audio_column: Annotated[str | None, _arg("NAME")] = None
    """where recordings stand; else found by its name"""
    speaker_column: Annotated[str | None, _arg("NAME")] = None
    """who speaks: becomes the voice that `trimask sample --voice` asks for"""
    language_column: Annotated[str | None, _arg("NAME")] = None
    """names the language of each recording, in which a recognizer listens later; else found by its name"""
    group_by: Annotated[str | None, _arg("NAME")] = None
    """column whose equal values share a split and take turns in training; image or audio: examples of one
    file do; else equal texts share a split, and examples of one file in any case"""
    caption_from: Literal["file", "folder"] = "file"
    """text of a picture or recording that no table names: a .txt beside it, or the name of its folder"""
    sample_by: Literal["document", "paragraph", "line"] = "document"
    """what of a .txt file is one document"""
    text_window: Annotated[int, _arg("N")] = 128
    """tokens of a text example at most"""
    validation: Annotated[float, _arg("F")] = 0.02
    """share held out for validation, where the source has no such split"""
    test: Annotated[float, _arg("F")] = 0.02
    """share held out for tests, where the source has no such split"""
    max_seconds: Annotated[float, _arg("S")] = 30.0
    """longer recordings are set aside"""
    no_follow_links: bool = False
    """set links in the source aside; else they are followed, also out of it"""
    revision: Annotated[str | None, _arg("NAME")] = None
    """of a data set on the hub"""
    licence: Annotated[str | None, _arg("NAME")] = None
    """of the data, kept in the manifest"""
    tokenizers: Annotated[Path | None, _arg("DIR")] = None
    """tokenizers to use; else those that ship"""
    engine: Literal["local", "ray"] = "local"
    """processes of this machine, or a Ray cluster that sees the same files"""
    workers: Annotated[int | None, _arg("N")] = None
    """parts done at once; else as many as cores"""
    json: bool = False
    """one JSON object on stdout"""

    def run(self, overrides: Mapping[str, str]) -> int:
        if self.verify is not None:
            return self._verify(self.verify)
        if self.source is None or self.out is None:
            raise UsageError("give what to read and where to write: trimask prepare SOURCE --out DIR")
        check_parallel(workers=self.workers)
        check_writable(self.out)
        return self._prepare(self.source, self.out)

    def _prepare(self, source: str, out: Path) -> int:
        from trimask.cli.resolved import tokenizer_folder
        from trimask.parallel import WorkerLost
        from trimask.prepare.prepare import prepare
        from trimask.sources.item import SourceUnavailable

        options, engine, folder = self._options(), self._engine(), tokenizer_folder(self.tokenizers)
        try:
            with JobProgress("preparing", "item") as progress:
                manifest = prepare(
                    source,
                    out,
                    options=options,
                    licence=self.licence,
                    tokenizer_folder=folder,
                    engine=engine,
                    report=paced(),
                    on_survey=survey_progress(progress),
                    on_progress=prepare_progress(progress),
                )
        except (SourceUnavailable, WorkerLost) as error:
            raise Failed(str(error)) from error
        except KeyboardInterrupt:
            say(f"interrupted; {out} keeps what is done: go on with the same command")
            return _INTERRUPTED
        self._tell(manifest, out)
        return 0 if manifest.counts else 1

    def _tell(self, manifest: "Manifest", out: Path) -> None:
        from trimask.config import to_dict

        described = to_dict(manifest)
        if self.json:
            names = ("source", "counts", "rejected", "splits", "speakers", "num_parts")
            shown = {name: described[name] for name in names}
            print_json({"out": str(out), **shown, "num_shards": len(manifest.shards)})
        else:
            for line in count_lines(manifest):
                print(line)
            if manifest.speakers is not None:
                print(_speakers_line(manifest.speakers))
        if manifest.rejected:
            reasons = ", ".join(f"{count} {reason}" for reason, count in manifest.rejected.items())
            say(f"set aside: {reasons}; {out / 'rejected.jsonl'} names them")
        if manifest.links_out:
            say(f"links that lead out of the source, and were followed: {manifest.links_out:,}")
        self._tell_splits(manifest)
        if not manifest.counts:
            say(f"error: nothing is left to train on{self._first_rejection(out)}")
            return
        if "train" not in manifest.counts:
            is_named = manifest.splits is None or not manifest.splits.counts.get("held_out", 0)
            mend = "name the held-out folder itself as the source, with another --out" if is_named else ""
            say(f"no train split came out: nothing of this can be trained on{mend and '; to do so, ' + mend}")
            return
        if "validation" not in manifest.counts:
            say(
                "no validation split came out, so runs will not be evaluated: prepare again with a larger "
                f"--validation (now {self.validation:g}) and another --out"
            )
        self._tell_cost_of_text(out)
        command = f"{program()} train quickstart_mini --data {shlex.quote(str(out))} --out runs/mine"
        say(f"train on it: {command}")

    def _first_rejection(self, out: Path) -> str:
        """What was wrong with the first item that was set aside."""
        from trimask.prepare.manifest import REJECTED

        with contextlib.suppress(OSError, ValueError, KeyError), (out / REJECTED).open() as lines:
            first = json.loads(next(lines, ""))
            return f"; the first that was set aside, {first['key']}: {first['detail']}"
        return ""

    def _tell_cost_of_text(self, out: Path) -> None:
        from trimask.tokenizer_training.text import bytes_per_token_of_prepared

        found = bytes_per_token_of_prepared(out)
        if found is None or found >= _FEW_BYTES:
            return
        source = "SOURCE" if self.source is None else str(self.source)
        words = ["train", "text_tokenizer", "--vocabulary-size=8000", "--data", source, "--out", "runs/words"]
        say(
            f"caution: a text token holds {found:.2f} bytes here: the tokenizer is another language's, and "
            f"texts are dear to learn. Train one, and prepare over it: {program()} {shlex.join(words)}"
        )

    def _tell_splits(self, manifest: "Manifest") -> None:
        from trimask.prepare.manifest import totals

        if manifest.splits is None:
            return
        if told := manifest.splits.told():
            say(f"{told}; manifest.json has examples")
        trained = sum(found.examples for found in manifest.counts.get("train", {}).values())
        # Texts that are labels: few of them, each of many examples, in every split.
        is_label = manifest.splits.counts.get("held_out", 0) > trained
        if is_label or 2 * manifest.splits.largest_group > totals(manifest.counts) > 1:
            say("texts that many examples share join them: --group-by image (or audio) compares files alone")

    def _verify(self, folder: Path) -> int:
        if self.source is not None or self.out is not None:
            raise UsageError("--verify DIR stands alone: it reads what was prepared")
        from trimask.cli.console import Report
        from trimask.locks import locked
        from trimask.prepare.manifest import Manifest, damaged_shards, set_aside
        from trimask.runs.prepared import tokenizers_of_data

        with reading_files():
            manifest = Manifest.load(folder)
            tokenizers_of_data([folder])
            with Report() as report:
                damaged = damaged_shards(folder, manifest.shards, report)
            if damaged:
                with locked(folder):
                    set_aside(folder, manifest, damaged)
        if self.json:
            print_json({"folder": str(folder), "num_shards": len(manifest.shards), "damaged": damaged})
        if not damaged:
            say(f"all {len(manifest.shards)} shards are as they were written")
            return 0
        for name in damaged:
            say(f"{folder / name} is missing or damaged: set aside, and no longer in the manifest")
        say("prepare again with the same command as before to restore what is missing")
        return 1

    def _options(self) -> "PrepareOptions":
        from trimask.media.limits import Limits
        from trimask.sources.options import PrepareOptions

        return PrepareOptions(
            image_column=self.image_column,
            text_column=self.text_column,
            audio_column=self.audio_column,
            speaker_column=self.speaker_column,
            language_column=self.language_column,
            group_by=self.group_by,
            caption_from=self.caption_from,
            sample_by=self.sample_by,
            text_window=self.text_window,
            validation=self.validation,
            test=self.test,
            follow_links=not self.no_follow_links,
            revision=self.revision,
            limits=Limits(max_seconds=self.max_seconds),
        )

    def _engine(self) -> "Engine":
        from trimask.parallel import Local, Ray

        workers = self.workers or os.cpu_count() or 1
        return Ray(workers=workers) if self.engine == "ray" else Local(workers=workers)


def _speakers_line(speakers: "Speakers") -> str:
    """How many there are, and the commonest."""
    first = list(speakers.recordings.items())[:_SHOWN]
    named = ", ".join(f"{tag} {count:,}" for tag, count in first)
    return f"speakers    {speakers.number:,}: {named}{', …' if speakers.number > _SHOWN else ''}"


def count_lines(manifest: "Manifest") -> list[str]:
    """Examples and tokens of each split and source."""
    lines = []
    for split, sources in manifest.counts.items():
        for source, found in sources.items():
            tokens = ", ".join(f"{count:,} {name}" for name, count in found.tokens.items())
            lines.append(f"{split:<11} {source:<8} {found.examples:>10,} examples  {tokens} tokens")
    return lines
