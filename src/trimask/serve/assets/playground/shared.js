// What both sides of a comparison have in common: the prompt, its voice, and which pair of modalities.

import { find, make, spell } from "./dom.js";
import { InputError } from "./inputs.js";

// "image → text", "text + image + speech": by what is given and what is generated.
export function nameTask(task) {
  const common = task.spans.reduce((some, spans) => some.filter((name) => spans.includes(name)), task.spans[0]);
  const sides = [...new Set(task.spans.flat())].filter((name) => !common.includes(name) && !task.condition.includes(name));
  const targets = [...common.filter((name) => !task.condition.includes(name)), ...(sides.length ? [sides.join("/")] : [])];
  const made = targets.map(spell).join(" + ");
  return task.condition.length ? `${task.condition.map(spell).join(" + ")} → ${made}` : made;
}

export class Shared {
  constructor(onPair) {
    this.texts = {};
    this.kind = "text";
    this.pairSelect = make("select", { id: "pair", onchange: onPair });
    this.voiceSelect = make("select", { id: "voice" });
    this.negative = make("input", { id: "negative-prompt", type: "text", autocomplete: "off" });
    this.pairField = make("div", { class: "setting" }, make("label", { for: "pair" }, "Together with"), this.pairSelect);
    this.voiceField = make("div", { class: "setting" }, make("label", { for: "voice" }, "Voice"), this.voiceSelect);
    this.negativeField = make("div", { class: "setting setting-wide" },
      make("label", { for: "negative-prompt", title: "what guidance leads away from" }, "Away from"), this.negative,
      make("p", { class: "hint" }, "what guidance avoids: it acts where guidance is above 1"));
    this.more = make("div", { class: "setting-group more" }, this.pairField, this.voiceField, this.negativeField);
  }

  describe(description, task) {
    Object.assign(this, { description, task });
    const common = task.spans.reduce((some, spans) => some.filter((name) => spans.includes(name)), task.spans[0]);
    const choices = [...new Set(task.spans.flat())].filter((name) => !common.includes(name));
    const before = this.pairSelect.value;
    this.pairSelect.replaceChildren(...choices.map((name) => make("option", { value: name }, spell(name))));
    if (choices.includes(before)) this.pairSelect.value = before;
    this.pairField.hidden = !choices.length;
    this.voiceSelect.replaceChildren(make("option", { value: "" }, "most common"),
      ...description.voices.map((name) => make("option", { value: name }, name)));
  }

  get pair() {
    return this.task?.spans.length > 1 ? this.pairSelect.value : undefined;
  }

  // spaces: of the sequence that is asked for.
  showPrompt(spaces) {
    const { task } = this;
    const text = spaces.find((space) => space.decodes_to === "text");
    const isCondition = text && task.condition.includes(text.name);
    const isAlone = text && spaces.length === 1;
    const isOnlyTarget = text && !isCondition && spaces.every((space) => space === text || task.condition.includes(space.name));
    find("prompt-field").hidden = !text;
    find("prompt-label").textContent = isCondition ? "Prompt" : isAlone ? "Beginning, or a text with gaps" : isOnlyTarget ? "Text with gaps" : "Text";
    find("prompt-hint").textContent = isCondition ? ""
      : isAlone ? "optional: it goes on from here; a gap is [____], one token for each underscore"
      : isOnlyTarget ? "optional: to fill its gaps alone, such as “red [__]”, one token for each underscore"
      : "optional: left empty, it is made as well";
    this.keepText(isAlone || isOnlyTarget ? "gaps" : "text");
    find("examples").hidden = isAlone || isOnlyTarget || !this.description.examples.length;
    this.isPrompted = Boolean(text);
    this.isNeeded = Boolean(isCondition);
    const isSpoken = isCondition && spaces.length === 2 && spaces.some((space) => space.decodes_to === "audio");
    this.voiceField.hidden = !isSpoken || this.description.voices.length < 2;
    this.negativeField.hidden = !isCondition;
    this.more.hidden = [this.pairField, this.voiceField, this.negativeField].every((field) => field.hidden);
  }

  // A text that is completed is another than one that is prompted with: each is kept while the other is asked for.
  keepText(kind) {
    if (this.kind === kind) return;
    this.texts[this.kind] = find("prompt").value;
    this.kind = kind;
    find("prompt").value = this.texts[kind] ?? "";
  }

  // Throws InputError where the task needs a prompt that is not there.
  check() {
    if (this.isNeeded && !find("prompt").value.trim()) throw new InputError("Write a prompt first: this task starts from one.", find("prompt"));
  }

  read() {
    const found = {};
    const prompt = find("prompt").value;
    if (this.isPrompted && prompt.trim()) found.prompt = prompt;
    if (this.pair) found.pair = this.pair;
    if (!this.voiceField.hidden && this.voiceSelect.value) found.voice = this.voiceSelect.value;
    if (!this.negativeField.hidden && this.negative.value.trim()) found.negative_prompt = this.negative.value;
    return found;
  }

  write({ prompt = "", pair, voice = "", negative_prompt = "" }) {
    find("prompt").value = prompt;
    if (pair) this.pairSelect.value = pair;
    this.voiceSelect.value = voice;
    this.negative.value = negative_prompt;
  }
}
