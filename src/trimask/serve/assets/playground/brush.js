// The bar that appears when parts are marked, or a run was stopped: with which seed to mask them again and go on.

import { make, spell } from "./dom.js";
import { drawSeed } from "./settings.js";

export function makeBrushBar(element, { sides, goOn, timeline }) {
  const text = make("p", { class: "brush-text", role: "status" });
  const seed = make("input", { type: "number", min: 0, step: 1, id: "brush-seed", inputmode: "numeric" });
  const go = make("button", { type: "button", class: "primary", id: "go-on", onclick: () => {
    const value = seed.value === "" ? drawSeed() : Number(seed.value);
    seed.value = drawSeed();
    timeline.slider.focus();
    goOn(value);
  } }, "Mask again and go on");
  const clear = make("button", { type: "button", class: "quiet", onclick: () => {
    for (const side of sides()) side.clear();
    show();
    timeline.slider.focus();
  } }, "Clear");
  seed.value = drawSeed();
  element.replaceChildren(text, make("label", { class: "compact", for: "brush-seed" }, "Seed ", seed), go, clear);

  function show() {
    const counts = new Map();
    for (const side of sides()) {
      for (const [name, marked] of Object.entries(side.marks)) {
        const noun = side.run.space(name).grid ? "cell" : side.run.space(name).frame_rate ? "frame" : "token";
        const key = `${spell(name)} ${noun}`;
        counts.set(key, (counts.get(key) ?? 0) + marked.size);
      }
    }
    const parts = [...counts].map(([key, number]) => `${number} ${key}${number > 1 ? "s" : ""}`);
    const isStopped = sides().some((side) => side.run.isStopped && side.run.masked(side.run.last));
    element.hidden = !parts.length && !isStopped;
    text.textContent = parts.length ? `${parts.join(", ")} marked` : isStopped ? "The run was stopped" : "";
    go.textContent = parts.length ? "Mask again and go on" : "Go on";
    clear.hidden = !parts.length;
  }
  return { show };
}
