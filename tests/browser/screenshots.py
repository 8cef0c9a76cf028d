"""Take the pictures of the page for the README: ``python tests/browser/screenshots.py http://127.0.0.1:8000/``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from playwright.sync_api import Browser, Page, expect, sync_playwright

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
WIDE = {"width": 1280, "height": 860}
PHONE = {"width": 390, "height": 844}


def written(browser: Browser, address: str, asked: dict[str, str], **context: Any) -> Page:
    """The page, with what was asked for written."""
    page = browser.new_context(reduced_motion="reduce", **context).new_page()
    page.goto(f"{address}#{urlencode(asked)}")
    expect(page.locator(".card[aria-busy=false]")).to_have_count(1, timeout=60_000)
    return page


def main(address: str) -> None:
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        light = {
            "title": "The Last Projectionist",
            "genre": "drama",
            "decade": "1960s",
            "length": "medium",
            "seed": "1",
        }
        page = written(browser, address, light, viewport=WIDE)
        page.screenshot(path=IMAGES / "page-light.png")
        dark = {"title": "Signals from Ganymede", "genre": "science fiction", "length": "medium", "seed": "4"}
        page = written(browser, address, dark, viewport=WIDE, color_scheme="dark")
        page.get_by_label("Colour what surprised the model").check()
        page.locator(".token").nth(30).click()
        page.screenshot(path=IMAGES / "page-dark.png")
        phone = {"title": "Two Weddings and a Goat", "genre": "comedy", "length": "short", "seed": "4"}
        page = written(browser, address, phone, viewport=PHONE, device_scale_factor=1.5)
        page.locator(".card").evaluate("card => card.scrollIntoView()")
        page.screenshot(path=IMAGES / "page-phone.png")


if __name__ == "__main__":
    main(sys.argv[1])
