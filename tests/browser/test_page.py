"""The page as people use it: in a real browser, with the real server."""

from __future__ import annotations

import csv
import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    Open: TypeAlias = Callable[..., Page]

expect = pytest.importorskip("playwright.sync_api").expect
Axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe
expect.set_options(timeout=60_000)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("browser"),  # one browser and its servers, whatever runs beside them
    pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium is here to open the page with"),
]
TITLE = "The Clockmaker's Goat"
EVIL = """<img src=x onerror="window.harm=1"><script>window.harm=1</script>"""
PARTIAL = """() => {
  const card = document.querySelector(".card[aria-busy=true]");
  const text = card && card.querySelector(".synopsis").textContent;
  return text && text.length > 30 ? text : null;
}"""


def write(page: Page, title: str = TITLE, *, length: str = "short", wait: bool = True) -> Locator:
    """Ask for a plot as one does; the cards."""
    page.get_by_role("radio", name=length).check()
    page.get_by_label("Title", exact=True).fill(title)
    page.get_by_role("button", name="Write", exact=True).click()
    return whole(page) if wait else page.locator(".card")


def whole(page: Page, count: int = 1) -> Locator:
    """The cards, when as many are written and none is being written."""
    expect(page.locator(".card[aria-busy=false]")).to_have_count(count)
    expect(page.locator(".card[aria-busy=true]")).to_have_count(0)
    return page.locator(".card")


def text_of(card: Locator) -> str:
    return card.locator(".synopsis").text_content() or ""


def partial(page: Page) -> str:
    """What stands on the first card while it is being written."""
    return str(page.wait_for_function(PARTIAL, timeout=60_000).json_value())


def clipboard(page: Page) -> str:
    return str(page.evaluate("navigator.clipboard.readText()"))


def exact_settings(page: Page) -> None:
    page.get_by_text("Exact settings").click()


def wider_than_window(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


def tab_to(page: Page, wanted: Locator, most: int = 150) -> None:
    """Press Tab until the element has the focus; wherever the focus is, it is seen."""
    for _ in range(most):
        page.keyboard.press("Tab")
        seen = page.evaluate(
            """() => { const at = document.activeElement, around = at.matches("[type=radio]") ? at.parentElement : at;
              return at === document.body || getComputedStyle(around).outlineStyle !== "none"; }"""
        )
        assert seen, page.evaluate("document.activeElement.outerHTML")
        if wanted.evaluate("element => element === document.activeElement"):
            return
    raise AssertionError(f"{wanted} is not reached by {most} tabs")


def test_a_plot_streams_into_a_card(page: Page) -> None:
    write(page, length="medium", wait=False)
    begun = partial(page)
    card = whole(page)
    assert text_of(card).startswith(begun)
    assert len(text_of(card)) > len(begun)
    expect(card.get_by_role("heading", level=2)).to_have_text(TITLE)
    expect(card.get_by_role("img", name=f"Poster: {TITLE}")).to_be_visible()
    expect(page.get_by_role("status")).to_have_text("The plot is written.")


def test_a_poster_is_the_same_for_the_same_title_and_seed(page: Page) -> None:
    drawn = """async ([title, seed]) => (await import("./page/poster.js")).poster(title, seed).outerHTML"""
    first = page.evaluate(drawn, [TITLE, 1])
    assert page.evaluate(drawn, [TITLE, 1]) == first
    assert len({page.evaluate(drawn, [TITLE, seed]).replace(f"No. {seed}", "") for seed in range(1, 9)}) == 8


@pytest.mark.parametrize("way", ["button", "Escape"])
def test_what_was_written_stays_when_it_is_stopped(page: Page, server: str, way: str) -> None:
    write(page, length="long", wait=False)
    begun = partial(page)
    if way == "button":
        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_role("button", name="Write", exact=True)).to_be_focused()
    else:
        page.keyboard.press("Escape")
    card = whole(page)
    assert text_of(card).startswith(begun)
    expect(card.locator(".notes")).to_contain_text("stopped here")
    expect(page.get_by_role("status")).to_have_text("Stopped.")
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    stopped, deadline = text_of(card), time.monotonic() + 3  # the whole text would take longer
    while page.request.get(server + "health").json()["running"]:
        assert time.monotonic() < deadline, "the server writes on for nobody"
    page.wait_for_timeout(500)
    assert text_of(card) == stopped


