"""The playground as its visitors use it, in headless Chromium, with a tiny model and real requests."""

import contextlib
import io
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import PIL.Image
import PIL.ImageSequence
import pytest
from playwright.sync_api import Browser, FilePayload, Request, Route, expect

from generation.fakes import FakeImage, FakeText, hum, picture, tiny_vocabulary
from serve.browser import Visit, launch
from serve.clients import RATE, FastSpeech, served_generator
from serve.test_canvas import read_events
from serve.test_media import to_png, to_wav
from serve.test_server import listening_to
from trimask.generation.generate import Generator
from trimask.generation.length import LengthPolicy
from trimask.generation.prompts import Seen
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.sampling.config import SamplerConfig
from trimask.serve.app import create_app
from trimask.serve.service import Service
from trimask.vocabulary.layout import CodeSpace, Vocabulary
from trimask.vocabulary.task import TASKS, Task

pytestmark = pytest.mark.usefixtures("unchecked_shapes")
TOUCH = CodeSpace(name="touch", num_codebooks=2, codebook_size=7, has_end=False, grid=(2, 3))


def with_touch() -> Generator:
    """A model of a fourth modality, which has no tokenizer, and of a task of its own."""
    tiny = tiny_vocabulary()
    feel = Task(name="text_to_touch", spans=(("text", "touch"),), condition=("text",))
    vocabulary = Vocabulary(spaces=(*tiny.spaces, TOUCH), layouts=tiny.layouts, tasks=(*TASKS, feel))
    denoiser = Denoiser(DenoiserConfig(width=32, depth=2, num_heads=2), vocabulary)
    denoiser.initialize(0)
    return Generator(
        denoiser.eval().requires_grad_(False),
        text=FakeText(),
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
    tiny = served_generator()
    tiny.seen = Seen(voices={"slt": 3, "rms": 1})
    presets = {"tiny": {"fast": {"text_to_image": SamplerConfig(num_steps=2)}}}
    service = Service({"tiny": tiny, "touching": with_touch()}, presets=presets)
    with listening_to(create_app(service)) as (address, _):
        yield address


@pytest.fixture
def visit(browser: Browser, url: str) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    found = Visit(context.new_page(), url)
    yield found
    found.check()
    context.close()


def test_three_modalities_unmask_and_can_be_scrubbed(visit: Visit) -> None:
    page = visit.page
    page.emulate_media(reduced_motion="no-preference")
    assert page.locator("[name=task]:checked").get_attribute("value") == "text_to_image"
    visit.choose("triple", "", num_steps=6)
    page.click("#run")
    page.wait_for_selector(".text-panel .unit.masked")
    assert "masked" in visit.labels("image")[0]
    visit.wait()
    for panel in ("text", "image", "audio"):
        assert visit.units(panel).count() and not any("masked" in label for label in visit.labels(panel))
        assert any(re.search(r"\d+ % sure", label) for label in visit.labels(panel))
    assert "step 6 of 6, 100 % revealed" in page.locator(".side-note >> nth=0").inner_text()
    visit.step_to(0)
    assert all("masked" in label for label in visit.labels("image"))
    counts = []
    for step in range(7):
        visit.step_to(step)
        counts.append(sum("masked" in label for label in visit.labels("image") + visit.labels("audio")))
    assert counts == sorted(counts, reverse=True) and len(set(counts)) > 2 and counts[-1] == 0
    page.click("#timeline button")  # plays from the beginning
    visit.until("document.querySelector('.timeline input').value >= 3")
    page.click("#timeline button")
    assert page.locator("#timeline button").get_attribute("aria-label") == "Play the steps"
    units = visit.units("text")
    units.first.hover()
    assert "sure" in page.locator(".tip").inner_text() or "masked" in page.locator(".tip").inner_text()
    assert page.locator("#live").inner_text().startswith("Done.")


def test_what_is_shown_is_what_the_server_told(visit: Visit) -> None:
    visit.choose("text_to_image", "a hat", num_steps=5, seed=7)
    with visit.page.expect_request("**/v1/canvas") as request:
        visit.run()
    *events, done = ask(visit.url, body_of(request.value))
    start = events[0]["spans"]["image"][0]
    shares = {}
    for event in events:
        shares |= dict(zip([slot for slot, _ in event["revealed"]], event["confidence"], strict=True))
    for cell, label in enumerate(visit.labels("image")):
        found = [int(each) for each in re.findall(r"(\d+) %", label.split("(")[1])]
        assert found == [round(100 * shares[start + 2 * cell + code]) for code in (0, 1)]
    assert visit.page.locator(".picture img").get_attribute("src") == f"data:image/png;base64,{done['image']}"
    visit.page.click("#share summary")
    curl, program = visit.page.locator("#share-body pre").all_inner_texts()
    _, _, address, *_, body = shlex.split(curl)
    assert ask(address.removesuffix("/v1/canvas"), json.loads(body))[-1] == done
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(program, {})
    assert len(printed.getvalue().splitlines()) == len(events) + 1
    texts = dict(map(tuple, events[0]["texts"]))
    assert "".join(texts[slot] for slot in sorted(texts)) == "a hat"
    assert [label.split("”")[0].removeprefix("“") for label in visit.labels("text")] == list("a hat")


def test_two_settings_side_by_side(visit: Visit) -> None:
    page = visit.page
    visit.choose("text_to_image", "a hat", num_steps=8, seed=3)
    page.check("#compare")
    assert page.input_value("#num_steps-B") == "2" and page.input_value("#seed-B") == "3"
    page.select_option("#preset-A", "fast")
    page.fill("#num_steps-A", "")
    assert page.get_attribute("#num_steps-A", "placeholder") == "2"
    page.fill("#num_steps-A", "8")
    page.select_option("#order-B", "LeftToRight")
    bodies: list[dict[str, Any]] = []
    page.on("request", lambda request: _note_body(request, bodies))
    visit.run()
    assert [body["num_steps"] for body in bodies] == [8, 2]
    assert bodies[0]["preset"] == "fast" and bodies[1]["order"] == "LeftToRight"
    notes = page.locator(".side:not([hidden]) .side-note").all_inner_texts()
    assert len(notes) == 2 and notes[1].startswith("step 2 of 2")
    visit.step_to(visit.last // 2)
    assert [sum("masked" in each for each in visit.labels("image", side)) > 0 for side in (0, 1)] == [
        True
    ] * 2
    assert page.locator(".side-note >> nth=1").inner_text().startswith("step 1 of 2")
    assert "b.order=LeftToRight" in page.url and "seed=3" in page.url
    again = Visit(page.context.new_page(), visit.url, hash="#" + page.url.partition("#")[2])
    assert again.page.is_checked("#compare") and again.page.input_value("#prompt") == "a hat"
    assert (
        again.page.input_value("#num_steps-A") == "8" and again.page.input_value("#order-B") == "LeftToRight"
    )
    again.page.close()


def ask(url: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Make the page's request again, which gives the same events."""
    return read_events(httpx2.post(f"{url}/v1/canvas", json=body, timeout=60).text)


def body_of(request: Request) -> dict[str, Any]:
    body = request.post_data_json
    assert body is not None
    return body


def _note_body(request: Request, bodies: list[dict[str, Any]]) -> None:
    if request.method == "POST":
        bodies.append(body_of(request))


@pytest.mark.parametrize(
    ("task", "prompt", "panel", "name"),
    [
        ("text_to_image", "a hat", "image", "image"),
        ("text_to_speech", "hello", "audio", "speech"),
        ("text", "", "text", "text"),
    ],
)
def test_what_is_brushed_is_made_anew_and_the_rest_stays(
    visit: Visit, task: str, prompt: str, panel: str, name: str
) -> None:
    page = visit.page
    visit.choose(task, prompt, num_steps=4, seed=6)
    if task == "text":  # else it may end at once
        page.fill("#prompt", "once [_____] a hat")
    with page.expect_request("**/v1/canvas") as request:
        visit.run()
    codes = ask(visit.url, body_of(request.value))[-1]["codes"][name]
    units = visit.units(panel)
    units.nth(1).click()
    box, beside = units.nth(1).bounding_box(), units.nth(2).bounding_box()
    assert box and beside
    page.mouse.move(beside["x"] + beside["width"] / 2, beside["y"] + beside["height"] / 2)
    page.mouse.down()
    page.mouse.up()
    assert page.locator(".brush-text").inner_text().startswith(f"2 {name} ")
    page.fill("#brush-seed", "77")
    with page.expect_request("**/v1/canvas") as request:
        page.click("#go-on")
    body = body_of(request.value)
    assert body["seed"] == 77 and body["task"] == task
    masked = [-1] * len(codes[0])
    assert body["codes"][name] == [masked if i in (1, 2) else row for i, row in enumerate(codes)]
    visit.wait()
    assert page.locator("#brushbar").is_hidden()
    labels = visit.labels(panel)
    given = [i for i, label in enumerate(labels[: len(codes)]) if label.endswith("given")]
    assert given == [i for i in range(len(codes)) if i not in (1, 2)]
    page.click("text=Back to the run before")
    assert not any(label.endswith("given") for label in visit.labels(panel)[:2]) or task == "text"


def test_pictures_and_recordings_are_given(visit: Visit) -> None:
    page = visit.page
    visit.choose("image_to_text", num_steps=3)
    page.click("#run")
    assert "Give a picture first" in page.locator("#message").inner_text()
    page.evaluate(
        "(bytes) => { const data = new DataTransfer();"
        " data.items.add(new File([new Uint8Array(bytes)], 'a.png', {type: 'image/png'}));"
        " document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true})); }",
        list(to_png(picture())),
    )
    page.wait_for_selector(".input-preview img")
    visit.run()
    assert page.locator(".image-panel .state").inner_text() == "given"
    visit.choose("text_to_image", "a hat")  # the picture stays, and is to be painted in part
    page.wait_for_selector("#inputs .unit")
    page.click("#run")
    assert "Mark in the picture" in page.locator("#message").inner_text()
    page.locator("#inputs .unit").nth(3).click()
    with page.expect_request("**/v1/canvas") as request:
        visit.run()
    assert {"image", "mask"} <= body_of(request.value).keys()
    assert [label.endswith("given") for label in visit.labels("image")] == [True, True, True, False]
    visit.choose("speech_to_text")
    recording = FilePayload(name="a.wav", mimeType="audio/wav", buffer=to_wav(hum(10), RATE))
    page.set_input_files("#file-speech", recording)
    page.wait_for_selector(".input-preview .wave")
    visit.run()
    assert visit.units("audio").count() == 10 and page.locator(".audio-panel .state").inner_text() == "given"
    visit.choose("text_to_speech", "hello")
    page.wait_for_selector("#inputs .unit")
    page.locator("#inputs .unit").nth(2).click()
    page.locator("#inputs .unit").nth(4).click()
    with page.expect_request("**/v1/canvas") as request:
        visit.run()
    assert body_of(request.value)["seconds"] == pytest.approx([2 / 2000, 5 / 2000])
    fresh = [i for i, label in enumerate(visit.labels("audio")) if "sure" in label]
    assert fresh == [2, 3, 4]


def test_the_sound_of_a_step_plays(visit: Visit, tmp_path: Path) -> None:
    page = visit.page
    visit.choose("text_to_speech", "hello there", num_steps=3)
    visit.run()
    with page.expect_download() as download:
        page.click("text=Download WAV")
    assert download.value.path().read_bytes().startswith(b"RIFF")
    page.evaluate("window.played = 0")
    visit.step_to(1)
    play = page.locator(".audio-panel .round")
    assert play.get_attribute("aria-label") == "Play the speech of this step"
    page.evaluate(
        "() => { const media = HTMLMediaElement.prototype, play = media.play; media.play = function () {"
        " this.addEventListener('ended', () => { window.played = this.duration; });"
        " return play.call(this); }; }"
    )
    play.click()
    visit.until("window.played > 0")


def test_a_run_is_saved_as_a_page_and_as_a_gif(visit: Visit, tmp_path: Path) -> None:
    page = visit.page
    visit.choose("triple", "</script><b>", num_steps=5)
    page.fill("#prompt", "")
    visit.run()
    labels = visit.labels("image")
    with page.expect_download() as download:
        page.click("#export-html")
    file = tmp_path / "run.html"
    download.value.save_as(file)
    text = file.read_text(encoding="utf-8")
    assert not re.search(r"(?:src|href)=", text) and "http" not in text.replace("http-equiv", "")
    with page.expect_download() as download:
        page.click("#export-gif")
    download.value.save_as(tmp_path / "run.gif")
    with PIL.Image.open(tmp_path / "run.gif") as gif:
        frames = [frame.convert("RGB").tobytes() for frame in PIL.ImageSequence.Iterator(gif)]
    assert len(set(frames)) == len(frames) == visit.last + 1
    page.context.set_offline(True)
    page.goto(file.as_uri())
    assert visit.labels("image") == labels
    page.keyboard.press("ArrowLeft")
    assert page.locator(".steps").inner_text() == "step 4 of 5"
    visit.step_to(0)
    assert all("masked" in label for label in visit.labels("image"))
    page.click("#timeline button")
    expect(page.locator(".steps")).to_have_text("step 5 of 5")
    assert str(page.locator(".picture img").get_attribute("src")).startswith("data:image/png;base64,")
    page.locator(".audio-panel .round").click()
    expect(page.locator(".audio-panel .round")).to_have_attribute("aria-label", re.compile("Play"))
    page.context.set_offline(False)


def test_a_modality_that_the_page_does_not_know(visit: Visit) -> None:
    page = visit.page
    page.select_option("#model", "touching")
    page.wait_for_selector("[value=text_to_touch]")
    visit.choose("text_to_touch", "hat", num_steps=3)
    visit.run()
    labels = visit.labels("codes")
    assert len(labels) == 6 and all(re.match(r"frame \d: \d \d, \d+ % sure", label) for label in labels)
    columns = page.locator(".codes").evaluate(
        "one => getComputedStyle(one).gridTemplateColumns.split(' ').length"
    )
    assert columns == 3
    visit.units("codes").nth(4).click()
    page.click("#go-on")
    visit.wait()
    assert ["given" in label for label in visit.labels("codes")] == [True] * 4 + [False, True]


def test_errors_name_the_field_and_busy_servers_are_asked_again(visit: Visit) -> None:
    page = visit.page
    visit.choose("text_to_image", "a hat", num_steps=5000)
    page.click("#run")
    page.wait_for_selector("#message:not([hidden])")
    assert "num_steps is 5,000: give at most 1,024" in page.locator("#message").inner_text()
    assert page.get_attribute("#num_steps-A", "aria-invalid") == "true"
    assert page.locator("#empty").is_visible()
    page.fill("#num_steps-A", "3")
    assert page.locator("#message").is_hidden()
    page.fill("#prompt", "")
    page.click("#run")
    page.wait_for_selector("#prompt[aria-invalid=true]")
    page.fill("#prompt", "a hat")
    times: list[float] = []

    def refuse(route: Route) -> None:
        times.append(0.0)
        if len(times) < 3:
            error = {"message": "wait", "type": "rate_limit_error", "param": None, "code": "queue_full"}
            route.fulfill(status=429, headers={"Retry-After": "0.1"}, json={"error": error})
        else:
            route.continue_()

    page.route("**/v1/canvas", refuse)
    visit.run()
    assert len(times) == 3
    page.unroute("**/v1/canvas")
    visit.choose("text", "", num_steps=900)
    page.fill("#prompt", f"a [{'_' * 1000}]")
    page.click("#run")
    page.emulate_media(reduced_motion="no-preference")
    page.wait_for_selector(".text-panel .unit:not(.masked):not(.given)")
    visit.step_to(1)  # while more steps come
    reached = visit.page.locator(".timeline input").evaluate("one => one.style.getPropertyValue('--reached')")
    visit.until(
        f"document.querySelector('.timeline input').style.getPropertyValue('--reached') !== '{reached}'"
    )
    assert page.locator(".steps").inner_text() == "step 1 of 900"
    page.click("#stop")
    page.wait_for_selector("#run:not([hidden])")
    assert page.locator("#live").inner_text() == "Stopped."
