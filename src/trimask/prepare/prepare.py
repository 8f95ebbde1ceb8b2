"""Convert raw data into a folder of token shards that a recipe can train on."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from trimask import io, locks
from trimask.config import differences, to_dict
from trimask.errors import UserError
from trimask.parallel import Engine, Local
from trimask.prepare.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    REJECTED,
    TOKENIZERS,
    Manifest,
    collect,
    count,
)
from trimask.prepare.part import Codecs
from trimask.prepare.record import PARTS, load_record
from trimask.prepare.splits import SUMMARY, decide
from trimask.prepare.survey import num_surveyed
from trimask.prepare.tally import Counts, ProgressTracker
from trimask.prepare.work import CodecLoader, Work
from trimask.sources.inventory import INVENTORY, check_inventory
from trimask.sources.item import printable
from trimask.sources.links import Listing
from trimask.sources.options import PrepareOptions
from trimask.sources.plan import Plan, make_plan
from trimask.tokenizers.bundle import SHIPPED, Tokenizers, hashes

REQUEST = "prepare.json"
_SPLITS = 2  # version of the rules by which splits are decided


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerFolder(CodecLoader):
    """Loads the tokenizers stored in `folder`."""

    folder: Path

    def __call__(self) -> Codecs:
        return Tokenizers.load(self.folder)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Progress of tokenization; `examples` and `rejected` count the finished parts only."""

    counts: Counts
    examples: int
    rejected: int


def prepare(
    source: str,
    out: Path,
    *,
    options: PrepareOptions,
    licence: str | None = None,
    tokenizer_folder: Path = SHIPPED,
    engine: Engine | None = None,
    report: Callable[[str], None] = lambda message: None,
    on_survey: Callable[[Counts], None] = lambda counts: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Manifest:
    """Tokenize `source` (a folder, a file, or a data set on the hub) into `out`, resuming an interrupted run.

    The same source, tokenizers and options give the same bytes, whatever the engine. Finished parts are not
    repeated. `out` gets a copy of the tokenizers, so it is all that training needs. The source is read twice:
    first to find the examples that must share a split, then to tokenize it.

    Args:
        report: called with progress messages while the source's files are hashed.
        on_survey: called about once a second, and at the end, with the progress of the first reading.
        on_progress: called about once a second, and at the end, with the progress of tokenization.

    Returns:
        The manifest, which is also saved as `out/manifest.json`.

    Raises:
        UserError: columns are missing or ambiguous, the source has changed, or `out` holds something else.
        OSError: no space or no permission; finished parts are kept.
    """
    if Path(source).is_dir() and out.resolve().is_relative_to(Path(source).resolve()):
        raise UserError(f"{out} is inside {source} and would be read as input: choose an --out outside it")
    plan = make_plan(source, options)
    listing = plan.listing
    for folder in listing.folders if listing else ():
        if out.resolve().is_relative_to(folder):
            raise UserError(
                f"{out} is inside {folder}, which a link in {source} leads to: choose an --out outside it"
            )
    request = {
        "format_version": FORMAT_VERSION,
        "source": printable(source),
        "licence": licence,
        "options": to_dict(options),
        "tokenizers": hashes(tokenizer_folder),
        "input": plan.fingerprint,
        "splits": _SPLITS,
    }
    with _claim_output(out, request):
        _copy_tokenizers(tokenizer_folder, out)
        if listing is not None:
            check_inventory(out, listing.root, listing.names, report)
        engine = engine or Local(workers=1)
        decisions = decide(plan, options, out, engine=engine, on_survey=on_survey)
        _tokenize_parts(plan, options, out, engine, on_progress)
        if listing is not None:
            _check_unchanged(out, listing, report)
        shards, rejected, speakers = collect(out, len(plan.parts))
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            source=io.read_json(out / REQUEST)["source"],
            licence=licence,
            options=options,
            tokenizers=hashes(out / TOKENIZERS),
            input=plan.fingerprint,
            num_parts=len(plan.parts),
            counts=count(shards),
            rejected=rejected,
            shards=shards,
            links_out=0 if listing is None else listing.num_out,
            splits=decisions,
            speakers=speakers,
        )
        manifest.save(out)
    return manifest


def _check_unchanged(out: Path, listing: Listing, report: Callable[[str], None]) -> None:
    """Raise UserError if files changed between the two readings, and remove the output.

    The splits were then decided from other content, and nothing records which shards are affected.
    """
    try:
        check_inventory(out, listing.root, listing.names, report)
    except ValueError:
        shutil.rmtree(out / PARTS)
        (out / SUMMARY).unlink(missing_ok=True)
        raise


