// What is given beside the prompt: a picture or a recording, dropped or chosen, as a condition or to be made
// anew in part; and codes of modalities that have no files.

import { make, spell, toBase64 } from "./dom.js";
import { Units } from "./units.js";
import { drawWave } from "./sound.js";

const LARGEST = 512; // pixels of a side: more is not seen by any model of ours, and slow to send

// What a visitor has to do first, and the element to do it at.
export class InputError extends Error {
  constructor(message, element = null) {
    super(message);
    this.element = element;
  }
}

// The modalities of a task's sequences of which one can be given, beside text.
export function takesOf(description, task, pair) {
  const spans = task.spans.find((each) => !pair || each.includes(pair)) ?? task.spans[0];
  return spans.map((name) => description.modalities.find((space) => space.name === name));
}

export class Inputs {
  constructor(element, onChange) {
    Object.assign(this, { element, onChange });
    this.parts = [];
  }

  describe(description, task, pair) {
    const before = new Map(this.parts.map((part) => [part.space.name, part]));
    this.parts = [];
    const spaces = takesOf(description, task, pair);
    const isAlone = spaces.filter(({ name }) => !task.condition.includes(name)).length === 1;
    for (const space of spaces) {
      const isTarget = !task.condition.includes(space.name);
      const Kind = { image: PictureInput, audio: SoundInput, text: null }[space.decodes_to] ?? (space.decodes_to ? null : CodesInput);
      if (!Kind || (Kind === CodesInput && isTarget)) continue;
      const part = new Kind({ space, isTarget, isAlone, limits: description.limits, onChange: this.onChange });
      const old = before.get(space.name);
      if (old?.file && part.take) part.take(old.file);
      this.parts.push(part);
    }
    this.element.replaceChildren(...this.parts.map((part) => part.element));
  }

  // Fields of the request, and data URLs to show by modality. Throws InputError.
  read() {
    const [fields, given] = [{}, {}];
    for (const part of this.parts) {
      const found = part.read();
      if (found.url) given[part.space.name] = found.url;
      if (found.codes) fields.codes = { ...fields.codes, ...found.codes };
      Object.assign(fields, found.fields);
    }
    return { fields, given };
  }

  // Whether the task starts from a file.
  get isFirst() {
    return this.parts.some((part) => part.accepts && !part.isTarget);
  }

  // The part that takes a file, if there is one.
  partFor(file) {
    const kind = file.type.split("/")[0];
    return this.parts.find((part) => part.accepts === kind);
  }
}

class FileInput {
  // isAlone: whether nothing else is made, so that some of it must be.
  constructor({ space, isTarget, isAlone, limits, onChange, accepts, noun, use, brushHint }) {
    Object.assign(this, { space, isTarget, isAlone, limits, onChange, accepts, noun });
    this.file = this.url = this.units = null;
    const id = `file-${space.name}`;
    this.input = make("input", { type: "file", id, class: "file", accept: `${accepts}/*`, "aria-describedby": `${id}-hint` });
    this.input.addEventListener("change", () => this.input.files[0] && this.take(this.input.files[0]));
    this.remove = make("button", { type: "button", class: "quiet", hidden: true, onclick: () => this.clear() }, "Remove");
    this.preview = make("div", { class: "input-preview" });
    this.hint = make("p", { class: "hint", id: `${id}-hint` });
    const kept = isAlone ? "keep most of it, and mark what to make anew" : "it is kept, but for what you mark in it";
    this.hints = { empty: isTarget ? `optional: ${kept}` : use, marked: isAlone ? brushHint : `It is kept, but for what you mark. ${brushHint}` };
    this.problem = make("p", { class: "message", role: "alert", hidden: true });
    this.drop = make("label", { class: "drop", for: id }, make("strong", {}, `Drop a ${noun}`), " or choose a file");
    this.element = make("div", { class: "input", role: "group", "aria-label": spell(space.name) },
      this.drop, this.input, this.preview, this.hint, this.remove, this.problem);
    this.showState();
  }

