// A run as one file: a page that holds its steps and shows them without this server, or an animated picture.

import { make, save, toBytes } from "./dom.js";
import { colourOf } from "./colour.js";
import { writeGif } from "./gif.js";
import { contentLength, isEnd, sureness } from "./run.js";
import { drawWave, readWav } from "./sound.js";
import { TextPanel } from "./text.js";
import { framesOf } from "./units.js";

const FOLDER = "playground/";
const START = "replay.js";
const STYLES = ["style.css", "canvas.css"];
const MOST_FRAMES = 40;

// Each module becomes a function that returns what the module exports, in an order in which all that it imports
// is there. The modules keep to two forms: `import { a, b } from "./x.js";` and `export` before a declaration.
async function bundle(name, done = new Map()) {
  if (done.has(name)) return done;
  done.set(name, "");
  const source = await (await fetch(FOLDER + name)).text();
  const imports = [...source.matchAll(/^import (\{[^}]*\}) from "\.\/([\w.]+)";$/gm)];
  for (const [, , other] of imports) await bundle(other, done);
  done.delete(name);
  const exported = [...source.matchAll(/^export (?:async )?(?:function\*?|class|const) (\w+)/gm)].map((match) => match[1]);
  const body = source
    .replace(/^import (\{[^}]*\}) from "\.\/([\w.]+)";$/gm, (_, names, other) => `const ${names} = modules["${other}"];`)
    .replace(/^export /gm, "");
  done.set(name, `modules["${name}"] = (() => {\n${body}\nreturn { ${exported.join(", ")} };\n})();\n`);
  return done;
}

// Text that can stand within an element of a page, whatever it holds.
const guard = (json) => json.replaceAll("<", "\\u003c").replaceAll("\u2028", "\\u2028").replaceAll("\u2029", "\\u2029");
const escape = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");

