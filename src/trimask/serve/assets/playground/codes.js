// A modality that this page knows nothing of: its codes as numbers, in its grid or one after another.

import { make } from "./dom.js";
import { Units, framesOf, tint } from "./units.js";
import { contentLength, isEnd, sureness } from "./run.js";

export class CodesPanel {
  constructor({ label, space, onMark }) {
    this.units = new Units({
      label, className: "codes", columns: space.grid ? space.grid[1] : 0, onMark,
      name: (frame, cells) => `frame ${frame + 1}: ${cells.map(show).join(" ")}`,
      draw: (element, frame, cells) => {
        element.textContent = cells.every((cell) => cell.masked) ? "" : cells.map(show).join("·");
        tint(element, sureness(cells));
      },
    });
    this.element = make("div", { class: "view" }, this.units.element);
  }

  update(span, { number, isFresh }) {
    this.units.update(framesOf(span), { number, isFresh, length: contentLength(span) + 1 });
  }
}

const show = (cell) => (cell.masked ? "?" : isEnd(cell) ? "end" : String(cell.code));
