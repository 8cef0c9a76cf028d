/** The desk: what is asked for, the plots that come, links that write them again, and the list of earlier ones. */

import { ask, events, keepKey, Problem, stored } from "./api.js";
import { Card, sentenceEnds } from "./card.js";
import { find, make } from "./dom.js";
import { agree, HINT, hintFields, hintValue, setHint } from "./hints.js";

const WILDNESS = [[0.5, 0.1], [0.7, 0.06], [0.85, 0.04], [1, 0.02], [1.15, 0.02], [1.3, 0.015], [1.5, 0.01]];
const NAMED = ["very sober", "sober", "a little sober", "as trained", "a little wild", "wild", "very wild"];
const NUMBERS = ["temperature", "min_p", "top_p", "top_k", "best_of", "seed", "n"];
const HISTORY = "movieplotgpt.history", KEPT = 50;

const form = find("#desk"), models = new Map();
const field = (name) => form.elements.namedItem(name); // form.elements.length is a number
const hintNames = (model) => Object.keys(models.get(model)?.hint_values ?? {});
const without = (text, start) => text.startsWith(start) ? text.slice(start.length) : "";
let writing = null; // the AbortController of what is being written
let cards = [], last = null; // the cards on the stage; the settings that were written last

/** What is asked for, all as text. */
function settings() {
  const names = new Set([...form.elements].map((each) => each.name).filter((name) => name && !name.startsWith("own-")));
  const said = [...names].map((name) => {
    const { type, checked, value } = field(name);
    if (name.startsWith(HINT)) return [name, hintValue(form, name)];
    return [name, type === "checkbox" ? (checked ? "on" : "off") : name === "begin" ? value : value.trim()];
  });
  const { begin, ...others } = Object.fromEntries(said), { tokenizer } = models.get(others.model);
  return { ...others, begin: tokenizer === "bpe" ? begin.replace(/ +$/, "") : begin }; // where a blank begins a word
}

/** Put settings into the form; a seed stays where it was typed, so that Write goes on drawing fresh ones. */
function fill({ seed, ...given }) {
  form.reset();
  if (models.has(given.model)) field("model").value = given.model;
  find("#hints").dataset.model = ""; // what was chosen before is forgotten
  adapt();
  for (const [name, value] of Object.entries(renamed(given)).filter(([name]) => field(name))) {
    if (name.startsWith(HINT)) setHint(form, name, value);
    else if (field(name).type === "checkbox") field(name).checked = value === "on";
    else field(name).value = value;
  }
  adapt();
}

/** Settings of an older link or list, whose hints were named decade, origin and genre, as they are named now. */
function renamed(asked) {
  const hints = new Map(hintNames(asked.model ?? field("model").value).map((hint) => [hint.toLowerCase(), HINT + hint]));
  return Object.fromEntries(Object.entries(asked).map(([name, value]) => [field(name) ? name : hints.get(name) ?? name, value]));
}

/** The settings for one text of one model: without what it does not know. */
function alone(asked, model, seed) {
  const { titles, hints } = models.get(model);
  const known = Object.entries(asked).filter(([name]) => !name.startsWith(HINT) || hints.includes(without(name, HINT)));
  const plan = hints.includes("Plan") ? asked.plan : "";
  return { ...Object.fromEntries(known), plan, title: titles ? asked.title : "", model, compare: "", n: "1", seed: String(seed) };
}

/** The body of a request: what was said, as the server wants it. */
function request(asked) {
  const known = models.get(asked.model), said = (names) => names.filter((name) => asked[name]).map((name) => [name, asked[name]]);
  const numbers = said([...NUMBERS, known.guided && "guidance", known.copies && "avoid_copies"]);
  return {
    ...Object.fromEntries(said(["model", "title", "begin", "plan", "length", "must_mention"])),
    hints: Object.fromEntries(known.hints.filter((name) => asked[HINT + name]).map((name) => [name, asked[HINT + name]])),
    ...Object.fromEntries(numbers.map(([name, value]) => [name, Number(value)])),
    cast: asked.cast ? asked.cast === "on" : known.cast, copies: known.copies, logprobs: 5,
  };
}

/** Write what the settings ask for; `after` is the card that the new one continues and follows. */
async function write(asked, after) {
  stop();
  const run = (writing = new AbortController()), count = Number(asked.n) || 1;
  const groups = [asked.model, asked.compare].filter(Boolean).map((model) =>
    Array.from({ length: count }, (_, i) => new Card(alone(asked, model, Number(asked.seed) + i), desk)));
  const fresh = groups[0].flatMap((_, i) => groups.map((group) => group[i]));
  stage(fresh, after);
  last = asked;
  history.replaceState(null, "", link(asked));
  say(`Writing ${fresh[0].title}.`);
  find("#said").replaceChildren();
  find("#stop").hidden = false;
  complain("");
  let ended = [];
  try {
    ended = await Promise.all(groups.map((group) => stream(group, run, group.includes(fresh[0]) ? reader() : () => {})));
  } finally {
    if (writing === run) idle();
    else ended = [false]; // something else is being written by now
  }
  if (ended.every(Boolean)) say(fresh.length > 1 ? `${fresh.length} plots are written.` : "The plot is written.");
}

