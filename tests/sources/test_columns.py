"""Which columns are meant, and one clear line where that cannot be told."""

import pytest

from trimask.sources.columns import ColumnError, Columns, find_columns, find_file_column
from trimask.sources.options import PrepareOptions


def test_columns_are_found_by_their_names():
    found = find_columns(["id", "Image", "caption", "split"], PrepareOptions(), where="x")
    assert found == Columns(image="Image", text="caption", split="split")
    found = find_columns(["audio", "sentence", "sampling_rate"], PrepareOptions(), where="x")
    assert found == Columns(audio="audio", text="sentence", rate="sampling_rate")
    assert find_columns(["jpg", "json", "json.caption"], PrepareOptions(), where="x").text == "json.caption"


def test_columns_can_be_stated():
    options = PrepareOptions(image_column="a", text_column="b", speaker_column="c", group_by="d")
    found = find_columns(["a", "b", "c", "d", "text", "caption"], options, where="x")
    assert found == Columns(image="a", text="b", speaker="c", group="d")


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["image", "label"], PrepareOptions(), "x has no text column, only image, label.*--text-column"),
        ([], PrepareOptions(), "only none at all"),
        (["text", "caption"], PrepareOptions(), "text and caption could each be the text.*--text-column"),
        (["png", "jpg", "text"], PrepareOptions(), "png and jpg could each be the image.*--image-column"),
        (["text"], PrepareOptions(text_column="words"), "no column 'words' .--text-column., only text"),
        (["text"], PrepareOptions(group_by="id"), "no column 'id' .--group-by., only text"),
        (["text"], PrepareOptions(speaker_column="who"), "no column 'who' .--speaker-column., only text"),
    ],
)
def test_errors_list_the_columns(names: list[str], options: PrepareOptions, message: str):
    with pytest.raises(ColumnError, match=message):
        find_columns(names, options, where="x")


def test_the_column_that_names_files():
    assert find_file_column(["file_name", "text"], PrepareOptions(), where="x") == "file_name"
    assert find_file_column(["text", "image"], PrepareOptions(), where="x") == "image"
    assert find_file_column(["a", "text"], PrepareOptions(audio_column="a"), where="x") == "a"
    assert find_file_column(["text", "label"], PrepareOptions(), where="x") is None
    with pytest.raises(ColumnError, match="path and file could each name the files"):
        find_file_column(["path", "file", "text"], PrepareOptions(), where="x")


def test_options_say_what_is_wrong():
    with pytest.raises(ValueError, match=r"validation 0.6 and test 0.5 leave nothing"):
        PrepareOptions(validation=0.6, test=0.5)
    with pytest.raises(ValueError, match="text_window 3"):
        PrepareOptions(text_window=3)
    with pytest.raises(ValueError, match="validation -1"):
        PrepareOptions(validation=-1.0)
