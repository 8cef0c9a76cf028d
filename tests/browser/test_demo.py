"""The demo: a model in the browser itself, from files alone, and what it writes is what Python writes."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

import pytest

from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.text.tokenizer import BpeSettings
from movieplotgpt.text.tokenizer_json import load_tokenizer

if TYPE_CHECKING:
    from playwright.sync_api import Page

    Open: TypeAlias = Callable[..., Page]

expect = pytest.importorskip("playwright.sync_api").expect
Axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe
expect.set_options(timeout=60_000)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium is here to open the page with"),
]
DEMO = Path(__file__).resolve().parents[2] / "docs" / "demo"
BEGIN = "Michael: I have an announcement."
EVIL = """<img src=x onerror="window.harm=1"><script>window.harm=1</script>"""
HOSTILE = [
    "",
    " ",
    "\n",
    "a  b   c     d ",
    "one\r\ntwo\rthree\n\n\nfour\ttab",
    "it's 1999's, we'LL see they'll I'd",
    "\x00\x01\x1c\x1d\x1f\x7f\x85 \x85x",
    "😀 👩‍👩‍👧 🇩🇪 ½ ٣ Ⅷ",
    "電影情節 영화 кино فيلم",
    "Amélie – “naïve” … don’t",
    "e\u0301 \u00a0 \u180e\u200b \ufeff \ufeffx \u2028\u2029 \u3000 \ufffd",
    "END_OF_PLOT",
    "L'Haÿ <|pad|>x<|pad|",
    "xEND_OF_PLOTy END_OF_PLO END_OF_PLOTEND_OF_PLOT",
    "supercalifragilistic" * 20,
    "__proto__ constructor toString",
]


class Quiet(SimpleHTTPRequestHandler):
    """Files, and no word on stderr."""

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page with all it needs: as built in the checkout, or built now."""
    pytest.importorskip("onnx", reason="the onnx library is not installed")
    folder = tmp_path_factory.mktemp("demo") / "demo"
    shutil.copytree(DEMO, folder)
    if not (folder / "vendor").exists():
        if shutil.which("npm") is None:
            pytest.skip("npm is not installed")
        environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(DEMO.parents[1] / "src")}
        done = subprocess.run(["sh", folder / "build.sh"], env=environment, capture_output=True, text=True, check=False)
        if "npm error" in done.stderr:
            pytest.skip(f"npm has no registry: {done.stderr.splitlines()[0]}")
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """Where a plain file server has the page."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def visit(open_page: Open, address: str) -> Iterator[Open]:
    """``visit(**context)``: the page, ready; it has asked nobody else for anything, and nothing in it complains."""
    asked: list[str] = []
    said: list[str] = []

    def visited(**context: Any) -> Page:
        page = open_page("about:blank", **context)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
        page.goto(address)
        expect(page.get_by_role("status")).to_have_text("Ready.")
        return page

    yield visited
    assert {urlsplit(url).netloc for url in asked if not url.startswith("data:")} <= {urlsplit(address).netloc}
    assert not said


def write(page: Page, begin: str = BEGIN, *, tokens: int = 32, temperature: str = "0", seed: str = "1") -> str:
    """Ask for a text; what was added to its begin."""
    page.get_by_label("How it begins").fill(begin)
    page.get_by_label("Temperature").fill(temperature)
    page.get_by_label("Tokens").fill(str(tokens))
    page.get_by_label("Seed").fill(seed)
    page.get_by_role("button", name="Write", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("Seed")
    return text_of(page).removeprefix(begin.rstrip(" "))


def text_of(page: Page) -> str:
    return page.locator("#text").text_content() or ""


@pytest.mark.parametrize("tokens", [32, 400], ids=["within the context", "beyond it"])
def test_it_writes_what_python_writes(visit: Open, tokens: int) -> None:
    expected = PlotGenerator.load("office-bpe", precision="float32").plot(
        prompt=BEGIN, temperature=0, max_tokens=tokens
    )
    assert write(visit(), tokens=tokens) == expected.text.removeprefix(BEGIN)


def test_it_reads_the_ids_that_python_reads(visit: Open, folder: Path) -> None:
    """With the model's tokenizer, and with one that has merged what no model should have read."""
    rng = random.Random(0)
    pool = "aZ09 \t\n'sdtrevml.,!–é½٣漢🎬\u00a0\u0085\u200b\ufeff\u0301\x1c_"
    texts = [*HOSTILE, *("".join(rng.choices(pool, k=rng.randint(1, 40))) for _ in range(500))]
    page = visit()
    learnt = BpeSettings(vocab_size=1500).train(texts * 2, "END_OF_PLOT")
    for tokenizer in (load_tokenizer(folder / "vendor" / "model"), learnt):
        found = page.evaluate(
            """async ([spec, texts]) => {
              const { Tokenizer } = await import("./bpe.js"), tokenizer = new Tokenizer(spec);
              return texts.map((text) => {
                const ids = tokenizer.encode(text), decode = tokenizer.decoder();
                return [ids, ids.map(decode).join("") + decode()];
              });
            }""",
            [json.loads(tokenizer.to_json()), texts],
        )
        for text, (ids, back) in zip(texts, found, strict=True):
            assert ids == tokenizer.encode(text).tolist(), repr(text)
            assert back == text


