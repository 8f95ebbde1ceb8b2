"""Write a contact sheet of the quickstart data: a self-contained HTML file to look at and listen to."""

import base64
import html
import io
import os
from collections import Counter
from pathlib import Path

import soundfile

from trimask.datasets.quickstart.reader import (
    CaptionedImage,
    Passage,
    Utterance,
    load_images,
    load_speech,
    load_text,
)
from trimask.datasets.quickstart.splits import SPLITS, hash_fraction

IMAGES_PER_SPLIT = 60
UTTERANCES_PER_KIND = 6
TEXTS_PER_SPLIT = 2
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 72em; padding: 0 1em; color: #222;
background: #fff } table { border-collapse: collapse } td, th { padding: .2em .9em; text-align: right;
border-bottom: 1px solid #ddd } td:first-child, th:first-child { text-align: left } .grid { display: flex;
flex-wrap: wrap; gap: .6em } figure { width: 92px; margin: 0; text-align: center } figcaption { font-size:
11px; line-height: 1.2; color: #555 } audio { height: 32px; vertical-align: middle } blockquote { margin: .5em
0 1em; padding-left: 1em; border-left: 3px solid #ccc }
"""


def write_contact_sheet(path: Path) -> None:
    """Write counts, image grids, audio players and text extracts to `path`: HTML, about 3 MB."""
    images, speech, texts = load_images(), load_speech(), load_text()
    body = "\n".join(
        [
            "<h1>Spoken emoji and speeches</h1>",
            "<p>The quickstart data of trimask. Samples are chosen by hash, so they are always the same.</p>",
            counts_table(images, speech, texts),
            *(image_grid(split, images) for split in SPLITS),
            *players(speech),
            *(extracts(split, texts) for split in SPLITS if split != "composition"),
        ]
    )
    head = f"<meta charset='utf-8'><title>trimask quickstart data</title><style>{STYLE}</style>"
    page = f"<!doctype html><html lang='en'>{head}{body}</html>\n"
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(page, "utf-8")
    os.replace(temporary, path)


def count_rows(
    images: list[CaptionedImage], speech: list[Utterance], texts: list[Passage]
) -> dict[str, Counter[str]]:
    """Count pictures, recordings, texts and their sizes: name -> split -> count."""
    return {
        "images": Counter(image.split for image in images),
        "images without flags": Counter(image.split for image in images if image.group != "flags"),
        "base emoji": Counter({split: len({i.base for i in images if i.split == split}) for split in SPLITS}),
        "spoken captions (slt)": Counter(one.split for one in speech if one.kind == "caption"),
        "sentences (slt)": Counter(
            one.split for one in speech if one.kind == "sentence" and one.voice == "slt"
        ),
        "sentences (rms)": Counter(
            one.split for one in speech if one.kind == "sentence" and one.voice == "rms"
        ),
        "seconds of speech": Counter(
            {s: round(sum(u.num_samples / u.sample_rate for u in speech if u.split == s)) for s in SPLITS}
        ),
        "addresses": Counter(one.split for one in texts),
        "thousand words": Counter(
            {s: round(sum(len(t.text.split()) for t in texts if t.split == s) / 1000) for s in SPLITS}
        ),
    }


def counts_table(images: list[CaptionedImage], speech: list[Utterance], texts: list[Passage]) -> str:
    """Format the counts as an HTML table."""
    head = "".join(f"<th>{split}</th>" for split in SPLITS)
    lines = [
        f"<tr><td>{name}</td>{''.join(f'<td>{counts[split]:,}</td>' for split in SPLITS)}</tr>"
        for name, counts in count_rows(images, speech, texts).items()
    ]
    return f"<table><tr><th></th>{head}</tr>{''.join(lines)}</table>"


def image_grid(split: str, images: list[CaptionedImage]) -> str:
    """Format a sample of one split's pictures with their captions, without flags."""
    chosen = [image for image in images if image.split == split and image.group != "flags"]
    chosen = sorted(chosen, key=lambda image: hash_fraction("show", image.hexcode))[:IMAGES_PER_SPLIT]
    figures = [
        f"<figure><img width=64 height=64 alt='' src='{data_uri('image/webp', image.encoded)}'>"
        f"<figcaption>{html.escape(image.caption)}</figcaption></figure>"
        for image in chosen
    ]
    return f"<h2>Images: {split}</h2><div class=grid>{''.join(figures)}</div>"


def players(speech: list[Utterance]) -> list[str]:
    """Format audio players with transcripts for captions, and for sentences of each voice."""
    sections = []
    for kind, voice in sorted({(one.kind, one.voice) for one in speech}):
        chosen = [one for one in speech if (one.kind, one.voice) == (kind, voice)]
        chosen = sorted(chosen, key=lambda one: hash_fraction("show", one.text))[:UTTERANCES_PER_KIND]
        lines = [
            f"<p><audio controls src='{wave_uri(one)}'></audio> {html.escape(one.text)} ({one.split})</p>"
            for one in chosen
        ]
        sections.append(f"<h2>Speech: {kind}s, voice {voice}</h2>{''.join(lines)}")
    return sections


def extracts(split: str, texts: list[Passage]) -> str:
    """Format the first words of a few addresses of one split."""
    chosen = sorted(
        (text for text in texts if text.split == split), key=lambda text: hash_fraction("show", text.id)
    )
    quotes = [
        f"<p>{html.escape(text.president)}, {text.year}</p>"
        f"<blockquote>{html.escape(text.text[:600])}…</blockquote>"
        for text in chosen[:TEXTS_PER_SPLIT]
    ]
    return f"<h2>Text: {split}</h2>{''.join(quotes)}"


def wave_uri(one: Utterance) -> str:
    """Return a data URI of 16-bit WAV, which every browser can play, unlike Ogg Opus."""
    out = io.BytesIO()
    soundfile.write(out, one.waveform(), one.sample_rate, format="WAV", subtype="PCM_16")
    return data_uri("audio/wav", out.getvalue())


def data_uri(media_type: str, data: bytes) -> str:
    """Encode bytes as a `data:` URI."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
