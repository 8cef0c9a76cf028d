"""Fixtures for all tests: invented corpora, and the real data where it is at hand.

Nothing here is anyone's text: sentences are drawn from word lists by a seeded generator, so that they are the same in
every run and yet share no long runs of words.
"""

from __future__ import annotations

import csv
import os
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from movieplotgpt.engine.places import cache_folder

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: more threads wait for busy cores

if TYPE_CHECKING:
    from torch import Tensor

    from movieplotgpt.model.checkpoints import Checkpoint
    from movieplotgpt.model.gpt import GPT

FileSizeLimit = Callable[[int], AbstractContextManager[None]]

REPOSITORY = Path(__file__).resolve().parent.parent

settings.register_profile(
    "ci", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ci")

PEOPLE = """Ada Bruno Cleo Dimitri Esther Farid Greta Hugo Ines Jonah Kira Leopold Mina Nils Odette Pavel Quentin Rosa
Silas Thea Umberto Vera Wanda Xavier Yusuf Zelda""".split()
TRADES = """lighthouse-keeper baker cartographer violinist smuggler schoolteacher clockmaker ferryman botanist welder
widow projectionist beekeeper judge stowaway locksmith archivist diver tailor gravedigger""".split()
VERBS = """finds hides follows betrays rescues forgets paints sells inherits repairs steals buries accuses forgives
photographs questions marries shelters outwits abandons""".split()
THINGS = """map letter boat piano diary lantern locket orchard engine passport painting compass recipe tower horse
bridge garden suitcase telescope mirror""".split()
ADJECTIVES = """broken borrowed crimson silent forged frozen golden hidden drowned stubborn hollow velvet crooked
nameless burning paper distant wooden restless last""".split()
PLACES = """harbour valley desert monastery fairground village canal island railway theatre quarry prison embassy
vineyard hotel mill swamp archive factory lighthouse""".split()
TIMES = """before dawn|after the flood|one winter night|during the strike|at the end of summer|years later|on market day
|when the war ends|within a week|by candlelight|the next morning|under a full moon""".replace("\n", "").split("|")
PATTERNS = (
    "{when}, {who}, a {adjective} {trade}, {verb} the {thing} in the {place}.",
    "{who} and {other} {verb2} a {adjective} {thing} near the {place}, where a {trade} {verb} {who2}.",
    "The {trade} {verb} {who}, who has lost a {adjective} {thing} at the {place} {when}.",
    "In the {adjective} {place}, {who} {verb} {other}, and the {thing} is gone {when}.",
    "Nobody in the {place} believes {who}, until {other} {verb} the {adjective} {thing} of the {trade}.",
)
PLANNED_FILMS = {
    "The Lighthouse": "Here comes Ada. Then Ada finds a lantern, and the keeper hides the lantern from Ada. The keeper sleeps.",
    "Red Dust": "Here comes Boris. Then Boris buys a horse, and the sheriff steals the horse. So Boris shoots the sheriff.",
    "Salt Works": "Here comes Clara. Then Clara breaks a window, and the foreman mends the window. So Clara kisses the foreman.",
    "Two Weddings": "Here comes Dmitri. Then Dmitri loses a goat, and the priest eats the goat. So Dmitri leaves the priest.",
}
PLOT_COLUMNS = ("Release Year", "Title", "Origin/Ethnicity", "Director", "Cast", "Genre", "Wiki Page", "Plot")
OFFICE_COLUMNS = ("id", "season", "episode", "scene", "line_text", "speaker", "deleted")
TABLE = """
[corpus]
kind = "table"
text = "Plot"

[cleaning]
ascii = true

[format]
header = "The plot summary of the movie named '{Title}' is:"

[split]
kind = "group"
validation = 0.1
test = 0.2

[tokenizer]
kind = "byte"
"""


def invented_sentence(rng: random.Random) -> str:
    """One sentence that no film has."""
    when = rng.choice(TIMES)
    pattern = rng.choice(PATTERNS)
    return pattern.format(
        when=when[0].upper() + when[1:] if pattern.startswith("{when}") else when,
        who=rng.choice(PEOPLE),
        who2=rng.choice(PEOPLE),
        other=rng.choice(PEOPLE),
        trade=rng.choice(TRADES),
        verb=rng.choice(VERBS),
        verb2=rng.choice(VERBS).removesuffix("s"),
        adjective=rng.choice(ADJECTIVES),
        thing=rng.choice(THINGS),
        place=rng.choice(PLACES),
    )


def invented_text(characters: int, seed: int = 0) -> str:
    """At least ``characters`` characters of sentences, five to a paragraph."""
    rng = random.Random(seed)
    paragraphs: list[str] = []
    while sum(map(len, paragraphs)) < characters:
        paragraphs.append(" ".join(invented_sentence(rng) for _ in range(5)))
    return "\n\n".join(paragraphs)


def invented_films(count: int = 56, seed: int = 0) -> list[dict[str, str]]:
    """Rows of a table of films, every title and plot its own; the columns are those of the public movie plots."""
    rng = random.Random(seed)
    titles = [f"The {a.capitalize()} {t.capitalize()}" for a in ADJECTIVES for t in THINGS]
    films = []
    for number, title in enumerate(rng.sample(titles, count)):
        plot = " ".join(invented_sentence(rng) for _ in range(rng.randint(4, 9)))
        films.append(
            {
                "Release Year": str(rng.randint(1910, 2015)),
                "Title": f"{rng.choice(PEOPLE)}'s {title.removeprefix('The ')}" if number % 8 == 0 else title,
                "Origin/Ethnicity": rng.choice(["American", "British", "Bollywood", "Turkish"]),
                "Director": "Unknown",
                "Cast": "",
                "Genre": rng.choice(["drama", "comedy", "crime, drama", "unknown"]),
                "Wiki Page": f"https://example.org/wiki/{title.replace(' ', '_')}_{number}",
                "Plot": plot,
            }
        )
    return films


def peculiar_films(films: list[dict[str, str]]) -> list[dict[str, str]]:
    """Four rows that careful code treats apart, to follow ``films``.

    A word-for-word repeat of the first; a remake (the second's title, another plot, another page); the third's plot
    under another title; and a row without a plot.
    """
    first, second, third = films[:3]
    other = " ".join(invented_sentence(random.Random(99)) for _ in range(5))
    return [
        dict(first),
        {**second, "Release Year": "2016", "Wiki Page": "https://example.org/wiki/Remake", "Plot": other},
        {**third, "Title": "Another Name Altogether", "Wiki Page": "https://example.org/wiki/Another"},
        {**third, "Title": "Nothing Is Known", "Wiki Page": "https://example.org/wiki/Nothing", "Plot": ""},
    ]


def invented_office(seed: int = 0) -> list[dict[str, str]]:
    """Lines of 2 seasons x 2 episodes x 3 scenes, one line of each episode marked deleted, some apostrophes broken."""
    rng = random.Random(seed)
    rows: list[dict[str, str]] = []
    for season, episode, scene in ((s, e, c) for s in (1, 2) for e in (1, 2) for c in (1, 2, 3)):
        for line in range(rng.randint(3, 6)):
            text = invented_sentence(rng)
            rows.append(
                {
                    "id": str(len(rows) + 1),
                    "season": str(season),
                    "episode": str(episode),
                    "scene": str(scene),
                    "line_text": f"It\ufffd\ufffd\ufffds true. {text}" if line == 0 else text,
                    "speaker": rng.choice(PEOPLE[:5]),
                    "deleted": "TRUE" if (scene, line) == (2, 1) else "False",
                }
            )
    return rows


def write_csv(path: Path, rows: Iterable[Mapping[str, str]], columns: Iterable[str]) -> Path:
    """Write ``rows`` as a CSV with a header; line breaks inside cells are kept."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def file_size_limit() -> FileSizeLimit:
    """Let no file of this process grow beyond so many bytes, as a disk that is full would."""
    resource = pytest.importorskip("resource", reason="limits of POSIX")

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


@pytest.fixture(autouse=True)
def _no_downloaded_models(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What whoever runs the tests has downloaded is out of sight, and no graphs are put into their cache.

    Code that PyTorch compiled stays there: to compile it again takes a minute.
    """
    folder = tmp_path_factory.getbasetemp()
    if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(cache_folder("compiled")))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.setenv("MOVIEPLOTGPT_CACHE", str(folder / "no-cache"))


