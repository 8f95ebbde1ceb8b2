// Talking to the server: its key, its errors, its events.

const KEY = "trimask.key";
const MOST_WAITS = 6;

export class ApiError extends Error {
  constructor(status, body) {
    const error = body?.error ?? {};
    super(error.message ?? `the server answered ${status}`);
    this.status = status;
    this.param = error.param ?? null;
  }
}

export const readKey = () => sessionStorage.getItem(KEY);
export const keepKey = (key) => sessionStorage.setItem(KEY, key);

function headers(more = {}) {
  const key = readKey();
  return key ? { ...more, Authorization: `Bearer ${key}` } : more;
}

async function explain(answer) {
  let body = null;
  try {
    body = await answer.json();
  } catch {
    // not the server's own: a proxy before it
  }
  return new ApiError(answer.status, body);
}

export async function getJson(path) {
  const answer = await fetch(path, { headers: headers() });
  if (!answer.ok) throw await explain(answer);
  return answer.json();
}

// Yields the events of POST /v1/canvas. A busy server says when to come back, and is obeyed.
export async function* fillCanvas(body, { signal, onWait }) {
  let answer;
  for (let number = 0; ; number++) {
    answer = await fetch("v1/canvas", {
      method: "POST",
      headers: headers({ "Content-Type": "application/json" }),
      body: JSON.stringify(body),
      signal,
    });
    if (answer.status !== 429 || number === MOST_WAITS) break;
    const seconds = Number(answer.headers.get("Retry-After")) || 1;
    onWait?.(seconds);
    await sleep(seconds * 1000, signal);
  }
  if (!answer.ok) throw await explain(answer);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const line = block.split("\n").find((each) => each.startsWith("data: "));
      if (!line) continue;
      const event = JSON.parse(line.slice(6));
      if (event.error) throw new ApiError(200, event);
      yield event;
    }
  }
}

function sleep(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("stopped", "AbortError"));
    });
  });
}
