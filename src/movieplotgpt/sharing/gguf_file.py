"""A checkpoint as one GGUF file, which llama.cpp and what is built on it run.

llama.cpp's own converter refuses any tokenizer it has not met; the gguf library writes what is needed. A tokenizer of
bytes and merges is the one llama.cpp calls "gpt2"; characters with bytes to fall back on are what it calls "llama".
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Literal, get_args

import gguf
import numpy as np
from gguf import GGMLQuantizationType, LlamaFileType, TokenType
from gguf.metadata import yaml

from movieplotgpt.engine.model_config import MIN_P, TEMPERATURE, parameters
from movieplotgpt.errors import CheckpointError, ConfigError
from movieplotgpt.model.checkpoints import Checkpoint
from movieplotgpt.text.chat_template import chat_template
from movieplotgpt.text.pretrained import PretrainedTokenizer
from movieplotgpt.text.tokenizer import PAD_ID, Tokenizer

GgufType = Literal["f32", "f16", "bf16", "q8_0"]
_TYPES: dict[str, tuple[GGMLQuantizationType, LlamaFileType]] = {
    "f32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "bf16": (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}
_ARCHITECTURE = gguf.MODEL_ARCH.QWEN3
_BLOCK = 32  # weights that share a scale in q8_0
_NO_MERGE = "\u0100 \u0100"  # two zero bytes: llama.cpp wants at least one merge


def save_gguf(checkpoint: Checkpoint, path: Path, weights: GgufType = "bf16") -> None:
    """Write ``checkpoint`` to ``path``, its matrices in the format ``weights``; norms stay float32.

    Raises:
        CheckpointError: the front matter of the model card is not YAML.
        ConfigError: no such kind of weights, a tokenizer that others trained, or rows that do not divide into blocks.
        OSError: the disk refused; no partial file remains.
    """
    if weights not in _TYPES:
        raise ConfigError(f"GGUF weights {weights!r} are not known; take one of {', '.join(get_args(GgufType))}")
    if isinstance(checkpoint.tokenizer, PretrainedTokenizer):
        raise ConfigError(
            "this model has the tokenizer of another, which is not written here; llama.cpp's convert_hf_to_gguf.py knows it"
        )
    rows = [matrix.shape[1] for matrix in checkpoint.weights().values() if matrix.ndim == 2]
    odd = next((size for size in rows if size % _BLOCK), None)
    if weights == "q8_0" and odd:
        raise ConfigError(f"q8_0 needs rows of a multiple of {_BLOCK} weights, not {odd}; take f16")
    written = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        _write(checkpoint, written, weights)
        written.replace(path)
    finally:
        written.unlink(missing_ok=True)


def _write(checkpoint: Checkpoint, path: Path, weights: GgufType) -> None:
    kind, file_type = _TYPES[weights]
    config = checkpoint.config
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[_ARCHITECTURE])
    _metadata(checkpoint).set_gguf_meta_model(writer)
    writer.add_file_type(file_type)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(config.n_ff)
    writer.add_head_count(config.n_head)
    writer.add_head_count_kv(config.n_kv_head)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    _add_tokenizer(writer, checkpoint.tokenizer, config.vocab_size)
    writer.add_chat_template(chat_template(checkpoint.format, checkpoint.cleaning, checkpoint.tokenizer))
    names = gguf.get_tensor_name_map(_ARCHITECTURE, config.n_layer)
    for own, values in checkpoint.weights().items():
        name = names.get_name(own, try_suffixes=(".weight",))
        assert name is not None, f"{own} has no name in GGUF"
        as_kind = GGMLQuantizationType.F32 if values.ndim == 1 else kind
        writer.add_tensor(name, gguf.quantize(values, as_kind), raw_dtype=as_kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _metadata(checkpoint: Checkpoint) -> gguf.Metadata:
    """Return what the model card states, if there is one, and the sampling defaults."""
    folder, size = checkpoint.folder, parameters(checkpoint.config)
    defaults = gguf.Metadata(
        name=folder.name if folder else "movieplotgpt",
        size_label=gguf.size_label(size, size, 0, 0),
        description=_summary(folder / "README.md") if folder else None,
        sampling_temp=TEMPERATURE,
        sampling_min_p=MIN_P,
        sampling_top_k=0,
        sampling_top_p=1.0,
        sampling_penalty_repeat=1.0,
    )
    try:
        card = gguf.Metadata.load_model_card(folder)
    except (yaml.YAMLError, UnicodeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"the front matter of {folder}/README.md is not YAML ({reason}); mend or remove it"
        ) from None
    return gguf.Metadata.apply_metadata_heuristic(defaults, card or {"tags": ["movieplotgpt", "text-generation"]})


def _summary(card: Path) -> str | None:
    """The paragraph under the title of a model card, without links."""
    found = re.search(r"^# .*\n+(.+)$", card.read_text("utf-8", "replace"), re.MULTILINE) if card.is_file() else None
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", found[1]) if found else None


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer, rows: int) -> None:
    """The tokens, filled up to the embedding's rows."""
    model = json.loads(tokenizer.to_json())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    kinds = [TokenType.NORMAL] * len(tokens)
    kinds[tokenizer.end_id] = kinds[tokenizer.pad_id] = TokenType.CONTROL
    if tokenizer.kind == "char":
        kinds[1:PAD_ID] = [TokenType.BYTE] * (PAD_ID - 1)
        tokens[257:] = [token.replace(" ", "\u2581") for token in tokens[257:]]
        writer.add_tokenizer_model("llama")
        writer.add_add_space_prefix(False)
        writer.add_token_scores(np.zeros(rows, np.float32).tolist())
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_merges([" ".join(pair) for pair in model["merges"]] or [_NO_MERGE])
    missing = rows - len(tokens)
    writer.add_token_list(tokens + [f"<unused{i}>" for i in range(missing)])
    writer.add_token_types(kinds + [TokenType.UNUSED] * missing)
    writer.add_bos_token_id(tokenizer.end_id)
    writer.add_eos_token_id(tokenizer.end_id)
    writer.add_pad_token_id(tokenizer.pad_id)
    writer.add_add_bos_token(True)
