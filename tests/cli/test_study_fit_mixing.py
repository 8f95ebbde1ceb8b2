"""`trimask study fit --law mixing`: a table of anyone's runs of mixtures."""

import json
from pathlib import Path

import numpy as np
import pytest

from trimask.cli.entry import main

ROWS = np.array(
    [
        (0.9, 0.05, 0.05), (0.05, 0.9, 0.05), (0.05, 0.05, 0.9), (0.64, 0.34, 0.02), (0.34, 0.64, 0.02),
        (0.64, 0.02, 0.34), (0.34, 0.02, 0.64), (0.02, 0.64, 0.34), (0.02, 0.34, 0.64), (0.5, 0.25, 0.25),
        (0.25, 0.5, 0.25), (0.25, 0.25, 0.5),
    ]
)  # fmt: skip
COLUMNS = "text=h_text,image=h_image,speech=h_speech,loss=bits,run=name"


def write(path: Path, rows: np.ndarray, losses: np.ndarray) -> str:
    lines = ["name,h_text,h_image,h_speech,bits"]
    lines += [
        f"run {number},{','.join(map(str, row))},{loss!r}"
        for number, (row, loss) in enumerate(zip(rows.tolist(), losses.tolist(), strict=True))
    ]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_a_planted_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    losses = 4 + np.exp(ROWS @ np.array([0.6, -2.3, 0.4]))
    file = write(tmp_path / "runs.csv", ROWS, losses)
    assert main(["study", "fit", file, "--law", "mixing", "--columns", COLUMNS, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    parameters = {name: each["value"] for name, each in found["parameters"].items()}
    assert parameters == pytest.approx({"c": 4, "t_text": 0.6, "t_image": -2.3, "t_speech": 0.4}, rel=1e-5)
    (errors,) = [table for table in found["tables"] if "left out of the fit" in table["title"]]
    own, linear, mean = (float(row[1]) for row in errors["rows"])
    assert own < 0.01 < linear < mean
    assert any("errs less than a linear law" in claim["text"] and claim["holds"] for claim in found["claims"])
    command = ["study", "fit", file, "--law", "additive_mixing", "--columns", COLUMNS]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    assert "Σ C_j h_j^γ_j" in capsys.readouterr().out and (tmp_path / "out" / "law.html").exists()


def test_tables_that_tell_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    command = ["--law", "mixing", "--columns", COLUMNS]
    few = write(tmp_path / "few.csv", ROWS[:9], np.full(9, 5.0))
    assert main(["study", "fit", few, *command]) == 1
    assert "9 different mixtures of 3 parts: give at least 12" in capsys.readouterr().err
    noise = 5 + 0.01 * np.random.default_rng(0).standard_normal(len(ROWS))
    assert main(["study", "fit", write(tmp_path / "noise.csv", ROWS, noise), *command]) == 1
    assert "the shares do not tell the loss" in capsys.readouterr().err
