"""The playground in a real browser: headless Chromium, driven by playwright."""

import contextlib
import functools
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --autoplay-policy=no-user-gesture-required"
)
_WAIT = 30_000  # milliseconds: for a busy machine; nothing here takes more than a second alone


@functools.cache
def find_chromium() -> str | None:
    """Return the executable of a Chromium: that of TRIMASK_CHROMIUM, or one on the path."""
    named = os.environ.get("TRIMASK_CHROMIUM")
    if named:
        return named if Path(named).is_file() else None
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


@contextlib.contextmanager
def launch() -> Iterator[Browser]:
    """Start the browser, or skip the test where there is none."""
    executable = find_chromium()
    if executable is None:
        pytest.skip(
            "no Chromium: install one (apt-get install chromium), or name its executable in TRIMASK_CHROMIUM"
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=_OPTIONS.split())
        yield browser
        browser.close()


@final
class Visit:
    """A page that is open, and what it has complained of.

    Attributes:
        complaints: errors and refusals of the content security policy, without answers of the server.
    """

    def __init__(self, page: Page, url: str, *, is_ready: bool = True, hash: str = ""):
        self.page, self.url = page, url
        self.complaints: list[str] = []
        self.asked: list[str] = []
        page.set_default_timeout(_WAIT)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda message: self._note(message.type, message.text))
        page.on("request", lambda request: self.asked.append(request.url))
        page.goto(f"{url}/{hash}")
        if is_ready:
            page.wait_for_selector("#composer:not([hidden])")

    def _note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and "the server responded with" not in text:
            self.complaints.append(text)

    def choose(self, task: str, prompt: str | None = None, **settings: Any) -> None:
        """Choose a task, its prompt, and settings of the side A."""
        self.page.check(f"[value={task}]")
        self.page.locator("#settings-block").evaluate("block => block.open = true")
        if prompt is not None:
            self.page.fill("#prompt", prompt)
        for name, value in settings.items():
            self.page.fill(f"#{name}-A", str(value))

    def run(self) -> None:
        """Press Unmask, and wait for the end of the run."""
        self.page.click("#run")
        self.wait()

    def wait(self) -> None:
        self.page.wait_for_selector("#run:not([hidden])")
        self.page.wait_for_selector(".side.is-done")

    def until(self, expression: str) -> None:
        """Wait until an expression is true; playwright's own waiting needs what the page's policy forbids."""
        end = time.monotonic() + _WAIT / 1000
        while not self.page.evaluate(expression):
            assert time.monotonic() < end, f"this has not come true: {expression}"
            self.page.wait_for_timeout(20)

    def step_to(self, step: int) -> None:
        """Move the slider."""
        self.page.locator(".timeline input").fill(str(step))

    @property
    def last(self) -> int:
        """The last step of the run."""
        return int(self.page.locator(".timeline input").get_attribute("max") or 0)

    def units(self, panel: str, side: int = 0) -> Any:
        """The boxes of a panel of a side: `text`, `image`, `audio` or `codes`."""
        return self.page.locator(f".side:not([hidden]) >> nth={side}").locator(f".{panel}-panel .unit")

    def labels(self, panel: str, side: int = 0) -> list[str]:
        """What the boxes are called for those who hear them."""
        return self.units(panel, side).evaluate_all("all => all.map(one => one.ariaLabel)")

    def check(self) -> None:
        """Assert that nothing was complained of, and that only this server was asked."""
        assert not self.complaints
        foreign = [url for url in self.asked if not url.startswith((self.url, "data:", "blob:", "file:"))]
        assert not foreign
