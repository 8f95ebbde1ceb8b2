// `Timeline`: one slider over the steps of all sides, with play and pause. It goes on while steps arrive.

import { isStill, make } from "./dom.js";

const WHOLE = 6000; // milliseconds that a run takes to play, within:
const [SHORTEST, LONGEST] = [45, 260]; // milliseconds of a step

export class Timeline {
  // sides(): those that are shown. Each is shown the same share of its own steps.
  constructor(element, sides) {
    this.sides = sides;
    this.position = 0;
    this.isPlaying = false;
    this.isFollowing = false;
    this.button = make("button", { type: "button", class: "round", onclick: () => this.toggle() });
    this.slider = make("input", { type: "range", min: 0, max: 1, step: 1, value: 0, "aria-label": "Step of the run" });
    this.slider.addEventListener("input", () => this.seek(Number(this.slider.value)));
    this.text = make("output", { class: "steps" });
    element.replaceChildren(this.button, this.slider, this.text);
    this.draw();
  }

  get runs() {
    return this.sides().map((side) => side.run).filter(Boolean);
  }

  get length() {
    return Math.max(1, ...this.runs.map((run) => run.length));
  }

  // The furthest position that all sides have reached.
  get reached() {
    const { runs, length } = this;
    if (!runs.length) return 0;
    return Math.min(...runs.map((run) => (run.isOver ? length : Math.floor((run.last * length) / run.length))));
  }

  get isWhole() {
    return this.runs.every((run) => run.isOver);
  }

  begin() {
    this.position = 0;
    this.isFollowing = this.isPlaying = true;
    this.schedule();
    this.draw();
  }

  // More is known: a step has arrived, or a run has ended.
  grow() {
    if (this.isFollowing && isStill()) this.position = this.reached;
    this.draw();
  }

  seek(position) {
    this.isPlaying = this.isFollowing = false;
    this.position = Math.min(Math.max(position, 0), Math.max(this.reached, 0));
    this.draw();
  }

  move(number) {
    this.seek(this.position + number);
  }

  toggle() {
    this.isPlaying = !this.isPlaying;
    this.isFollowing = this.isPlaying;
    if (this.isPlaying && this.isWhole && this.position >= this.length) this.position = 0;
    if (this.isPlaying) this.schedule();
    this.draw();
  }

  schedule() {
    clearTimeout(this.timer);
    const pause = Math.min(Math.max(WHOLE / this.length, SHORTEST), LONGEST);
    this.timer = setTimeout(() => this.tick(), pause);
  }

  tick() {
    if (!this.isPlaying) return;
    if (this.position < this.reached) {
      this.position += 1;
      this.draw(true);
    }
    if (this.isWhole && this.position >= this.length) {
      this.isPlaying = this.isFollowing = false;
      this.draw();
      return;
    }
    this.schedule();
  }

  stepOf(run) {
    return Math.min(Math.round((this.position * run.length) / this.length), run.last);
  }

  draw(isFresh = false) {
    this.position = Math.min(this.position, this.length);
    this.slider.max = this.length;
    this.slider.value = this.position;
    this.slider.style.setProperty("--reached", `${(100 * this.reached) / this.length}%`);
    this.slider.style.setProperty("--here", `${(100 * this.position) / this.length}%`);
    const words = `step ${this.position} of ${this.length}`;
    this.slider.setAttribute("aria-valuetext", words);
    this.text.textContent = words;
    this.button.textContent = this.isPlaying ? "❚❚" : "▶";
    this.button.setAttribute("aria-label", this.isPlaying ? "Pause" : "Play the steps");
    for (const side of this.sides()) if (side.run) side.update(this.stepOf(side.run), isFresh);
    this.onDraw?.();
  }
}