def test_variants_stand_side_by_side(open_page: Open, server: str) -> None:
    page = open_page(server, viewport={"width": 1900, "height": 900})
    page.get_by_role("radio", name="3", exact=True).check()
    write(page, wait=False)
    cards = whole(page, 3)
    assert len({text_of(card) for card in cards.all()}) == 3
    seeds = [int(re.findall(r"seed (\d+)", card.inner_text())[0]) for card in cards.all()]
    assert seeds == list(range(seeds[0], seeds[0] + 3))
    assert len({card.evaluate("card => card.getBoundingClientRect().top") for card in cards.all()}) == 1
    page.get_by_role("button", name="Again").click()
    expect(cards.first).to_contain_text(f"seed {seeds[0] + 3}")
    whole(page, 3)


def test_the_model_surprised_shows_what_else_it_thought_of(page: Page) -> None:
    card = write(page)
    text = text_of(card)
    expect(page.get_by_role("list", name="How likely")).to_be_hidden()
    page.get_by_label("Colour what surprised the model").check()
    expect(page.get_by_role("list", name="How likely")).to_be_visible()
    assert text_of(card) == text, "colours change no letter"
    tokens = card.locator(".token")
    assert len({token.get_attribute("class") for token in tokens.all()}) >= 4
    tokens.first.focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    expect(tokens.nth(4)).to_be_focused()
    before = "".join(token.text_content() or "" for token in tokens.all()[:4])
    assert text.startswith(before)
    page.keyboard.press("Enter")
    panel = page.get_by_role("dialog", name=re.compile("Go on with another"))
    expect(panel.get_by_role("button")).to_have_count(5)
    percents = [float(small.inner_text().strip("<% ")) for small in panel.locator("small").all()]
    assert percents == sorted(percents, reverse=True)
    expect(panel.locator("button:enabled").first).to_be_focused()
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(tokens.nth(4)).to_be_focused()
    page.keyboard.press("Space")
    chosen = panel.locator("button:enabled").first
    other = chosen.locator("span").inner_text()
    chosen.click()
    cards = whole(page, 2)
    assert text_of(cards.nth(0)) == text
    assert re.match(re.escape(before) + r"\s?" + re.escape(other.removeprefix("-")), text_of(cards.nth(1)))
    assert text_of(cards.nth(1)) != text
    expect(cards.nth(1).get_by_role("heading", level=2)).to_have_text(TITLE)


def test_it_goes_on_another_way_from_a_sentence(page: Page) -> None:
    card = write(page)
    text = text_of(card)
    way = card.get_by_role("button", name="Go on another way").first
    after = (way.get_attribute("aria-label") or "").partition("after: ")[2]
    first = text[: text.index(after) + len(after)]
    assert first.endswith((".", "!", "?", '"')), first
    way.click()
    cards = whole(page, 2)
    assert text_of(cards.nth(0)) == text
    assert text_of(cards.nth(1)).startswith(first)
    assert text_of(cards.nth(1)) != text
    expect(cards.nth(1).locator(".begun").first).to_have_text(first)


def test_a_plan_is_shown_and_changed(open_page: Open, planning: str, page: Page) -> None:
    expect(page.get_by_label("Plan")).to_be_hidden()  # of models without plans
    page = open_page(planning)
    card = write(page, "Red Dust 3")
    plan = card.locator(".plan")
    expect(plan).to_contain_text("names: Boris")
    plan.get_by_role("button", name="Change").click()
    field = page.get_by_label("Plan")
    expect(field).to_be_focused()
    assert field.input_value().startswith("names: Boris")
    field.fill("Clara, window")
    page.get_by_role("button", name="Write", exact=True).click()
    expect(whole(page).locator(".plan")).to_contain_text("Plan: names: Clara; words: window")
    field.fill("none")
    page.get_by_role("button", name="Write", exact=True).click()
    expect(whole(page).locator(".plan")).to_be_hidden()