/** Show one model's stream on its cards; whether it came to its end. */
async function stream(group, run, read) {
  const asked = { ...group[0].settings, n: String(group.length) };
  try {
    for await (const { index, text, plan, plot } of events(request(asked), run.signal)) {
      if (plan) group[index].tellPlan(plan);
      else if (plot) finish(group[plot.index], plot);
      else if (text) group[index].add(text);
      if (text ? index === 0 : plot?.index === 0) read(group[0].text, Boolean(plot));
    }
    return true;
  } catch (error) {
    for (const card of group.filter((each) => !each.plot)) {
      if (card.text !== card.settings.begin) finish(card, null);
      else remove(card);
    }
    if (error.name !== "AbortError") explain(error);
    return false;
  }
}

function finish(card, plot) {
  card.finish(plot, find("#surprise").checked);
  remember(card);
}

/** Tells those who listen each sentence once it is whole. */
function reader() {
  let told = 0;
  return (text, whole) => {
    const stop = whole ? text.length : sentenceEnds(text).filter((end) => end < text.length).at(-1) ?? 0;
    if (stop > told) find("#said").append(make("p", {}, text.slice(told, stop).trim()));
    told = Math.max(told, stop);
  };
}

function stop() {
  if (!writing) return;
  writing.abort();
  idle();
  say("Stopped.");
}

function idle() {
  writing = null;
  if (document.activeElement === find("#stop")) find("#write").focus();
  find("#stop").hidden = true;
}

/** Put cards on the stage: alone, or after the one they continue. */
function stage(fresh, after) {
  const elements = fresh.map((card) => card.element);
  if (after) after.element.after(...elements);
  else find("#cards").replaceChildren(...elements);
  cards = after ? [...cards, ...fresh] : fresh;
  const { top } = elements[0].getBoundingClientRect(), still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (top < 0 || top > innerHeight * 0.6) elements[0].scrollIntoView({ behavior: still ? "auto" : "smooth", block: "start" });
}

function remove(card) {
  card.element.remove();
  cards = cards.filter((each) => each !== card);
}

/** What a card can ask for. */
const desk = {
  link,
  goOn: (card, begin, seed = anySeed()) => write({ ...card.settings, plan: card.plan, begin, seed }, card),
  changePlan: (plan) => {
    field("plan").value = plan;
    field("plan").focus();
  },
  copy: async (text, what) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      copyOldWay(text); // a server in the local network is no secure context
    }
    say(`${what} copied.`);
  },
};

function copyOldWay(text) {
  const from = document.activeElement, field = make("textarea", { class: "unseen" });
  field.value = text;
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
  from.focus();
}

function link(asked) {
  const said = Object.entries(asked).filter(([, value]) => value);
  return `${location.href.split("#")[0]}#${new URLSearchParams(said)}`;
}

/** Write what the address asks for. */
function follow() {
  const asked = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  if (!asked.seed) return;
  fill({ length: "", ...asked });
  const missing = [asked.model, asked.compare].find((name) => name && !models.has(name));
  if (missing) complain(`The model ${missing} of this link is not served here; choose another one.`);
  else write({ ...settings(), seed: asked.seed });
}

function anySeed() {
  return String(Math.floor(Math.random() * 1e6));
}

function say(text) {
  find("#status").textContent = text;
}

function complain(text) {
  find("#problem").textContent = text;
  find("#problem").hidden = !text;
  if (text) say("");
}

function explain(error) {
  if (!(error instanceof Problem)) throw error;
  find("#key").hidden = error.status !== 401;
  complain(error.message);
}

/** Earlier plots, the latest first; an empty list where the browser keeps nothing. */
function earlier() {
  return stored(() => JSON.parse(localStorage.getItem(HISTORY))) ?? [];
}

function remember({ settings: asked, title, plot }) {
  const others = earlier().filter((entry) => link(entry.asked) !== link(asked));
  keep([{ asked, title, plot }, ...others].slice(0, KEPT));
}

/** Keep as many of the entries as there is room for. */
function keep(entries) {
  const short = (_, value) => (typeof value === "number" ? Number(value.toFixed(3)) : value);
  try {
    localStorage.setItem(HISTORY, JSON.stringify(entries, short));
  } catch {
    if (entries.length > 1) return keep(entries.slice(0, -1));
  }
  list();
}

function list() {
  const entries = earlier();
  find("#history").replaceChildren(...entries.map((entry) => make("li", {},
    make("button", { type: "button", onclick: () => reopen(entry) }, entry.title,
      make("small", {}, `${entry.asked.model} · seed ${entry.asked.seed}`)))));
  find("#clear").hidden = !entries.length;
  find("#no-history").hidden = Boolean(entries.length);
}

