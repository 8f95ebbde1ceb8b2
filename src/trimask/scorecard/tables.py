"""Convert a scorecard (the JSON of `trimask evaluate`) to tables: scores beside floors and ceilings."""

from collections.abc import Mapping, Sequence
from typing import Any

from trimask.report.block import Block
from trimask.report.figures import SPLITS, error_rate_name, format_figure, unit_suffix
from trimask.report.page import Prose, Table
from trimask.scorecard.judged import (
    caption_agreement,
    continuation,
    harness,
    likeness,
    list_failed,
    list_left_out,
    perplexity,
    set_distances,
)


def scorecard_blocks(scores: Mapping[str, Any]) -> list[Block]:
    """Make tables of all scores in a scorecard; missing parts are left out."""
    tables = [
        Prose(text=scores["reference"]) if "reference" in scores else None,
        _likelihood(scores.get("likelihood") or []),
        _images(scores.get("images") or {}),
        set_distances(scores.get("image_distances") or {}),
        caption_agreement(scores.get("caption_agreement") or {}),
        _captions(scores.get("captions") or {}),
        _speech(scores.get("speech") or {}),
        likeness((scores.get("speech") or {}).get("generated") or {}),
        _text(scores.get("text") or {}),
        perplexity(scores.get("text") or {}),
        continuation(scores.get("continuation") or {}),
        harness(scores.get("harness") or {}),
        _claims(scores.get("claims") or []),
        list_failed(scores.get("failed") or []),
        list_left_out(scores.get("left_out") or []),
    ]
    return [block for block in tables if block is not None]


def _bits(estimate: Mapping[str, float] | None) -> str:
    """Format a value with half the width of its interval."""
    if estimate is None:
        return "–"
    if "low" not in estimate:
        return f"{estimate['value']:.2f}"
    return f"{estimate['value']:.2f} ± {(estimate['high'] - estimate['low']) / 2:.2f}"


def _likelihood(rows: Sequence[Mapping[str, Any]]) -> Block | None:
    if not rows:
        return None
    cells = [
        [
            f"{row['task']} → {row['modality']}{' (part)' if row.get('is_part') else ''}",
            SPLITS.get(row["split"], row["split"]),
            _bits(row["conditional"]),
            _bits(row.get("unconditional")),
            _bits(row.get("shuffled")),
            f"{row['unigram']:.2f}",
            f"{row['uniform']:.2f}",
            str(row["num_sequences"]),
        ]
        for row in rows
    ]
    header = ("task", "data", "NELBO", "condition hidden", "wrong condition", "unigram", "uniform", "n")
    per_byte = [row for row in rows if row.get("bits_per_byte") and row["split"] != "train"]
    note = "Bits per token (± half of the 95 % interval), lower is better. Floors: `unigram`, the tokens' "
    note += "frequencies; `uniform`, all tokens alike. A model that uses its condition does worse without it."
    if any(row.get("is_part") for row in rows):
        note += " For modalities generated together, only `all` is a bound; the parts are its terms."
    if per_byte:
        note += f" Unseen text passages: {_bits(per_byte[0]['bits_per_byte'])} bits per byte."
    return Table(heading="Likelihood", header=header, rows=cells, note=note)


def _images(scores: Mapping[str, Any]) -> Block | None:
    cells = []
    for split, name in (("seen", "seen"), ("composition", "composition"), ("unseen", "unseen")):
        here = scores.get(split)
        if here:
            for kind, label in (
                ("generated", "generated"),
                ("shuffled", "floor: another's caption"),
                ("ceiling", "ceiling: tokenizer's round trip"),
            ):
                made = here[kind]
                cells.append(
                    [
                        f"{SPLITS[name]}, {label}",
                        format_figure(made["top1"], is_share=True),
                        format_figure(made["top5"], is_share=True),
                        format_figure(made["rank_fraction"], is_share=True),
                        f"{made['gallery']:,}",
                        str(made["top1"]["n"]),
                    ]
                )
            chance = here["generated"]["chance"]
            cells.append(
                [
                    f"{SPLITS[name]}, chance",
                    f"{100 * chance['top1']:.2f} %",
                    f"{100 * chance['top5']:.2f} %",
                    "50 %",
                    f"{here['generated']['gallery']:,}",
                    "",
                ]
            )
    if not cells:
        return None
    return Table(
        heading="Images: is the picture that belongs to the caption the nearest one?",
        header=("", "nearest of all", "among the 5 nearest", "share that is nearer", "gallery", "n"),
        rows=cells,
        note=f"Distance: {scores.get('measure', 'mean squared difference')}. 95 % intervals.",
    )


