// Speech: the waveform that its frames decode to so far, and beneath it the frames, one row for each codebook.

import { make, save, toBytes } from "./dom.js";
import { colourOf } from "./colour.js";
import { Units, framesOf } from "./units.js";
import { contentLength } from "./run.js";

const NARROWEST = 7; // pixels of a frame: less can't be hit by a finger

// Samples in [-1, 1] and their rate, of a WAV file of 16-bit samples, mono.
export function readWav(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const name = (at) => String.fromCharCode(...bytes.subarray(at, at + 4));
  let rate = 16000;
  for (let at = 12; at + 8 <= bytes.length; ) {
    const size = view.getUint32(at + 4, true);
    if (name(at) === "fmt ") rate = view.getUint32(at + 12, true);
    if (name(at) === "data") {
      const number = Math.floor(Math.min(size, bytes.length - at - 8) / 2);
      const samples = new Float32Array(number);
      for (let i = 0; i < number; i++) samples[i] = view.getInt16(at + 8 + 2 * i, true) / 32768;
      return { samples, rate };
    }
    at += 8 + size + (size % 2);
  }
  return { samples: new Float32Array(0), rate };
}

export function drawWave(context, samples, { width, height, colour, seconds, rate }) {
  context.fillStyle = colour;
  const perPixel = (seconds * rate) / width;
  for (let x = 0; x < width; x++) {
    let low = 0;
    let high = 0;
    const stop = Math.min((x + 1) * perPixel, samples.length);
    for (let i = Math.floor(x * perPixel); i < stop; i++) {
      if (samples[i] < low) low = samples[i];
      if (samples[i] > high) high = samples[i];
    }
    const top = (0.5 - high / 2) * height;
    context.fillRect(x, top, 1, Math.max((0.5 - low / 2) * height - top, 1));
  }
}

export class SoundPanel {
  constructor({ label, space, run, onMark }) {
    Object.assign(this, { space, run, source: null });
    const rate = space.frame_rate;
    this.wave = make("canvas", { class: "wave", role: "img", "aria-label": `Waveform of the ${space.name}` });
    this.head = make("div", { class: "playhead", hidden: true });
    this.units = new Units({
      label, className: "strip", onMark,
      name: (frame) => `${(frame / rate).toFixed(2)} to ${((frame + 1) / rate).toFixed(2)} s`,
      draw: (element, frame, cells) => {
        while (element.children.length < cells.length) element.append(make("i", { "aria-hidden": "true" }));
        cells.forEach((cell, at) => {
          const known = !cell.masked && typeof cell.share === "number";
          element.children[at].style.background = known ? colourOf(cell.share) : "";
          element.children[at].className = cell.masked ? "hatch" : known ? "" : "plain";
        });
      },
    });
    this.inner = make("div", { class: "sound-inner" }, this.wave, this.units.element, this.head);
    this.element = make("div", { class: "view sound" }, this.inner);
    this.audio = new Audio();
    this.button = make("button", { type: "button", class: "round", onclick: () => this.toggle() });
    const download = make("button", { type: "button", class: "quiet", onclick: () => this.download() }, "Download WAV");
    this.tools = [this.button, download];
    for (const kind of ["play", "pause", "ended"]) this.audio.addEventListener(kind, () => this.showPlaying());
    this.audio.addEventListener("timeupdate", () => this.showPlaying());
    new ResizeObserver(() => this.redraw()).observe(this.inner);
    this.showPlaying();
  }

  update(span, { number, isFresh }) {
    this.number = number;
    const frames = framesOf(span);
    this.numFrames = frames.length;
    const content = contentLength(span);
    this.inner.style.minWidth = `${frames.length * NARROWEST}px`;
    this.units.update(frames, { number, isFresh, length: content });
    this.hidden = frames.map((cells, frame) => frame < content && cells[0].masked);
    this.redraw();
    const found = this.run.isTarget(this.space.name) ? this.run.preview(number, "audio") : null;
    const given = this.run.given[this.space.name];
    const source = found ? `data:audio/wav;base64,${found}` : (given ?? null);
    if (source === this.source) return;
    this.source = source;
    this.samples = source?.startsWith("data:audio/wav") ? readWav(toBytes(source.slice(source.indexOf(",") + 1))) : null;
    this.isStale = true;
    this.redraw();
    this.showPlaying();
  }

  redraw() {
    const ratio = devicePixelRatio || 1;
    const [width, height] = [Math.round(this.inner.clientWidth * ratio), Math.round(64 * ratio)];
    if (!width || !this.hidden) return;
    Object.assign(this.wave, { width, height });
    const context = this.wave.getContext("2d");
    const { color: colour, borderTopColor: veil } = getComputedStyle(this.wave);
    context.fillStyle = veil; // what has no first code, the coarsest, is not heard yet
    this.hidden.forEach((is, frame) => {
      if (is) context.fillRect((frame * width) / this.numFrames, 0, width / this.numFrames, height);
    });
    const seconds = this.numFrames / this.space.frame_rate;
    if (this.samples) drawWave(context, this.samples.samples, { width, height, colour, seconds, rate: this.samples.rate });
  }

  get isPlaying() {
    return !this.audio.paused && !this.audio.ended;
  }

  toggle() {
    if (this.isPlaying) {
      this.audio.pause();
      return;
    }
    if (!this.source) return;
    if (this.isStale) {
      URL.revokeObjectURL(this.audio.src);
      const [head, data] = this.source.split(",");
      const type = head.slice(5).split(";")[0];
      this.audio.src = URL.createObjectURL(new Blob([toBytes(data)], { type }));
      this.isStale = false;
    }
    this.audio.play().catch(() => this.showPlaying());
  }

  showPlaying() {
    const is = this.isPlaying;
    this.button.textContent = is ? "❚❚" : "▶";
    this.button.setAttribute("aria-label", `${is ? "Pause" : "Play"} the ${this.space.name} of this step`);
    this.button.disabled = !this.source;
    this.head.hidden = !is;
    const seconds = this.numFrames / this.space.frame_rate;
    if (is && seconds) this.head.style.left = `${Math.min((100 * this.audio.currentTime) / seconds, 100)}%`;
    if (is && this.frameRequest === undefined) {
      this.frameRequest = requestAnimationFrame(() => {
        this.frameRequest = undefined;
        this.showPlaying();
      });
    }
  }

  download() {
    if (!this.source) return;
    const bytes = toBytes(this.source.slice(this.source.indexOf(",") + 1));
    save(`trimask-${this.run.done?.seed ?? this.run.body.seed}.wav`, new Blob([bytes], { type: "audio/wav" }));
  }
}
