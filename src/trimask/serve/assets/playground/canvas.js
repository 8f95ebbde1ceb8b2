// `Side`: the canvas of one run. Each span has a panel; which one, the model's own description says.

import { make, percent, spell } from "./dom.js";
import { CodesPanel } from "./codes.js";
import { PicturePanel } from "./picture.js";
import { SoundPanel } from "./sound.js";
import { TextPanel } from "./text.js";
import { contentLength } from "./run.js";

// By the field of the server's answers that shows a modality; any other is a grid of codes.
const PANELS = { text: TextPanel, image: PicturePanel, audio: SoundPanel };
const PATIENCE = 3; // seconds without news before the page says how long it has waited

export class Side {
  // onMark: called when marks change; none in a page that only shows a run.
  constructor({ title = "", onMark = null, onBack = null } = {}) {
    this.onMark = onMark;
    this.run = null;
    this.earlier = [];
    this.replaced = null;
    this.back = make("button", { type: "button", class: "quiet back", hidden: true, onclick: () => {
      this.open(this.earlier.pop());
      onBack();
      this.back.hidden = !this.earlier.length;
    } }, "Back to the run before");
    this.panels = new Map();
    this.heading = make("h2", { class: "side-title" }, title);
    this.note = make("p", { class: "side-note" });
    this.warnings = make("ul", { class: "warnings" });
    this.body = make("div", { class: "panels" });
    this.element = make("section", { class: "side card", "aria-label": title || "Canvas" },
      make("header", { class: "side-head" }, this.heading, this.note, this.back), this.body, this.warnings);
  }

  // isFurther: whether the run goes on from the one that is shown, to which there is a way back.
  show(run, isFurther = false) {
    this.replaced = { run: this.run, earlier: this.earlier };
    this.earlier = isFurther ? [...this.earlier, this.run] : [];
    this.back.hidden = !this.earlier.length;
    this.open(run);
  }

  // Forget a run that has not begun: what it has replaced comes back.
  undo() {
    const { run, earlier } = this.replaced;
    this.earlier = earlier;
    this.open(run);
    this.back.hidden = !this.earlier.length;
  }

  open(run) {
    this.run = run;
    this.panels.clear();
    this.body.replaceChildren();
    this.warnings.replaceChildren();
    this.element.classList.remove("is-done");
  }

  // Show step `number` of the run. isFresh: whether to point out what it has revealed.
  update(number, isFresh = false) {
    if (!this.run) return;
    const { run } = this;
    if (!run.events.length) {
      this.note.textContent = run.idle < PATIENCE ? "waiting for the first step …"
        : `waiting for the first step: ${run.idle} s so far. The server may have others to serve first.`;
      return;
    }
    const place = Math.min(number, run.last);
    for (const span of run.at(place)) {
      const panel = this.panel(span);
      panel.view.update(span, { number: place, isFresh });
      const length = contentLength(span);
      const masked = span.cells.filter((cell) => cell.masked).length;
      const state = !run.isTarget(span.name) ? "given"
        : masked ? `${percent(1 - masked / span.cells.length)} revealed`
        : panel.space.frame_rate ? `${(length / panel.space.frame_rate).toFixed(2)} s` : `${length} ${panel.space.grid ? "cells" : "tokens"}`;
      panel.state.textContent = state;
    }
    const { seed } = run.done ?? run.body;
    const steps = run.done ? `step ${place} of ${run.last}` : `step ${place}${run.isStopped && place === run.last ? ", stopped here" : ""}`;
    const late = run.isOver || place < run.last || run.idle < PATIENCE ? "" : `; the next step has taken ${run.idle} s so far`;
    this.note.textContent = `${steps}, ${percent(1 - run.masked(place))} revealed, seed ${seed}${late}`;
    this.element.classList.toggle("is-done", Boolean(run.done) && place === run.last);
    if (run.done && !this.warnings.children.length) {
      this.warnings.append(...(run.done.warnings ?? []).map((line) => make("li", {}, line)));
    }
  }

  panel(span) {
    const { run } = this;
    let panel = this.panels.get(span.name);
    if (panel) return panel;
    const space = run.space(span.name);
    const isTarget = run.isTarget(span.name);
    const isMarkable = this.onMark && isTarget;
    const Panel = PANELS[space.decodes_to] ?? CodesPanel;
    const what = `${spell(span.name)}${isMarkable ? ": mark what to mask again" : ""}`;
    const view = new Panel({ label: what, space, run, onMark: isMarkable ? () => this.onMark(this) : null });
    const state = make("span", { class: "state" });
    const tools = make("span", { class: "panel-tools" }, ...(view.tools ?? []));
    const element = make("section", { class: `panel ${space.decodes_to ?? "codes"}-panel`, "aria-label": spell(span.name) },
      make("header", { class: "panel-head" }, make("h3", {}, spell(span.name)), state, tools), view.element);
    this.body.append(element);
    panel = { view, state, element, space };
    this.panels.set(span.name, panel);
    return panel;
  }

  // By modality, the frames that are marked.
  get marks() {
    const found = {};
    for (const [name, { view }] of this.panels) if (view.units.marked.size) found[name] = view.units.marked;
    return found;
  }

  clear() {
    for (const { view } of this.panels.values()) view.units.clear();
  }

  brush(is) {
    for (const { view } of this.panels.values()) {
      view.units.isBrushing = is;
      view.units.element.classList.toggle("brushing", is);
    }
  }
}