def _captions(scores: Mapping[str, Any]) -> Block | None:
    cells = [
        [
            f"{SPLITS[split]}{unit_suffix(here)}",
            format_figure(here["word_f1"], is_share=True),
            f"{format_figure(here['floor_constant'], is_share=True)}",
            format_figure(here["floor_shuffled"], is_share=True),
            format_figure(here["exact_match"], is_share=True),
            str(here["word_f1"]["n"]),
        ]
        for split, here in scores.items()
        if here
    ]
    if not cells:
        return None
    header = ("captions of real pictures", "word F1", "floor: best constant", "floor: shuffled", "exact", "n")
    return Table(heading="Captions", header=header, rows=cells)


def _speech(scores: Mapping[str, Any]) -> Block | None:
    cells: list[list[str]] = []
    for split, here in (scores.get("transcripts") or {}).items():
        if here:
            rate, floor = here["character_error_rate"], here["floor_shuffled"]
            label = f"own transcripts of real clips, {SPLITS[split]}: character error rate"
            cells.append(
                [
                    label,
                    format_figure(rate, is_share=True),
                    format_figure(floor, is_share=True),
                    "0 %",
                    str(rate["n"]),
                ]
            )
    generated = scores.get("generated") or {}
    for split, here in generated.items():
        if not here:
            continue
        ratio = here["duration_ratio"]
        cells.append(
            [f"length over the reader's, {SPLITS[split]}", format_figure(ratio), "–", "1", str(ratio["n"])]
        )
        if "generated_word_error_rate" in here:
            floor = format_figure(here["shuffled_word_error_rate"], is_share=True)
            best = here.get("teacher_word_error_rate") or here["round_trip_word_error_rate"]
            for kind, label in (("round_trip", "codec round trip"), ("generated", "text to speech")):
                rate = here[f"{kind}_word_error_rate"]
                name = f"{label}, {SPLITS[split]}: {error_rate_name(here)}"
                ceiling = format_figure(best, is_share=True)
                cells.append([name, format_figure(rate, is_share=True), floor, ceiling, str(rate["n"])])
    if not cells:
        return None
    judge = scores.get("judge", "")
    languages = sorted({each for here in generated.values() for each in (here or {}).get("languages", ())})
    if languages:
        is_assumed = any((here or {}).get("language_is_assumed") for here in generated.values())
        judge += f", listening in {', '.join(languages)}"
        judge += " (assumed, since the data names no language: set it with --language)" if is_assumed else ""
    note = f"Judge: {judge}. Ceiling of word error rates: the judge on the reader's clips."
    header = ("", "value", "floor: shuffled", "ceiling", "n")
    return Table(heading="Speech", header=header, rows=cells, note=note)


def _text(scores: Mapping[str, Any]) -> Block | None:
    if not scores:
        return None
    names = {
        "samples": "sampled passages",
        "real": "ceiling: held-out passages",
        "noise": "floor: random tokens",
    }
    cells = [
        [
            f"{label}{unit_suffix(scores[name])}",
            format_figure(scores[name]["known_words"], is_share=True),
            f"{scores[name]['distinct_1']:.2f}",
            f"{scores[name]['distinct_2']:.2f}",
            f"{scores[name]['unigram_entropy']:.2f}",
            f"{scores[name]['words']:,}",
        ]
        for name, label in names.items()
    ]
    header = (
        "",
        "words known from training",
        "distinct words",
        "distinct pairs",
        "word entropy, bits",
        "words",
    )
    return Table(heading="Text", header=header, rows=cells)


def _claims(claims: Sequence[Mapping[str, Any]]) -> Block | None:
    if not claims:
        return None
    failed = [claim for claim in claims if not claim["passed"]]
    if not failed:
        return Prose(text=f"All {len(claims)} bounds hold; a broken model could not meet them.")
    rows = [[claim["name"], f"{claim['value']:.3g}", f"{claim['bound']:.3g}"] for claim in failed]
    return Table(
        heading=f"Bounds that do not hold yet: {len(failed)} of {len(claims)}",
        header=("bound", "value", "bound"),
        rows=rows,
        note="A bound holds if all of the value's 95 % interval does: more examples narrow it.",
    )
