"""A tab of a browser that remembers everything that went wrong in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Page, expect

if TYPE_CHECKING:
    from tests.api.conftest import Person, Site

PATIENCE = 15_000
expect.set_options(timeout=PATIENCE)  # beside other tests five seconds are too few for a chart
_SESSIONS: dict[tuple[str, str], Any] = {}  # cookies, by site and e-mail
# The words of a chart that do not lie within it.
CUT_OFF = """figure => {
  const box = figure.getBoundingClientRect(), out = (rect) => rect.left < box.left - 1 || rect.right > box.right + 1;
  const cut = [...figure.querySelectorAll('svg text')].filter((text) => out(text.getBoundingClientRect()));
  return cut.map((text) => text.textContent);
}"""


@dataclass
class Watched:
    """A tab, and everything that went wrong in it."""

    page: Page
    errors: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE)
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self._look(request.url))

    def _look(self, url: str) -> None:
        if urlsplit(url).hostname not in ("127.0.0.1", None):
            self.strangers.append(url)

    def open(self, path: str) -> Page:
        self.page.goto(path)
        return self.page

    def see_all_charts(self) -> None:
        """Scroll to each chart, as a person would, and wait until it is drawn."""
        for figure in self.page.locator(".chart").all():
            figure.scroll_into_view_if_needed()
            expect(figure).to_have_attribute("data-state", "drawn")
            assert figure.locator("svg path, svg rect").count() > 3
            assert figure.evaluate(CUT_OFF) == []
            named = figure.locator(".view").get_attribute("aria-label") or ""
            assert named.startswith(figure.locator("h2").inner_text()), "the name of the picture"

    def clean(self) -> None:
        assert self.errors == []
        assert self.strangers == []


def context(chromium: Browser, site: Site, *, width: int = 1440, theme: Any = "light", **more: Any) -> BrowserContext:
    base_url = str(site.http.base_url)
    return chromium.new_context(
        base_url=base_url, viewport={"width": width, "height": 900}, color_scheme=theme, locale="en-GB", **more
    )


def sign_in(page: Page, person: Person) -> None:
    """By the form at a person's first page, and with that session at later ones: tries are limited."""
    page.goto("/")
    account = (urlsplit(page.url).netloc, person.email)
    if account in _SESSIONS:
        page.context.add_cookies(_SESSIONS[account])
        page.goto("/")
    else:
        page.get_by_label("E-mail").fill(person.email)
        page.get_by_label("Password").fill(person.password)
        page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    _SESSIONS[account] = page.context.cookies()
