// `Run`: what the events of one request have told, and the canvas as it was after any of its steps.

export class Run {
  // description: of the model; body: of the request; given: data URLs of what was dropped, by modality.
  constructor({ description, body, given = {}, label = "" }) {
    Object.assign(this, { description, body, given, label });
    this.events = [];
    this.done = null;
    this.isStopped = false;
    this.place = -1;
    this.heard = performance.now();
  }

  static restore(stored) {
    const run = new Run(stored);
    run.events = stored.events;
    run.done = stored.done;
    run.isStopped = !run.done;
    return run;
  }

  store() {
    const { description, body, given, label, events, done } = this;
    const { modalities, tasks, id } = description;
    return { description: { id, modalities, tasks }, body, given, label, events, done };
  }

  get task() {
    return this.description.tasks.find((task) => task.name === this.body.task);
  }

  get last() {
    return Math.max(this.events.length - 1, 0);
  }

  // Whole seconds since anything was told.
  get idle() {
    return Math.floor((performance.now() - this.heard) / 1000);
  }

  // Whether no more will be told.
  get isOver() {
    return this.isStopped || Boolean(this.done);
  }

  // Steps that it will have taken, as far as that is known.
  get length() {
    const asked = this.body.num_steps ?? this.expected ?? 0;
    return this.isOver ? Math.max(this.last, 1) : Math.max(asked, this.last, 1);
  }

  add(event) {
    this.heard = performance.now();
    if (event.type === "done") this.done = event;
    else this.events.push(event);
  }

  space(name) {
    return this.description.modalities.find((space) => space.name === name);
  }

  isTarget(name) {
    return !this.task.condition.includes(name);
  }

  // The canvas after event `number`: a list of spans {name, codebooks, cells}, in order of the document. Cell i
  // belongs to frame ⌊i / codebooks⌋. Do not change it.
  at(number) {
    const wanted = Math.min(number, this.last);
    if (wanted < this.place) this.place = -1;
    if (this.place < 0) this.spans = [];
    while (this.place < wanted) this.apply(this.events[++this.place], this.place);
    return this.spans;
  }

  apply(event, number) {
    if (event.spans) this.stretch(event.spans);
    for (const [slot, code] of event.given ?? []) {
      const cell = this.cellAt(slot);
      // What another piece of a longer span has revealed keeps its probability.
      if (cell && cell.masked) this.put(cell, { code, given: true, masked: false, since: 0 });
    }
    event.revealed.forEach(([slot, code], at) => {
      const share = event.confidence?.[at] ?? null;
      this.put(this.cellAt(slot), { code, share, masked: false, given: false, since: number });
    });
    for (const slot of event.remasked) {
      this.put(this.cellAt(slot), { code: -1, text: undefined, share: null, masked: true, since: number });
    }
    for (const [slot, text] of event.texts ?? []) this.put(this.cellAt(slot), { text });
  }

  put(cell, values) {
    if (cell) Object.assign(cell, values);
  }

  stretch(spans) {
    const before = new Map(this.spans.map((span) => [span.name, span]));
    this.spans = Object.entries(spans).map(([name, [start, stop, codebooks]]) => {
      const cells = (before.get(name)?.cells ?? []).slice(0, stop - start);
      while (cells.length < stop - start) cells.push({ code: -1, masked: true, given: false, share: null, since: 0 });
      return { name, start, stop, codebooks, cells };
    });
  }

  cellAt(slot) {
    const span = this.spans.find(({ start, stop }) => start <= slot && slot < stop);
    return span?.cells[slot - span.start];
  }

  // The preview that shows most of step `number`: its own, else the next one, else the last before it.
  preview(number, field) {
    const wanted = Math.min(number, this.last);
    for (let at = wanted; at < this.events.length; at++) {
      const found = this.events[at].previews?.[field];
      if (found !== undefined) return found;
    }
    if (this.done?.[field] !== undefined) return this.done[field];
    for (let at = wanted; at >= 0; at--) {
      const found = this.events[at]?.previews?.[field];
      if (found !== undefined) return found;
    }
    return null;
  }

  // Share of the targets that is masked after event `number`.
  masked(number) {
    return this.events[Math.min(number, this.last)]?.t ?? 1;
  }

  // What to send to mask `marked` cells again, by modality a set of frames, and go on from event `number`:
  // codes of every target, −1 where they are to be generated, without what stands behind an end.
  codesToGoOn(number, marked) {
    const codes = {};
    for (const { name, codebooks, cells } of this.at(number)) {
      if (!this.isTarget(name)) continue;
      const rows = [];
      for (let frame = 0; frame * codebooks < cells.length; frame++) {
        const row = cells.slice(frame * codebooks, (frame + 1) * codebooks);
        if (row.some(isEnd) && !marked[name]?.has(frame)) break;
        rows.push(row.map((cell) => (cell.masked || marked[name]?.has(frame) ? -1 : cell.code)));
      }
      codes[name] = rows;
    }
    return codes;
  }
}

export const isEnd = (cell) => !cell.masked && cell.code < 0;

// The first frame behind the contents of a span: that of its first end, or the number of frames.
export function contentLength({ codebooks, cells }) {
  const place = cells.findIndex(isEnd);
  return place < 0 ? cells.length / codebooks : Math.floor(place / codebooks);
}

// Mean probability of the codes of a frame that were revealed; null if there is none.
export function sureness(cells) {
  const known = cells.filter((cell) => !cell.masked && typeof cell.share === "number");
  return known.length ? known.reduce((sum, cell) => sum + cell.share, 0) / known.length : null;
}
