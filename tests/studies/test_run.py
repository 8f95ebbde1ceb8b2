"""A whole study, small: run, stopped, gone on with, grown, reported."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from trimask import devices, io, locks
from trimask.parallel import Local
from trimask.questions.batch_invariance import BatchInvariance
from trimask.questions.horizon import Horizon
from trimask.recipes.quickstart import debug
from trimask.studies import run as studies_run
from trimask.studies.run import STUDY, Measuring, StudyProgress, report_study, run_study
from trimask.studies.store import RESULTS, Results
from trimask.studies.study import LOSSES, small_run
from trimask.training.optimizers import AdamWConfig
from trimask.training.run import RunConfig

pytestmark = pytest.mark.usefixtures("few_speeches")

REQUEST = {"study": "batch_invariance", "short": True, "data": [], "overrides": {}}


def tiny_run() -> RunConfig:
    small = small_run(learning_rate=2.0**-7)
    return replace(
        small, model=debug().model, data=debug().data, logical_batch=8, num_steps=4, log_every=1, seed=0
    )


def tiny(batches: tuple[int, ...] = (4, 8)) -> BatchInvariance:
    return BatchInvariance(
        base=tiny_run(), batches=batches, others=(4,), seeds=(0,), noise_batches=2, noise_pairs=2
    )


def run(
    study: BatchInvariance | Horizon, out: Path, workers: int = 1, threads: int = 1
) -> list[StudyProgress]:
    seen: list[StudyProgress] = []
    run_study(
        study,
        out,
        request=REQUEST,
        engine=Local(workers=workers),
        threads=threads,
        on_progress=seen.append,
    )
    return seen


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, few_speeches: None) -> Path:
    out = tmp_path_factory.mktemp("study")
    run(tiny(), out)
    return out


def figures(out: Path) -> dict[str, dict[str, float | None]]:
    return {name: dict(result.figures) for name, result in Results(out).by_name.items()}


def test_every_trial_has_its_losses_and_the_base_its_noise_scale(finished: Path):
    found = figures(finished)
    assert set(found) == {
        "rule=κ,batch=4,seed=0",
        "rule=κ,batch=8,seed=0",
        "rule=√,batch=4,seed=0",
        "rule=linear,batch=4,seed=0",
        "rule=none,batch=4,seed=0",
    }
    for name, row in found.items():
        assert all(3 < float(row[loss] or 0) < 12 for loss in LOSSES), row
        assert ("noise_scale/all" in row) == ("batch=8" in name)
    total, parts = (
        float(found["rule=κ,batch=8,seed=0"]["all"] or 0),
        [float(found["rule=κ,batch=8,seed=0"][loss] or 0) for loss in LOSSES[1:]],
    )
    assert min(parts) < total < max(parts)
    assert not any((finished / "trials").iterdir())


def test_what_is_done_is_not_done_again_and_the_rest_is_the_same(finished: Path, tmp_path: Path):
    lines = (finished / RESULTS).read_text().splitlines()
    (tmp_path / STUDY).write_text((finished / STUDY).read_text())
    (tmp_path / RESULTS).write_text("\n".join(lines[:2]) + '\n{"torn')
    progress = run(tiny(), tmp_path, workers=2)
    assert [each.num_done for each in progress] == [2, 3, 4, 5]
    assert figures(tmp_path) == figures(finished)


def test_a_study_may_grow_but_not_change(finished: Path, tmp_path: Path):
    (tmp_path / STUDY).write_text((finished / STUDY).read_text())
    (tmp_path / RESULTS).write_text((finished / RESULTS).read_text())
    changed = tiny()
    changed = replace(changed, base=replace(changed.base, optimizer=AdamWConfig(learning_rate=1.0)))
    with pytest.raises(ValueError, match=r"result of rule=κ,batch=4,seed=0 is of another configuration"):
        run(changed, tmp_path)
    assert (tmp_path / STUDY).read_bytes() == (finished / STUDY).read_bytes()
    assert not (tmp_path / "tokens").exists()  # told before any work
    with pytest.raises(ValueError, match="threads 1, and this one's is 2"):
        run(tiny(), tmp_path, threads=2)
    with pytest.raises(ValueError, match="type 'BatchInvariance', and this one's is 'Horizon'"):
        run(Horizon(base=tiny_run(), factors=(1, 2), seeds=(0,)), tmp_path)
    grown = run(tiny(batches=(4, 8, 16)), tmp_path)
    assert (grown[0].num_done, grown[0].num_trials) == (5, 6)
    assert len(Results(tmp_path).by_name) == 6


def test_results_of_another_device_are_refused(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A pretended GPU: only what is recorded and refused is seen here, no trial runs on it."""
    shutil.copy(finished / STUDY, tmp_path)
    shutil.copy(finished / RESULTS, tmp_path)
    assert io.read_sealed(tmp_path / STUDY)["device"] == "cpu"
    described = {**devices.describe(torch.device("cpu")), "device": "cuda", "device_name": "Card 7"}
    monkeypatch.setattr(studies_run, "describe", lambda device=None: described)
    with pytest.raises(ValueError, match="study of device 'cpu', and this one's is 'Card 7'"):
        run(tiny(), tmp_path)
    stored = io.read_sealed(tmp_path / STUDY)
    del stored["device"]  # as earlier versions wrote it
    io.write_sealed(tmp_path / STUDY, stored)
    with pytest.raises(ValueError, match="study of device 'cpu', and this one's is 'Card 7'"):
        run(tiny(), tmp_path)
    monkeypatch.undo()
    assert len(run(tiny(), tmp_path)) == 1


