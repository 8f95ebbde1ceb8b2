"""The page's replay of events, step by step, forwards and backwards, against what the server made of them."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Page

from serve.browser import Visit, launch
from serve.clients import served_generator
from serve.test_canvas import REQUESTS, read_events
from serve.test_server import listening_to
from trimask.serve.app import create_app
from trimask.serve.service import Service

pytestmark = pytest.mark.usefixtures("unchecked_shapes")
FURTHER = {"task": "text", "sampler": {"corrector": "TokenEditing", "corrector.probability": 0.03}}
REPLAY = """([description, body, events]) => import('./playground/run.js').then(({Run, contentLength}) => {
  const run = new Run({description, body});
  for (const event of events) run.add(event);
  const readSpan = ({name, codebooks, cells}, length) => {
    const codes = cells.map((cell) => cell.code), rows = [];
    for (let at = 0; at < length * codebooks; at += codebooks) rows.push(codes.slice(at, at + codebooks));
    return [name, {rows, masked: cells.filter((cell) => cell.masked).length}];
  };
  const read = (number) => Object.fromEntries(run.at(number).filter((span) => run.isTarget(span.name))
    .map((span) => readSpan(span, contentLength(span))));
  const forwards = [], backwards = [];
  for (let number = 0; number <= run.last; number++) forwards.push(read(number));
  for (let number = run.last; number >= 0; number--) backwards.unshift(read(number));
  return {forwards, backwards, again: run.codesToGoOn(run.last, {})};
})"""


@pytest.fixture(scope="module")
def page() -> Iterator[tuple[Page, str]]:
    with launch() as browser, listening_to(create_app(Service({"tiny": served_generator()}))) as (url, _):
        visit = Visit(browser.new_page(), url)
        yield visit.page, url
        visit.check()


@pytest.mark.parametrize("number", range(len(REQUESTS) + 1))
def test_events_are_replayed(page: tuple[Page, str], number: int) -> None:
    tab, url = page
    asked = [*(request for request, _ in REQUESTS), FURTHER][number]
    body: dict[str, Any] = {**asked, "seed": 3, "num_steps": 6}
    events = read_events(httpx2.post(f"{url}/v1/canvas", json=body, timeout=60).text)
    description = httpx2.get(f"{url}/v1/models/tiny").json()
    found = tab.evaluate(REPLAY, [description, body, events])
    done = events[-1]
    assert {name: each["rows"] for name, each in found["forwards"][-1].items()} == done["codes"]
    assert found["forwards"] == found["backwards"] and found["again"] == done["codes"]
    masked = [sum(each["masked"] for each in step.values()) for step in found["forwards"]]
    grown = sum("spans" in event for event in events) > 1
    if not grown:
        assert masked == [round(event["t"] * masked[0]) for event in events[:-1]]
    assert masked[0] > 0 == masked[-1]
