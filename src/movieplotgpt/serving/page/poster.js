/** A film's poster from its title and seed: the same for the same two. */

import { draw } from "./dom.js";

const WIDTH = 300, HEIGHT = 430, ART = 300;
const PALETTES = [ // ground, ink, and three for the picture
  ["#f2e3c6", "#1f2a38", "#c8442b", "#e29b3f", "#5b7f86"],
  ["#16171c", "#ece5d5", "#b3262a", "#d9b15a", "#585d66"],
  ["#e6ede3", "#12343b", "#2d7f86", "#e07a4b", "#f0c36b"],
  ["#2a1830", "#f7e3d3", "#8a3563", "#e0855c", "#f3bd7c"],
  ["#efe7cd", "#22331f", "#5b7a49", "#c9642f", "#e0b64f"],
  ["#e9edef", "#1b2540", "#3f66a8", "#d9503f", "#a9c3d6"],
  ["#1b2233", "#f4e7c8", "#e0a526", "#b8433a", "#5d6aa0"],
  ["#c94a2f", "#fff1da", "#1f2430", "#f0b95a", "#8c2a1c"],
];
const FACES = [
  { family: "Georgia, 'Times New Roman', serif", weight: 700, upper: false, width: 0.56 },
  { family: "'Avenir Next', 'Helvetica Neue', Arial, sans-serif", weight: 800, upper: true, width: 0.74 },
  { family: "Impact, 'Haettenschweiler', 'Arial Narrow', sans-serif", weight: 700, upper: true, width: 0.66 },
];
const SCENES = [moon, rings, windows, spotlight, doors, sea];

export function poster(title, seed) {
  const random = numbers(`${title}\n${seed}`), pick = (list) => list[Math.floor(random() * list.length)];
  const [ground, ink, ...colours] = pick(PALETTES), scene = pick(SCENES), face = pick(FACES), titleAbove = random() < 0.3;
  const art = draw("svg", { y: titleAbove ? HEIGHT - ART : 0, width: WIDTH, height: ART, viewBox: `0 0 ${WIDTH} ${ART}` });
  for (const [name, attributes] of scene(random, colours, ground, ink)) art.append(draw(name, attributes));
  const lettering = typeset(title, face, titleAbove ? 12 : ART + 8, HEIGHT - ART - 40, ink);
  const small = { x: WIDTH / 2, y: titleAbove ? HEIGHT - ART - 12 : HEIGHT - 14, fill: ink, "text-anchor": "middle" };
  const credit = draw("text", { ...small, "font-size": 8, "letter-spacing": 2.5, "font-family": FACES[1].family }, `No. ${seed}`);
  return draw("svg", { class: "poster", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `Poster: ${title}` },
    draw("rect", { width: WIDTH, height: HEIGHT, fill: ground }), art, lettering, credit);
}