  async take(file) {
    this.problem.hidden = true;
    try {
      this.file = file;
      await this.load(file);
    } catch (error) {
      this.clear();
      this.problem.textContent = error instanceof InputError ? error.message : `This ${this.noun} cannot be read here: try another format.`;
      this.problem.hidden = false;
    }
    this.showState();
    this.onChange?.();
  }

  clear() {
    this.file = this.url = this.units = null;
    this.input.value = "";
    this.preview.replaceChildren();
    this.showState();
    this.onChange?.();
  }

  showState() {
    this.remove.hidden = !this.file;
    this.drop.hidden = Boolean(this.file);
    this.element.classList.toggle("is-full", Boolean(this.file));
    this.hint.textContent = this.file && this.isTarget ? this.hints.marked : this.file ? "" : this.hints.empty;
  }

  get frames() {
    return [...(this.units?.marked ?? [])].sort((a, b) => a - b);
  }

  require(what) {
    if (!this.isTarget && !this.url) throw new InputError(`Give ${what} first: this task starts from one.`, this.input);
    if (this.isTarget && this.isAlone && this.url && !this.frames.length) throw new InputError(`Mark in the ${this.noun} what to make anew.`);
  }
}

class PictureInput extends FileInput {
  constructor(options) {
    super({
      ...options, accepts: "image", noun: "picture", use: "the model sees its middle square",
      brushHint: "Mark the cells to paint anew: click, drag, or arrow keys and Space.",
    });
  }

  async load(file) {
    const bitmap = await createImageBitmap(file);
    const side = Math.min(bitmap.width, bitmap.height);
    const unit = this.space.image_size;
    this.side = unit * Math.max(1, Math.min(Math.floor(side / unit), Math.floor(LARGEST / unit)));
    const canvas = make("canvas", { width: this.side, height: this.side });
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, (bitmap.width - side) / 2, (bitmap.height - side) / 2, side, side, 0, 0, this.side, this.side);
    this.url = canvas.toDataURL("image/png");
    const [rows, columns] = this.space.grid;
    const image = make("img", { src: this.url, alt: `The ${this.noun} that is given` });
    const children = [image];
    if (this.isTarget) {
      this.units = new Units({
        label: "Cells to paint anew", className: "cells", columns, onMark: () => this.onChange?.(),
        name: (frame) => `row ${Math.floor(frame / columns) + 1}, column ${(frame % columns) + 1}`,
        draw: () => {},
      });
      const cell = { code: 0, masked: false, given: true, share: null, since: 0 };
      this.units.update(Array.from({ length: rows * columns }, () => [cell]), { number: 0, length: rows * columns });
      this.units.isBrushing = true;
      this.units.element.classList.add("brushing");
      children.push(this.units.element);
    }
    this.preview.replaceChildren(make("div", { class: "picture small" }, ...children));
  }

  read() {
    this.require("a picture");
    if (!this.url) return {};
    const fields = { image: this.url.slice(this.url.indexOf(",") + 1) };
    if (this.frames.length) fields.mask = this.mask();
    return { fields, url: this.url };
  }

  // White where it is to be painted; a little inside each cell, so that scaling touches no other.
  mask() {
    const canvas = make("canvas", { width: this.side, height: this.side });
    const context = canvas.getContext("2d");
    const [rows, columns] = this.space.grid;
    const [width, height] = [this.side / columns, this.side / rows];
    context.fillStyle = "#000";
    context.fillRect(0, 0, this.side, this.side);
    context.fillStyle = "#fff";
    for (const frame of this.frames) {
      const [row, column] = [Math.floor(frame / columns), frame % columns];
      context.fillRect((column + 0.15) * width, (row + 0.15) * height, 0.7 * width, 0.7 * height);
    }
    const url = canvas.toDataURL("image/png");
    return url.slice(url.indexOf(",") + 1);
  }
}

