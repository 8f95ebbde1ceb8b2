// A picture: its cells over what they decode to so far, and beside it how sure the model was of each.

import { make, save, toBytes } from "./dom.js";
import { colourOf } from "./colour.js";
import { Units, framesOf } from "./units.js";
import { sureness } from "./run.js";

export class PicturePanel {
  constructor({ label, space, run, onMark }) {
    Object.assign(this, { space, run });
    const [rows, columns] = space.grid;
    this.image = make("img", { alt: "", draggable: "false" });
    this.units = new Units({
      label, className: "cells", columns, onMark,
      name: (frame) => `row ${Math.floor(frame / columns) + 1}, column ${(frame % columns) + 1}`,
      draw: (element, frame, cells) => {
        const hidden = cells.filter((cell) => cell.masked).length / cells.length;
        // What is masked in part is grey in the preview already.
        element.style.setProperty("--hidden", hidden < 1 ? hidden / 2 : 1);
      },
    });
    this.map = make("canvas", { width: columns, height: rows, role: "img", "aria-label": "How sure the model was of each cell" });
    this.frame = make("div", { class: "picture" }, this.image, this.units.element);
    const map = make("figure", { class: "map", hidden: !run.isTarget(space.name) }, this.map, make("figcaption", {}, "how sure"));
    this.element = make("div", { class: "view picture-view" }, this.frame, map);
    this.tools = [make("button", { type: "button", class: "quiet", onclick: () => this.download() }, "Download PNG")];
  }

  update(span, { number, isFresh }) {
    const frames = framesOf(span);
    this.units.update(frames, { number, isFresh, length: frames.length });
    const preview = this.run.isTarget(this.space.name) ? this.run.preview(number, "image") : null;
    this.source = preview ? `data:image/png;base64,${preview}` : (this.run.given[this.space.name] ?? "");
    if (this.image.src !== this.source) {
      if (this.source) this.image.src = this.source;
      else this.image.removeAttribute("src");
    }
    this.image.alt = `${this.space.name} after step ${number}`;
    const context = this.map.getContext("2d");
    const { color: given } = getComputedStyle(this.map);
    context.clearRect(0, 0, this.map.width, this.map.height);
    frames.forEach((cells, frame) => {
      const share = sureness(cells);
      if (share === null && cells.some((cell) => cell.masked)) return;
      context.fillStyle = share === null ? given : colourOf(share);
      context.fillRect(frame % this.map.width, Math.floor(frame / this.map.width), 1, 1);
    });
  }

  download() {
    if (!this.source.startsWith("data:")) return;
    const bytes = toBytes(this.source.slice(this.source.indexOf(",") + 1));
    save(`trimask-${this.run.done?.seed ?? this.run.body.seed}.png`, new Blob([bytes], { type: "image/png" }));
  }
}
