// How sure the model was, as a colour: cividis (Nuñez et al., 2018), from dark blue to yellow. Its lightness
// rises evenly, so it reads the same with any kind of colour vision, and in grey.

import { make, percent } from "./dom.js";

const STOPS = [
  [0, 32, 77], [0, 51, 111], [57, 72, 107], [87, 92, 109], [112, 113, 115],
  [138, 135, 121], [166, 157, 117], [196, 181, 108], [255, 234, 70],
];

export function mix(share) {
  const place = Math.min(Math.max(share, 0), 1) * (STOPS.length - 1);
  const low = Math.min(Math.floor(place), STOPS.length - 2);
  return STOPS[low].map((value, at) => Math.round(value + (STOPS[low + 1][at] - value) * (place - low)));
}

export function colourOf(share) {
  return `rgb(${mix(share).join(" ")})`;
}

export function luminance([red, green, blue]) {
  const [r, g, b] = [red, green, blue].map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

export function makeLegend() {
  const ramp = make("div", { class: "ramp" });
  for (let at = 0; at <= 10; at++) {
    const step = make("span", { title: percent(at / 10) });
    step.style.background = colourOf(at / 10);
    ramp.append(step);
  }
  return make(
    "div",
    { class: "legend-body", role: "img", "aria-label": "Colours: dark blue is 0 percent sure, yellow is 100 percent" },
    make("span", { class: "swatch masked" }), make("span", {}, "masked"),
    make("span", { class: "swatch given" }), make("span", {}, "given"),
    make("span", { class: "ramp-label" }, "how sure the model was:"),
    make("span", { class: "ramp-scale" }, "0 %", ramp, "100 %"),
  );
}
