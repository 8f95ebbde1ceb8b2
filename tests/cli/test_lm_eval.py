"""`trimask lm-eval`: lm-eval's own command line, with our models in it."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from trimask.cli import main

ROWS = [
    {"query": "the people of", "choices": [" the United States", " xq"], "gold": 0},
    {"query": "we must", "choices": [" zz zz", " be"], "gold": 1},
    {"query": "in the", "choices": [" year", " of of"], "gold": 0},
]
TASK = """
task: pieces
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{query}}}}"
doc_to_target: gold
doc_to_choice: choices
target_delimiter: ""
metric_list: [{{metric: acc}}]
"""


def test_without_the_extra_it_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setitem(sys.modules, "lm_eval.__main__", None)
    assert main(["lm-eval", "--tasks", "x"]) == 1
    assert capsys.readouterr().err == "trimask: error: lm-eval is not installed: pip install trimask[eval]\n"


def test_its_arguments_are_handed_over_unchanged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[list[str]] = []
    program, model = ModuleType("lm_eval.__main__"), ModuleType("trimask.scorecard.lm_eval_model")
    vars(program)["cli_evaluate"] = lambda: seen.append(sys.argv[1:])
    vars(model).update(NAME="trimask", register=lambda: seen.append(["registered"]))
    for module in (ModuleType("lm_eval"), program, model):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    before = sys.argv
    words = ["--model", "trimask", "--model_args", "run=a b,seed=1", "--gen_kwargs", "x", "--", "--seed=1"]
    assert main(["lm-eval", *words]) == 0
    assert seen == [["registered"], words] and sys.argv is before
    assert "are bounds (-NELBO)" in capsys.readouterr().err
    assert main(["lm-eval", "run", "--help"]) == 0
    assert seen[-1] == ["run", "--help"] and not capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # other people's libraries warn of themselves
def test_a_task_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real lm-eval, offline, scores what the scorer says of each option."""
    from trimask.evaluation.continuation import ContinuationScorer
    from trimask.runs.load import load
    from trimask.scorecard.score import denoiser_of, tokenizers_of

    rows, task = tmp_path / "rows.jsonl", tmp_path / "pieces.yaml"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    task.write_text(TASK.format(rows=rows))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    out = tmp_path / "out"
    words = ["--model", "trimask", "--tasks", str(task), "--output_path", str(out), "--log_samples"]
    assert main(["lm-eval", *words, "--model_args", "run=quickstart,num_masks=4,seed=1"]) == 0
    (file,) = out.rglob("results_*.json")
    found = json.loads(file.read_text())
    assert found["config"]["likelihoods"] == "lower bounds (-NELBO) of log-likelihoods"

    generator = load("quickstart")
    scorer = ContinuationScorer(
        denoiser=denoiser_of(generator),
        text=tokenizers_of(generator).text,
        text_window=128,
        seed=1,
        num_masks=4,
    )
    (samples,) = out.rglob("samples_*.jsonl")
    for line in samples.read_text().splitlines():
        sample = json.loads(line)
        row = sample["doc"]
        expected = scorer.log_likelihoods([(row["query"], choice) for choice in row["choices"]])
        assert [float(each[0][0]) for each in sample["resps"]] == pytest.approx(expected)
    assert found["results"]["pieces"]["acc,none"] == pytest.approx(1.0)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "names no run: give run=RUN"),
        ({"run": "quickstart", "masks": 3}, "has masks, which is unknown: give run, preset"),
        ({"run": "quickstart", "num_masks": 0}, "has num_masks=0: give a whole number"),
        ({"run": "quickstart", "device": "cuda:1"}, "--device cuda:1: the model is computed on the CPU"),
    ],
)
def test_wrong_arguments(arguments: dict[str, object], problem: str) -> None:
    from trimask.errors import UserError
    from trimask.scorecard.lm_eval_model import NamedModel

    with pytest.raises(UserError, match=problem):
        NamedModel.create_from_arg_obj(arguments)
