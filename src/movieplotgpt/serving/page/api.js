/** Asks the server this page came from. */

const KEY = "movieplotgpt.key";
const GONE = "The server does not answer; is it still running? Nothing you typed is lost.";

/** What went wrong, in a sentence for people; status 0 is no answer at all. */
export class Problem extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

let key = stored(() => sessionStorage.getItem(KEY));

export function keepKey(value) {
  key = value;
  stored(() => sessionStorage.setItem(KEY, value));
}

/** What the browser's storage says; nothing, where it may not be used or holds what nobody can read. */
export function stored(action) {
  try { return action(); } catch { return null; }
}

/** GET, or POST where there is a body. Throws a Problem, or AbortError when the signal did it. */
export async function ask(path, body, signal) {
  const headers = {};
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body) headers["Content-Type"] = "application/json";
  const options = { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal };
  const response = await fetch(path, options).catch(unreachable);
  if (!response.ok) throw await refusal(response);
  return response;
}

/** The events of a stream of plots, up to its end. */
export async function* events(body, signal) {
  const response = await ask("v1/plots", { ...body, stream: true }, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ;) {
    const { value, done } = await reader.read().catch(unreachable);
    if (done) throw new Problem("The server broke off before the end; what it wrote stays.");
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts.filter((each) => each.startsWith("data: "))) { // others keep the connection alive
      const data = part.slice("data: ".length);
      if (data === "[DONE]") return;
      const told = JSON.parse(data);
      if (told.error) throw new Problem(sentence(told.error.message), 500);
      yield told;
    }
  }
}

function unreachable(error) {
  throw error.name === "AbortError" ? error : new Problem(GONE);
}

async function refusal(response) {
  if (response.status === 429) {
    const seconds = response.headers.get("Retry-After") ?? "a few";
    return new Problem(`Many plots are being written just now; please try again in ${seconds} s.`, 429);
  }
  const told = await response.json().catch(() => null);
  return new Problem(sentence(told?.error?.message ?? `the server answers ${response.status}`), response.status);
}

function sentence(message) {
  return message[0].toUpperCase() + message.slice(1).replace(/\.?$/, ".");
}
