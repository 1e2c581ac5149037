"""The last step over all HTML that is made of words from outside: nothing but these elements and attributes is left."""

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


def sanitised(html: str) -> str:
    """The HTML without anything that could act, or be mistaken for a part of the page: no id, no style, no hx-."""
    return _cleaner().clean(html)


@cache
def _cleaner() -> nh3.Cleaner:
    from pygments.token import STANDARD_TYPES

    coloured = {name for name in STANDARD_TYPES.values() if name}
    return nh3.Cleaner(
        tags=TAGS,
        attributes={tag: set(names) for tag, names in ATTRIBUTES.items()},
        tag_attribute_values=VALUES,
        allowed_classes={**CLASSES, "span": coloured | {"code__language", "task__box"}},
        set_tag_attribute_values={"a": {"target": "_blank"}},
        link_rel="noopener noreferrer nofollow",
        url_schemes={"http", "https", "mailto"},
    )
