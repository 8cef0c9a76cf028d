/** The page: what is asked for goes to the writer, what it writes goes in as text. */

const find = (selector) => document.querySelector(selector);
const form = find("#desk"), field = form.elements, status = find("#status"), text = find("#text");
let writer, stopping;

form.addEventListener("submit", (event) => {
  event.preventDefault();
  write();
});
find("#stop").addEventListener("click", () => stopping?.abort());
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") stopping?.abort();
});
field.temperature.addEventListener("input", () => find("#degrees").replaceChildren(Number(field.temperature.value).toFixed(1)));
find("#begins").addEventListener("click", (event) => {
  if (event.target.tagName !== "BUTTON") return;
  field.begin.value = event.target.textContent;
  field.begin.focus();
});

async function write() {
  busy(true);
  stopping = new AbortController();
  const seed = field.seed.value === "" ? crypto.getRandomValues(new Uint32Array(1))[0] : Number(field.seed.value);
  const asked = {
    seed, temperature: Number(field.temperature.value), minP: Number(field.minp.value),
    tokens: Number(field.tokens.value), signal: stopping.signal,
  };
  const begun = document.createElement("span"), added = document.createTextNode("");
  begun.className = "begun";
  begun.append(field.begin.value.replace(/ +$/, ""));
  text.replaceChildren(begun, added);
  status.replaceChildren("Writing…");
  text.scrollIntoView({ block: "nearest" });
  const began = performance.now();
  let tokens = 0, why;
  try {
    for (const steps = writer.write(field.begin.value, asked); ; tokens++) {
      const { done, value } = await steps.next();
      if (done) {
        why = value;
        break;
      }
      added.appendData(value);
      await new Promise((go) => setTimeout(go)); // the page is drawn and hears of a stop
    }
    const rate = Math.round(tokens / (performance.now() - began) * 1000);
    const ends = { end: "the scene has ended", length: "as long as asked for", stopped: "stopped" };
    status.replaceChildren(`${tokens} tokens, ${rate} a second; ${ends[why]}. Seed ${seed}.`);
  } catch (error) {
    status.replaceChildren(`It cannot go on: ${error.message}`);
  }
  busy(false);
}

function busy(now) {
  text.setAttribute("aria-busy", now);
  const hadFocus = document.activeElement === find(now ? "#write" : "#stop");
  find("#write").disabled = now;
  find("#stop").disabled = !now;
  if (hadFocus) find(now ? "#stop" : "#write").focus();
}

try {
  const { Writer } = await import("./writer.js");
  writer = await Writer.load("vendor/model/", (share) => status.replaceChildren(`Fetching the model: ${Math.round(100 * share)} %`));
  status.replaceChildren("Ready.");
  find("#write").disabled = false;
} catch (error) {
  status.replaceChildren(`The model cannot be loaded: ${error.message}`);
}
