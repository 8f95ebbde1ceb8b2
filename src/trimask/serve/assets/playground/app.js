// The page: from what the server says its models can do, to a run on the canvas.

import { announce, find, isStill, make, spell } from "./dom.js";
import { ApiError, fillCanvas, getJson, keepKey, readKey } from "./api.js";
import { Side } from "./canvas.js";
import { makeLegend } from "./colour.js";
import { exportGif, exportPage } from "./export.js";
import { Inputs, InputError, takesOf } from "./inputs.js";
import { listenToArrows } from "./keys.js";
import { makeBrushBar } from "./brush.js";
import { Run } from "./run.js";
import { drawSeed, makeGlossary, Settings } from "./settings.js";
import { readHash, showShare, writeHash } from "./share.js";
import { nameTask, Shared } from "./shared.js";
import { TextPanel } from "./text.js";
import { Timeline } from "./timeline.js";

const MOST_PREVIEWS = 32; // of a run: each is decoded by the server

const state = { description: null, task: null, controller: null, pressed: null };
const settings = [new Settings("A"), new Settings("B")];
const sides = [
  ...["A", "B"].map((title) => new Side({ title, onMark: () => bar.show(), onBack: () => showBack() })),
];
const isCompared = () => find("compare").checked;
const shown = () => sides.filter((side, at) => side.run && (at === 0 || isCompared()));
const timeline = new Timeline(find("timeline"), shown);
const inputs = new Inputs(find("inputs"), () => hideMessage());
const shared = new Shared(() => describeTask());
const bar = makeBrushBar(find("brushbar"), { sides: shown, goOn, timeline });

start();

async function start() {
  find("legend").append(makeLegend());
  find("settings").append(...settings.map((each) => each.element));
  find("shared-settings").append(shared.more, makeGlossary());
  find("settings-block").open = matchMedia("(min-width: 980px)").matches;
  find("empty").querySelector(".empty-art").append(...drawEmpty());
  find("sides").append(...sides.map((side) => side.element));
  find("exports").append(
    make("button", { type: "button", class: "quiet", id: "export-html", onclick: () => exportAll(exportPage) }, "Save as HTML"),
    make("button", { type: "button", class: "quiet", id: "export-gif", onclick: () => exportAll(exportGif) }, "Save as GIF"),
  );
  find("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    keepKey(find("key").value.trim());
    load();
  });
  find("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
  find("again").addEventListener("click", () => {
    const isShared = settings[0].controls.seed.value === settings[1].controls.seed.value;
    const seed = drawSeed();
    for (const each of settings) each.write({ seed: isShared ? seed : drawSeed() });
    run();
  });
  find("stop").addEventListener("click", () => state.controller?.abort());
  find("stop").addEventListener("keydown", (event) => event.repeat && event.preventDefault()); // a key that is still down from Unmask
  find("compare").addEventListener("change", () => showCompared(true));
  find("brush").addEventListener("change", () => sides.forEach((side) => side.brush(find("brush").checked)));
  find("model").addEventListener("change", () => choose(find("model").value));
  find("theme").addEventListener("click", switchTheme);
  find("prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      find("composer").requestSubmit();
    }
  });
  find("composer").addEventListener("input", () => hideMessage());
  listenToArrows(timeline);
  listenToDrops();
  addEventListener("hashchange", () => applyHash());
  await load();
}

async function load() {
  try {
    const { data } = await getJson("v1/models");
    find("model").replaceChildren(...data.map(({ id }) => make("option", { value: id }, id)));
    find("model-field").hidden = data.length < 2;
    const asked = readHash(location.hash).model;
    await choose(data.some(({ id }) => id === asked) ? asked : data[0].id);
    find("key-form").hidden = true;
    find("composer").hidden = find("stage").hidden = false;
    if (readHash(location.hash).task) applyHash();
    else find("prompt").value = state.description.examples[0] ?? "";
  } catch (error) {
    showError(error);
  }
}

async function choose(id) {
  find("model").value = id;
  state.description = await getJson(`v1/models/${encodeURIComponent(id)}`);
  const { tasks, examples } = state.description;
  state.task = tasks.find(({ name }) => name === state.task?.name)
    ?? tasks.find((task) => task.is_trained && task.condition.includes("text")) // a prompt is the least that a visitor has
    ?? tasks[0];
  find("tasks").replaceChildren(...tasks.map((task) => make("label", {
    class: task.is_trained ? "chip" : "chip untrained",
    title: task.is_trained ? spell(task.name) : `${spell(task.name)}: the model was not trained on it`,
  },
    make("input", { type: "radio", name: "task", value: task.name, onchange: () => chooseTask(task.name) }),
    make("span", {}, nameTask(task)))));
  find("examples").replaceChildren(...examples.map((word) => make("button", {
    type: "button", class: "example", onclick: () => (find("prompt").value = word),
  }, word)));
  chooseTask(state.task.name);
}

function chooseTask(name) {
  state.task = state.description.tasks.find((task) => task.name === name) ?? state.task;
  for (const radio of document.getElementsByName("task")) radio.checked = radio.value === state.task.name;
  shared.describe(state.description, state.task);
  describeTask();
}

