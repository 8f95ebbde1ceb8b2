// `Units`: the frames of one span as boxes that can be looked at and marked, with mouse, finger and keyboard.

import { make, percent } from "./dom.js";
import { colourOf, luminance, mix } from "./colour.js";
import { isEnd, sureness } from "./run.js";

let tip = null;

function showTip(element, text) {
  tip ??= document.body.appendChild(make("div", { class: "tip", "aria-hidden": "true" }));
  tip.textContent = text;
  tip.hidden = false;
  const box = element.getBoundingClientRect();
  const left = Math.min(Math.max(box.left + box.width / 2 - tip.offsetWidth / 2, 4), innerWidth - tip.offsetWidth - 4);
  tip.style.left = `${left + scrollX}px`;
  tip.style.top = `${Math.max(box.top - tip.offsetHeight - 6, 4) + scrollY}px`;
}

export function hideTip() {
  if (tip) tip.hidden = true;
}

export class Units {
  // columns: of a grid, 0 for a line that wraps. draw(element, frame, cells): fills a box. name(frame, cells):
  // what a frame is called. onMark: called when marks change; without it nothing can be marked.
  constructor({ label, columns = 0, className, draw, name, onMark = null }) {
    Object.assign(this, { columns, draw, name, onMark });
    this.marked = new Set();
    this.frames = [];
    this.keys = [];
    this.focused = 0;
    this.isBrushing = false;
    this.element = make("div", {
      class: `units ${className}`,
      role: "listbox",
      "aria-label": label,
      "aria-multiselectable": onMark ? "true" : null,
      "aria-orientation": columns ? null : "horizontal",
    });
    if (columns) this.element.style.setProperty("--columns", columns);
    this.listen();
  }

  update(frames, { number, length, isFresh }) {
    this.frames = frames;
    while (this.element.children.length > frames.length) {
      this.element.lastChild.remove();
      this.keys.pop();
    }
    frames.forEach((cells, frame) => {
      const isBehind = frame >= length;
      const fresh = isFresh && cells.some((cell) => !cell.masked && !cell.given && cell.since === number);
      const isMarked = this.marked.has(frame);
      const key = `${cells.map((c) => `${c.code},${c.masked},${c.share},${c.text}`)}${isBehind}${fresh}${isMarked}`;
      if (this.keys[frame] === key) return;
      this.keys[frame] = key;
      let unit = this.element.children[frame];
      if (!unit) {
        unit = make("div", { role: "option", tabindex: frame === this.focused ? 0 : -1 });
        this.element.append(unit);
      }
      const numMasked = cells.filter((cell) => cell.masked).length;
      const marks = [
        ["masked", numMasked === cells.length], ["partly", numMasked > 0 && numMasked < cells.length],
        ["given", cells.every((cell) => cell.given)], ["end", cells.some(isEnd)],
        ["behind", isBehind], ["fresh", fresh], ["marked", isMarked],
      ];
      unit.className = `unit ${marks.filter(([, is]) => is).map(([each]) => each).join(" ")}`;
      unit.setAttribute("aria-selected", String(isMarked));
      unit.setAttribute("aria-label", this.tell(frame));
      this.draw(unit, frame, cells);
    });
    if (this.focused >= frames.length) this.focus(Math.max(frames.length - 1, 0), false);
  }

  tell(frame) {
    const cells = this.frames[frame];
    const parts = [this.name(frame, cells)];
    const share = sureness(cells);
    if (cells.every((cell) => cell.masked)) parts.push("masked");
    else if (cells.every((cell) => cell.given)) parts.push("given");
    else if (share !== null) {
      const hidden = cells.filter((cell) => cell.masked).length;
      const shares = cells.map((cell) => (cell.masked ? "masked" : cell.share === null ? "given" : percent(cell.share)));
      parts.push(`${percent(share)} sure${cells.length > 1 ? ` (its codes: ${shares.join(", ")})` : ""}`);
      parts.push(`step ${Math.max(...cells.filter((cell) => !cell.masked).map((cell) => cell.since))}`);
      if (hidden) parts.push("partly masked");
    }
    if (this.marked.has(frame)) parts.push("marked");
    return parts.join(", ");
  }

  mark(frame, is) {
    if (!this.onMark || this.marked.has(frame) === is) return;
    if (is) this.marked.add(frame);
    else this.marked.delete(frame);
    this.refresh(frame);
    this.onMark();
  }

  clear() {
    for (const frame of [...this.marked]) {
      this.marked.delete(frame);
      this.refresh(frame);
    }
  }

