"""`trimask prepare`: tokenize raw data into token shards."""

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
from trimask.cli.failure import Failed, UsageError, convert_file_errors
from trimask.cli.prepare_progress import prepare_progress, survey_progress, throttle_say
from trimask.cli.program import program
from trimask.cli.progress import JobProgress

if TYPE_CHECKING:  # these import torch, which takes seconds: wrong arguments must be reported before that
    from trimask.parallel import Engine
    from trimask.prepare.manifest import Manifest, Speakers
    from trimask.sources.options import PrepareOptions

_INTERRUPTED = 130


def _arg(metavar: str) -> Any:
    return tyro.conf.arg(metavar=metavar)


_MOST_SPEAKERS = 5  # listed
_FEW_BYTES = 1.5  # per text token: fewer mean that the tokenizer was trained on another language


@final
@dataclass(frozen=True, kw_only=True)
class Prepare(Verb):
    """Tokenize your own data: `trimask prepare SOURCE --out DIR`, then `trimask train RECIPE --data DIR`.

    SOURCE is a folder of pictures or recordings with their texts (a table that names the files, or a .txt of
    the same name beside each), parquet, WebDataset tar, text (.txt, or a table with a column of text), or a
    data set on the hub (owner/name or owner/name:configuration). Tables are CSV, TSV, JSON. Items that are
    damaged, empty or out of bounds are listed in rejected.jsonl. A stopped preparation continues with the
    same command.
    """

    source: Annotated[tyro.conf.Positional[str | None], _arg("SOURCE")] = None
    """what to read"""
    out: Annotated[Path | None, _arg("DIR")] = None
    """folder for the shards: new, or that of the same command stopped earlier"""
    verify: Annotated[Path | None, _arg("DIR")] = None
    """only check the shards of a prepared folder; damaged ones are set aside"""
    image_column: Annotated[str | None, _arg("NAME")] = None
    """column of pictures (default: found by its name)"""
    text_column: Annotated[str | None, _arg("NAME")] = None
    """column of captions, transcripts or texts (default: found by its name)"""
    audio_column: Annotated[str | None, _arg("NAME")] = None
    """column of recordings (default: found by its name)"""
    speaker_column: Annotated[str | None, _arg("NAME")] = None
    """column of speakers, to be named by `trimask sample --voice`"""
    language_column: Annotated[str | None, _arg("NAME")] = None
    """column with the language of each recording, for the recognizer that scores runs (default: found by its
    name)"""
    group_by: Annotated[str | None, _arg("NAME")] = None
    """column whose equal values share a split and take turns in training; image or audio: group examples of
    the same file only; default: group equal texts too"""
    caption_from: Literal["file", "folder"] = "file"
    """text of a picture or recording that no table names: a .txt beside it, or the name of its folder"""
    sample_by: Literal["document", "paragraph", "line"] = "document"
    """unit of a .txt file that is one document"""
    text_window: Annotated[int, _arg("N")] = 128
    """maximum number of tokens in a text example"""
    validation: Annotated[float, _arg("F")] = 0.02
    """share held out for validation, if the source has no such split"""
    test: Annotated[float, _arg("F")] = 0.02
    """share held out for tests, if the source has no such split"""
    max_seconds: Annotated[float, _arg("S")] = 30.0
    """reject longer recordings"""
    no_follow_links: bool = False
    """reject links in the source (default: follow them, also out of the source)"""
    revision: Annotated[str | None, _arg("NAME")] = None
    """revision of a data set on the hub"""
    licence: Annotated[str | None, _arg("NAME")] = None
    """licence of the data, stored in the manifest"""
    tokenizers: Annotated[Path | None, _arg("DIR")] = None
    """tokenizers to use (default: the shipped ones)"""
    engine: Literal["local", "ray"] = "local"
    """where to run: processes of this machine, or a Ray cluster that sees the same files"""
    workers: Annotated[int | None, _arg("N")] = None
    """number of parts processed at the same time (default: the number of cores)"""
    json: bool = False
    """print one JSON object on stdout"""

    def run(self, overrides: Mapping[str, str]) -> int:
        if self.verify is not None:
            return self._verify(self.verify)
        if self.source is None or self.out is None:
            raise UsageError("give what to read and where to write: trimask prepare SOURCE --out DIR")
        check_parallel(workers=self.workers)
        check_writable(self.out)
        return self._prepare(self.source, self.out)

    def _prepare(self, source: str, out: Path) -> int:
        from trimask.cli.recipe import find_tokenizer_folder
        from trimask.parallel import WorkerLost
        from trimask.prepare.prepare import prepare
        from trimask.sources.item import SourceUnavailable

        options, engine, folder = self._options(), self._engine(), find_tokenizer_folder(self.tokenizers)
        try:
            with JobProgress("preparing", "item") as progress:
                manifest = prepare(
                    source,
                    out,
                    options=options,
                    licence=self.licence,
                    tokenizer_folder=folder,
                    engine=engine,
                    report=throttle_say(),
                    on_survey=survey_progress(progress),
                    on_progress=prepare_progress(progress),
                )
        except (SourceUnavailable, WorkerLost) as error:
            raise Failed(str(error)) from error
        except KeyboardInterrupt:
            say(f"interrupted; finished parts are kept in {out}: continue with the same command")
            return _INTERRUPTED
        self._print_result(manifest, out)
        return 0 if manifest.counts else 1

    def _print_result(self, manifest: "Manifest", out: Path) -> None:
        from trimask.config import to_dict

        described = to_dict(manifest)
        if self.json:
            names = ("source", "counts", "rejected", "splits", "speakers", "num_parts")
            chosen = {name: described[name] for name in names}
            print_json({"out": str(out), **chosen, "num_shards": len(manifest.shards)})
        else:
            for line in format_counts(manifest):
                print(line)
            if manifest.speakers is not None:
                print(_format_speakers(manifest.speakers))
        if manifest.rejected:
            reasons = ", ".join(f"{count} {reason}" for reason, count in manifest.rejected.items())
            say(f"set aside: {reasons}; {out / 'rejected.jsonl'} lists them")
        if manifest.links_out:
            say(f"links followed out of the source: {manifest.links_out:,}")
        self._print_splits(manifest)
        if not manifest.counts:
            say(f"error: no example is left to train on{self._first_rejection(out)}")
            return
        if "train" not in manifest.counts:
            is_named = manifest.splits is None or not manifest.splits.counts.get("held_out", 0)
            fix = "; to train on it, give the held-out folder itself as the source, with another --out"
            say(f"the result has no train split, so it cannot be trained on{fix if is_named else ''}")
            return
        if "validation" not in manifest.counts:
            say(
                "the result has no validation split, so runs will not be evaluated: prepare again with a "
                f"larger --validation (now {self.validation:g}) and another --out"
            )
        self._warn_costly_text(out)
        command = f"{program()} train quickstart_mini --data {shlex.quote(str(out))} --out runs/mine"
        say(f"train on it: {command}")

    def _first_rejection(self, out: Path) -> str:
        """Say what was wrong with the first rejected item; empty if none was."""
        from trimask.prepare.manifest import REJECTED

        with contextlib.suppress(OSError, ValueError, KeyError), (out / REJECTED).open() as lines:
            first = json.loads(next(lines, ""))
            return f"; the first that was set aside, {first['key']}: {first['detail']}"
        return ""

    def _warn_costly_text(self, out: Path) -> None:
        from trimask.tokenizer_training.text import bytes_per_token_of_prepared

        found = bytes_per_token_of_prepared(out)
        if found is None or found >= _FEW_BYTES:
            return
        source = "SOURCE" if self.source is None else str(self.source)
        words = ["train", "text_tokenizer", "--vocabulary-size=8000", "--data", source, "--out", "runs/words"]
        say(
            f"caution: a text token holds only {found:.2f} bytes: the tokenizer was trained on another "
            "language, which makes texts long and training costly. Train a tokenizer, and prepare with "
            f"it: {program()} {shlex.join(words)}"
        )

    def _print_splits(self, manifest: "Manifest") -> None:
        from trimask.prepare.manifest import total_examples

        if manifest.splits is None:
            return
        if told := manifest.splits.describe():
            say(f"{told}; manifest.json has examples")
        trained = sum(found.examples for found in manifest.counts.get("train", {}).values())
        # Texts that are class labels: few different ones, each shared by many examples in every split.
        is_label = manifest.splits.counts.get("held_out", 0) > trained
        if is_label or 2 * manifest.splits.largest_group > total_examples(manifest.counts) > 1:
            say("examples with equal texts share a split: --group-by image (or audio) compares files only")

    def _verify(self, folder: Path) -> int:
        if self.source is not None or self.out is not None:
            raise UsageError("--verify DIR takes no SOURCE and no --out: leave them out")
        from trimask.cli.console import Report
        from trimask.locks import lock
        from trimask.prepare.manifest import Manifest, find_damaged_shards, set_aside
        from trimask.runs.prepared import tokenizers_of_data

        with convert_file_errors():
            manifest = Manifest.load(folder)
            tokenizers_of_data([folder])
            with Report() as report:
                damaged = find_damaged_shards(folder, manifest.shards, report)
            if damaged:
                with lock(folder):
                    set_aside(folder, manifest, damaged)
        if self.json:
            print_json({"folder": str(folder), "num_shards": len(manifest.shards), "damaged": damaged})
        if not damaged:
            say(f"all {len(manifest.shards)} shards are as they were written")
            return 0
        for name in damaged:
            say(f"{folder / name} is missing or damaged: set aside, and removed from the manifest")
        say("to restore the missing shards, prepare again with the same command as before")
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


def _format_speakers(speakers: "Speakers") -> str:
    """Format the number of speakers and the most frequent ones with their numbers of recordings."""
    first = list(speakers.recordings.items())[:_MOST_SPEAKERS]
    named = ", ".join(f"{tag} {count:,}" for tag, count in first)
    return f"speakers    {speakers.number:,}: {named}{', …' if speakers.number > _MOST_SPEAKERS else ''}"


def format_counts(manifest: "Manifest") -> list[str]:
    """Format the examples and tokens of each split and source, one line each."""
    lines = []
    for split, sources in manifest.counts.items():
        for source, found in sources.items():
            tokens = ", ".join(f"{count:,} {name}" for name, count in found.tokens.items())
            lines.append(f"{split:<11} {source:<8} {found.examples:>10,} examples  {tokens} tokens")
    return lines
