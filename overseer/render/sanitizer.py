"""The HTML sanitiser: everything rendered from Markdown is reduced to these elements and attributes."""

from __future__ import annotations

from functools import cache

import nh3

TAGS = {"p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "strong", "em", "s", "del", "code", "pre", "span"} | {
    "blockquote", "ul", "ol", "li", "a", "table", "thead", "tbody", "tr", "th", "td", "div", "button"
}  # fmt: skip
ATTRIBUTES = {"*": set[str](), "a": {"href"}, "ol": {"start"}}
VALUES = {
    "button": {"type": {"button"}, "data-wrap": {""}, "data-copy": {""}},
    "div": {"tabindex": {"0"}},
    "pre": {"tabindex": {"0"}},
}
ALIGNMENTS = {"left", "center", "right"}
CLASSES = {
    "button": {"code__button"},
    "div": {"code", "code--more", "code__bar", "table", "table--more"},
    "li": {"task"},
    "ul": {"list--more"},
    "ol": {"list--more"},
    "th": ALIGNMENTS,
    "td": ALIGNMENTS,
}


def sanitize(html: str) -> str:
    """Remove everything from HTML that could run, load or imitate a part of the page: id, style, hx-* and others."""
    return _cleaner().clean(html)


@cache
def _cleaner() -> nh3.Cleaner:
    from pygments.token import STANDARD_TYPES

    token_classes = {name for name in STANDARD_TYPES.values() if name}
    return nh3.Cleaner(
        tags=TAGS,
        attributes={tag: set(names) for tag, names in ATTRIBUTES.items()},
        tag_attribute_values=VALUES,
        allowed_classes={**CLASSES, "span": token_classes | {"code__language", "task__box"}},
        set_tag_attribute_values={"a": {"target": "_blank"}},
        link_rel="noopener noreferrer nofollow",
        url_schemes={"http", "https", "mailto"},
    )