def test_two_processes_never_share_a_folder(finished: Path, tmp_path: Path):
    """The second one is told; this process holds the lock for another one to meet."""
    shutil.copy(finished / STUDY, tmp_path)
    shutil.copy(finished / RESULTS, tmp_path)
    command = [sys.executable, "-m", "trimask", "study", "run", "coordinate_check", "--out", str(tmp_path)]
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with locks.lock(tmp_path):
        done = subprocess.run([*command, "--workers=1"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "is in use by another process" in done.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name != ".lock"} == before


def test_a_run_that_diverges_is_a_result(tmp_path: Path):
    study = tiny()
    base = replace(study.base, optimizer=AdamWConfig(learning_rate=1e30, clip_norm=None))
    (trial, *_) = replace(study, base=base).trials({})
    result = Measuring(study=study, out=tmp_path, threads=1)(trial)
    assert result.figures == {} and result.figure("all") == float("inf")


def test_the_report_of_a_part(finished: Path, tmp_path: Path):
    (tmp_path / STUDY).write_text((finished / STUDY).read_text())
    lines = (finished / RESULTS).read_text().splitlines(keepends=True)
    (tmp_path / RESULTS).write_text("".join(lines[:3]))
    path, findings = report_study("batch_invariance", tmp_path)
    text = path.read_text()
    assert "trials: 3, 2 are still to run" in text
    assert "`trimask study run batch_invariance --out DIR --short`" in text
    assert (tmp_path / "batch_invariance.svg").exists()
    assert len(findings.claims) == len(LOSSES)
    with pytest.raises(ValueError, match="holds the study batch_invariance, not horizon"):
        report_study("horizon", tmp_path)
    (tmp_path / RESULTS).write_text("")
    with pytest.raises(ValueError, match="no result yet"):
        report_study("batch_invariance", tmp_path)


def test_folders_that_are_no_study(tmp_path: Path):
    with pytest.raises(ValueError, match="holds no study"):
        report_study("batch_invariance", tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty and holds no study"):
        run(tiny(), tmp_path)
    assert json.dumps(sorted(path.name for path in tmp_path.iterdir())) == '["notes.txt"]'


@pytest.mark.parametrize("name", ["request", "study", "environment", "threads"])
@pytest.mark.parametrize("value", [None, {}, [], "x", 7.5, {"study": "batch_invariance"}])
def test_a_description_with_another_value_is_told(name: str, value: object, finished: Path, tmp_path: Path):
    stored = io.read_sealed(finished / STUDY)
    io.write_json(tmp_path / STUDY, {**stored, name: value})
    shutil.copy(finished / RESULTS, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=r"study.json does not describe a study"):
        report_study("batch_invariance", tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
