// GIF89a: frames of one size with a palette of their own making, packed by LZW.

const COLOURS = 256;

// frames: ImageData of one size; delays: of each, in hundredths of a second. Returns bytes.
export function writeGif(frames, delays) {
  const { width, height } = frames[0];
  const { palette, indexOf } = choosePalette(frames);
  const out = [];
  const text = (letters) => out.push(...[...letters].map((letter) => letter.charCodeAt(0)));
  const short = (value) => out.push(value & 255, value >> 8);
  text("GIF89a");
  short(width);
  short(height);
  out.push(0xf7, 0, 0); // a global palette of 256 colours
  for (let at = 0; at < COLOURS; at++) out.push(...(palette[at] ?? [0, 0, 0]));
  out.push(0x21, 0xff, 11);
  text("NETSCAPE2.0");
  out.push(3, 1, 0, 0, 0); // plays for ever
  frames.forEach((frame, number) => {
    out.push(0x21, 0xf9, 4, 4);
    short(delays[number]);
    out.push(0, 0, 0x2c);
    for (const value of [0, 0, width, height]) short(value);
    out.push(0, 8);
    const packed = pack(indices(frame, indexOf));
    for (let at = 0; at < packed.length; at += 255) {
      const block = packed.slice(at, at + 255);
      out.push(block.length);
      for (const byte of block) out.push(byte);
    }
    out.push(0);
  });
  out.push(0x3b);
  return new Uint8Array(out);
}

const bin = (data, at) => ((data[at] >> 3) << 10) | ((data[at + 1] >> 3) << 5) | (data[at + 2] >> 3);

function indices({ data }, indexOf) {
  const found = new Uint8Array(data.length / 4);
  for (let i = 0; i < found.length; i++) found[i] = indexOf(bin(data, 4 * i));
  return found;
}

// The palette halves the box of colours with the widest spread until there are enough (median cut).
function choosePalette(frames) {
  const counts = new Uint32Array(1 << 15);
  const sums = new Float64Array(3 << 15);
  for (const { data } of frames) {
    for (let at = 0; at < data.length; at += 4) {
      const place = bin(data, at);
      counts[place] += 1;
      for (let c = 0; c < 3; c++) sums[3 * place + c] += data[at + c];
    }
  }
  const used = [];
  for (let place = 0; place < counts.length; place++) if (counts[place]) used.push(place);
  const channel = (place, c) => (place >> (10 - 5 * c)) & 31;
  const measure = (places) => {
    let widest = [-1, 0];
    for (let c = 0; c < 3; c++) {
      let [low, high] = [31, 0];
      for (const place of places) {
        low = Math.min(low, channel(place, c));
        high = Math.max(high, channel(place, c));
      }
      if (high - low > widest[0]) widest = [high - low, c];
    }
    return { places, spread: widest[0], axis: widest[1] };
  };
  const boxes = [measure(used)];
  while (boxes.length < COLOURS) {
    boxes.sort((a, b) => b.spread - a.spread);
    if (!boxes[0] || boxes[0].spread <= 0) break;
    const { places, axis } = boxes.shift();
    places.sort((a, b) => channel(a, axis) - channel(b, axis));
    const half = places.reduce((sum, place) => sum + counts[place], 0) / 2;
    let [cut, seen] = [0, 0];
    while (cut < places.length - 1 && seen < half) seen += counts[places[cut++]];
    cut = Math.max(cut, 1);
    boxes.push(measure(places.slice(0, cut)), measure(places.slice(cut)));
  }
  const numbers = new Map();
  const palette = boxes.map(({ places }, number) => {
    const total = [0, 0, 0, 0];
    for (const place of places) {
      numbers.set(place, number);
      for (let c = 0; c < 3; c++) total[c] += sums[3 * place + c];
      total[3] += counts[place];
    }
    return total.slice(0, 3).map((sum) => Math.round(sum / total[3]));
  });
  return { palette, indexOf: (place) => numbers.get(place) };
}

function pack(pixels) {
  const [clear, end] = [256, 257];
  const out = [];
  let [bits, held] = [0, 0];
  let size = 9;
  let codes = new Map();
  let next = end + 1;
  const put = (code) => {
    bits |= code << held;
    held += size;
    while (held >= 8) {
      out.push(bits & 255);
      bits >>>= 8;
      held -= 8;
    }
  };
  put(clear);
  let prefix = pixels[0];
  for (let at = 1; at < pixels.length; at++) {
    const pixel = pixels[at];
    const key = (prefix << 8) | pixel;
    const known = codes.get(key);
    if (known !== undefined) {
      prefix = known;
      continue;
    }
    put(prefix);
    if (next === 4096) {
      put(clear);
      [size, next, codes] = [9, end + 1, new Map()];
    } else {
      if (next === 1 << size) size += 1;
      codes.set(key, next++);
    }
    prefix = pixel;
  }
  put(prefix);
  if (next === 1 << size && size < 12) size += 1; // whoever reads has added a code by now
  put(end);
  if (held) out.push(bits & 255);
  return out;
}
