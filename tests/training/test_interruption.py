"""One signal is noted; what a second does depends on who may have sent it."""

import os
import signal

import pytest

from trimask.training.interruption import catch_signals


def test_a_second_signal_has_its_usual_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), catch_signals() as interruption:
            os.kill(os.getpid(), signal.SIGTERM)
            assert interruption.has_arrived
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_under_torchrun_a_second_sigterm_is_the_first_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    before = signal.getsignal(signal.SIGTERM)
    with catch_signals() as interruption:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.has_arrived
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_is_answered_at_once_and_once(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with catch_signals():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        assert capfd.readouterr().err.count("stopping at the end of this step") == 1
    monkeypatch.setenv("RANK", "1")
    with catch_signals():
        os.kill(os.getpid(), signal.SIGTERM)
    assert capfd.readouterr().err == ""
