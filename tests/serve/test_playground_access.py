"""The playground for everyone: by keyboard, by touch on a phone, by ear, in light and dark, with a key."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from serve.browser import Visit, launch
from serve.clients import served_generator
from serve.test_server import listening_to
from trimask.runs.load import load_with_presets
from trimask.serve.app import create_app
from trimask.serve.service import Service

pytestmark = pytest.mark.usefixtures("unchecked_shapes")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launch() as found:
        yield found


@pytest.fixture(scope="module")
def url(browser: Browser) -> Iterator[str]:
    with listening_to(create_app(Service({"tiny": served_generator()}))) as (address, _):
        yield address


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until the focus is there."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement?.matches(selector)", selector):
            ring = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert ring != "none", f"the focus on {selector} cannot be seen"
            return
    raise AssertionError(f"Tab does not lead to {selector}")


def test_by_keyboard_alone(browser: Browser, url: str) -> None:
    context = browser.new_context(reduced_motion="reduce")
    visit = Visit(context.new_page(), url)
    page = visit.page
    tab_to(page, ".skip")
    while not page.evaluate("document.activeElement?.name === 'task'"):
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert page.locator("[name=task]:checked").get_attribute("value") != "text_to_image"
    page.keyboard.press("ArrowLeft")
    assert page.locator("[name=task]:checked").get_attribute("value") == "text_to_image"
    tab_to(page, "#prompt")
    page.keyboard.type("a hat")
    tab_to(page, "#num_steps-A")
    page.keyboard.type("4")
    page.keyboard.press("Enter")
    visit.wait()
    tab_to(page, ".cells .unit")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.keyboard.press("ArrowDown")
    assert "row 2, column 2" in page.locator(".tip").inner_text()
    page.keyboard.press("Shift+ArrowLeft")
    assert [each == "true" for each in selected(page)] == [False, True, True, True]
    tab_to(page, "#go-on")
    page.keyboard.press("Enter")
    visit.wait()
    assert [label.endswith("given") for label in visit.labels("image")] == [True, False, False, False]
    tab_to(page, ".timeline input")
    page.keyboard.press("Home")
    assert sum("masked" in label for label in visit.labels("image")) == 3
    page.keyboard.press("ArrowRight")
    assert page.locator(".timeline input").get_attribute("aria-valuetext") == f"step 1 of {visit.last}"
    visit.check()
    context.close()


def selected(page: Page) -> list[str]:
    return page.locator(".cells .unit").evaluate_all("all => all.map(one => one.ariaSelected)")


@pytest.mark.parametrize("width", [320, 400])
def test_on_a_phone(browser: Browser, url: str, width: int) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 700}, has_touch=True, is_mobile=True, reduced_motion="reduce"
    )
    visit = Visit(context.new_page(), url)
    page = visit.page
    assert page.evaluate("document.documentElement.scrollWidth") == width
    visit.choose("triple", "", num_steps=4)
    page.tap("#run")
    visit.wait()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    small = page.evaluate(
        "[...document.querySelectorAll('button, select, summary, input:not([type=radio], [type=file]), a')]"
        ".filter(one => one.checkVisibility({visibilityProperty: true}) && !one.matches('.skip'))"
        ".map(one => [one.outerHTML.slice(0, 80), one.getBoundingClientRect()])"
        ".filter(([, box]) => box.width < 24 || box.height < 24).map(([name]) => name)"
    )
    assert small == []  # WCAG 2.2, 2.5.8
    unit = visit.units("image").nth(2)
    unit.scroll_into_view_if_needed()
    unit.tap()
    assert page.locator(".brush-text").inner_text() == "1 image cell marked"
    page.check("#brush")  # a finger that drags marks, and does not scroll
    unit.evaluate("one => one.scrollIntoView({block: 'center'})")
    first, last = visit.units("image").nth(0).bounding_box(), visit.units("image").nth(1).bounding_box()
    touch = page.context.new_cdp_session(page)
    for kind, box in (("touchStart", first), ("touchMove", first), ("touchMove", last), ("touchEnd", None)):
        points = [{"x": box["x"] + 9, "y": box["y"] + 9}] if box else []
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    expect(page.locator(".brush-text")).to_have_text("3 image cells marked")
    page.tap("#go-on")
    visit.wait()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    visit.check()
    context.close()


NAMES = """() => {
  const named = (one) => one.ariaLabel || one.labels?.[0]?.textContent.trim() || one.textContent.trim()
    || one.alt;
  const asked = 'button, input, select, textarea, a, summary, img[src]'
    + ', ' + ['listbox', 'option', 'img', 'group', 'region'].map((role) => `[role=${role}]`).join();
  return [...document.querySelectorAll(asked)].filter((one) => one.checkVisibility() && !named(one))
    .map((one) => one.outerHTML);
}"""
CONTRAST = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const read = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const straighten = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = (rgb) =>
    [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => sum + weight * straighten(rgb[i] / 255), 0);
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const found = read(getComputedStyle(one).backgroundColor);
      if (found[3] === 255) return found;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const one = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !one.checkVisibility()) continue;
    if (one.closest(':disabled') || one.matches('script, noscript, option, .sr, .behind, .skip')) continue;
    const [a, b] = [light(read(getComputedStyle(one).color)), light(behind(one))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) found.push([one.outerHTML.slice(0, 120), ratio]);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_names_and_contrast(browser: Browser, url: str, scheme: Any) -> None:
    context = browser.new_context(color_scheme=scheme, reduced_motion="reduce")
    visit = Visit(context.new_page(), url)
    page = visit.page
    assert page.evaluate(NAMES) == [] and page.evaluate(CONTRAST) == []
    visit.choose("triple", "", num_steps=3)
    page.check("#compare")
    visit.run()
    visit.units("image").nth(1).click()
    page.click("#share summary")
    assert page.evaluate(NAMES) == [] and page.evaluate(CONTRAST) == []
    assert page.evaluate("document.documentElement.lang") == "en" and page.title() == "trimask playground"
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)")
    assert len(ids) == len(set(ids))
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(one => one.tagName)")
    assert levels[0] == "H1" and levels.count("H1") == 1
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    assert page.evaluate(CONTRAST) == []
    visit.check()
    context.close()


def test_the_colours_of_confidence_differ_in_lightness(browser: Browser, url: str) -> None:
    page = browser.new_page()
    visit = Visit(page, url)
    values = page.evaluate(
        "import('./playground/colour.js').then(({luminance, mix}) =>"
        " Array.from({length: 21}, (_, i) => luminance(mix(i / 20))))"
    )
    assert values == sorted(values) and len(set(values)) == 21
    assert (values[-1] + 0.05) / (values[0] + 0.05) > 10
    visit.check()
    page.close()


def test_a_key_is_asked_for_and_kept_in_the_tab(browser: Browser) -> None:
    app = create_app(Service({"tiny": served_generator()}), keys=["secret"])
    with listening_to(app) as (url, _):
        context = browser.new_context()
        visit = Visit(context.new_page(), url, is_ready=False)
        page = visit.page
        page.wait_for_selector("#key-form:not([hidden])")
        assert page.locator("#composer").is_hidden()
        page.fill("#key", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("#key-problem:not([hidden])")
        page.fill("#key", "secret")
        page.keyboard.press("Enter")
        page.wait_for_selector("#composer:not([hidden])")
        visit.choose("text_to_image", "a hat", num_steps=3)
        visit.run()
        page.click("#share summary")
        shown = page.locator("#share-body").inner_text()
        assert "$TRIMASK_KEY" in shown and "secret" not in shown + page.url
        page.reload()
        page.wait_for_selector("#composer:not([hidden])")
        assert page.evaluate("localStorage.length") == 0
        visit.check()
        context.close()


def test_the_model_that_ships(browser: Browser) -> None:
    generator, presets = load_with_presets("quickstart", warn=pytest.fail)
    service = Service({"quickstart": generator}, presets={"quickstart": presets})
    with listening_to(create_app(service)) as (url, _):
        context = browser.new_context(reduced_motion="reduce")
        visit = Visit(context.new_page(), url)
        page = visit.page
        assert page.input_value("#prompt")  # an example, so that the first press shows something
        page.fill("#prompt", "strawberry")
        visit.run()
        words = [re.match("“(.*)”, given", label) for label in visit.labels("text")]
        assert "".join(each[1] for each in words if each) == "strawberry"
        assert visit.units("image").count() == 64 and "step 0" not in " ".join(visit.labels("image"))
        page.check("[value=text_to_speech]")
        assert page.locator("#preset-A option").all_inner_texts() == [
            "model's own",
            "fast",
            "balanced",
            "best",
        ]
        page.select_option("#preset-A", "fast")
        visit.run()
        assert page.locator(".audio-panel .round").is_enabled()
        visit.check()
        context.close()
