"""Accessibility checks with axe."""

from __future__ import annotations

from collections.abc import Collection

from playwright.sync_api import Page

from tests.support.node import MODULES

TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
RUN = """async ([only, but]) => {
  const rules = Object.fromEntries(but.map((rule) => [rule, { enabled: false }]));
  const { violations } = await axe.run({ runOnly: only, rules, resultTypes: ["violations"] });
  return violations.flatMap(({ id, help, nodes }) =>
    nodes.map(({ target, html }) => `${id}: ${help} — ${target.join(" ")} — ${html.slice(0, 160)}`));
}"""


def violations(page: Page, *, only: Collection[str] = TAGS, but: Collection[str] = ()) -> list[str]:
    """Return axe's findings, one line each: the rule, its description and the element. Rules in `but` are disabled."""
    if not page.evaluate("'axe' in window"):
        # The debugger is not subject to the page's content policy.
        page.evaluate((MODULES / "axe-core/axe.min.js").read_text(encoding="utf-8"))
    found: list[str] = page.evaluate(RUN, [list(only), list(but)])
    return found