def test_a_link_writes_the_same_text_elsewhere(page: Page, open_page: Open) -> None:
    page.get_by_role("radio", name="1970s").check()
    page.get_by_label("Origin, in your words").fill("Atlantean")
    page.get_by_label("How it begins").fill("A thief ")
    page.get_by_label("Sober or wild").press("ArrowRight")
    exact_settings(page)
    page.get_by_label("Top-p").fill("0.9")
    page.get_by_label("Parentheses").uncheck()
    card = write(page, "Café Noir")
    expect(card.locator(".notes")).to_contain_text("é→e")
    card.get_by_role("button", name="Copy link").click()
    expect(page.get_by_role("status")).to_have_text("Link copied.")
    assert clipboard(page) == page.url
    other = open_page(clipboard(page))
    assert text_of(whole(other)) == text_of(card)
    assert text_of(card).startswith("A thief")
    assert "(" not in text_of(card)
    expect(other.get_by_label("Title", exact=True)).to_have_value("Café Noir")
    expect(other.get_by_role("radio", name="1970s")).to_be_checked()
    expect(other.get_by_label("Origin, in your words")).to_have_value("Atlantean")
    exact_settings(other)
    expect(other.get_by_label("Temperature")).to_have_value("1.15")
    expect(other.get_by_label("Top-p")).to_have_value("0.9")
    expect(other.get_by_label("Parentheses")).not_to_be_checked()


def test_two_models_stand_side_by_side(page: Page) -> None:
    page.get_by_label("Compare with").select_option("office-bpe")
    page.get_by_label("How it begins").fill("Michael:")
    write(page, wait=False)
    cards = whole(page, 2)
    seeds = [re.findall(r"(\S+) · seed (\d+)", card.inner_text())[0] for card in cards.all()]
    assert [model for model, _ in seeds] == ["plots-bpe", "office-bpe"]
    assert seeds[0][1] == seeds[1][1]
    assert all(text_of(card).startswith("Michael:") for card in cards.all())
    page.get_by_role("button", name="About that model").click()
    about = page.get_by_role("dialog", name="The card of office-bpe")
    expect(about.locator("strong").first).to_have_text("# office-bpe")
    about.get_by_role("button", name="Close").click()
    expect(about).to_be_hidden()


def test_a_model_without_titles_is_asked_without_them(page: Page) -> None:
    page.get_by_label("Model", exact=True).select_option("office-bpe")
    expect(page.get_by_label("Title", exact=True)).to_be_hidden()
    expect(page.get_by_text("Decade")).to_be_hidden()
    page.get_by_label("How it begins").fill("Dwight:")
    page.get_by_role("radio", name="short").check()
    page.keyboard.press("Control+Enter")
    assert text_of(whole(page)).startswith("Dwight:")


def test_a_model_shows_its_own_hints(open_page: Open, hinted: str) -> None:
    page = open_page(hinted)
    names = page.locator("#hints legend")
    expect(names).to_have_text(["Cuisine", "Time (minutes)", "Decade"])
    page.get_by_role("radio", name="Thai").check()
    page.get_by_label("Time (minutes), in your words").fill("30")
    page.get_by_role("radio", name="1950s").check()
    expect(page.locator("#hints-said")).to_have_text("Thai, 30, 1950s")
    with page.expect_request("**/v1/plots") as request:
        card = write(page)
    asked = {"Cuisine": "Thai", "Time (minutes)": "30", "Decade": "1950s"}
    assert json.loads(request.value.post_data or "")["hints"] == asked
    expect(card.locator(".by")).to_contain_text("Thai · 30 · 1950s")
    address = page.url
    page.get_by_label("Model", exact=True).select_option("films")
    expect(names).to_have_text(["Decade"])
    expect(page.locator("#hints-said")).to_have_text("1950s")  # both know it
    page.goto("about:blank")
    with page.expect_request("**/v1/plots") as request:
        page.goto(address)
    assert json.loads(request.value.post_data or "")["hints"] == asked
    expect(page.locator("#hints-said")).to_have_text("Thai, 30, 1950s")
    expect(page.get_by_role("radio", name="Thai")).to_be_checked()
    expect(page.get_by_label("Time (minutes), in your words")).to_have_value("30")
    expect(page.get_by_role("group", name="Time (minutes)").get_by_role("radio")).to_have_count(0)
    page.get_by_label("Cuisine, in your words").fill("Lunar")
    expect(page.get_by_role("radio", name="Thai")).not_to_be_checked()
    expect(page.locator("#hints-said")).to_have_text("Lunar, 30, 1950s")
    page.get_by_role("radio", name="Greek").check()
    expect(page.get_by_label("Cuisine, in your words")).to_have_value("")
    expect(page.locator("#hints-said")).to_have_text("Greek, 30, 1950s")