function describeTask() {
  const { description, task } = state;
  for (const each of settings) each.describe(description, task);
  inputs.describe(description, task, shared.pair);
  if (inputs.isFirst) find("prompt-field").before(find("inputs"));
  else find("message").after(find("inputs"));
  shared.showPrompt(takesOf(description, task, shared.pair));
  showCompared();
  hideMessage();
}

function showCompared(isNew = false) {
  const is = isCompared();
  settings[1].element.hidden = !is;
  for (const each of settings) each.legend.hidden = !is;
  find("sides").classList.toggle("two", is);
  find("settings").classList.toggle("two", is);
  showEmpty();
  sides[0].heading.textContent = is ? "A" : "";
  if (isNew && is) {
    settings[1].write(settings[0].read());
    const steps = settings[0].controls.num_steps;
    const number = Number(steps.value || steps.placeholder);
    if (number > 1) settings[1].write({ num_steps: Math.max(1, Math.round(number / 4)) });
  }
  if (sides[0].run) timeline.draw();
  bar.show();
}

function applyHash() {
  const asked = readHash(location.hash);
  if (!asked.task || !state.description) return;
  find("compare").checked = asked.isCompared;
  find("settings-block").open ||= asked.isCompared;
  chooseTask(asked.task);
  shared.write(asked);
  describeTask();
  settings.forEach((each, at) => each.write(asked.sides[at]));
}

// The requests of what the page asks for, one for each side.
function compose() {
  shared.check();
  const { fields, given } = inputs.read();
  const common = { model: state.description.id, task: state.task.name, ...shared.read(), ...fields };
  const asked = settings.slice(0, isCompared() ? 2 : 1).map((each) => ({ ...common, ...each.read() }));
  return asked.map((body, at) => ({ body, given, expected: settings[at].defaults.num_steps }));
}

async function run() {
  hideMessage();
  if (!state.description) return load();
  let asked;
  try {
    asked = compose();
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    showMessage(error.message);
    error.element?.focus();
    if (error.element === find("prompt")) error.element.setAttribute("aria-invalid", "true");
    return;
  }
  history.replaceState(null, "", writeHash(linkOf()));
  await carryOut(asked.map((each, at) => [sides[at], each]));
}

const linkOf = () => ({
  model: state.description.id, task: state.task.name, ...shared.read(), sides: settings.slice(0, isCompared() ? 2 : 1).map((each) => each.read()),
});

// Mask again what is marked, and go on from the step that is shown, with a seed and the settings as they are now.
// Where nothing is marked, runs that were stopped go on.
async function goOn(seed) {
  const jobs = [];
  const isMarked = (side) => Object.keys(side.marks).length > 0;
  const isAny = shown().some(isMarked);
  for (const side of shown()) {
    if (isAny ? !isMarked(side) : !side.run.isStopped) continue;
    const before = side.run;
    const { num_steps, ...kept } = { ...settings[sides.indexOf(side)].read(), seed };
    const codes = before.codesToGoOn(timeline.stepOf(before), side.marks);
    const conditions = Object.fromEntries(before.task.condition.filter((name) => before.body.codes?.[name]).map((name) => [name, before.body.codes[name]]));
    const { model, task, pair, voice, negative_prompt, prompt, image, speech } = before.body;
    const body = { model, task, pair, ...kept, num_steps, codes: { ...conditions, ...codes } };
    const takes = { text: { prompt, voice, negative_prompt }, image: { image }, audio: { speech } };
    for (const name of before.task.condition) Object.assign(body, takes[before.space(name).decodes_to]);
    jobs.push([side, { body: JSON.parse(JSON.stringify(body)), given: before.given, expected: before.expected }]);
  }
  if (jobs.length) await carryOut(jobs, { isFurther: true });
}

async function carryOut(jobs, { isFurther = false } = {}) {
  state.controller?.abort();
  const controller = (state.controller = new AbortController());
  showRunning(true);
  const runs = jobs.map(([side, { body, given, expected }]) => {
    const steps = body.num_steps ?? expected ?? MOST_PREVIEWS;
    const started = new Run({ description: state.description, body, given, label: isCompared() ? side.heading.textContent : "" });
    started.expected = expected;
    started.request = { ...body, previews: Math.max(1, Math.ceil(steps / MOST_PREVIEWS)) };
    side.show(started, isFurther);
    side.brush(find("brush").checked);
    return started;
  });
  showEmpty();
  bar.show();
  timeline.begin();
  const isBelow = find("stage").getBoundingClientRect().top > innerHeight / 2;
  if (isBelow) find("stage").scrollIntoView({ behavior: isStill() ? "auto" : "smooth" });
  announce("Unmasking has begun.");
  const clock = setInterval(() => timeline.draw(), 1000);
  try {
    await Promise.all(jobs.map(([side]) => follow(side, controller.signal)));
    announce(`Done. ${shown().map((side) => tell(side.run)).join(" ")}`);
  } catch (error) {
    controller.abort();
    if (state.controller === controller && error.name === "AbortError") announce("Stopped.");
    if (error.name !== "AbortError") showError(error);
    runs.forEach((run, at) => {
      run.isStopped = !run.done;
      if (jobs[at][0].run === run && !run.events.length) {
        jobs[at][0].undo();
        timeline.seek(timeline.length);
      }
    });
    showEmpty();
  } finally {
    clearInterval(clock);
    if (state.controller === controller) showRunning(false);
    timeline.grow();
    bar.show();
    if (shown().length) share();
  }
}

