"""docs/tutorial.md, from its first command to its last; fewer files and updates, and smaller spans."""

import json
import re
import runpy
import shlex
from pathlib import Path

import httpx2
import pytest

from cli.test_serve import serving
from command_lines import commands
from trimask.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text(encoding="utf-8")
RAW, USE = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
FEWER = {"--num-steps": "3", "--num-sequences": "2", "--num-masks": "1"}
SMALL = ["--model.width=64", "--model.num-heads=1", "--model.depth=1"]


@pytest.mark.filterwarnings("ignore::trimask.generation.length.SpanTooShortWarning")
@pytest.mark.filterwarnings("ignore::trimask.generation.length.EmptySpanWarning")  # hardly trained
@pytest.mark.usefixtures("few_sampling_steps")
def test_the_tutorial_can_be_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("raw.py").write_text(RAW.replace('"sentence"][:120]', '"sentence"][:30]').replace("[:20]", "[:2]"))
    assert "\npython raw.py\n" in PAGE
    runpy.run_path("raw.py")
    typed = []
    for program, verb, *words in commands(PAGE):
        assert program == "trimask"
        if verb == "serve":
            break
        few = [FEWER.get(before, word) for before, word in zip(["", *words], words, strict=False)]
        more = {"train": SMALL, "show": SMALL}.get(verb, []) if "--resume" not in words else []
        assert main([verb, *few, *more, *(["--workers=1"] if words[0] == "raw" else [])]) == 0
        typed.append(verb)
    assert set(typed) == {"prepare", "show", "train", "sample", "evaluate", "export"}
    (rejected,) = Path("data/mine/rejected.jsonl").read_text().splitlines()
    assert rejected in PAGE.splitlines()
    exec(USE, {})
    assert Path("cat.png").is_file()
    capsys.readouterr()
    (request,) = re.findall(r"^(curl .*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    _, address, *_, body = shlex.split(request)
    with serving("shared/mine") as (_, url):
        answer = httpx2.post(
            url.removesuffix("/v1") + address[address.index("/v1") :], json=json.loads(body), timeout=60
        )
    assert answer.status_code == 200 and answer.json()["choices"][0]["text"] is not None