def _tokenize_parts(
    plan: Plan, options: PrepareOptions, out: Path, engine: Engine, on_progress: Callable[[Progress], None]
) -> None:
    """Tokenize the parts that have no valid record yet."""
    records = {part.number: load_record(out, part.number) for part in plan.parts}
    finished = [record for record in records.values() if record is not None]
    missing = [part for part in plan.parts if records[part.number] is None]
    examples = sum(record.num_examples for record in finished)
    rejected = sum(sum(record.rejected.values()) for record in finished)
    num_items = {part.number: num_surveyed(out, part.number) for part in plan.parts}
    tracker = ProgressTracker(
        out,
        num_parts=len(plan.parts),
        num_done=len(finished),
        items=sum(num_items[record.part] for record in finished),
        num_items=sum(num_items.values()),
    )

    def show(counts: Counts) -> None:
        on_progress(Progress(counts=counts, examples=examples, rejected=rejected))

    with tracker.report_periodically(show) as report_now:
        report_now()
        if not missing:
            return
        loader = TokenizerFolder(folder=(out / TOKENIZERS).resolve())
        work = Work(codecs=loader, options=options, out=out.resolve())
        for record in engine.run(work, missing):
            examples += record.num_examples
            rejected += sum(record.rejected.values())
            tracker.finish(num_items[record.part])
            report_now()


@contextmanager
def _claim_output(out: Path, request: dict[str, Any]) -> Iterator[None]:
    """Lock `out` for this process. Raise UserError if it was started with another request."""
    path = out / REQUEST
    linked = sorted(str(entry) for entry in out.glob("*") if entry.is_symlink())
    if linked:  # writes would end up outside `out`
        raise UserError(f"{linked[0]} is a link: replace it by its target, or choose another --out")
    with locks.claim(out, marker=REQUEST, what="prepared data"):
        is_begun = os.path.lexists(path)
        stored = io.read_sealed(path, fix="choose another --out") if is_begun else None
        if is_begun and not (stored != request and _discard_if_empty(out)):
            _check_request(out, stored, request)
        else:
            io.write_sealed(path, request)
        io.remove_partial(out)
        yield


def _discard_if_empty(out: Path) -> bool:
    """Return whether the preparation in `out` finished without a single shard; if so, remove its files."""
    try:
        manifest = Manifest.load(out)
    except ValueError:  # unfinished or damaged
        return False
    if manifest.shards or manifest.damaged:
        return False
    for name in (TOKENIZERS, PARTS):
        shutil.rmtree(out / name, ignore_errors=True)
    for name in (REJECTED, SUMMARY, INVENTORY, MANIFEST):
        (out / name).unlink(missing_ok=True)
    return True


def _check_request(out: Path, before: Any, now: dict[str, Any]) -> None:
    if isinstance(before, dict) and before.get("splits") != now["splits"]:
        raise UserError(
            f"{out} was prepared by another version of trimask, which assigned splits by other rules: train "
            "on it as it is, or choose another --out to prepare the data again"
        )
    if not isinstance(before, dict) or before.keys() != now.keys():
        raise UserError(f"{out / REQUEST} is damaged or was not written by trimask: choose another --out")
    if not isinstance(before["source"], str):
        raise UserError(
            f"{out / REQUEST} is damaged (source = {before['source']!r:.80}): choose another --out"
        )
    # The path may be spelled differently: only the files matter.
    changed = differences({**before, "source": ""}, {**now, "source": ""})
    if before["input"] != now["input"]:
        raise UserError(
            f"{out} was prepared from {before['source']}, but {now['source']} is another source or has "
            "changed since (the names or content of its files): choose another --out"
        )
    if changed:
        raise UserError(
            f"{out} was prepared with other settings: {'; '.join(sorted(changed))}. "
            "Use the same options and tokenizers, or choose another --out"
        )


def _copy_tokenizers(folder: Path, out: Path) -> None:
    kept, temporary = out / TOKENIZERS, out / ".tokenizers.tmp"
    if not kept.exists():
        shutil.copytree(folder, temporary, ignore=shutil.ignore_patterns("*.md"))
        os.replace(temporary, kept)
    if hashes(kept) != hashes(folder):
        raise UserError(f"{kept} has changed since it was written: choose another --out")
