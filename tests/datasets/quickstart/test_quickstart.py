"""The embedded quickstart data as shipped: no split leaks, everything decodes, the card tells the truth."""

import re
import subprocess
import sys
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from trimask.datasets.quickstart import (
    CaptionedImage,
    Passage,
    Utterance,
    captions,
    load_images,
    load_speech,
    load_text,
    triples,
)
from trimask.datasets.quickstart.show import count_rows, write_contact_sheet
from trimask.datasets.quickstart.splits import SPLITS
from trimask.datasets.quickstart.tables import ASSETS, read_table

LIMIT_BYTES = 26_000_000

_Row = TypeVar("_Row", CaptionedImage, Utterance, Passage)


@pytest.fixture(scope="module")
def images() -> list[CaptionedImage]:
    return load_images()


@pytest.fixture(scope="module")
def speech() -> list[Utterance]:
    return load_speech()


@pytest.fixture(scope="module")
def texts() -> list[Passage]:
    return load_text()


def assert_disjoint(members: dict[str, set[Hashable]]) -> None:
    for one in ("train", "validation", "test"):
        assert members[one]
        for other in ("train", "validation", "test"):
            assert one == other or not members[one] & members[other]


def by_split(rows: Sequence[_Row], key: Callable[[_Row], Hashable]) -> dict[str, set[Hashable]]:
    return {split: {key(row) for row in rows if row.split == split} for split in SPLITS}


def test_no_base_emoji_caption_sentence_or_year_crosses(
    images: list[CaptionedImage], speech: list[Utterance], texts: list[Passage]
) -> None:
    assert_disjoint(by_split(images, lambda image: image.base))
    assert_disjoint(by_split(images, lambda image: image.caption))
    assert_disjoint(by_split(images, lambda image: image.encoded))
    assert_disjoint(by_split(speech, lambda one: one.text))
    assert_disjoint(by_split(texts, lambda text: text.year))
    assert_disjoint(by_split(texts, lambda text: text.text))


def test_compositions_are_withheld_variants_of_training_bases(images: list[CaptionedImage]) -> None:
    bases, codes = by_split(images, lambda image: image.base), by_split(images, lambda image: image.hexcode)
    assert codes["composition"] and bases["composition"] <= bases["train"]
    assert not codes["composition"] & codes["train"]
    assert not {i.encoded for i in images if i.split == "composition"} & {
        i.encoded for i in images if i.split == "train"
    }
    assert all("skin tone" in image.caption for image in images if image.split == "composition")


def test_spoken_captions_follow_their_picture(images: list[CaptionedImage], speech: list[Utterance]) -> None:
    pictures = {image.hexcode: image for image in images}
    for one in speech:
        if one.kind == "caption":
            picture = pictures[one.hexcode or ""]
            assert (one.split, one.base) == (picture.split, picture.base)
        else:
            assert one.base is None and one.hexcode is None
    assert {one.voice for one in speech} == {"slt", "rms"} and len({one.id for one in speech}) == len(speech)


def test_triples_join_a_picture_with_the_reading_of_its_own_caption(images: list[CaptionedImage]) -> None:
    found = triples("validation")
    assert found
    for triple in found:
        assert (
            triple.image.hexcode == triple.speech.hexcode
            and triple.image.split == triple.speech.split == "validation"
        )
        assert triple.caption == triple.speech.text and "skin tone" not in triple.image.caption
    assert triples("composition") == []


def test_texts_are_plain_words(speech: list[Utterance]) -> None:
    assert all(re.fullmatch(r"[a-z']+( [a-z']+)*", one.text) for one in speech)
    assert all(5 <= len(one.text.split()) <= 10 for one in speech if one.kind == "sentence")


def test_every_image_decodes(images: list[CaptionedImage]) -> None:
    for image in images:
        pixels = image.pixels()
        assert pixels.shape == (64, 64, 3) and pixels.dtype == np.uint8
        assert pixels.min() < pixels.max(), image.caption
    assert len({image.hexcode for image in images}) == len(images)
    assert set(captions("test")) == {image.caption for image in images if image.split == "test"}


def test_sampled_audio_decodes_and_is_not_silent(speech: list[Utterance]) -> None:
    sample: list[Utterance] = speech[::97]
    for one in sample:
        waveform = one.waveform()
        assert (
            waveform.shape == (one.num_samples,)
            and waveform.dtype == np.float32
            and one.sample_rate == 16_000
        )
        assert 0.01 < np.sqrt((waveform**2).mean()) < 0.5 and np.abs(waveform).max() <= 1.0


def test_size_limit() -> None:
    assert sum(path.stat().st_size for path in ASSETS.glob("*.parquet")) <= LIMIT_BYTES


def test_data_card_counts_equal_the_files(
    images: list[CaptionedImage], speech: list[Utterance], texts: list[Passage]
) -> None:
    card = (ASSETS / "README.md").read_text("utf-8")
    for name, counts in count_rows(images, speech, texts).items():
        cells = " | ".join(f"{counts[split]:,}" for split in SPLITS)
        assert f"| {name} | {cells} |" in card


def test_contact_sheet_is_self_contained(tmp_path: Path) -> None:
    path = tmp_path / "sheet.html"
    write_contact_sheet(path)
    page = path.read_text("utf-8")
    assert page.count("<img") >= 200 and page.count("<audio") == 18
    assert not re.search(r"(src|href)='(?!data:)", page) and "http" not in re.sub(r"data:[^']*", "", page)
    assert [child.name for child in tmp_path.iterdir()] == ["sheet.html"]


def test_bad_files_and_names_give_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no quickstart data at .*rebuild it"):
        load_images(folder=tmp_path)
    with pytest.raises(ValueError, match=r"no quickstart data at .*name a folder that .*readings --out DIR"):
        load_speech(folder=tmp_path)
    (tmp_path / "images.parquet").write_bytes((ASSETS / "images.parquet").read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"damaged or no parquet file.*rebuild it"):
        load_images(folder=tmp_path)
    (tmp_path / "images.parquet").write_bytes((ASSETS / "text.parquet").read_bytes())
    with pytest.raises(ValueError, match="not trimask's table of images"):
        read_table("images", folder=tmp_path)
    with pytest.raises(ValueError, match="unknown split 'dev'"):
        load_text("dev")


def test_reading_and_building_import_no_torch() -> None:
    modules = "trimask.datasets.quickstart.build, trimask.datasets.quickstart.show"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
