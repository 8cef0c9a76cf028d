/** Byte pairs and bytes from a tokenizer.json, as the tokenizers library reads it: the same ids for every text. */

// GPT-2's words; white space is Unicode's, of which JavaScript's \s has one character more and one less
const WORDS = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

/** GPT-2's character for each byte: itself where Latin-1 can show it, else the next one from U+0100 on. */
function visibleBytes() {
  let standIn = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const shown = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte !== 0xad);
    return String.fromCodePoint(shown ? byte : standIn++);
  });
}

export class Tokenizer {
  #ids; #ranks; #bytes; #special; #specials; #symbols = visibleBytes(); #known = new Map();

  constructor(spec) {
    if (spec.model.byte_fallback) throw new Error("This page reads byte pairs and bytes, not characters.");
    const byteOf = new Map(this.#symbols.map((symbol, byte) => [symbol, byte]));
    this.#special = new Map(spec.added_tokens.map(({ id, content }) => [content, id]));
    this.endId = spec.added_tokens[0].id;
    const longestFirst = [...this.#special.keys()].sort((a, b) => b.length - a.length);
    this.#specials = new RegExp(`(${longestFirst.map((each) => each.replace(/\W/g, "\\$&")).join("|")})`);
    this.#ids = new Map(Object.entries(spec.model.vocab));
    this.#ranks = new Map(spec.model.merges.map((pair, rank) => [pair.join(" "), rank]));
    this.#bytes = [];
    for (const [token, own] of this.#ids) {
      const spelled = this.#special.has(token) ? new TextEncoder().encode(token) : null;
      this.#bytes[own] = spelled ?? Uint8Array.from(token, (each) => byteOf.get(each));
    }
  }

  /** The ids of a text; a special token in it is its one id. */
  encode(text) {
    return text.toWellFormed().split(this.#specials).flatMap((part) => {
      if (this.#special.has(part)) return [this.#special.get(part)];
      return (part.match(WORDS) ?? []).flatMap((word) => this.#word(word));
    });
  }

  /** A function from ids, one by one, to the characters they complete; called without one, to what is left. */
  decoder() {
    const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });
    return (id) => id === undefined ? utf8.decode() : utf8.decode(this.#bytes[id] ?? new Uint8Array(), { stream: true });
  }

  #word(word) {
    if (!this.#known.has(word)) this.#known.set(word, this.#merged(word).map((symbol) => this.#ids.get(symbol)));
    return this.#known.get(word);
  }

  /** The symbols of a word, the pair that was learnt first joined first. */
  #merged(word) {
    let parts = Array.from(new TextEncoder().encode(word), (byte) => this.#symbols[byte]);
    for (;;) {
      let best = Infinity;
      for (let at = 1; at < parts.length; at++) {
        best = Math.min(best, this.#ranks.get(`${parts[at - 1]} ${parts[at]}`) ?? Infinity);
      }
      if (best === Infinity) return parts;
      const joined = [];
      for (const part of parts) {
        const before = joined.at(-1);
        if (before !== undefined && this.#ranks.get(`${before} ${part}`) === best) joined[joined.length - 1] = before + part;
        else joined.push(part);
      }
      parts = joined;
    }
  }
}
