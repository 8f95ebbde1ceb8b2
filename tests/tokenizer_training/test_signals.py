"""Files of signals: what goes in comes out, by row and by slice, and nothing half is left."""

from pathlib import Path

import numpy as np
import pytest

from trimask.tokenizer_training.signals import Concatenation, Signal, Signals, SignalWriter


def recordings(lengths: list[int]) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(-9, 9, (n, 2)).astype(np.int16) for n in lengths]


def write(path: Path, values: list[np.ndarray]) -> None:
    with SignalWriter(path, shape=(-1, 2), dtype=np.int16) as writer:
        for number, each in enumerate(values):
            writer.add(Signal(key=f"k{number}", text=f"text {number}", speaker="ä", values=each))
    assert writer.count == len(values)


def test_rows_come_back_as_they_were(tmp_path: Path):
    values = recordings([3, 0, 5, *([1] * 150)])  # more than two batches of rows
    write(tmp_path / "some" / "signals.arrow", values)
    read = Signals(tmp_path / "some" / "signals.arrow")
    assert len(read) == len(values)
    assert read.lengths.tolist() == [len(each) for each in values]
    assert read.keys == [f"k{i}" for i in range(len(values))]
    for number, (row, expected) in enumerate(zip(read, values, strict=True)):
        assert (row.key, row.text, row.speaker) == (f"k{number}", f"text {number}", "ä")
        assert row.values.dtype == np.int16
        np.testing.assert_array_equal(row.values, expected)
    with pytest.raises(IndexError, match="signal 153 of 153"):
        read[153]


def test_slices_of_the_concatenation_equal_slices_of_one_array(tmp_path: Path):
    values = recordings([4, 0, 1, 7, 0, 2])
    write(tmp_path / "signals.arrow", values)
    joined, whole = Concatenation(Signals(tmp_path / "signals.arrow")), np.concatenate(values)
    assert len(joined) == 14
    for start in range(15):
        for stop in range(start, 15):
            np.testing.assert_array_equal(joined.read(start, stop), whole[start:stop])
    with pytest.raises(IndexError, match=r"\[3, 15\) of 14 values"):
        joined.read(3, 15)


def test_an_empty_file_has_no_rows(tmp_path: Path):
    write(tmp_path / "signals.arrow", [])
    assert len(Signals(tmp_path / "signals.arrow")) == 0
    assert len(Concatenation(Signals(tmp_path / "signals.arrow"))) == 0


def test_nothing_is_left_of_a_file_that_could_not_be_finished(tmp_path: Path):
    signals = SignalWriter(tmp_path / "signals.arrow", shape=(-1, 2), dtype=np.int16)
    with pytest.raises(RuntimeError, match="the source failed"), signals as writer:
        writer.add(Signal(key="", text="", speaker="", values=recordings([3])[0]))
        raise RuntimeError("the source failed")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_file_of_signals_is_named(tmp_path: Path):
    (tmp_path / "damaged.arrow").write_bytes(b"ARROW1 or not")
    with pytest.raises(ValueError, match=r"damaged.arrow is damaged .*delete it, so that it is made again"):
        Signals(tmp_path / "damaged.arrow")
    write(tmp_path / "cut.arrow", recordings([300]))
    whole = (tmp_path / "cut.arrow").read_bytes()
    (tmp_path / "cut.arrow").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut.arrow is damaged"):
        Signals(tmp_path / "cut.arrow")
