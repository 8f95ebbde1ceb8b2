"""The playground where something goes wrong or takes long: what was made is kept, and it says what to do."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import Browser, FilePayload

from generation.fakes import FakeImage, picture, tiny_vocabulary
from serve.browser import Visit, launch
from serve.clients import FastSpeech, served_generator
from serve.test_media import to_png
from serve.test_playground import body_of
from serve.test_server import listening_to
from trimask.generation.generate import Generator
from trimask.generation.length import LengthPolicy
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.serve.app import create_app
from trimask.serve.service import Service
from trimask.tokenizers.text import TextTokenizer
from trimask.vocabulary.layout import Vocabulary

pytestmark = pytest.mark.usefixtures("unchecked_shapes")
PRESSED = "document.activeElement.id === "


def with_bytes() -> Generator:
    """A model whose text tokens are bytes."""
    tiny = tiny_vocabulary()
    text, *others = tiny.spaces
    vocabulary = Vocabulary(spaces=(replace(text, codebook_size=256), *others), layouts=tiny.layouts)
    denoiser = Denoiser(DenoiserConfig(width=32, depth=2, num_heads=2), vocabulary)
    denoiser.initialize(0)
    return Generator(
        denoiser.eval().requires_grad_(False),
        text=TextTokenizer.train([], 256),
        image=FakeImage(),
        speech=FastSpeech(),
        lengths=LengthPolicy(caption_length=6, text_length=12, spoken_characters=5),
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launch() as found:
        yield found


@pytest.fixture(scope="module")
def url(browser: Browser) -> Iterator[str]:
    service = Service({"tiny": served_generator(), "bytes": with_bytes()})
    with listening_to(create_app(service)) as (address, _):
        yield address


@pytest.fixture
def visit(browser: Browser, url: str) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    found = Visit(context.new_page(), url)
    yield found
    context.close()


def run_long(visit: Visit) -> None:
    """Begin a run that takes many steps, and wait for the first of them."""
    visit.choose("text", "", num_steps=900)
    visit.page.fill("#prompt", f"a [{'_' * 1000}]")
    visit.page.press("#run", "Enter")
    visit.page.wait_for_selector(".text-panel .unit:not(.masked):not(.given)")


def test_a_request_that_fails_leaves_what_is_shown(visit: Visit) -> None:
    page = visit.page
    visit.choose("text_to_image", "a hat", num_steps=3)
    visit.run()
    labels = visit.labels("image")
    page.fill("#num_steps-A", "5000")
    page.click("#run")
    page.wait_for_selector("#message:not([hidden])")
    page.fill("#num_steps-A", "3")
    page.fill("#prompt", "  ")
    page.click("#run")  # nothing is sent
    assert page.locator("#message").inner_text() == "Write a prompt first: this task starts from one."
    assert page.evaluate(PRESSED + "'prompt'") and page.get_attribute("#prompt", "aria-invalid") == "true"
    page.fill("#prompt", "a hat")
    page.route("**/v1/canvas", lambda route: route.abort())
    page.click("#run")
    page.wait_for_selector("#message:not([hidden])")
    assert "see whether it is running, then press Unmask again" in page.locator("#message").inner_text()
    assert visit.labels("image") == labels and page.locator(".steps").inner_text() == "step 3 of 3"
    page.unroute("**/v1/canvas")
    page.route("**/v1/canvas", lambda route: route.fulfill(status=401, json={"error": {"message": "no key"}}))
    page.evaluate("sessionStorage.setItem('trimask.key', 'old')")
    page.click("#run")
    page.wait_for_selector("#key-problem:not([hidden])")
    assert page.evaluate(PRESSED + "'key'") and page.locator("#message").is_hidden()
    page.unroute("**/v1/canvas")
    page.fill("#key", "new")
    page.press("#key", "Enter")
    page.wait_for_selector("#key-form", state="hidden")
    assert visit.labels("image") == labels
    visit.run()


def test_a_run_that_was_stopped_goes_on(visit: Visit) -> None:
    page = visit.page
    run_long(visit)
    assert page.evaluate(PRESSED + "'stop'"), "the keyboard stays where it was"
    page.keyboard.press("Enter")
    page.wait_for_selector("#run:not([hidden])")
    assert page.evaluate(PRESSED + "'run'")
    assert ", stopped here, " in page.locator(".side-note >> nth=0").inner_text()
    assert page.locator(".brush-text").inner_text() == "The run was stopped"
    number = sum("masked" in label for label in visit.labels("text"))
    page.fill("#num_steps-A", "2")
    with page.expect_request("**/v1/canvas") as request:
        page.click("#go-on")
    rows = body_of(request.value)["codes"]["text"]
    assert sum(row == [-1] for row in rows) == number
    visit.wait()
    assert page.locator("#brushbar").is_hidden()
    assert sum(label.endswith("given") for label in visit.labels("text")[: len(rows)]) == len(rows) - number


def test_waiting_is_told(visit: Visit) -> None:
    page = visit.page
    page.clock.install()
    page.route("**/v1/canvas", lambda route: None)  # no answer
    visit.choose("text_to_image", "a hat")
    page.click("#run")
    note = page.locator(".side-note >> nth=0")
    assert note.inner_text() == "waiting for the first step …"
    page.clock.run_for(7000)
    assert note.inner_text().startswith("waiting for the first step: 7 s so far.")
    page.click("#stop")
    assert page.locator("#empty").is_visible()


@pytest.mark.slow
def test_a_character_of_several_tokens_stands_in_the_first_box(visit: Visit) -> None:
    page = visit.page
    page.select_option("#model", "bytes")
    visit.choose("text_to_image", "日é", num_steps=2)
    visit.run()
    assert visit.units("text").all_inner_texts() == ["日", "\u00a0", "\u00a0", "é", "\u00a0"]
    assert [label.removesuffix(", given") for label in visit.labels("text")] == [
        "“日”",
        *["goes with the character before"] * 2,
        "“é”",
        "goes with the character before",
    ]
    visit.choose("text", "日[___]", num_steps=3)
    visit.run()
    visit.units("text").nth(1).click()
    visit.units("text").nth(1).click()
    shown = "".join(visit.units("text").all_inner_texts())
    assert shown.startswith("日") and "\ufffd" not in shown


@pytest.mark.slow
def test_all_that_is_unmasked_together_is_seen_together(visit: Visit) -> None:
    page = visit.page
    visit.choose("triple", "a hat", num_steps=2)
    visit.run()
    wave, bar = page.locator(".wave").bounding_box(), page.locator("#timeline").bounding_box()
    assert wave and bar and wave["y"] + wave["height"] <= bar["y"], "the slider hides the speech"
    page.set_viewport_size({"width": 390, "height": 844})
    page.evaluate("scrollTo(0, 0)")
    run_long(visit)
    assert abs(page.evaluate("document.getElementById('stage').getBoundingClientRect().top")) < 2
    page.click("#stop")


@pytest.mark.slow
def test_what_is_dropped_is_kept_whole_where_something_else_is_made(visit: Visit) -> None:
    page = visit.page
    visit.choose("joint", "", num_steps=2)
    page.set_input_files(
        "#file-image", FilePayload(name="a.png", mimeType="image/png", buffer=to_png(picture()))
    )
    page.wait_for_selector("#inputs .unit")
    with page.expect_request("**/v1/canvas") as request:
        visit.run()
    assert "image" in body_of(request.value) and "mask" not in body_of(request.value)
    assert all(label.endswith("given") for label in visit.labels("image"))
    assert "sure" in visit.labels("text")[0]
    page.locator("#inputs .unit").nth(2).click()
    with page.expect_request("**/v1/canvas") as request:
        visit.run()
    assert "mask" in body_of(request.value)
    assert ["given" in label for label in visit.labels("image")] == [True, True, False, True]


@pytest.mark.slow
def test_a_task_asks_for_its_file_first(visit: Visit) -> None:
    order = "[...document.querySelectorAll('#composer > *')].map((one) => one.id)"
    for task, is_first in (("image_to_text", True), ("text_to_image", False)):
        visit.choose(task)
        ids = visit.page.evaluate(order)
        assert (ids.index("inputs") < ids.index("prompt-field")) == is_first
    visit.choose("speech_to_text")
    visit.page.click("#run")
    assert visit.page.evaluate(PRESSED + "'file-speech'")
    task = visit.page.locator("[name=task]:checked").get_attribute("value")
    visit.page.evaluate(
        "() => { const data = new DataTransfer();"
        " data.items.add(new File(['a'], 'a.txt', {type: 'text/plain'}));"
        " document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true})); }"
    )
    assert "a.txt is text/plain" in visit.page.locator("#message").inner_text()
    assert visit.page.locator("[name=task]:checked").get_attribute("value") == task and not visit.complaints
