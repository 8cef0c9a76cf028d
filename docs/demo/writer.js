/** The network by ONNX Runtime, and how the next token is drawn from what it says. */

import * as ort from "./vendor/ort.wasm.min.mjs";
import { Tokenizer } from "./bpe.js";

ort.env.wasm.wasmPaths = new URL("vendor/", import.meta.url).href;
ort.env.wasm.numThreads = 1; // more need headers that a plain file server does not send

export class Writer {
  #session; #past; #read = 0; #start = -1;

  /** Load a model folder; told() is given the share of the weights that is here. */
  static async load(folder, told) {
    const json = async (name) => (await fetched(folder + name)).json();
    const writer = new Writer();
    const [config, spec, weights] = await Promise.all([
      json("config.json"), json("tokenizer.json"), download(folder + "onnx/model.onnx", told),
    ]);
    writer.tokenizer = new Tokenizer(spec);
    writer.context = config.max_position_embeddings;
    writer.nothing = [1, config.num_key_value_heads, 0, config.head_dim];
    writer.#session = await ort.InferenceSession.create(weights, { executionProviders: ["wasm"] });
    return writer;
  }

  /** Yields what each token adds to the text; returns why it ended: "end", "length" or "stopped". */
  async *write(begin, { temperature, minP, seed, tokens, signal }) {
    const random = generator(seed), decode = this.tokenizer.decoder();
    const body = this.tokenizer.encode(begin.replace(/ +$/, "")); // a token is a blank and its word
    this.#start = -1;
    for (let written = 0; written < tokens; written++) {
      const id = choose(await this.#logits(body), temperature, minP, random);
      if (signal.aborted) return "stopped";
      if (id === this.tokenizer.endId) {
        yield decode();
        return "end";
      }
      body.push(id);
      yield decode(id);
    }
    return "length";
  }

  /** The logits behind a text: the window moves on as in training, and what it holds is read once. */
  async #logits(body) {
    const start = pieceStart(body.length + 1, this.context);
    if (start !== this.#start) {
      for (const tensor of this.#past?.values() ?? []) tensor.dispose();
      const names = this.#session.inputNames.filter((name) => name !== "input_ids");
      this.#past = new Map(names.map((name) => [name, new ort.Tensor("float32", new Float32Array(), this.nothing)]));
      [this.#start, this.#read] = [start, 0];
    }
    const ids = [this.tokenizer.endId, ...body.slice(start)].slice(this.#read);
    const input_ids = new ort.Tensor("int64", BigInt64Array.from(ids, BigInt), [1, ids.length]);
    const found = await this.#session.run({ input_ids, ...Object.fromEntries(this.#past) });
    for (const [name, old] of this.#past) {
      old.dispose();
      this.#past.set(name, found[name.replace("past_key_values", "present")]);
    }
    this.#read += ids.length;
    const size = found.logits.dims[2];
    return found.logits.data.slice(-size);
  }
}

/** Where in a text of so many tokens the last window begins: each one repeats a quarter of a context. */
export function pieceStart(length, context) {
  let start = 0;
  for (let stop = context; stop < length; stop = start + context) start = Math.max(0, stop - Math.floor(context / 4));
  return start;
}

/** A token: the likeliest at temperature 0, else drawn from those at least minP times as likely as it. */
export function choose(logits, temperature, minP, random) {
  let best = 0;
  for (let id = 1; id < logits.length; id++) if (logits[id] > logits[best]) best = id;
  if (!temperature) return best;
  const shares = Array.from(logits, (logit) => Math.exp((logit - logits[best]) / temperature));
  const kept = shares.map((share) => (share >= minP ? share : 0));
  let point = random() * kept.reduce((sum, share) => sum + share, 0);
  for (let id = 0; id < kept.length; id++) if (kept[id] && (point -= kept[id]) < 0) return id;
  return best;
}

/** Numbers in [0, 1), the same for the same seed. Source: mulberry32 by Tommy Ettinger, public domain. */
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

async function fetched(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`${address} is not here; run build.sh.`);
  return answer;
}

async function download(address, told) {
  const answer = await fetched(address), size = Number(answer.headers.get("content-length"));
  const parts = [];
  let here = 0;
  for (const reader = answer.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    here += value.length;
    if (size) told(Math.min(1, here / size));
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}
