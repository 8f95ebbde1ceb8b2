// Text as boxes, one for each token, in place.

import { make } from "./dom.js";
import { colourOf } from "./colour.js";
import { Units, framesOf } from "./units.js";
import { contentLength, isEnd, sureness } from "./run.js";

const visible = (text) => text.replace(/^ /, "").replaceAll("\n", "↵").replaceAll("\t", "⇥") || "\u00a0";

export class TextPanel {
  constructor({ label, onMark }) {
    this.units = new Units({
      label, className: "words", onMark,
      name: (frame, [cell]) => (cell.masked ? `token ${frame + 1}` : isEnd(cell) ? "the end" : `“${cell.text ?? cell.code}”`),
      draw: (element, frame, [cell]) => {
        const text = cell.masked ? "" : isEnd(cell) ? "end" : visible(cell.text ?? String(cell.code));
        element.classList.toggle("starts", !cell.masked && !isEnd(cell) && /^\s/.test(cell.text ?? ""));
        const share = sureness([cell]);
        element.style.setProperty("--sure", share === null ? "transparent" : colourOf(share));
        element.textContent = text;
      },
    });
    this.element = make("div", { class: "view" }, this.units.element);
  }

  update(span, { number, isFresh }) {
    this.units.update(framesOf(span), { number, isFresh, length: contentLength(span) + 1 });
  }

  static read(span) {
    const cells = span.cells.slice(0, contentLength(span));
    return cells.map((cell) => (cell.masked ? "▒" : (cell.text ?? `[${cell.code}]`))).join("");
  }
}
