"""Write the reference pages that come from the code: the command line and the settings.

python docs/reference/build.py            # write them
python docs/reference/build.py --check    # fail if one is stale
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from movieplotgpt import __version__
from movieplotgpt.cli import WRITE, app
from movieplotgpt.config import Settings
from movieplotgpt.schema import toml_schema
from movieplotgpt.study.grid import StudySettings
from movieplotgpt.training.run import RunConfig

HERE = Path(__file__).parent
BOUNDS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}"}
TYPES = {"integer": "integer", "number": "number", "string": "text", "boolean": "true or false"}
INTRODUCTION = """# Settings

Every setting of a TOML file, with its type, default and meaning. A file may begin with `extends = "other.toml"` and then
only says what differs. On the command line a setting is changed by `section.key=value`; the value `none` turns it off.

`movieplotgpt schema > movieplotgpt.schema.json` writes this as a JSON schema. With it, editors complete names and mark
mistakes; Taplo and Even Better TOML read `#:schema movieplotgpt.schema.json` in the first line of a file.
"""
STUDIES = """
# Settings of a study

`movieplotgpt compare STUDY.toml` reads these; `movieplotgpt schema --study` is their schema.
"""


def settings_page() -> str:
    """Return the Markdown of every setting."""
    text = "\n".join([INTRODUCTION, *_sections(RunConfig), STUDIES, *_sections(StudySettings)])
    return re.sub("\n{3,}", "\n\n", text)


def _sections(cls: type[Settings]) -> list[str]:
    schema = toml_schema(cls)
    plain = {key: node for key, node in schema["properties"].items() if key != "extends" and not _refers(node)}
    lines, written = [_table(plain)] if plain else [], set[str]()
    for key, node in schema["properties"].items():
        if key not in plain and key != "extends":
            lines += _section(key, node, schema["$defs"], 2, written)
    return lines


def _section(path: str, node: dict[str, Any], definitions: dict[str, Any], level: int, written: set[str]) -> list[str]:
    """Return a heading, what the section is for, and its settings; then the sections in it, each once."""
    if path in written:
        return []
    written.add(path)
    members = [definitions[name] for name in _refers(node)]
    lines = []
    for number, member in enumerate(members):
        properties = dict(member["properties"])
        kind = properties.pop("kind", {}).get("const")
        if number == 0:
            lines.append(f"\n{'#' * level} {path}\n\n{node.get('description', '')}".rstrip() + "\n")
        if len(members) > 1:
            lines.append(f'\n{"#" * (level + 1)} {path}: kind = "{kind}"\n')
        lines.append(f"{member['description'].split(chr(10) * 2)[0]}\n")
        lines.append(_table({key: value for key, value in properties.items() if not _refers(value)}))
        for key, value in properties.items():
            if _refers(value):
                inner = f"{path}.{key}" if "additionalProperties" not in value else f"{path}.{key}.NAME"
                lines += _section(inner, value, definitions, level + 1, written)
    return lines


def _refers(node: dict[str, Any]) -> list[str]:
    """Return the names of the sections that a value may be."""
    options = [node, *node.get("anyOf", ())]
    for inner in (node.get("additionalProperties"), node.get("items")):
        options += [inner, *inner.get("anyOf", ())] if isinstance(inner, dict) else []
    return [option["$ref"].rpartition("/")[2] for option in options if "$ref" in option]


def _table(properties: dict[str, Any]) -> str:
    if not properties:
        return ""
    rows = ["| setting | type | default | meaning |", "| --- | --- | --- | --- |"]
    for key, node in properties.items():
        default = f"`{json.dumps(node['default'], ensure_ascii=False)}`" if "default" in node else ""
        cells = (f"`{key}`", _type(node), default, node.get("description", ""))
        rows.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _type(node: dict[str, Any]) -> str:
    if "anyOf" in node:
        return " or ".join(dict.fromkeys(_type(option) for option in node["anyOf"]))
    if "enum" in node or "const" in node:
        return ", ".join(f"`{value}`" for value in node.get("enum", [node.get("const")]))
    if node.get("type") == "array":
        return f"list of {_type(node['items'])}" if isinstance(node.get("items"), dict) else "list"
    if node.get("type") == "object":
        return "table"
    bounds = [text.format(node[key]) for key, text in BOUNDS.items() if key in node]
    return " ".join([TYPES.get(node.get("type", ""), "value"), *bounds])


def command_line_page() -> str:
    """Return the Markdown of every command and its options."""
    return app.generate_docs(heading_level=1).rstrip() + "\n"


def man_page() -> str:
    """Return the manual page, in roff."""
    from docutils.core import publish_string

    name, summary = app.name[0], str(app.help)
    text = app.generate_docs(output_format="rst")
    text = text[text.index(f"**{WRITE}:**") :]  # after heading and table of contents
    head = f"{'=' * len(name)}\n{name}\n{'=' * len(name)}\n\n{'-' * len(summary)}\n{summary}\n{'-' * len(summary)}\n"
    page: bytes = publish_string(
        f"{head}\n:Manual section: 1\n:Version: {__version__}\n\n{text}",
        writer="manpage",
        settings_overrides={"report_level": 5},  # equal headings of different commands are no fault
    )
    return page.decode()


PAGES = {"settings.md": settings_page, "command-line.md": command_line_page}


def main() -> int:
    """Write the pages, or with --check compare them with the files, or write the manual page."""
    if "--man" in sys.argv:
        target = Path(sys.argv[-1])
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(man_page(), encoding="utf-8")
        return 0
    stale = []
    for name, page in PAGES.items():
        path, text = HERE / name, page()
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
    if stale:
        print(f"{', '.join(stale)} in docs/reference is stale: run make reference", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