async function follow(side, signal) {
  const { run: own } = side;
  const onWait = (seconds) => {
    side.note.textContent = `The server is busy: trying again in ${seconds} s.`;
    announce(side.note.textContent);
  };
  for await (const event of fillCanvas(own.request, { signal, onWait })) {
    own.add(event);
    timeline.grow();
  }
}

function tell(run) {
  const spans = run.at(run.last).filter((span) => run.isTarget(span.name));
  return spans.map((span) => (run.space(span.name).decodes_to === "text" ? `${spell(span.name)}: ${TextPanel.read(span)}` : `${spell(span.name)} is there.`)).join(" ");
}

// What stands on the canvas before there is a run.
function showEmpty() {
  const isEmpty = !shown().length;
  find("empty").hidden = !isEmpty;
  for (const id of ["timeline", "below", "share", "brush-hint"]) find(id).hidden = isEmpty;
  for (const side of sides) side.element.hidden = !shown().includes(side);
}

// Three spans, all masked.
function drawEmpty() {
  const hatched = (kind, number) => make("div", { class: kind }, ...Array.from({ length: number }, () => make("i", { class: "hatch" })));
  return [hatched("art-words", 9), hatched("art-cells", 16), hatched("art-frames", 24)];
}

function showRunning(is) {
  const { activeElement } = document;
  if (is && ["run", "again"].includes(activeElement?.id)) state.pressed = activeElement;
  const isKept = is ? activeElement === state.pressed : activeElement === find("stop");
  find("stop").hidden = !is;
  find("run").hidden = is;
  find("again").disabled = is;
  if (isKept) (is ? find("stop") : state.pressed)?.focus({ preventScroll: true }); // else the keyboard would be lost
  find("stage").setAttribute("aria-busy", String(is));
  for (const id of ["export-html", "export-gif"]) find(id).disabled = is || !shown().some((side) => side.run.events.length);
}

function share() {
  const runs = shown().map((side) => ({ label: isCompared() ? ` ${side.heading.textContent}` : "", body: side.run.body }));
  const url = new URL("v1/canvas", location.href).href.split("#")[0];
  const isWhole = runs.every(({ body }) => !body.codes && !body.image && !body.speech);
  const link = location.href.split("#")[0] + writeHash(linkOf());
  showShare(find("share-body"), { link, url, runs, hasKey: Boolean(readKey()), isWhole });
}

async function exportAll(write) {
  const runs = shown().map((side) => side.run).filter((run) => run.events.length);
  if (!runs.length) return;
  announce("Writing the file …");
  const title = runs[0].body.prompt || spell(runs[0].body.task);
  await write(runs, title, (share) => announce(`${Math.round(100 * share)} % written`));
  announce("The file is written.");
}

function showError(error) {
  if (error.status === 401) {
    find("key-form").hidden = false;
    find("key-problem").hidden = !readKey();
    find("key").focus();
    return;
  }
  const isPointed = error.param && settings.some((each) => each.point(error.param));
  const what = error instanceof ApiError ? error.message
    : `The server cannot be reached (${error.message}): see whether it is running, then press Unmask again.`;
  const where = error.param && !isPointed && !what.includes(error.param) ? ` (${spell(error.param)})` : "";
  showMessage(what + where);
  if (error.param === "prompt") {
    find("prompt").setAttribute("aria-invalid", "true");
    find("prompt").focus();
  }
  find("composer").hidden = false;
}

// A side shows the run before the one that went on from it.
function showBack() {
  timeline.seek(timeline.length);
  bar.show();
  share();
}

function showMessage(text) {
  find("message").textContent = text;
  find("message").hidden = false;
}

function hideMessage() {
  find("message").hidden = true;
  find("prompt").removeAttribute("aria-invalid");
}

function switchTheme() {
  const root = document.documentElement;
  const isDark = (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  root.dataset.theme = isDark ? "light" : "dark";
  for (const side of sides) for (const { view } of side.panels.values()) view.redraw?.();
  timeline.draw();
}

// A file that is dropped anywhere goes where the task takes it, or to a task that starts from one like it.
function listenToDrops() {
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (!file || !state.description) return;
    if (!inputs.partFor(file)) {
      const kind = file.type.split("/")[0];
      const names = state.description.modalities.filter((space) => space.decodes_to === kind).map((space) => space.name);
      const fitting = state.description.tasks.find((task) => task.condition.some((name) => names.includes(name)));
      if (!fitting || kind === "text") {
        return showMessage(`Drop a picture or a recording that a task starts from: ${file.name} is ${file.type || "of no known type"}.`);
      }
      chooseTask(fitting.name);
    }
    inputs.partFor(file).take(file);
  });
}
