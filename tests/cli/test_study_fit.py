import json
from pathlib import Path

import numpy as np
import pytest

from law_surfaces import grid, loss_of, with_noise
from trimask.cli.entry import main

COLUMNS = "--columns=n=params,d=tokens,loss=val_loss"


def write_runs(path: Path, *, noise: float = 0.002, span: float = 32.0, more: str = "") -> Path:
    inputs = grid(span=span)
    losses = with_noise(loss_of(inputs), noise, seed=0)
    names = "params,tokens,val_loss" + (f",{more.partition('=')[0]}" if more else "")
    rows = zip(inputs["n"], inputs["d"], losses, strict=True)
    cell = f",{more.partition('=')[2]}" if more else ""
    path.write_text("\n".join([names, *(f"{n:.6g},{d:.6g},{loss:.6g}{cell}" for n, d, loss in rows)]) + "\n")
    return path


def test_a_table_of_runs_gives_a_law_a_page_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file, out = write_runs(tmp_path / "runs.csv"), tmp_path / "law"
    command = ["study", "fit", str(file), COLUMNS, "--at=n=5e6,d=9e6", "--draws=200"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "holds: the table identifies L = E + A/N^alpha + B/D^beta" in printed
    for part in (
        "beta",
        "N*",
        "log-sum-exp",
        "Leave-future-out",
        "isoFLOP",
        "Variable projection",
        "n 5.00e6",
    ):
        assert part in printed, part
    assert not out.exists() and [each.name for each in tmp_path.iterdir()] == ["runs.csv"]
    assert main([*command, "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["identified"] and found["parameters"]["alpha"]["value"] == pytest.approx(0.292, abs=0.02)
    stored = json.loads((out / "law.json").read_text())
    assert stored == {name: value for name, value in found.items() if name != "page"}
    page = Path(found["page"]).read_text()
    assert page.count("data:image/svg+xml") == 2 and "http" not in page.replace("http-equiv", "")
    assert "trimask study fit" in page and "Variable projection" in page


def test_a_table_that_cannot_tell_exits_1_with_reasons_and_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file, out = write_runs(tmp_path / "runs.csv", span=4.0), tmp_path / "law"
    assert main(["study", "fit", str(file), COLUMNS, "--draws=200", "--out", str(out)]) == 1
    printed = capsys.readouterr()
    assert "cannot tell: the table identifies" in printed.out
    assert "error: not identified: n spans a factor of 4: it needs 8" in printed.err
    assert json.loads((out / "law.json").read_text())["identified"] is False
    assert "n spans a factor of 4" in (out / "law.html").read_text()
    few = tmp_path / "few.csv"
    few.write_text("".join(file.read_text().splitlines(keepends=True)[:5]))
    assert main(["study", "fit", str(few), COLUMNS, "--out", str(out)]) == 1
    assert "4 runs for 5 parameters: run at least 6" in capsys.readouterr().err
    assert "4 runs for 5 parameters" in (out / "law.html").read_text()


def test_a_column_may_have_a_comma_in_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "runs.csv"
    file.write_text('params,tokens,"loss, held out"\n1e6,1e9,3.5\n')
    assert main(["study", "fit", str(file), "--columns=n=params,d=tokens,loss=loss, held out"]) == 1
    assert "1 run for 5 parameters" in capsys.readouterr().err


def test_a_column_of_runs_groups_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = write_runs(tmp_path / "runs.csv", more="name=one")
    assert main(["study", "fit", str(file), f"{COLUMNS},run=name"]) == 1
    assert "1 run for 5 parameters" in capsys.readouterr().err


def test_a_ceiling_and_unique_data_choose_the_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = write_runs(tmp_path / "runs.csv")
    assert main(["study", "fit", str(file), COLUMNS, "--draws=100", "--ceiling=11"]) in (0, 1)
    assert "L0 = 11" in capsys.readouterr().out
    repeated = write_runs(tmp_path / "repeated.csv", more="distinct=3e5")
    main(["study", "fit", str(repeated), f"{COLUMNS},u=distinct", "--draws=100"])
    assert "D' = U + U·R*" in capsys.readouterr().out


def test_a_users_law_in_a_file_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    code = tmp_path / "mine.py"
    code.write_text(
        "from dataclasses import dataclass\n"
        "import numpy as np\n"
        "from trimask.laws.projection import Exponent, ProjectedLaw\n\n"
        "@dataclass(frozen=True)\n"
        "class OfData(ProjectedLaw):\n"
        "    steepest: float = 2.0\n"
        "    inputs = ('d',)\n"
        "    coefficients = ('E', 'B')\n"
        "    formula = 'L = E + B/D^beta'\n\n"
        "    @property\n"
        "    def exponents(self):\n"
        "        return {'beta': Exponent(low=0.01, high=self.steepest)}\n\n"
        "    def columns(self, inputs, exponents, losses):\n"
        "        return np.ones((1, len(losses))), inputs['d'] ** -exponents['beta']\n"
    )
    d = np.geomspace(1e5, 1e8, 12)
    file = tmp_path / "runs.csv"
    file.write_text("d,l\n" + "".join(f"{x:.6g},{2 + 40 / x**0.3:.8g}\n" for x in d))
    command = ["study", "fit", str(file), f"--law={code}:OfData", "--columns=d=d,loss=l"]
    assert main([*command, "--steepest=0.9", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parameters"]["beta"]["value"] == pytest.approx(0.3, abs=1e-4)
    assert "beta in [0.01, 0.9]" in " ".join(found["notes"])
    assert main([*command, "--shallowest=0.9"]) == 2
    assert "mine.py:OfData has no option --shallowest: its options are --steepest" in capsys.readouterr().err
    code.write_text(code.read_text().replace("steepest: float = 2.0", "steepest: float"))
    assert main(command) == 2
    assert "mine.py:OfData: OfData needs --steepest: give a number\n" in capsys.readouterr().err
    assert main(["study", "fit", str(file), f"--law={code}:np", "--columns=d=d,loss=l"]) == 2
    assert "is no law: name a subclass" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--columns names the law's inputs and the loss: --columns n="),
        (["--columns=n=params,d=tokens"], "names no loss"),
        (["--columns=n=params,loss=val_loss"], "scaling is a law of n, d: name the column of d too, d=NAME"),
        ([f"{COLUMNS},x=params"], "has no use for x: leave it out"),
        (["--columns=n=params,n=tokens,loss=val_loss"], "n is given twice"),
        (["--columns=params"], "'params' is not NAME=VALUE"),
        (["--columns=n=params,d=tokens,loss="], "'loss=' is not NAME=VALUE"),
        ([COLUMNS, "--law=scalling"], "unknown law 'scalling': choose one of scaling"),
        ([COLUMNS, "--ceiling=high"], "--ceiling is 'high': give a number"),
        ([COLUMNS, "--floor=2"], "scaling has no option --floor: its options are --ceiling"),
        ([COLUMNS, "--at=n=1"], "give d too"),
        ([COLUMNS, "--at=n=1,d=x"], "'x' is not a number"),
        ([COLUMNS, "--at=n=1,m=2"], "the law has no m: give n"),
        ([COLUMNS, "--at=n=1,d=-2"], "d must be finite and not negative"),
        ([COLUMNS, "--draws=5"], "--draws is 5: give a number from 100 to 100,000"),
        (["--columns=loss=val_loss", "--law=mixing"], "names no input of the law"),
        ([COLUMNS, "--at=n=0,d=2"], "--at n=0,d=2: n is 0: a power law needs values above 0"),
        ([COLUMNS, "--ceiling=inf"], "ceiling inf: give a finite loss above all of the table"),
        ([COLUMNS, "--ceiling=nan"], "ceiling nan: give a finite loss"),
        ([COLUMNS, "--short"], "--short is for studies that run trials"),
        ([COLUMNS, "--run=quickstart"], "--run is for studies that run trials"),
        ([COLUMNS, "--uses=a=b"], "--uses is for studies that run trials"),
        ([COLUMNS, "--budget=2"], "--budget is for studies that run trials"),
        ([COLUMNS, "--seconds-per-cost=2"], "--seconds-per-cost is for studies that run trials"),
        ([COLUMNS, "--workers=2"], "--workers is for studies that run trials"),
        ([COLUMNS, "--threads=2"], "--threads is for studies that run trials"),
        ([COLUMNS, "--engine=ray"], "--engine is for studies that run trials"),
    ],
)
def test_wrong_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str):
    file = write_runs(tmp_path / "runs.csv")
    assert main(["study", "fit", str(file), *words]) == 2
    assert message in capsys.readouterr().err


def test_a_bad_table_exits_1_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = write_runs(tmp_path / "runs.csv")
    file.write_text(file.read_text() + "1e6,1e6,oops\n")
    assert main(["study", "fit", str(file), COLUMNS]) == 1
    assert "runs.csv, line 27: val_loss is 'oops', not a number" in capsys.readouterr().err
    assert main(["study", "fit", str(tmp_path / "none.csv"), COLUMNS]) == 1
    assert "does not exist" in capsys.readouterr().err
    for words in (
        ["plan", "scaling", COLUMNS],
        ["plan", "scaling", "--at=n=1,d=1"],
        ["plan", "scaling", "--draws=9"],
    ):
        assert main(["study", *words]) == 2
        assert "are for trimask study fit FILE: leave them out" in capsys.readouterr().err