class SoundInput extends FileInput {
  constructor(options) {
    super({
      ...options, accepts: "audio", noun: "recording", use: `at most ${options.limits.seconds} seconds`,
      brushHint: "Mark the seconds to speak anew: drag, or arrow keys and Space. It is one stretch, from the first to the last.",
    });
  }

  async load(file) {
    const { sample_rate: rate, frame_rate: frameRate } = this.space;
    const decoded = await new OfflineAudioContext(1, 1, rate).decodeAudioData(await file.arrayBuffer());
    if (decoded.duration > this.limits.seconds) {
      throw new InputError(`The recording lasts ${decoded.duration.toFixed(0)} s: give at most ${this.limits.seconds} s.`);
    }
    const samples = new Float32Array(decoded.length);
    for (let channel = 0; channel < decoded.numberOfChannels; channel++) {
      decoded.getChannelData(channel).forEach((value, at) => (samples[at] += value / decoded.numberOfChannels));
    }
    this.url = `data:audio/wav;base64,${toBase64(writeWav(samples, rate))}`;
    const numFrames = Math.max(Math.ceil((samples.length / rate) * frameRate), 1);
    const wave = make("canvas", { class: "wave", width: 640, height: 64, role: "img", "aria-label": "Waveform of the recording" });
    const children = [wave];
    if (this.isTarget) {
      this.units = new Units({
        label: "Seconds to speak anew", className: "strip", onMark: () => this.onChange?.(),
        name: (frame) => `${(frame / frameRate).toFixed(2)} to ${((frame + 1) / frameRate).toFixed(2)} s`,
        draw: (element) => element.children.length || element.append(make("i", { class: "plain" })),
      });
      const cell = { code: 0, masked: false, given: true, share: null, since: 0 };
      this.units.update(Array.from({ length: numFrames }, () => [cell]), { number: 0, length: numFrames });
      this.units.isBrushing = true;
      this.units.element.classList.add("brushing");
      children.push(this.units.element);
    }
    const inner = make("div", { class: "sound-inner" }, ...children);
    this.preview.replaceChildren(make("div", { class: "view sound" }, inner));
    const { color: colour } = getComputedStyle(wave);
    drawWave(wave.getContext("2d"), samples, { width: 640, height: 64, colour, seconds: numFrames / frameRate, rate });
  }

  read() {
    this.require("a recording");
    if (!this.url) return {};
    const fields = { speech: this.url.slice(this.url.indexOf(",") + 1) };
    const { frames } = this;
    if (frames.length) {
      fields.seconds = [frames[0] / this.space.frame_rate, (frames.at(-1) + 1) / this.space.frame_rate];
    }
    return { fields, url: this.url };
  }
}

class CodesInput {
  constructor({ space, onChange }) {
    this.space = space;
    const id = `codes-${space.name}`;
    this.area = make("textarea", { id, rows: 2, spellcheck: "false", placeholder: "[[1, 2], [3, 4]]" });
    this.area.addEventListener("input", () => onChange?.());
    this.element = make("div", { class: "input" },
      make("label", { for: id }, `${spell(space.name)}: codes, frames × ${space.num_codebooks}`), this.area);
  }

  read() {
    try {
      return { codes: { [this.space.name]: JSON.parse(this.area.value) } };
    } catch {
      throw new InputError(`${spell(this.space.name)} needs its codes as JSON, such as [[1, 2], [3, 4]].`);
    }
  }
}

export function writeWav(samples, rate) {
  const bytes = new Uint8Array(44 + 2 * samples.length);
  const view = new DataView(bytes.buffer);
  const name = (at, text) => [...text].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  name(0, "RIFF");
  view.setUint32(4, bytes.length - 8, true);
  name(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  name(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((value, i) => view.setInt16(44 + 2 * i, Math.round(Math.max(-1, Math.min(1, value)) * 32767), true));
  return bytes;
}
