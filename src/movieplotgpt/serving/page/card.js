/** One plot on its card: as it is written, and with what is known of it when it is whole. */

import { find, make, place } from "./dom.js";
import { poster } from "./poster.js";

const SENTENCE_END = /(?<!\b(?:Mr|Mrs|Ms|Dr|St|Lt|Sgt|Capt|Prof|[A-Z]))[.!?]+["')\]]*(?=\s|$)/g;
const SURPRISING = [0.5, 0.2, 0.05, 0.01]; // probabilities below which a token is coloured more
const ENDINGS = { length: "cut at the limit", stopped: "stopped here" };

/** Where sentences end, behind their last character. */
export function sentenceEnds(text) {
  return [...text.matchAll(SENTENCE_END)].map((match) => match.index + match[0].length);
}

export class Card {
  /** `settings` are those of this text alone; `desk` can goOn(card, begin, seed), changePlan(plan), copy(text, what) and link(settings). */
  constructor(settings, desk) {
    this.settings = settings;
    this.desk = desk;
    this.plan = "";
    this.title = settings.title || settings.begin.split(/\s+/, 4).join(" ") || "Untitled";
    this.written = document.createTextNode(settings.begin);
    this.synopsis = make("div", { class: "synopsis writing" }, this.written);
    this.notes = make("ul", { class: "notes" });
    this.planned = make("p", { class: "plan", hidden: true });
    const id = `title-${crypto.getRandomValues(new Uint32Array(1))[0]}`;
    const hints = Object.entries(settings).filter(([name, value]) => name.startsWith("hint.") && value).map(([, value]) => value);
    const about = [settings.model, `seed ${settings.seed}`, ...hints].join(" · ");
    this.element = make("article", { class: "card", "aria-labelledby": id, "aria-busy": "true" },
      poster(this.title, settings.seed),
      make("div", { class: "sheet" },
        make("header", {}, make("h2", { id }, this.title), make("p", { class: "by" }, about)),
        this.planned, this.synopsis, this.notes,
        make("div", { class: "keep", role: "group", "aria-label": "Keep this plot" },
          make("button", { type: "button", onclick: () => desk.copy(this.text, "Text") }, "Copy text"),
          make("button", { type: "button", onclick: () => desk.copy(desk.link(settings), "Link") }, "Copy link"),
          make("button", { type: "button", onclick: () => this.save("txt", `${this.title}\n\n${this.text}\n`) }, ".txt"),
          make("button", { type: "button", onclick: () => this.save("md", `# ${this.title}\n\n${this.text}\n\n*${about}*\n`) }, ".md"))));
    this.synopsis.addEventListener("keydown", (event) => this.walk(event));
  }

  get text() {
    return this.plot?.text ?? this.written.data;
  }

  /** The plan that the text is written by, and the way to change it. */
  tellPlan(plan) {
    this.plan = plan;
    const change = make("button", { type: "button", class: "link", onclick: () => this.desk.changePlan(plan) }, "Change");
    this.planned.replaceChildren(`Plan: ${plan} `, change);
    this.planned.hidden = false;
  }

  /** More of the text. */
  add(piece) {
    this.written.appendData(piece);
  }

  /** The whole plot as the server tells it, or what there is when it was stopped. */
  finish(plot, surprise) {
    this.plot = plot ?? { text: this.written.data, begun: this.settings.begin, finish_reason: "stopped", unmet: [], changes: [] };
    this.element.setAttribute("aria-busy", "false");
    this.synopsis.classList.remove("writing");
    if (this.plot.hints?.Plan) this.tellPlan(this.plot.hints.Plan);
    this.tellNotes();
    this.show(surprise);
  }

  /** Set the text, with the tokens coloured or not. */
  show(surprise) {
    if (!this.plot) return;
    const { text, begun } = this.plot, ends = new Set(sentenceEnds(text));
    const tokens = surprise ? this.tokens() : [], copies = this.copies();
    const bounds = [...tokens, ...copies].flatMap(({ start, stop }) => [start, stop]);
    const cuts = [...new Set([0, begun.length, text.length, ...ends, ...bounds])].sort((one, other) => one - other);
    const shown = document.createDocumentFragment();
    let inside = null, mark = null; // the copy that is being set
    for (let i = 0, at = 0; i + 1 < cuts.length; i++) {
      const [start, stop] = [cuts[i], cuts[i + 1]];
      while (tokens[at]?.stop <= start) at++;
      const copy = copies.find((each) => each.start <= start && start < each.stop);
      if (copy !== inside) {
        inside = copy;
        mark = copy && this.mark(copy);
        if (mark) shown.append(mark);
      }
      const piece = text.slice(start, stop), token = tokens[at]?.start <= start ? tokens[at] : null;
      (mark ?? shown).append(token ? this.token(token, piece) : start < begun.length ? make("span", { class: "begun" }, piece) : piece);
      if (ends.has(stop) && stop < text.length) (mark ?? shown).append(this.turn(stop));
    }
    this.synopsis.replaceChildren(shown);
    this.synopsis.querySelector(".token")?.setAttribute("tabindex", "0");
  }

  /** Where the tokens stand; none where the plot came without probabilities. */
  tokens() {
    let at = this.plot.begun.length;
    return (this.plot.probabilities ?? []).filter((token) => token.text).map((token) => {
      const start = at;
      at += token.text.length;
      return { ...token, start, stop: at };
    });
  }

  /** The copied passages; the server counts code points, a script counts UTF-16. */
  copies() {
    const characters = Array.from(this.plot.text), place = (point) => characters.slice(0, point).join("").length;
    return (this.plot.copies?.copies ?? []).map((copy, i) => ({ ...copy, start: place(copy.start), stop: place(copy.stop), note: this.noteId(i) }));
  }

  noteId(i) {
    return `${this.element.getAttribute("aria-labelledby")}-copy-${i}`;
  }

  mark(copy) {
    const show = () => tell(copy, mark), hide = () => find("#tip").hidePopover();
    const mark = make("mark", { tabindex: 0, "aria-describedby": copy.note, onpointerenter: show, onfocus: show, onpointerleave: hide, onblur: hide });
    return mark;
  }

  token(token, piece) {
    const level = SURPRISING.filter((limit) => Math.exp(token.logprob) < limit).length;
    const open = (event) => this.offer(token, event.target);
    const name = piece.trim() ? null : shown(piece);
    return make("span", { class: `token s${level}`, role: "button", tabindex: -1, "aria-haspopup": "dialog", "aria-label": name, onclick: open }, piece);
  }

  /** The button after a sentence that continues differently. */
  turn(stop) {
    const said = this.plot.text.slice(0, stop).split(/\s+/).slice(-4).join(" ");
    const label = `Go on another way from here, after: ${said}`;
    return make("button", { type: "button", class: "turn", "aria-label": label, title: "Go on another way from here",
      onclick: () => this.desk.goOn(this, this.plot.text.slice(0, stop)) });
  }

  /** What else the model thought of in a token's place. */
  offer(token, anchor) {
    const panel = find("#others"), begin = this.plot.text.slice(0, token.start);
    find("#others-label").textContent = `“${shown(token.text)}” had ${percent(token.logprob)}. Go on with another:`;
    panel.querySelector("ul").replaceChildren(...token.others.map(([text, logprob]) => {
      const same = text === token.text || !text;
      const choose = () => { panel.hidePopover(); this.desk.goOn(this, begin + text, this.settings.seed); };
      const bar = make("i", { "aria-hidden": "true" });
      bar.style.width = percent(logprob).replace(" ", "").replace("<", "");
      return make("li", {}, make("button", { type: "button", disabled: same, onclick: choose },
        make("span", {}, shown(text)), bar, make("small", {}, percent(logprob))));
    }));
    panel.showPopover();
    place(panel, anchor);
    panel.querySelector("button:enabled")?.focus();
  }

  /** Arrow keys go from token to token, Enter and Space open one. */
  walk(event) {
    if (!event.target.matches(".token")) return;
    const tokens = [...this.synopsis.querySelectorAll(".token")], at = tokens.indexOf(event.target);
    const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tokens.length - 1 }[event.key];
    if (event.key === "Enter" || event.key === " ") event.target.click();
    else if (next === undefined) return;
    else if (tokens[next]) {
      event.target.tabIndex = -1;
      tokens[next].tabIndex = 0;
      tokens[next].focus();
    }
    event.preventDefault();
  }

  tellNotes() {
    const { finish_reason, unmet, changes, copies } = this.plot;
    const told = [ENDINGS[finish_reason], ...unmet, changes.length && `read as: ${changes.join(", ")}`].filter(Boolean);
    if (copies && !copies.copies.length) told.push(`no passage of ${copies.at_least} characters is copied`);
    this.notes.replaceChildren(...told.map((note) => make("li", {}, note)),
      ...(copies?.copies ?? []).map((copy, i) => make("li", { id: this.noteId(i) }, copied(copy))));
  }

  save(kind, text) {
    const url = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
    const name = this.title.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").toLowerCase() || "plot";
    make("a", { href: url, download: `${name}-${this.settings.seed}.${kind}` }).click();
    URL.revokeObjectURL(url);
  }
}

function copied(copy) {
  return `copied: ${copy.length} characters are in the plot of ${copy.title}`;
}

function tell(copy, mark) {
  const tip = find("#tip");
  tip.replaceChildren(make("strong", {}, copy.title), ` has these ${copy.length} characters`);
  tip.showPopover();
  place(tip, mark);
}

function percent(logprob) {
  const value = 100 * Math.exp(logprob);
  return value < 0.1 ? "<0.1 %" : `${value.toFixed(value < 10 ? 1 : 0)} %`;
}

/** A token's text as a person may read it: what goes on a word has a hyphen before it. */
function shown(text) {
  if (!text) return "the end";
  return /^\s+$/.test(text) ? "a new line" : /^[\p{L}\p{N}]/u.test(text) ? `-${text.trim()}` : text.trim();
}
