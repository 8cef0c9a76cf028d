#!/bin/sh
# Brings into vendor/ what the page needs beside itself: ONNX Runtime for browsers, from npm, and a model without titles.
# PYTHON is one that has movieplotgpt[train]; MODEL may be another one of byte pairs or bytes, TYPE another type of weights.
set -eu
cd "$(dirname "$0")"
runtime=onnxruntime-web-1.30.0
sha256=d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71
partial=vendor.partial
rm -rf "$partial"
mkdir "$partial"
trap 'rm -rf "$partial"' EXIT

npm pack --silent --pack-destination "$partial" "onnxruntime-web@${runtime##*-}" >/dev/null
found=$({ sha256sum "$partial/$runtime.tgz" 2>/dev/null || shasum -a 256 "$partial/$runtime.tgz"; } | cut -d ' ' -f 1)
[ "$found" = "$sha256" ] || { echo "$runtime.tgz has the SHA-256 $found, not $sha256: it is not the file meant" >&2; exit 1; }
for file in ort.wasm.min.mjs ort-wasm-simd-threaded.mjs ort-wasm-simd-threaded.wasm; do
    tar -xzf "$partial/$runtime.tgz" -O "package/dist/$file" >"$partial/$file"
done
rm "$partial/$runtime.tgz"

"${PYTHON:-python3}" -m movieplotgpt export "${MODEL:-office-bpe}" --to onnx --type "${TYPE:-bf16}" --out "$partial"
mv "$partial/onnx-${TYPE:-bf16}" "$partial/model"
rm -rf vendor
mv "$partial" vendor