  refresh(frame) {
    const unit = this.element.children[frame];
    if (!unit) return;
    this.keys[frame] = null;
    unit.classList.toggle("marked", this.marked.has(frame));
    unit.setAttribute("aria-selected", String(this.marked.has(frame)));
    unit.setAttribute("aria-label", this.tell(frame));
  }

  focus(frame, isMoving = true) {
    this.element.children[this.focused]?.setAttribute("tabindex", "-1");
    this.focused = frame;
    const unit = this.element.children[frame];
    unit?.setAttribute("tabindex", "0");
    if (isMoving) unit?.focus();
  }

  frameOf(node) {
    const unit = node?.closest?.(".unit");
    return unit?.parentElement === this.element ? [...this.element.children].indexOf(unit) : -1;
  }

  listen() {
    const on = (kind, act) => this.element.addEventListener(kind, act);
    let painting = null;
    on("pointerover", (event) => {
      const frame = this.frameOf(event.target);
      if (frame >= 0 && painting === null) showTip(this.element.children[frame], this.tell(frame));
    });
    on("pointerleave", hideTip);
    on("focusin", (event) => {
      const frame = this.frameOf(event.target);
      if (frame < 0) return;
      this.focus(frame, false);
      if (event.target.matches(":focus-visible")) showTip(event.target, this.tell(frame));
    });
    on("focusout", hideTip);
    on("keydown", (event) => this.press(event));
    if (!this.onMark) return;
    let isHandled = false;
    on("pointerdown", (event) => {
      const frame = this.frameOf(event.target);
      isHandled = event.pointerType !== "touch" || this.isBrushing;
      if (frame < 0 || !isHandled || event.button !== 0) return;
      event.preventDefault();
      this.element.setPointerCapture(event.pointerId);
      painting = !this.marked.has(frame);
      hideTip();
      this.mark(frame, painting);
      this.focus(frame);
    });
    on("pointermove", (event) => {
      if (painting === null) return;
      const frame = this.frameOf(document.elementFromPoint(event.clientX, event.clientY));
      if (frame >= 0) this.mark(frame, painting);
    });
    for (const kind of ["pointerup", "pointercancel"]) on(kind, () => (painting = null));
    on("click", (event) => {
      const frame = this.frameOf(event.target);
      if (frame >= 0 && !isHandled) this.mark(frame, !this.marked.has(frame));
    });
  }

  press(event) {
    const frame = this.frameOf(event.target);
    if (frame < 0) return;
    const last = this.frames.length - 1;
    const moves = {
      ArrowRight: frame + 1, ArrowLeft: frame - 1, Home: 0, End: last,
      ArrowDown: this.columns ? frame + this.columns : this.find(frame, 1),
      ArrowUp: this.columns ? frame - this.columns : this.find(frame, -1),
    };
    if (event.key in moves) {
      const next = moves[event.key];
      if (next >= 0 && next <= last) {
        if (event.shiftKey) {
          this.mark(frame, true);
          this.mark(next, true);
        }
        this.focus(next);
        showTip(this.element.children[next], this.tell(next));
      }
    } else if (event.key === " " || event.key === "Enter") {
      this.mark(frame, !this.marked.has(frame));
      showTip(event.target, this.tell(frame));
    } else if (event.key === "Escape" && this.marked.size) {
      this.clear();
      this.onMark();
    } else if (event.key === "a" && (event.ctrlKey || event.metaKey)) {
      for (let each = 0; each <= last; each++) this.mark(each, true);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  // The box above or below in text that wraps.
  find(frame, direction) {
    const boxes = [...this.element.children].map((unit) => unit.getBoundingClientRect());
    const here = boxes[frame];
    let best = -1;
    let nearest = Infinity;
    boxes.forEach((box, each) => {
      const down = (box.top - here.top) * direction;
      if (down < here.height / 2) return;
      const away = down * 1000 + Math.abs(box.left - here.left);
      if (away < nearest) [best, nearest] = [each, away];
    });
    return best;
  }
}

// Colour a box by how sure the model was; what is given or masked has no colour of its own.
export function tint(element, share) {
  element.style.background = share === null ? "" : colourOf(share);
  element.style.color = share === null ? "" : luminance(mix(share)) > 0.2 ? "#10131a" : "#fff";
}

export function framesOf({ codebooks, cells }) {
  const frames = [];
  for (let at = 0; at < cells.length; at += codebooks) frames.push(cells.slice(at, at + codebooks));
  return frames;
}
