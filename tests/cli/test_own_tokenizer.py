"""docs/add-a-tokenizer.md and docs/add-a-task.md: their files run, and their commands can be typed."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import soundfile
import torch

import trimask
from command_lines import commands
from trimask import modules
from trimask.cli import main
from trimask.runs.load import load_trained
from trimask.tokenizers.bundle import Tokenizers

DOCS = Path(__file__).parents[2] / "docs"
NAMED = re.compile(r"^`(\w+\.py)`[^\n]*:\n\n```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
FEW = {
    "signs": ["--training.num-steps=2", "--training.fit-cells=500", "--data=photos"],
    "debug": ["--num-steps=2"],
    "triples": ["--num-steps=2"],
}


def typed(page: str, patch: pytest.MonkeyPatch, folder: Path) -> str:
    """Write the page's files and enter its commands, the trainings shortened; return its last program."""
    patch.chdir(folder)
    patch.syspath_prepend(folder)
    text = (DOCS / page).read_text(encoding="utf-8")
    for name, source in NAMED.findall(text):
        Path(name).write_text(source, encoding="utf-8")
    if Path("write.py").exists():
        runpy.run_path("write.py")
    Path("photos").mkdir()
    for number, pixels in enumerate(np.random.default_rng(0).integers(256, size=(40, 64, 64, 3))):
        PIL.Image.fromarray(pixels.astype(np.uint8)).save(f"photos/{number}.png")
    soundfile.write("hello.wav", np.sin(np.arange(8000) / 20) / 2, 16_000)
    for words in commands(text):
        few = [w for w in FEW.get(words[2].split(":")[-1], ()) if words[1] in ("train", "show")]
        assert main([*words[1:], *few, *(["--num-steps=4"] if words[1] == "sample" else [])]) == 0
    return BLOCK.findall(text)[-1]


@pytest.mark.usefixtures("few_speeches")
def test_the_tokenizers_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = typed("add-a-tokenizer.md", monkeypatch, tmp_path)
    found = Tokenizers.load(tmp_path / "tokenizers").image
    assert (found.codebook_size, found.num_codebooks) == (2**9, 2)
    assert load_trained(tmp_path / "runs" / "model")[0].vocabulary.space("image").codebook_size == 2**9
    quantizer = modules.load("mine.py:Signs")().build()
    codes = torch.randint(2**9, (50, 2))
    assert torch.equal(quantizer.encode(quantizer.decode(codes)), codes)
    with pytest.raises(trimask.UserError, match="out of range"):
        quantizer.decode(codes + 2**9)
    palette = runpy.run_path("palette.py")
    codes = np.random.default_rng(0).integers(64, size=(64, 1))
    assert np.array_equal(palette["encode"](palette["decode"](codes)), codes)
    exec(program, {})
    assert (tmp_path / "square.png").is_file()
    sys.modules.pop("palette", None)


@pytest.mark.filterwarnings("ignore::trimask.generation.length.SpanTooShortWarning")  # untrained
@pytest.mark.usefixtures("few_speeches")
def test_the_tasks_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = typed("add-a-task.md", monkeypatch, tmp_path)
    exec(program, {})
    assert (tmp_path / "heard.png").is_file()
