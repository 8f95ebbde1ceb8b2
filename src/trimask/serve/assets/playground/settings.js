// The sampler's settings, once for each side. An empty field leaves the model's own, which is shown in it.

import { make } from "./dom.js";

const FIELDS = [
  { name: "preset", label: "Preset", hint: "settings that were chosen for this model and task by measuring" },
  { name: "num_steps", label: "Steps", hint: "passes of the model: fewer reveal more at once", min: 1, step: 1 },
  { name: "order", label: "Order", hint: "which masked parts are revealed first" },
  { name: "guidance_scale", label: "Guidance", hint: "how strongly the given part acts: 1 is as trained", step: 0.1 },
  { name: "temperature", label: "Temperature", hint: "0 takes the likeliest, 1 draws as the model says", min: 0, step: 0.1 },
  { name: "top_p", label: "Top-p", hint: "draws among the likeliest codes of this total probability", min: 0.01, max: 1, step: 0.01 },
  { name: "seed", label: "Seed", hint: "the same seed and settings give the same result", min: 0, step: 1 },
];
export const NAMES = FIELDS.map((field) => field.name);

export const drawSeed = () => Math.floor(Math.random() * 1e6);

const words = (name) => name.replace(/(?<=[a-z])([A-Z])/g, " $1").toLowerCase();

// What the settings are, in a few words each.
export function makeGlossary() {
  const list = FIELDS.flatMap(({ label, hint }) => [make("dt", {}, label), make("dd", {}, hint)]);
  return make("details", { class: "glossary" }, make("summary", {}, "What these do"), make("dl", {}, ...list));
}

export class Settings {
  constructor(letter) {
    this.letter = letter;
    this.controls = {};
    this.legend = make("legend", { class: "letter" }, letter);
    this.element = make("fieldset", { class: "setting-group" }, this.legend);
    for (const field of FIELDS) this.element.append(this.makeField(field));
    this.controls.seed.value = "1";
  }

  makeField({ name, label, hint, ...range }) {
    const id = `${name}-${this.letter}`;
    const isChoice = name === "preset" || name === "order";
    const control = isChoice
      ? make("select", { id, title: hint, "aria-describedby": `${id}-hint` })
      : make("input", { id, type: "number", inputmode: "decimal", title: hint, "aria-describedby": `${id}-hint`, ...range });
    this.controls[name] = control;
    control.addEventListener("input", () => {
      control.removeAttribute("aria-invalid");
      if (name === "preset") this.showDefaults();
    });
    const dice = make("button", {
      type: "button", class: "dice", "aria-label": `New seed${this.letter === "B" ? " for B" : ""}`, title: "New seed",
      onclick: () => (control.value = drawSeed()),
    }, "⟳");
    return make("div", { class: `setting setting-${name}` }, make("label", { for: id, title: hint }, label),
      name === "seed" ? make("span", { class: "with-dice" }, control, dice) : control,
      make("span", { class: "sr", id: `${id}-hint` }, hint));
  }

  // Offer what the model has for a task.
  describe(description, task) {
    Object.assign(this, { description, task });
    const presets = Object.keys(description.presets).filter((name) => task.name in description.presets[name]);
    this.offer("preset", "model's own", presets.map((name) => [name, name]));
    this.offer("order", "", description.orders.map((name) => [name, words(name)]));
    this.controls.num_steps.max = description.limits.num_steps;
    this.hide("preset", !presets.length);
    this.hide("guidance_scale", !task.condition.length);
    this.showDefaults();
  }

  offer(name, own, choices) {
    const select = this.controls[name];
    const before = select.value;
    select.replaceChildren(make("option", { value: "" }, own), ...choices.map(([value, text]) => make("option", { value }, text)));
    select.value = choices.some(([value]) => value === before) ? before : "";
  }

  hide(name, is) {
    this.controls[name].closest(".setting").hidden = is;
  }

  // The model's own settings, or those of the preset that is chosen.
  get defaults() {
    return this.description.presets[this.controls.preset.value]?.[this.task.name] ?? this.task.sampler;
  }

  showDefaults() {
    const { defaults, controls } = this;
    for (const name of ["num_steps", "guidance_scale", "temperature", "top_p"]) {
      controls[name].placeholder = defaults[name] ?? "none";
    }
    controls.order.options[0].textContent = words(defaults.order);
  }

  read() {
    const found = {};
    for (const { name } of FIELDS) {
      const control = this.controls[name];
      const value = control.value.trim();
      if (value === "" || control.closest(".setting").hidden) continue;
      found[name] = control.tagName === "SELECT" ? value : Number(value);
    }
    if (found.seed === undefined) {
      found.seed = drawSeed();
      this.controls.seed.value = found.seed;
    }
    return found;
  }

  write(values) {
    for (const name of NAMES) if (values[name] !== undefined) this.controls[name].value = values[name];
    if (this.task) this.showDefaults();
  }

  // The field that an error is about, if it is one of these.
  point(param) {
    const control = this.controls[param];
    if (!control || control.closest(".setting").hidden) return false;
    control.closest("details")?.setAttribute("open", "");
    control.setAttribute("aria-invalid", "true");
    control.focus();
    return true;
  }
}
