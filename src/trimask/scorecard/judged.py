"""Tables of a scorecard's distances of sets and scores by outside models."""

from collections.abc import Mapping, Sequence
from typing import Any

from trimask.report.block import Block
from trimask.report.figures import SPLITS, format_figure
from trimask.report.page import Prose, Table

_SETS = {
    "generated": "generated",
    "noise": "floor: noise",
    "constant": "floor: one mean picture",
    "round_trip": "ceiling: tokenizer's round trip",
    "real": "ceiling: real pictures",
}


def set_distances(scores: Mapping[str, Any]) -> Block | None:
    """Return the table of Fréchet and kernel distances, per split and kind of features."""
    cells, needs = [], {}
    for split, by_features in scores.items():
        for features, here in by_features.items():
            needs[features] = here.get("frechet_needs", 0)
            for kind, label in _SETS.items():
                if kind in here:
                    cells.append(
                        [
                            f"{SPLITS[split]}, {label}",
                            f"KID-{features}",
                            compact(here[kind]["kernel"]),
                            f"FD-{features}",
                            compact(here[kind]["frechet"]) if "frechet" in here[kind] else "–",
                            f"{here['n']} / {here['num_references']}",
                        ]
                    )
    least = ", ".join(f"{features} {number:,}" for features, number in needs.items() if number)
    note = "Distance to other real pictures of the split, lower is better. Not FID: other features. "
    note += (
        f"Kernel distances are unbiased. Fréchet distances are corrected for their bias of first order, and "
        f"given only if both sets have twice as many pictures as there are features ({least})."
        if least
        else "Fréchet distances of few pictures are biased upward: compare within this table only."
    )
    header = ("sets of pictures", "", "kernel distance", "", "Fréchet distance", "n / references")
    return Table(heading="Images as a set", header=header, rows=cells, note=note) if cells else None


def caption_agreement(scores: Mapping[str, Any]) -> Block | None:
    """Return the table of caption agreement: is a picture's own caption the nearest?"""
    labels = {
        "generated": "generated",
        "shuffled": "floor: shuffled",
        "round_trip": "ceiling: tokenizer's round trip",
        "real": "ceiling: the judge on the real pictures",
    }
    cells = []
    for split, here in scores.items():
        for kind, label in labels.items():
            made = here.get(kind)
            if made is None:
                continue
            cells.append(
                [
                    f"{SPLITS[split]}, {label}",
                    *(format_figure(made[name], is_share=True) for name in ("top1", "top5", "rank_fraction")),
                    f"{made['gallery']:,}",
                    str(made["top1"]["n"]),
                ]
            )
        chance = here["generated"]["chance"]
        shares = [f"{100 * chance[name]:.2f} %" for name in ("top1", "top5", "rank_fraction")]
        cells.append([f"{SPLITS[split]}, chance", *shares, f"{here['generated']['gallery']:,}", ""])
    if not cells:
        return None
    first = next(iter(scores.values()))
    note = (
        f"A linear map from {first['features']} features to {first['captions']} vectors, fitted on "
        f"{first['fitted_on']} real training pictures of other concepts."
    )
    header = ("is the own caption the nearest?", "nearest", "5 nearest", "share nearer", "captions", "n")
    return Table(heading="Caption agreement", header=header, rows=cells, note=note)


def likeness(generated: Mapping[str, Any]) -> Block | None:
    """Return the table of spectrum, voice and quality of generated speech."""
    cells, judges = [], []
    for split, here in generated.items():
        for key, label, floors, ceilings in (
            ("mel_cepstral_distance", "mel-cepstral distance, dB", ("noise", "shuffled"), ("round_trip",)),
            (
                "speaker_similarity",
                "speaker similarity",
                ("noise", "other_voice"),
                ("same_voice", "round_trip"),
            ),
            ("quality", "quality, 1 to 5", ("noise",), ("round_trip", "teacher")),
        ):
            found = (here or {}).get(key)
            if found:
                judges += [found["judge"]] if "judge" in found else []
                made = found["generated"]
                cells.append(
                    [
                        f"{label}, {SPLITS[split]}",
                        format_figure(made),
                        _format_values(found, floors),
                        _format_values(found, ceilings),
                        str(made["n"]),
                    ]
                )
    if not cells:
        return None
    names = f" Judges: {', '.join(dict.fromkeys(judges))}." if judges else ""
    note = f"Lower distances are better; for similarity and quality, higher values are.{names}"
    header = ("generated speech", "value", "floors", "ceilings", "n")
    return Table(heading="Speech: likeness and quality", header=header, rows=cells, note=note)


def perplexity(text: Mapping[str, Any]) -> Block | None:
    """Return the table of generative perplexity."""
    found = text.get("generative_perplexity")
    if not found:
        return None
    labels = {
        "samples": "sampled passages",
        "real": "ceiling: held-out passages",
        "scrambled": "floor: their words in random order",
        "noise": "floor: random tokens",
    }
    cells = [
        [label, compact(found[name]), f"{found[name]['tokens_per_text']:.0f}", str(found[name]["n"])]
        for name, label in labels.items()
        if name in found
    ]
    note = "Under the outside language model. Repetitive text has low values: see entropy and distinct words."
    header = ("generative perplexity", "value", "its tokens per text", "n")
    return Table(heading="Text under an outside model", header=header, rows=cells, note=note)


def continuation(scores: Mapping[str, Any]) -> Block | None:
    """Return the table of accuracy in choosing the true continuation."""
    if not scores:
        return None
    labels = {
        "model": "model",
        "shuffled": "floor: another passage's beginning",
        "outside_language_model": "ceiling: outside language model",
    }
    cells = [
        [label, format_figure(scores[name], is_share=True), str(scores[name]["n"])]
        for name, label in labels.items()
        if name in scores
    ]
    cells.append(["chance", f"{100 * scores['chance']:.0f} %", ""])
    note = "Unseen passages: which of four pieces follows? By likelihood per byte; the model's is a bound."
    return Table(heading="Continuations", header=("", "right", "n"), rows=cells, note=note)


def harness(scores: Mapping[str, Any]) -> Block | None:
    """Return the table of lm-eval's metrics."""
    cells = [
        [task, metric, f"{value:.4g}"]
        for task, metrics in scores.items()
        for metric, value in metrics.items()
    ]
    note = "The model's log-likelihoods are bounds (-NELBO), not an autoregressive model's quantity."
    header = ("task", "metric", "value")
    return Table(heading="lm-eval", header=header, rows=cells, note=note) if cells else None


def list_left_out(rows: Sequence[Mapping[str, str]]) -> Block | None:
    """List the scores that were left out, and why."""
    if not rows:
        return None
    return Prose(text="Left out: " + "; ".join(f"{row['scores']} ({row['why']})" for row in rows) + ".")


def list_failed(rows: Sequence[Mapping[str, str]]) -> Block | None:
    """List the scores that failed, and why."""
    if not rows:
        return None
    return Prose(text="Failed: " + "; ".join(f"{row['scores']} ({row['why']})" for row in rows) + ".")


def compact(estimate: Mapping[str, float]) -> str:
    """Format a value with three digits and half of its interval's width."""
    if "low" not in estimate:
        return f"{estimate['value']:.3g}"
    half = (estimate["high"] - estimate["low"]) / 2
    return f"{estimate['value']:.3g} ± {half:.2g}"


def _format_values(found: Mapping[str, Any], names: Sequence[str]) -> str:
    parts = [f"{name.replace('_', ' ')} {found[name]['value']:.2f}" for name in names if name in found]
    return ", ".join(parts) or "–"