export async function writePage(runs, title) {
  const modules = [...(await bundle(START)).values()].join("");
  const styles = await Promise.all(STYLES.map(async (name) => (await fetch(FOLDER + name)).text()));
  const data = guard(JSON.stringify({ title, runs: runs.map((run) => run.store()) }));
  const policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; media-src data: blob:; base-uri 'none'; form-action 'none'";
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="${policy}"><meta name="color-scheme" content="light dark">
<title>${escape(title)}</title><style>${styles.join("\n")}</style></head>
<body><header class="bar"><h1>${escape(title)}</h1><p class="motto">A run of trimask: move the slider to see each step</p></header>
<main><section class="stage" aria-label="Canvas"><div class="sides" id="sides"></div>
<div class="timeline card" id="timeline" role="group" aria-label="Steps of the run"></div>
<div class="below"><div class="legend" id="legend"></div></div></section></main>
<script type="application/json" id="data">${data}</script>
<script>"use strict";\nconst modules = {};\n${modules.replaceAll("</", "<\\/")}</script></body></html>
`;
}

export async function exportPage(runs, title) {
  save("trimask-run.html", new Blob([await writePage(runs, title)], { type: "text/html" }));
}

// ---- the animated picture

const WIDTH = 440; // pixels of a side
const MARGIN = 16;

export async function exportGif(runs, title, onProgress) {
  const length = Math.max(...runs.map((run) => run.last), 1);
  const count = Math.min(length + 1, MOST_FRAMES);
  const steps = Array.from({ length: count }, (_, i) => Math.round((i * length) / Math.max(count - 1, 1)));
  const heights = runs.map((run) => layOut(run, null, run.last, 0));
  const canvas = make("canvas", { width: WIDTH * runs.length, height: Math.max(...heights) + 56 });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const frames = [];
  for (const step of steps) {
    context.fillStyle = "#fbfaf7";
    context.fillRect(0, 0, canvas.width, canvas.height);
    write(context, title, MARGIN, 26, "600 15px system-ui, sans-serif", "#1b2130", canvas.width - 2 * MARGIN);
    const pictures = await Promise.all(runs.map((run) => loadPictures(run, Math.round((step * run.last) / length))));
    runs.forEach((run, at) => layOut(run, context, Math.round((step * run.last) / length), at * WIDTH, pictures[at]));
    context.fillStyle = "#2c4a9e";
    context.fillRect(0, canvas.height - 4, (canvas.width * step) / length, 4);
    frames.push(context.getImageData(0, 0, canvas.width, canvas.height));
    onProgress?.(frames.length / count);
    await new Promise((resolve) => setTimeout(resolve));
  }
  const delays = steps.map((_, i) => (i === count - 1 ? 250 : Math.round(Math.min(Math.max(500 / count, 8), 40))));
  const bytes = writeGif(frames, delays);
  save("trimask-run.gif", new Blob([bytes], { type: "image/gif" }));
}

function write(context, text, x, y, font, colour, width) {
  Object.assign(context, { font, fillStyle: colour, textBaseline: "alphabetic" });
  let shown = text;
  while (shown.length > 1 && context.measureText(shown).width > width) shown = `${shown.slice(0, -2)}…`;
  context.fillText(shown, x, y);
}

async function loadPictures(run, step) {
  const found = {};
  for (const { name } of run.at(step)) {
    if (run.space(name).decodes_to !== "image") continue;
    const preview = run.isTarget(name) ? run.preview(step, "image") : null;
    const source = preview ? `data:image/png;base64,${preview}` : run.given[name];
    if (!source) continue;
    const image = new Image();
    image.src = source;
    await image.decode().catch(() => {});
    found[name] = image;
  }
  return found;
}

// Draw the canvas of a run at a step, or only measure its height where there is no context.
function layOut(run, context, step, left, pictures = {}) {
  let y = 44;
  const inner = WIDTH - 2 * MARGIN;
  if (run.label && context) write(context, run.label, left + MARGIN, y + 8, "600 12px system-ui, sans-serif", "#2c4a9e", inner);
  if (run.label) y += 18;
  for (const span of run.at(step)) {
    const space = run.space(span.name);
    const kind = space.decodes_to;
    if (kind === "text") {
      const text = TextPanel.read(span);
      y = drawText(context, text, left + MARGIN, y + 8, inner) + 8;
    } else if (space.grid) {
      if (context) drawGrid(context, span, space, pictures[span.name], left + MARGIN, y);
      y += 200 + 14;
    } else {
      if (context) drawStrip(context, run, span, space, step, left + MARGIN, y, inner);
      y += 100;
    }
  }
  return y;
}

function drawText(context, text, x, y, width) {
  const measure = context ?? make("canvas").getContext("2d");
  measure.font = "14px system-ui, sans-serif";
  let line = "";
  for (const word of text.split(/(?<=\s)/)) {
    if (line && measure.measureText(line + word).width > width) {
      if (context) write(context, line, x, y + 12, measure.font, "#1b2130", width);
      y += 20;
      line = "";
    }
    line += word;
  }
  if (context) write(context, line, x, y + 12, measure.font, "#1b2130", width);
  return y + 20;
}

function drawGrid(context, span, space, picture, x, y) {
  const [rows, columns] = space.grid;
  const [width, height] = [200 / columns, 200 / rows];
  context.imageSmoothingEnabled = false;
  if (picture?.naturalWidth) context.drawImage(picture, x, y, 200, 200);
  framesOf(span).forEach((cells, frame) => {
    const [cx, cy] = [(frame % columns) * width, Math.floor(frame / columns) * height];
    const hidden = cells.filter((cell) => cell.masked).length / cells.length;
    context.globalAlpha = hidden;
    context.fillStyle = (Math.floor(frame / columns) + frame) % 2 ? "#c9c6bd" : "#d6d3cb";
    context.fillRect(x + cx, y + cy, width, height);
    context.globalAlpha = 1;
    const share = sureness(cells);
    context.fillStyle = share === null ? "#e4e1da" : colourOf(share);
    context.fillRect(x + 208 + cx, y + cy, width, height);
  });
}

function drawStrip(context, run, span, space, step, x, y, width) {
  const frames = framesOf(span);
  const source = run.isTarget(span.name) ? run.preview(step, "audio") : null;
  if (source && space.frame_rate) {
    const { samples, rate } = readWav(toBytes(source));
    context.save();
    context.translate(x, y);
    drawWave(context, samples, { width, height: 48, colour: "#3f5573", seconds: frames.length / space.frame_rate, rate });
    context.restore();
  }
  const content = contentLength(span);
  frames.forEach((cells, frame) => cells.forEach((cell, at) => {
    if (frame >= content && !cell.masked) return;
    const tall = 36 / cells.length;
    const known = !cell.masked && !isEnd(cell) && typeof cell.share === "number";
    context.fillStyle = cell.masked ? ((frame + at) % 2 ? "#c9c6bd" : "#d6d3cb") : known ? colourOf(cell.share) : "#8d94a3";
    context.fillRect(x + (frame * width) / frames.length, y + 54 + at * tall, Math.max(width / frames.length - 0.5, 1), tall - 0.5);
  }));
}