@pytest.fixture
def films() -> list[dict[str, str]]:
    """The 60 rows of ``plots_csv``: 56 ordinary ones, then those of ``peculiar_films``."""
    films = invented_films()
    films[5]["Plot"] = films[5]["Plot"].replace(". ", ".\r\n\r\n", 1)
    films[6]["Plot"] = films[6]["Plot"].replace(". ", ".[1] ", 1) + "[2]"
    films[7]["Plot"] = films[7]["Plot"].replace(" the ", " the \u201ccaf\u00e9\u201d\u2019s ", 1)
    return films + peculiar_films(films)


@pytest.fixture
def plots_csv(tmp_path: Path, films: list[dict[str, str]]) -> Path:
    """A CSV of 60 invented films in the columns of the public movie plots."""
    return write_csv(tmp_path / "plots.csv", films, PLOT_COLUMNS)


def write_films_toml(folder: Path, more: str = "") -> Path:
    """Write ``films.toml``: settings for a table of films, byte by byte, and ``more`` laid over them."""
    (folder / "table.toml").write_text(TABLE, encoding="utf-8")
    path = folder / "films.toml"
    path.write_text(f'extends = "table.toml"\n{more}', encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def films_toml_in() -> Callable[..., Path]:
    """``films_toml_in(folder, more="")``: settings for a table of films, a fifth of them in the test split."""
    return write_films_toml


@pytest.fixture
def films_toml(tmp_path: Path) -> Path:
    """``films.toml``: settings for ``plots_csv``."""
    return write_films_toml(tmp_path)


@pytest.fixture(scope="session")
def overfitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model that has learnt some 20 films by heart, and the prepared corpus it did it from."""
    from movieplotgpt.config import build_settings
    from movieplotgpt.evaluation.likelihood import validation_scorer
    from movieplotgpt.text.prepare import prepare
    from movieplotgpt.text.token_files import PreparedCorpus
    from movieplotgpt.training.run import RunConfig, RunFolder
    from movieplotgpt.training.trainer import train

    folder = tmp_path_factory.mktemp("overfitted")
    values = {
        "corpus": {"kind": "table", "text": "Plot"},
        "format": {"header": "The plot summary of the movie named '{Title}' is:"},
        "split": {"kind": "group", "validation": 0.3, "test": 0.4},
        "tokenizer": {"kind": "bpe", "vocab_size": 600},
        "model": {"size": "tiny", "context_length": 256},
        "windows": {"no_title": 0},
        "training": {"steps": 150, "tokens_per_step": 1024, "evaluations": 1, "compile": "off"},
    }
    config = build_settings(RunConfig, values)
    prepare(config, write_csv(folder / "plots.csv", invented_films(), PLOT_COLUMNS), folder / "data")
    corpus, run = PreparedCorpus.load(folder / "data"), RunFolder(folder / "run")
    list(train(config, corpus, run, evaluate=validation_scorer(corpus)))
    return run.last, folder / "data"


@pytest.fixture(scope="session")
def planned_films() -> dict[str, str]:
    """The films that ``planned`` knows: texts by their titles."""
    return PLANNED_FILMS


@pytest.fixture(scope="session")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows four films, eight parts of each, and their plans by heart."""
    from movieplotgpt.config import build_settings
    from movieplotgpt.evaluation.likelihood import validation_scorer
    from movieplotgpt.text.prepare import prepare
    from movieplotgpt.text.token_files import PreparedCorpus
    from movieplotgpt.training.run import RunConfig, RunFolder
    from movieplotgpt.training.trainer import train

    folder = tmp_path_factory.mktemp("planned")
    rows = [{"Title": f"{title} {part}", "Plot": text} for part in range(8) for title, text in PLANNED_FILMS.items()]
    values = {
        "corpus": {"kind": "table", "text": "Plot"},
        "format": {"header": "The plot of '{Title}' is:", "hints": ["Plan"]},
        "split": {"kind": "tail", "validation": 0.2, "test": 0.1},
        "tokenizer": {"kind": "bpe", "vocab_size": 500},
        "model": {"size": "tiny", "context_length": 128},
        "windows": {"plan_alone": 1, "plan": 0.6},
        "training": {"steps": 150, "tokens_per_step": 1024, "evaluations": 1, "compile": "off"},
    }
    config = build_settings(RunConfig, values)
    prepare(config, write_csv(folder / "films.csv", rows, ["Title", "Plot"]), folder / "data")
    corpus, run = PreparedCorpus.load(folder / "data"), RunFolder(folder / "run")
    list(train(config, corpus, run, evaluate=validation_scorer(corpus)))
    return run.last


@pytest.fixture
def office_csv(tmp_path: Path) -> Path:
    """A CSV of invented dialogue in the columns of the public Office lines."""
    return write_csv(tmp_path / "office.csv", invented_office(), OFFICE_COLUMNS)


@pytest.fixture
def text_of() -> Callable[[int], str]:
    """``text_of(characters)``: invented prose of about that length."""
    return invented_text


@pytest.fixture
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real corpora that ``MOVIEPLOTGPT_DATA`` names."""
    folder = Path(os.environ.get("MOVIEPLOTGPT_DATA", "nowhere"))
    if not (folder / "wiki_movie_plots_deduped.csv.gz").exists():
        pytest.skip(f"no real corpora in {folder}; name their folder in MOVIEPLOTGPT_DATA")
    return folder


@pytest.fixture
def compiler() -> None:
    """For tests of compiled code; they are skipped where ``train`` would not compile either."""
    from movieplotgpt.model.hardware import choose_hardware
    from movieplotgpt.training.run import TrainingSettings

    chosen = choose_hardware(TrainingSettings(device="cpu"))
    if not chosen.compile:
        pytest.skip(chosen.reasons[-1])


@pytest.fixture
def tiny_checkpoint() -> Callable[..., Checkpoint]:
    """``tiny_checkpoint(kind, seed=, header=, hints=, fold=, **dimensions)``: random weights, a real tokenizer."""
    return make_tiny_checkpoint


def make_tiny_checkpoint(
    kind: str = "bpe",
    *,
    seed: int = 0,
    header: str = "The plot summary of the movie named '{Title}' is:",
    hints: tuple[str, ...] = (),
    fold: bool = True,
    context_length: int = 64,
    n_kv_head: int = 1,
    dropout: float = 0.0,
) -> Checkpoint:
    from movieplotgpt.engine.model_config import ModelConfig
    from movieplotgpt.model.checkpoints import Checkpoint
    from movieplotgpt.model.gpt import GPT
    from movieplotgpt.text.cleaning import CleaningSettings
    from movieplotgpt.text.formatting import END_OF_PLOT, DocumentFormat
    from movieplotgpt.text.tokenizer import BpeSettings, ByteSettings, CharSettings, TokenizerSettings

    kinds: dict[str, TokenizerSettings] = {"bpe": BpeSettings(vocab_size=400), "char": CharSettings()}
    tokenizer = kinds.get(kind, ByteSettings()).train([header, invented_text(3000)], END_OF_PLOT)
    config = ModelConfig(
        vocab_size=-(-tokenizer.vocab_size // 64) * 64,
        context_length=context_length,
        n_layer=2,
        n_embd=32,
        n_head=2,
        n_kv_head=n_kv_head,
        head_dim=16,
        n_ff=64,
    )
    model = GPT(config, dropout=dropout)
    draw_weights(model, seed)
    model.model.embed_tokens.weight.data[tokenizer.vocab_size :] = 0  # padding: training teaches it to be unlikely
    document_format = DocumentFormat(header=header, hints=hints)
    return Checkpoint(
        config, tokenizer, document_format, CleaningSettings(ascii=fold), {"made": "for tests"}, model=model.eval()
    )


def draw_weights(model: GPT, seed: int) -> None:
    """Draw every weight, norms as well; not ``initialize``: its blocks begin as the identity."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.2 + (weight.ndim == 1))


@pytest.fixture
def long_model() -> Callable[[], GPT]:
    """``long_model()``: random weights, always the same, and a context that attention takes in two blocks of queries."""
    return make_long_model


def make_long_model() -> GPT:
    from movieplotgpt.engine.model_config import ModelConfig
    from movieplotgpt.model.attention import QUERIES_AT_ONCE
    from movieplotgpt.model.gpt import GPT

    config = ModelConfig(
        vocab_size=64,
        context_length=QUERIES_AT_ONCE + 32,
        n_layer=3,
        n_embd=32,
        n_head=2,
        n_kv_head=1,
        head_dim=16,
        n_ff=48,
    )
    model = GPT(config)
    draw_weights(model, seed=0)
    return model


@pytest.fixture
def long_batch(long_model: Callable[[], GPT]) -> tuple[Tensor, Tensor]:
    """Ids and targets that fill the context of ``long_model``; some targets are left out."""
    import torch

    config = long_model().config
    generator = torch.Generator().manual_seed(1)
    ids_BT = torch.randint(config.vocab_size, (2, config.context_length + 1), generator=generator)
    return ids_BT[:, :-1], ids_BT[:, 1:].masked_fill(ids_BT[:, 1:] == 7, -100)


@pytest.fixture
def serve() -> Iterator[Callable[[type[BaseHTTPRequestHandler]], str]]:
    """``serve(Handler)``: the address of a server of our own, which says nothing and ends with the test."""
    running: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def start(handler: type[BaseHTTPRequestHandler]) -> str:
        quiet = type("Quiet", (handler,), {"log_message": lambda *_: None})
        server = ThreadingHTTPServer(("127.0.0.1", 0), quiet)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


class FileSite:
    """One file that is downloaded: how its server fails, and what it was asked for."""

    DATA = bytes(i * i % 251 for i in range(300_000))

    def __init__(self) -> None:
        self.body = self.DATA
        self.etag: str | None = '"v1"'
        self.breaks: list[int] = []  # bytes after which the next answers break off
        self.codes: list[int] = []  # codes the next answers have
        self.ranges: list[str | None] = []
        self.url = ""


@pytest.fixture
def site(serve: Callable[[type[BaseHTTPRequestHandler]], str]) -> FileSite:
    site = FileSite()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            site.ranges.append(asked)
            if site.codes and (code := site.codes.pop(0)) != 200:
                self.send_error(code)
                return
            start = 0
            if asked and self.headers.get("If-Range") == site.etag:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
                self.send_response(206)
            else:
                self.send_response(200)
            if site.etag:
                self.send_header("ETag", site.etag)
            self.send_header("Content-Length", str(len(site.body) - start))
            self.end_headers()
            stop = site.breaks.pop(0) if site.breaks else None
            with suppress(ConnectionError):  # a client that failed
                self.wfile.write(site.body[start:][:stop])

    site.url = serve(Handler) + "/file"
    return site
