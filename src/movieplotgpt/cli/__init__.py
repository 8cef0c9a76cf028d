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

from cyclopts import App, Parameter

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
    suppress_keyboard_interrupt=False,  # main says it, and returns 130
)
COMMANDS = {  # name: where it is, and its line in --help (so that --help imports none of them)
    "generate": ("generate:generate", "Write a plot for a title, or continue a text."),
    "write": ("write:write", "Write with the model: titles in, plots out, again, from a sentence, keep."),
    "serve": ("serve:serve", "Serve models: OpenAI's API, and a page to write with."),
    "copies": ("copies:copies", "Tell what of a text was copied from the training text, and from which film."),
    "train": ("train:train", "Train a model, from a TOML or straight from a text or table."),
    "prepare": ("prepare:prepare", "Clean, split and tokenize a corpus; print what was found."),
    "evaluate": ("evaluate:evaluate", "Score a model in bits per character, beside compressors."),
    "compare": ("compare:compare", "Train sizes and tokenizers at an equal budget; say which to take."),
    "plan": ("plan:plan", "Tell a training's time, memory and result before it is started."),
    "average": ("average:average", "Average the weights of models that have a common beginning."),
    "export": ("export:export", "Write a model for llama.cpp, Ollama or ONNX Runtime, and run it there."),
    "import": ("import_model:import_model", "Make a checkpoint of a Qwen3 that others trained, to fine-tune it."),
    "info": ("info:info", "Tell what a model is."),
    "completion": ("completion:completion", "Print a script that completes commands and options in a shell."),
    "schema": ("schema:schema", "Print the JSON schema of a settings file, for editors."),
    "doctor": ("doctor:doctor", "Show what text is generated and models are trained with, and what is missing."),
    "corpus": ("corpus:app", "Fetch the public texts the published models were trained on."),
    "weights": ("weights:app", "Download, list, verify and publish models."),
    "report": ("report:report", "Write results/RESULTS.md and results.html from what was kept."),
}
EXAMPLES = {  # what stands below a command's own --help
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
for _name, (_place, _help) in COMMANDS.items():
    _lines = [f"  movieplotgpt {example}" for example in EXAMPLES.get(_name, ())]
    _examples = {"help_epilogue": "\n".join(["Examples:", *_lines])} if _lines else {}
    app.command(f"movieplotgpt.cli.{_place}", name=_name, help=_help, **_examples)


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
    """Return what to say of an error that a person can cause; None for any other."""
    if isinstance(error, MoviePlotGPTError):
        return in_flags(str(error))
    if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
        return str(MissingExtraError(error.name, EXTRAS[error.name]))
    if isinstance(error, OSError):  # refused by the system, and not foreseen by us: a full disk, a bad path
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror or error}"
    return None