def test_a_seed_writes_its_text_again_and_another_one_another(visit: Open) -> None:
    page = visit()
    texts = [write(page, temperature="1", seed=seed) for seed in ("7", "7", "8")]
    assert texts[0] == texts[1] != texts[2]


def test_the_end_marker_ends_a_scene_and_is_not_shown(visit: Open) -> None:
    page = visit()
    for seed in range(20):
        text = write(page, tokens=1000, temperature="1", seed=str(seed))
        assert "END_OF_PLOT" not in text
        if "the scene has ended" in page.get_by_role("status").inner_text():
            break
    expect(page.get_by_role("status")).to_contain_text("the scene has ended")


def test_the_keyboard_alone_writes_and_stops(visit: Open) -> None:
    page = visit()
    page.get_by_label("Tokens").fill("2000")
    page.keyboard.press("Enter")
    expect(page.locator("#text")).to_have_text(re.compile(".{60}", re.DOTALL))
    expect(page.locator("#text")).to_have_attribute("aria-busy", "true")
    page.keyboard.press("Escape")
    expect(page.get_by_role("status")).to_contain_text("stopped")
    expect(page.locator("#text")).to_have_attribute("aria-busy", "false")
    page.get_by_role("button", name="Write", exact=True).press("Enter")
    expect(page.get_by_role("button", name="Stop")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("stopped")
    expect(page.get_by_role("button", name="Write", exact=True)).to_be_focused()


def test_what_is_typed_is_text_and_never_code(visit: Open) -> None:
    page = visit()
    write(page, EVIL)
    assert text_of(page).startswith(EVIL)
    assert page.locator("main img, main script").count() == 0
    assert page.evaluate("window.harm") is None


def test_a_page_that_was_not_built_says_so(open_page: Open, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "demo", ignore=shutil.ignore_patterns("model.onnx"))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "demo")) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        page = open_page(f"http://127.0.0.1:{server.server_port}/")
        said = "The model cannot be loaded: vendor/model/onnx/model.onnx is not here; run build.sh."
        expect(page.get_by_role("status")).to_have_text(said)
        expect(page.get_by_role("button", name="Write", exact=True)).to_be_disabled()
        server.shutdown()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility_and_small_windows(visit: Open, scheme: str) -> None:
    page = visit(color_scheme=scheme, viewport={"width": 320, "height": 700})
    write(page, "Donaudampfschifffahrtsgesellschaftskapitänswitwenversammlung " * 2)
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    found = Axe().run(page).response["violations"]
    assert [(one["id"], one["nodes"]) for one in found if one["impact"] in ("serious", "critical")] == []


def test_the_policy_allows_nothing_but_the_page_s_own_files() -> None:
    policy = re.findall(r'Content-Security-Policy" content="([^"]+)"', (DEMO / "index.html").read_text("utf-8"))
    assert policy == [
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    ]
