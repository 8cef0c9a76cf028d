#!/bin/sh
# Brings into vendor/ what the page needs beside itself: ONNX Runtime for browsers, from npm, and a model without titles.
# PYTHON=... has movieplotgpt[onnx]; MODEL=office-char is no choice: the page reads byte pairs and bytes.
set -eu
cd "$(dirname "$0")"
runtime=onnxruntime-web-1.30.0
sha256=d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71
partial=vendor.partial
rm -rf "$partial"
mkdir "$partial"
trap 'rm -rf "$partial"' EXIT

npm pack --silent --pack-destination "$partial" "onnxruntime-web@${runtime##*-}" >/dev/null
printf '%s  %s\n' "$sha256" "$partial/$runtime.tgz" | { sha256sum -c - 2>/dev/null || shasum -a 256 -c -; } >/dev/null
for file in ort.wasm.min.mjs ort-wasm-simd-threaded.mjs ort-wasm-simd-threaded.wasm; do
    tar -xzf "$partial/$runtime.tgz" -O "package/dist/$file" >"$partial/$file"
done
rm "$partial/$runtime.tgz"

"${PYTHON:-python3}" -m movieplotgpt export "${MODEL:-office-bpe}" --to onnx --type "${TYPE:-bf16}" --out "$partial"
mv "$partial/onnx-${TYPE:-bf16}" "$partial/model"
rm -rf vendor
mv "$partial" vendor
