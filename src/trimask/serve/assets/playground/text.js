// Text as boxes, one for each token, in place.

import { make } from "./dom.js";
import { colourOf } from "./colour.js";
import { Units, framesOf } from "./units.js";
import { contentLength, isEnd, sureness } from "./run.js";

// A character of several tokens stands in the box of the first; until all are there, each box has a dot.
const PART = /\ufffd+/g;
const visible = (text) => text.replace(/^ /, "").replaceAll("\n", "↵").replaceAll("\t", "⇥").replace(PART, "·") || "\u00a0";

function nameToken(frame, cell) {
  if (cell.masked) return `token ${frame + 1}`;
  if (isEnd(cell)) return "the end";
  if (cell.text === "") return "goes with the character before";
  if (cell.text?.replace(PART, "") === "") return "part of a character";
  return `“${cell.text ?? cell.code}”`;
}

export class TextPanel {
  constructor({ label, onMark }) {
    this.units = new Units({
      label, className: "words", onMark,
      name: (frame, [cell]) => nameToken(frame, cell),
      draw: (element, frame, [cell]) => {
        const text = cell.masked ? "" : isEnd(cell) ? "end" : visible(cell.text ?? String(cell.code));
        element.classList.toggle("starts", !cell.masked && !isEnd(cell) && /^\s/.test(cell.text ?? ""));
        element.classList.toggle("joined", !cell.masked && cell.text === "");
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
    return cells.map((cell) => (cell.masked ? "▒" : (cell.text?.replace(PART, "·") ?? `[${cell.code}]`))).join("");
  }
}
