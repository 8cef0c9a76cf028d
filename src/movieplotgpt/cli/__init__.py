"""The command line: arguments in, library calls, words out. The only package that prints.

One file per command; each imports the library inside its function, so that ``--help`` answers at once. stdout carries
the product; progress, warnings and errors go to stderr. Exit codes: 0, 1 for an error in one sentence, 2 for usage,
70 for an unexpected error, whose traceback goes to a log file, 130 when interrupted.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

from cyclopts import App, Group, Parameter

from movieplotgpt import __version__
from movieplotgpt.cli.streams import open_streams
from movieplotgpt.cli.words import in_flags
from movieplotgpt.errors import EXTRAS, MissingExtraError, MoviePlotGPTError

app = App(
    name="movieplotgpt",
    help="A small GPT trained from scratch on text you love: from a CSV or a text file to a model that writes.",
    version=__version__,
    help_format="plaintext",
    default_parameter=Parameter(negative=""),  # no --no-json: a command names the negatives that it has
    suppress_keyboard_interrupt=False,  # main reports it and returns 130
)
WRITE, TRAIN, MEASURE, SHARE, OTHER = "Write", "Train", "Measure", "Share", "Other"  # groups in --help, in this order
COMMANDS = {  # name: module and function, line in --help (which imports none of them), group
    "generate": ("generate:generate", "Write a text for a title, or continue a text.", WRITE),
    "write": ("write:write", "Write interactively: type titles, read texts, try again from any sentence.", WRITE),
    "serve": ("serve:serve", "Serve models: an OpenAI-compatible API and a page to write with.", WRITE),
    "copies": ("copies:copies", "Find what a text shares with a model's training text.", WRITE),
    "train": ("train:train", "Train a model from a text, a table or a settings file.", TRAIN),
    "prepare": ("prepare:prepare", "Clean, split and tokenize a corpus; print what was found.", TRAIN),
    "plan": ("plan:plan", "Estimate time, memory and result of a training before it starts.", TRAIN),
    "average": ("average:average", "Average the weights of models that started from the same one.", TRAIN),
    "import": ("import_model:import_model", "Import a Qwen3 model trained elsewhere, to fine-tune it.", TRAIN),
    "corpus": ("corpus:app", "Download the public texts that the published models were trained on.", TRAIN),
    "evaluate": ("evaluate:evaluate", "Score a model in bits per character, beside compressors.", MEASURE),
    "compare": ("compare:compare", "Train sizes and tokenizers at an equal budget and recommend one.", MEASURE),
    "report": ("report:report", "Write results/RESULTS.md and results.html from all evaluations.", MEASURE),
    "weights": ("weights:app", "Download, list, verify and publish models.", SHARE),
    "export": ("export:export", "Write a model for llama.cpp, Ollama or ONNX Runtime, and run it there.", SHARE),
    "info": ("info:info", "Show a model's size, tokenizer, hints, corpus and training.", SHARE),
    "doctor": ("doctor:doctor", "Show what this installation writes and trains with, and what is missing.", OTHER),
    "schema": ("schema:schema", "Print the JSON schema of a settings file, for editors.", OTHER),
    "completion": ("completion:completion", "Print a script that completes commands and options in a shell.", OTHER),
}
EXAMPLES = {  # shown at the end of a command's own --help
    "generate": (
        """generate --title "The Lighthouse Keeper's Daughter\"""",
        """generate --input "A retired thief" --temperature 0.7 --seed 1""",
    ),
    "write": ("write", "write office-bpe --temperature 0.7"),
    "serve": ("serve", "serve --model plots-bpe plots-large --port 8080"),
    "copies": ("copies plot.txt", "copies plot.txt --model plots-bpe --data data/plots-bpe"),
    "train": (
        "train mytext.txt --minutes 5",
        "train films.csv --title-column Title --text-column Plot",
        "train configs/plots-bpe.toml --source plots.csv --minutes 45",
        "train configs/plots-bpe.toml --resume",
    ),
    "prepare": ("prepare configs/plots-bpe.toml --source plots.csv --out data/plots",),
    "evaluate": ("evaluate runs/plots-bpe --data data/plots --out plots-bpe.json",),
    "compare": ("compare mytext.txt --minutes 20", "compare configs/studies/plots.toml --source plots.csv"),
    "plan": ("plan configs/plots-bpe.toml --source plots.csv --minutes 45", "plan mytext.txt --minutes 5"),
    "average": (
        "average runs/tuned-1 runs/tuned-2 -o runs/mean",
        "average plots-bpe runs/tuned-1 runs/tuned-2 --weights 2 1 1 -o runs/mean",
    ),
    "export": ("export plots-bpe --to gguf --type q8_0", "export runs/mine --to all -o exports/mine"),
    "import": ("""import hf:Qwen/Qwen3-0.6B-Base -o models/qwen3 --header "The plot of '{Title}' is:\"""",),
    "info": ("info office-bpe",),
    "completion": ("completion bash > ~/.local/share/bash-completion/completions/movieplotgpt",),
    "schema": ("schema > movieplotgpt.schema.json",),
    "report": ("report --figure plots-bpe=runs/plots-bpe",),
}
_groups = {name: Group(name, sort_key=number) for number, name in enumerate((WRITE, TRAIN, MEASURE, SHARE, OTHER))}
for _name, (_place, _help, _group) in COMMANDS.items():
    _lines = [f"  movieplotgpt {example}" for example in EXAMPLES.get(_name, ())]
    _examples = {"help_epilogue": "\n".join(["Examples:", *_lines])} if _lines else {}
    app.command(f"movieplotgpt.cli.{_place}", name=_name, help=_help, group=_groups[_group], **_examples)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    gc.set_threshold(100_000)  # imports make many objects that stay; looking for garbage among them takes time
    open_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        result = app(words, result_action="return_value")
        sys.stdout.flush()  # a reader that has gone is found out here, not at exit
        return result if isinstance(result, int) else 0
    except KeyboardInterrupt:
        print("movieplotgpt: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of stdout has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        sentence = _sentence(error)
        if sentence is not None:
            print(f"movieplotgpt: {sentence}", file=sys.stderr)
            return 1
        from movieplotgpt.cli.unexpected import EXIT_CODE, report

        print(f"movieplotgpt: {report(error, words)}", file=sys.stderr)
        return EXIT_CODE


def _sentence(error: Exception) -> str | None:
    """Return the message of an error that a person can cause; None for any other."""
    if isinstance(error, MoviePlotGPTError):
        return in_flags(str(error))
    if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
        return str(MissingExtraError(error.name, EXTRAS[error.name]))
    if isinstance(error, OSError):  # refused by the system, and not foreseen by us: a full disk, a bad path
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror or error}"
    return None
