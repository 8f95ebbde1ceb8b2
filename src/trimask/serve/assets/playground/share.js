// What makes a result again: a link with the settings, and the same request for curl and Python.

import { announce, make } from "./dom.js";
import { NAMES } from "./settings.js";

const LONG = 200; // letters of a file's base64: longer ones are shown cut, and copied whole

// "#task=…&prompt=…&seed=…&b.num_steps=…"
export function writeHash({ model, task, prompt, pair, voice, negative_prompt, sides }) {
  const found = new URLSearchParams();
  const own = { model, task, prompt, pair, voice, negative_prompt };
  for (const [name, value] of Object.entries(own)) if (value) found.set(name, value);
  sides.forEach((settings, at) => {
    for (const name of NAMES) if (settings[name] !== undefined) found.set(at ? `b.${name}` : name, settings[name]);
  });
  return `#${found}`;
}

export function readHash(hash) {
  const found = Object.fromEntries(new URLSearchParams(hash.replace(/^#/, "")));
  const sides = [{}, {}];
  let isCompared = false;
  for (const name of NAMES) {
    if (name in found) sides[0][name] = found[name];
    if (`b.${name}` in found) [sides[1][name], isCompared] = [found[`b.${name}`], true];
  }
  return { ...found, sides, isCompared };
}

export function writeCurl(url, body, hasKey) {
  const quoted = JSON.stringify(body).replaceAll("'", "'\\''");
  const key = hasKey ? " \\\n     -H \"Authorization: Bearer $TRIMASK_KEY\"" : "";
  return `curl -N ${url} -H 'Content-Type: application/json'${key} \\\n     -d '${quoted}'`;
}

export function writePython(url, body, hasKey) {
  const key = hasKey ? ', "Authorization": f"Bearer {os.environ[\'TRIMASK_KEY\']}"' : "";
  return `import json${hasKey ? "\nimport os" : ""}
import urllib.request

body = ${literal(body)}
headers = {"Content-Type": "application/json"${key}}
request = urllib.request.Request("${url}", json.dumps(body).encode(), headers)
with urllib.request.urlopen(request) as answer:
    for line in answer:
        if line.startswith(b"data: "):
            event = json.loads(line.removeprefix(b"data: "))
            print(event["type"], event.get("step", ""), event.get("text", ""))
`;
}

function literal(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object") {
    return `{${Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${literal(each)}`).join(", ")}}`;
  }
  return JSON.stringify(value);
}

function shorten(text) {
  return text.replace(/[A-Za-z0-9+/=]{200,}/g, (long) => `${long.slice(0, LONG / 4)}…`);
}

export function showShare(element, { link, url, runs, hasKey, isWhole }) {
  const block = (label, text) => make("div", { class: "copy" },
    make("div", { class: "copy-head" }, make("span", {}, label), copyButton(`Copy ${label}`, text)),
    make("pre", { tabindex: 0, "aria-label": label }, shorten(text)));
  const note = isWhole ? null : make("p", { class: "hint" }, "The link keeps prompt and settings; dropped files and marked parts are in the requests below.");
  element.replaceChildren(
    make("div", { class: "row" }, copyButton("Copy link", link), make("span", { class: "hint" }, "prompt and settings, seed included")),
    ...[note].filter(Boolean),
    ...runs.flatMap(({ label, body }) => [
      block(`curl${label}`, writeCurl(url, body, hasKey)),
      block(`Python${label}`, writePython(url, body, hasKey)),
    ]),
  );
}

// Without encryption, as on a local network, browsers have no clipboard but this.
async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = make("textarea", { class: "sr" });
  area.value = text;
  document.body.append(area);
  area.select();
  const isCopied = document.execCommand("copy");
  area.remove();
  if (!isCopied) throw new Error("not copied");
}

function copyButton(label, text) {
  return make("button", { type: "button", class: "quiet", onclick: async (event) => {
    try {
      await copy(text);
      announce("Copied.");
      event.target.textContent = "Copied";
      setTimeout(() => (event.target.textContent = label), 1500);
    } catch {
      announce("Copying is not allowed here: select the text instead.");
    }
  } }, label);
}