/** Draws from [0, 1): a string's hash (FNV-1a) seeds mulberry32. */
function numbers(text) {
  let state = 2166136261;
  for (const character of text) state = Math.imul(state ^ character.codePointAt(0), 16777619);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The title in as many lines as make it largest. */
function typeset(title, { family, weight, upper, width }, top, height, fill) {
  const short = title.length > 90 ? `${title.slice(0, 89)}…` : title;
  const words = (upper ? short.toUpperCase() : short).split(/\s+/);
  const sizeOf = (lines) => Math.min(46, 264 / (width * Math.max(...lines.map((line) => line.length))), height / lines.length / 1.08);
  const ways = Array.from({ length: 30 }, (_, i) => wrapped(words, i + 4));
  const lines = ways.reduce((best, way) => (sizeOf(way) > sizeOf(best) ? way : best));
  const size = sizeOf(lines), first = top + (height - lines.length * size * 1.08) / 2 + size * 0.86;
  return draw("g", { fill, "font-family": family, "font-weight": weight, "font-size": size, "text-anchor": "middle" },
    ...lines.map((line, i) => draw("text", { x: WIDTH / 2, y: first + i * size * 1.08 }, line)));
}

function wrapped(words, most) {
  return words.reduce((lines, word) => {
    const longer = `${lines.at(-1)} ${word}`.trim();
    return longer.length <= most || !lines.at(-1) ? [...lines.slice(0, -1), longer] : [...lines, word];
  }, [""]);
}

function* moon(random, [a, b, c]) {
  yield ["rect", { width: WIDTH, height: ART, fill: c }];
  yield ["circle", { cx: 80 + random() * 140, cy: 90 + random() * 50, r: 46 + random() * 40, fill: b }];
  for (const [i, fill] of [[0, a], [1, "#0003"], [2, "#0006"]]) {
    const y = 175 + i * 42, peak = 40 + random() * 200;
    yield ["path", { fill, d: `M0 ${y + 20} Q${peak} ${y - 70 + random() * 30} ${peak + 60} ${y} T300 ${y - 20 + random() * 40} V300 H0Z` }];
  }
}

function* rings(random, colours, ground) {
  const x = 60 + random() * 180, y = 70 + random() * 150, inks = [...colours, ground];
  for (let r = 280, i = 0; r > 12; r -= 24 + random() * 14, i++) yield ["circle", { cx: x, cy: y, r, fill: inks[i % inks.length] }];
}

function* windows(random, [a, b, c], ground, ink) {
  yield ["rect", { width: WIDTH, height: ART, fill: a }];
  yield ["circle", { cx: 40 + random() * 220, cy: 60, r: 30, fill: c }];
  for (let x = -8; x < WIDTH;) {
    const wide = 52 + random() * 40, top = 70 + random() * 120;
    yield ["rect", { x, y: top, width: wide - 4, height: ART, fill: "#14161d" }];
    for (let row = top + 12; row < ART - 8; row += 20)
      for (let column = x + 9; column < x + wide - 16; column += 16)
        if (random() < 0.3) yield ["rect", { x: column, y: row, width: 8, height: 11, fill: random() < 0.8 ? b : ink }];
    x += wide;
  }
}

function* spotlight(random, [a, b, c]) {
  const x = 90 + random() * 120, from = random() < 0.5 ? -20 : 320;
  yield ["rect", { width: WIDTH, height: ART, fill: a }];
  yield ["rect", { y: 215, width: WIDTH, height: 85, fill: "#0004" }];
  yield ["path", { fill: b, "fill-opacity": 0.85, d: `M${from} -20 L${x - 62} 244 A62 17 0 0 0 ${x + 62} 244Z` }];
  yield ["ellipse", { cx: x, cy: 244, rx: 62, ry: 17, fill: c }];
  yield* figure(x, 246, 1);
}

function* doors(random, [a, b, c]) {
  const x = 90 + random() * 120, dark = "#1b1a20", inks = [a, c, dark, a, c, dark, b];
  for (const [i, fill] of inks.entries()) {
    const part = 0.72 ** i, floor = 262 + 38 * part;
    yield ["rect", { x: x - x * part, y: floor - 300 * part, width: 300 * part, height: 300 * part, fill }];
  }
  yield ["path", { fill: b, "fill-opacity": 0.8, d: `M${x - x * 0.14} 267 h42 L${x + 60} 300 h-110Z` }];
  yield* figure(x + 4, 268, 0.42);
}

function* sea(random, [a, b, c]) {
  yield ["rect", { width: WIDTH, height: ART, fill: b }];
  yield ["circle", { cx: 70 + random() * 160, cy: 120 + random() * 50, r: 56, fill: c }];
  const x = 60 + random() * 170;
  yield ["path", { fill: "#14161d", d: `M${x - 30} 186 h64 l-12 18 h-42Z M${x} 182 v-76 l36 70Z M${x - 5} 182 v-60 l-24 56Z` }];
  for (let i = 0; i < 5; i++) {
    const y = 196 + i * 22, shift = random() * 60;
    const waves = "q15 -12 30 0 t30 0 ".repeat(7);
    yield ["path", { fill: a, d: `M${-shift} ${y} ${waves} V300 H-60Z` }];
    yield ["path", { fill: "#000", "fill-opacity": 0.1 + i * 0.07, d: `M${-shift} ${y} ${waves} V300 H-60Z` }];
  }
}

/** Someone, standing. */
function* figure(x, y, scale) {
  const at = { transform: `translate(${x} ${y}) scale(${scale})`, fill: "#121318" };
  yield ["path", { ...at, "fill-opacity": 0.35, d: "M-9 0 L9 0 L64 46 L30 46Z" }];
  yield ["path", { ...at, d: "M-9 0 L-7 -34 Q-14 -36 -12 -52 Q0 -66 12 -52 Q14 -36 7 -34 L9 0Z" }];
  yield ["circle", { ...at, cy: -69, r: 9 }];
}