def test_parentheses_are_as_each_model_has_them(open_page: Open, hinted: str, page: Page) -> None:
    for address, allowed in ((None, False), (hinted, True)):
        shown = open_page(address) if address else page
        exact_settings(shown)
        box = shown.get_by_label("Parentheses")
        for wanted in (allowed, not allowed):
            box.set_checked(wanted) if wanted is not allowed else expect(box).to_be_checked(checked=wanted)
            with shown.expect_request("**/v1/plots") as request:
                write(shown)
            assert json.loads(request.value.post_data or "")["cast"] is wanted


def test_an_older_link_names_its_hints_in_small_letters(open_page: Open, hinted: str) -> None:
    page = open_page(f"{hinted}#model=films&title=Ada&seed=1&length=short&decade=1970s")
    expect(whole(page).locator(".by")).to_contain_text("1970s")
    expect(page.locator("#hints-said")).to_have_text("1970s")


def test_the_slider_and_the_exact_settings_agree(page: Page) -> None:
    exact_settings(page)
    slider, temperature = page.get_by_label("Sober or wild"), page.get_by_label("Temperature")
    slider.press("Home")
    expect(temperature).to_have_value("0.5")
    expect(slider).to_have_attribute("aria-valuetext", "very sober")
    temperature.fill("1.6")
    expect(slider).to_have_value("6")
    expect(slider).to_have_attribute("aria-valuetext", "very wild")


def test_a_title_is_invented(page: Page) -> None:
    page.get_by_role("button", name="Surprise me").click()
    expect(page.get_by_label("Title", exact=True)).to_have_value(re.compile("."))


def test_who_listens_hears_whole_sentences(page: Page) -> None:
    card = write(page, length="medium")
    said = page.locator("#said")
    expect(said).to_have_attribute("aria-live", "polite")
    told = [line.text_content() or "" for line in said.locator("p").all()]
    assert len(told) > 1
    assert all(line.endswith((".", "!", "?", '"', ")")) for line in told)
    assert "".join("".join(told).split()) == "".join(text_of(card).split())


def test_a_plot_is_copied_and_saved(page: Page, tmp_path: Path) -> None:
    card = write(page)
    card.get_by_role("button", name="Copy text").click()
    expect(page.get_by_role("status")).to_have_text("Text copied.")
    assert clipboard(page) == text_of(card)
    for kind, begin in ((".txt", TITLE), (".md", f"# {TITLE}")):
        with page.expect_download() as download:
            card.get_by_role("button", name=kind).click()
        assert download.value.suggested_filename.startswith("the-clockmaker-s-goat-")
        download.value.save_as(tmp_path / kind)
        assert (tmp_path / kind).read_text(encoding="utf-8").startswith(f"{begin}\n\n{text_of(card)}\n")


