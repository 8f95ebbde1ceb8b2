// An exported run: its steps are in the page.

import { find } from "./dom.js";
import { Side } from "./canvas.js";
import { makeLegend } from "./colour.js";
import { Run } from "./run.js";
import { listenToArrows } from "./keys.js";
import { Timeline } from "./timeline.js";

const { runs } = JSON.parse(find("data").textContent);
const sides = runs.map((stored) => {
  const side = new Side({ title: stored.label });
  side.show(Run.restore(stored));
  find("sides").append(side.element);
  return side;
});
find("sides").classList.toggle("two", sides.length > 1);
find("legend").append(makeLegend());
const timeline = new Timeline(find("timeline"), () => sides);
timeline.seek(timeline.length);
listenToArrows(timeline);
