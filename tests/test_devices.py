"""Devices: what is picked, what is refused and how."""

import json

import pytest
import torch

from trimask import devices


def test_none_takes_cuda_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices.pick(None) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert devices.pick() == torch.device("cuda")


def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices.pick("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices.pick("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ValueError, match=r"'cuda:2'.*this machine has 2 GPUs; use cuda:0 or cpu"):
        devices.pick("cuda:2")


def test_cuda_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"'cuda'.*sees no CUDA GPU; use cpu"):
        devices.pick("cuda")


@pytest.mark.parametrize("name", ["gpu", "", "mps", "meta", "cuda:x"])
def test_unknown_names(name: str) -> None:
    with pytest.raises(ValueError, match="use cpu, cuda or cuda:N"):
        devices.pick(name)


def test_gpus_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert devices.count_gpus() == 2
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # a driver without a usable GPU
    assert devices.count_gpus() == 0


def test_description_is_json() -> None:
    described = devices.describe(torch.device("cpu"))
    assert json.loads(json.dumps(described)) == described
    assert described["device"] == "cpu" and described["torch"] == torch.__version__
    assert described["threads"] == torch.get_num_threads()