def test_a_copied_passage_names_its_film(
    open_page: Open, reciter: str, key: str, overfitted: tuple[Path, Path]
) -> None:
    page = unlocked(open_page(reciter), key)
    with (overfitted[1].parent / "plots.csv").open(encoding="utf-8", newline="") as file:
        plots = {film["Title"]: film["Plot"] for film in csv.DictReader(file)}
    for title in plots:
        write(page, title)
        if page.locator("mark").count():
            break
    mark = page.locator("mark").first
    page.get_by_label("Colour what surprised the model").focus()
    tip = page.get_by_role("tooltip")
    expect(tip).to_be_hidden()
    tab_to(page, mark)
    film = tip.locator("strong").inner_text()
    assert len(mark.text_content() or "") >= 50
    assert (mark.text_content() or "").strip() in " ".join(plots[film].split())
    expect(mark).to_have_accessible_description(re.compile(re.escape(film)))
    page.keyboard.press("Tab")
    expect(tip).to_be_hidden()
    mark.hover()
    expect(tip).to_contain_text(film)


def test_a_key_is_asked_for_and_kept(open_page: Open, reciter: str, key: str) -> None:
    page = open_page(reciter)
    page.get_by_label("asks for a key").fill("a wrong one")
    page.get_by_role("button", name="Use it").click()
    expect(page.get_by_role("alert")).to_contain_text("The key is missing or wrong")
    unlocked(page, key)
    page.reload()
    expect(page.locator("#model option")).to_have_count(1)
    expect(page.get_by_label("asks for a key")).to_be_hidden()


def unlocked(page: Page, key: str) -> Page:
    page.get_by_label("asks for a key").fill(key)
    page.get_by_role("button", name="Use it").click()
    expect(page.get_by_role("alert")).to_be_hidden()
    expect(page.locator("#model option")).to_have_count(1)
    return page


