import math
from dataclasses import replace
from pathlib import Path

from trimask.estimate import Estimate
from trimask.studies.findings import Claim, Curve, Findings, Panel, Table, format_estimate
from trimask.studies.report import findings_to_json, write_report

FINDINGS = Findings(
    claims=(Claim(text="it is flat", holds=True), Claim(text="γ = 0.5", holds=None)),
    tables=(Table(title="Slopes", header=("what", "slope"), rows=(("stream", "0.01"),)),),
    pictures={
        "rates": (
            (
                Panel(
                    title="all",
                    x_label="rate",
                    y_label="bits/token",
                    curves=(
                        Curve(label="64", x=[1.0, 2.0], y=[3.0, 2.9], low=[2.9, 2.8], high=[3.1, 3.0]),
                        Curve(label="none yet", x=[], y=[], is_dashed=True),
                    ),
                    is_log_y=True,
                ),
            ),
        ),
        "nothing yet": ((),),
    },
)


def test_a_report_has_claims_pictures_and_tables(tmp_path: Path):
    path = write_report(FINDINGS, tmp_path, title="Is it?", facts={"command": "`x`"})
    text = path.read_text()
    assert text.startswith("# Is it?\n\n- command: `x`\n")
    assert "- holds: it is flat\n- cannot tell: γ = 0.5\n" in text
    assert "![rates](rates.svg)" in text and "nothing yet" not in text
    assert "| what | slope |\n|---|---|\n| stream | 0.01 |" in text
    picture = (tmp_path / "rates.svg").read_bytes()
    assert b">bits/token<" in picture  # text stays text
    write_report(FINDINGS, tmp_path, title="Is it?", facts={"command": "`x`"})
    assert (tmp_path / "rates.svg").read_bytes() == picture


def test_findings_as_json():
    found = findings_to_json(FINDINGS)
    assert found["claims"][1] == {"text": "γ = 0.5", "holds": None}
    assert found["tables"] == [{"title": "Slopes", "header": ["what", "slope"], "rows": [["stream", "0.01"]]}]
    held = findings_to_json(replace(FINDINGS, notes=("Held fixed: rows.",)))
    assert held["notes"] == ["Held fixed: rows."]


def test_an_estimate_without_interval_shows_none():
    assert format_estimate(Estimate(value=0.444, low=0.3, high=0.58)) == "0.44 [0.30, 0.58]"
    assert format_estimate(Estimate(value=0.444, low=-math.inf, high=math.inf)) == "0.44"


def test_a_bar_in_a_cell_ends_no_cell(tmp_path: Path):
    table = Table(title="Arms", header=("arm", "loss"), rows=(("a|b", "1"),))
    path = write_report(replace(FINDINGS, tables=(table,)), tmp_path, title="Which?", facts={})
    assert "| a\\|b | 1 |" in path.read_text()


def test_dollars_in_names_are_no_formula(tmp_path: Path):
    named = "$a and $b"
    curve = Curve(label=named, x=[1.0], y=[2.0])
    panel = Panel(title=named, x_label=named, y_label=named, curves=(curve,))
    write_report(replace(FINDINGS, pictures={"costs": ((panel,),)}), tmp_path, title="", facts={})
    assert (tmp_path / "costs.svg").read_text().count(f">{named}<") == 4