function reopen({ asked: said, plot }) {
  const asked = renamed(said);
  stop();
  fill(asked);
  const card = new Card(asked, desk);
  stage([card]);
  card.finish(plot, find("#surprise").checked);
  last = asked;
  history.replaceState(null, "", link(asked));
  say("An earlier plot is open.");
}

/** Show what the chosen model knows, and what is chosen. */
function adapt() {
  const known = models.get(field("model").value), step = WILDNESS.map(([temperature]) => Math.abs(temperature - field("temperature").value));
  find("#title-field").hidden = find("#ideas").hidden = !known?.titles;
  if (known) adaptTo(known);
  find("#plan-field").hidden = !known?.hints.includes("Plan");
  find("[data-card=compare]").hidden = !field("compare").value;
  const hints = hintNames(known?.id).map((name) => hintValue(form, HINT + name));
  find("#hints-said").textContent = hints.filter(Boolean).join(", ");
  const wildness = find("#wildness");
  wildness.value = step.indexOf(Math.min(...step));
  wildness.setAttribute("aria-valuetext", NAMED[wildness.value]);
}

/** Show another model's hints and defaults; a hint that was chosen stays where both know it. */
function adaptTo({ id, cast, hint_values }) {
  const box = find("#hints");
  box.hidden = !Object.keys(hint_values).length;
  if (box.dataset.model === id) return;
  const before = hintNames(box.dataset.model).map((hint) => HINT + hint).map((name) => [name, hintValue(form, name)]);
  box.dataset.model = id;
  box.querySelectorAll("fieldset").forEach((each) => each.remove());
  box.append(...hintFields(hint_values));
  for (const [name, value] of before) if (value && field(name)) setHint(form, name, value);
  field("cast").checked = cast;
}

async function showCard(name) {
  const text = await (await ask(`v1/models/${encodeURIComponent(name)}/card`)).text(), about = find("#about");
  find("#about-label").textContent = `The card of ${name}`;
  const lines = text.replace(/^---\n.*?\n---\n+/s, "").split("\n"); // without the front matter
  about.querySelector("pre").replaceChildren(...lines.flatMap((line) => [line.startsWith("#") ? make("strong", {}, line) : line, "\n"]));
  about.showModal();
}

/** Write what the form asks for; a server that was gone is asked for its models again. */
async function writeNew(event) {
  event.preventDefault();
  if (!models.size) await start();
  const asked = settings();
  await write({ ...asked, seed: asked.seed || anySeed() });
}

function again() {
  if (!last || !form.reportValidity()) return form.requestSubmit();
  const seed = String(Number(last.seed) + (Number(last.n) || 1));
  if (field("seed").value) field("seed").value = seed;
  return write({ ...settings(), seed });
}

async function invent() {
  field("title").value = (await (await ask("v1/titles", { model: field("model").value })).json()).title;
  field("title").focus();
}

async function start() {
  const { data } = await (await ask("v1/models")).json();
  const option = ({ id, parameters }) => make("option", { value: id }, `${id} (${(parameters / 1e6).toFixed(1)} M)`);
  data.forEach((model) => models.set(model.id, model));
  field("model").replaceChildren(...data.map(option));
  field("compare").replaceChildren(field("compare").options[0], ...data.map(option));
  complain("");
  find("#key").hidden = true;
  adapt();
}

function listen() {
  const kindly = (action) => async (event) => { try { await action(event); } catch (error) { explain(error); } };
  form.addEventListener("submit", kindly(writeNew));
  form.addEventListener("input", ({ target }) => {
    agree(form, target);
    if (target.id === "wildness") [field("temperature").value, field("min_p").value] = WILDNESS[target.value];
    adapt();
  });
  form.addEventListener("invalid", ({ target }) => { const around = target.closest("details"); if (around) around.open = true; }, true);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault(); // else a field submits as well
      form.requestSubmit();
    }
    if (event.key === "Escape" && !find("dialog[open], #others:popover-open")) stop();
  });
  find("#stop").addEventListener("click", stop);
  find("#again").addEventListener("click", kindly(again));
  find("#invent").addEventListener("click", kindly(invent));
  find("#clear").addEventListener("click", () => { keep([]); find("#title").focus(); });
  find("#about button").addEventListener("click", () => find("#about").close());
  find("#key").addEventListener("submit", kindly((event) => { event.preventDefault(); keepKey(find("#key-field").value); return start().then(follow); }));
  find("#surprise").addEventListener("change", ({ target }) => {
    find("#legend").hidden = !target.checked;
    cards.forEach((card) => card.show(target.checked));
  });
  for (const button of document.querySelectorAll("[data-card]"))
    button.addEventListener("click", kindly(() => showCard(field(button.dataset.card).value)));
  addEventListener("hashchange", kindly(follow));
}

find("#hints").open = matchMedia("(min-width: 64rem)").matches;
list();
listen();
start().then(follow).catch(explain);
