"""Run a GGUF file with llama.cpp."""

from __future__ import annotations

import json
import sys
import urllib.request
from typing import Any

import xllamacpp


def main() -> None:
    """Answer the request on stdin."""
    asked = json.load(sys.stdin)
    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel = asked["path"], len(asked["prompt"]) + asked["tokens"], 1
    params.port, params.verbosity, params.cpuparams.n_threads, params.cpuparams_batch.n_threads = 0, 0, 1, 1
    # by default it rounds keys and values to half the bits
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = xllamacpp.Server(params)

    def ask(place: str, body: dict[str, Any]) -> dict[str, Any]:
        data = json.dumps(body).encode()
        request = urllib.request.Request(server.listening_address + place, data, {"content-type": "application/json"})
        answer: dict[str, Any] = json.load(urllib.request.urlopen(request))
        return answer

    ids = [ask("/tokenize", {"content": text, "parse_special": True})["tokens"] for text in asked["texts"]]
    body = {"prompt": asked["prompt"], "n_predict": asked["tokens"], "temperature": 0, "return_tokens": True}
    answer = ask("/completion", body)
    sys.stdout.write(json.dumps({"ids": ids, "written": answer["tokens"], "ended": answer["stop_type"] == "eos"}))


if __name__ == "__main__":
    main()