def test_the_keyboard_alone_is_enough(page: Page) -> None:
    tab_to(page, page.get_by_label("Title", exact=True), 3)
    page.keyboard.type(TITLE)
    tab_to(page, page.locator("[name=length]:checked"))
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("radio", name="short")).to_be_checked()
    page.keyboard.press("Control+Enter")
    card = whole(page)
    tab_to(page, card.get_by_role("button", name="Copy link"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("Link copied.")
    assert clipboard(page) == page.url


def test_enter_in_the_title_writes(page: Page) -> None:
    page.get_by_role("radio", name="short").check()
    page.get_by_label("Title", exact=True).fill(TITLE)
    page.keyboard.press("Enter")
    whole(page)


@pytest.mark.parametrize("width", [320, 768, 2200])
def test_nothing_is_wider_than_the_window(open_page: Open, server: str, width: int) -> None:
    page = open_page(server, viewport={"width": width, "height": 700})
    assert not wider_than_window(page)
    for closed in page.locator("details:not([open]) summary").all()[::-1]:
        closed.click()
    page.get_by_label("Compare with").select_option("office-bpe")
    write(page, "Donaudampfschifffahrtsgesellschaftskapitänswitwenversammlung " + TITLE, wait=False)
    whole(page, 2)
    page.get_by_label("Colour what surprised the model").check()
    page.locator(".token").last.click()
    expect(page.locator("#others")).to_be_visible()
    assert not wider_than_window(page)
    left, right = page.locator("#others").evaluate(
        "panel => [panel.getBoundingClientRect().left, panel.getBoundingClientRect().right]"
    )
    assert 0 <= left < right <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_barrier(open_page: Open, server: str, scheme: str) -> None:
    page = open_page(server, color_scheme=scheme)
    expect(page.locator("#model option")).to_have_count(2)
    exact_settings(page)
    assert barriers(page) == []
    page.get_by_label("How it begins").fill("A thief")
    card = write(page)
    card.evaluate("card => Promise.all(card.getAnimations().map((each) => each.finished))")
    assert barriers(page) == []
    page.get_by_label("Colour what surprised the model").check()
    card.locator(".token").nth(3).click()
    assert barriers(page) == []
    page.keyboard.press("Escape")
    page.get_by_role("button", name="About this model").click()
    expect(page.get_by_role("dialog", name="The card of plots-bpe")).to_be_visible()
    assert barriers(page) == []


def barriers(page: Page) -> list[Any]:
    found = Axe().run(page).response["violations"]
    return [
        (one["id"], [node["html"] for node in one["nodes"]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def test_what_is_typed_is_text_and_never_code(page: Page, server: str) -> None:
    page.get_by_label("How it begins").fill(EVIL)
    card = write(page, EVIL)
    expect(card.get_by_role("heading", level=2)).to_have_text(EVIL)
    assert text_of(card).startswith(EVIL)
    page.goto(server)
    page.get_by_role("listitem").get_by_role("button", name="<img").click()
    whole(page)
    assert page.locator("main img, main script").count() == 0
    assert page.evaluate("window.harm") is None


def test_earlier_plots_are_kept_reopened_and_cleared(page: Page, server: str) -> None:
    text = text_of(write(page))
    page.goto(server)
    expect(page.locator(".card")).to_have_count(0)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.get_by_role("listitem").get_by_role("button", name=TITLE).click()
    assert text_of(whole(page)) == text
    page.get_by_label("Colour what surprised the model").check()
    assert page.locator(".token").count() > 20
    assert not [url for url in asked if "/v1/plots" in url], "nothing is written anew"
    expect(page.get_by_label("Title", exact=True)).to_have_value(TITLE)
    page.get_by_role("button", name="Clear the list").click()
    expect(page.locator("#history li")).to_have_count(0)
    page.goto(server)
    expect(page.locator("#history li")).to_have_count(0)


def test_no_more_than_fifty_plots_are_kept(page: Page, server: str) -> None:
    write(page)
    page.evaluate(
        """() => { const [one] = JSON.parse(localStorage["movieplotgpt.history"]), many = [];
          for (let seed = 1; seed <= 50; seed++) many.push({ ...one, asked: { ...one.asked, seed } });
          localStorage["movieplotgpt.history"] = JSON.stringify(many); }"""
    )
    page.goto(server)
    expect(page.locator("#history li")).to_have_count(50)
    write(page, "The Fifty-First")
    expect(page.locator("#history li")).to_have_count(50)
    expect(page.locator("#history li").first).to_contain_text("The Fifty-First")


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_nothing_moves_for_those_who_want_it_still(open_page: Open, server: str, motion: str) -> None:
    page = open_page(server, reduced_motion=motion)
    write(page, length="long", wait=False)
    partial(page)
    moving = page.evaluate("document.getAnimations().length")
    assert (moving == 0) == (motion == "reduce")


def test_a_crowd_is_told_kindly(page: Page) -> None:
    page.route("**/v1/plots", lambda route: route.fulfill(status=429, headers={"Retry-After": "7"}, json={}))
    write(page, wait=False)
    expect(page.get_by_role("alert")).to_contain_text("try again in 7 s")
    expect(page.get_by_label("Title", exact=True)).to_have_value(TITLE)
    expect(page.get_by_text("Nothing is written yet.")).to_be_visible()
    page.unroute("**/v1/plots")
    write(page)
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_server_that_is_gone_is_told_kindly(page: Page) -> None:
    page.route("**/v1/plots", lambda route: route.abort("connectionrefused"))
    write(page, wait=False)
    expect(page.get_by_role("alert")).to_contain_text("The server does not answer")
    expect(page.get_by_label("Title", exact=True)).to_have_value(TITLE)
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()


def test_what_the_server_refuses_is_told(open_page: Open, server: str) -> None:
    page = open_page(f"{server}#model=plots-bpe&title=Mars&temperature=-1&seed=1")
    expect(page.get_by_role("alert")).to_have_text("Temperature: Input should be greater than or equal to 0.")
    page = open_page(f"{server}#model=nobody&title=Mars&seed=1")
    expect(page.get_by_role("alert")).to_contain_text("The model nobody of this link is not served here")
    expect(page.get_by_label("Title", exact=True)).to_have_value("Mars")


def test_a_wrong_setting_is_shown_where_it_stands(page: Page) -> None:
    exact_settings(page)
    page.get_by_label("Top-p").fill("3")
    exact_settings(page)
    page.get_by_role("button", name="Write", exact=True).click()
    expect(page.get_by_label("Top-p")).to_be_visible()
    expect(page.locator(".card")).to_have_count(0)
