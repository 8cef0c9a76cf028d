"""The Jinja template by which other programs turn the messages of a chat into a prompt: a title becomes its header.

The last message of a user is the title, or the beginning of a text where a model has no titles; what an assistant says
after it begins the text. Everything else is left out. transformers, llama.cpp, vLLM and transformers.js each have a Jinja
of their own, so the template keeps to loops, ``replace`` and ``split`` at a blank, which they all understand alike.
"""

from __future__ import annotations

from movieplotgpt.text.cleaning import CleaningSettings, fold_prompt
from movieplotgpt.text.formatting import DocumentFormat
from movieplotgpt.text.tokenizer import Tokenizer

_LETTERS = (*range(0xA0, 0x180), *range(0x2010, 0x2028))  # Latin letters with marks; dashes, quotes, ellipsis
_WHITE_SPACE = [chr(point) for point in range(0x3001) if chr(point).isspace() and chr(point) != " "]
_READ_MESSAGES = """\
{%- set chat = namespace(asked='', begun='', kept='', blanks='') -%}
{%- for message in messages -%}
{%- set said = namespace(text='') -%}
{%- if message['content'] is string -%}
{%- set said.text = message['content'] -%}
{%- elif message['content'] -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'text' -%}
{%- set said.text = said.text + part['text'] -%}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- if message['role'] == 'user' -%}
{%- set chat.asked = said.text -%}
{%- set chat.begun = '' -%}
{%- elif message['role'] == 'assistant' -%}
{%- set chat.begun = said.text -%}
{%- endif -%}
{%- endfor -%}
"""
_ONE_LINE = """\
{%- for word in chat.asked.split(' ') -%}
{%- if word -%}
{%- set chat.kept = chat.kept + (' ' if chat.kept else '') + word -%}
{%- endif -%}
{%- endfor -%}
"""
_WITHOUT_LAST_BLANKS = """\
{%- for word in chat.asked.split(' ') -%}
{%- if word -%}
{%- set chat.kept = chat.kept + chat.blanks + word -%}
{%- set chat.blanks = ' ' -%}
{%- else -%}
{%- set chat.blanks = chat.blanks + ' ' -%}
{%- endif -%}
{%- endfor -%}
"""
_AS_IT_IS = "{%- set chat.kept = chat.asked -%}\n"
_ANSWER = """\
{{- chat.begun -}}
{%- if chat.begun and not add_generation_prompt -%}
{{- eos_token -}}
{%- endif -%}
"""


def chat_template(layout: DocumentFormat, cleaning: CleaningSettings, tokenizer: Tokenizer) -> str:
    """Return the template, which makes of a title the prompt that the completion makes of it.

    Two things need more than a template: a character outside ASCII is folded only where Latin letters with marks and
    typographic punctuation have it, and a title that takes more than half the context is not shortened.
    """
    pairs = {character: fold_prompt(character, cleaning)[0] for character in map(chr, _LETTERS)}
    pairs = {character: folded for character, folded in pairs.items() if folded != character}
    special = dict.fromkeys(dict.fromkeys((tokenizer.end, tokenizer.pad)), "")
    if not layout.header:
        breaks = {"\r\n": "\n", "\r": "\n"} if cleaning.line_breaks else {}
        kept = _WITHOUT_LAST_BLANKS if tokenizer.kind == "bpe" else _AS_IT_IS
        replaced = _replacements({**breaks, **pairs, **special})
        return _READ_MESSAGES + replaced + kept + "{{- bos_token + chat.kept -}}\n" + _ANSWER
    before, after = layout.around_title
    replaced = _replacements({**pairs, **dict.fromkeys(_WHITE_SPACE, " "), **special})
    sentence = f"{{{{- bos_token + {_quoted(before)} + chat.kept + {_quoted(after)} + '\\n' -}}}}\n"
    return _READ_MESSAGES + replaced + _ONE_LINE + sentence + _ANSWER


def _replacements(pairs: dict[str, str]) -> str:
    if not pairs:
        return ""
    listed = ", ".join(f"[{_quoted(old)}, {_quoted(new)}]" for old, new in pairs.items())
    replaced = "{%- set chat.asked = chat.asked.replace(pair[0], pair[1]) -%}"
    return f"{{%- for pair in [{listed}] -%}}\n{replaced}\n{{%- endfor -%}}\n"


def _quoted(text: str) -> str:
    """Return a string literal of Jinja, with the escapes that every implementation knows."""
    for character, escape in (("\\", "\\\\"), ("'", "\\'"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        text = text.replace(character, escape)
    return f"'{text}'"
