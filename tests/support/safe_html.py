"""Check that HTML which was rendered from untrusted Markdown contains only the allowed elements and attributes."""

from __future__ import annotations

import re

from pygments.token import STANDARD_TYPES

from tests.support.html import Element, parsed

TAGS = {
    *("p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "strong", "em", "s", "code", "pre", "span", "blockquote"),
    *("ul", "ol", "li", "a", "table", "thead", "tbody", "tr", "th", "td", "div", "button"),
}
CLASSES = {
    "span": set(STANDARD_TYPES.values()) - {""} | {"code__language", "task__box"},
    "div": {"table", "table--more", "code", "code--more", "code__bar"},
    "button": {"code__button"},
    "li": {"task"},
    "ul": {"list--more"},
    "ol": {"list--more"},
    "th": {"left", "center", "right"},
    "td": {"left", "center", "right"},
}
SCHEME = re.compile(r"[\x00- ]*([a-z][a-z0-9+.-]*):", re.I)  # as browsers parse it
LINK = {"target": "_blank", "rel": "noopener noreferrer nofollow"}
WRAP = {"type": "button", "class": "code__button", "data-wrap": ""}
COPY = {"type": "button", "class": "code__button", "data-copy": ""}


def checked(html: str) -> Element:
    """Parse HTML that was rendered from Markdown, and check each element. Return an element that contains them."""
    assert "<!" not in html and "<?" not in html
    root = parsed(html)
    for element in root.children:
        check_tree(element)
    return root


def check_tree(root: Element) -> None:
    """Check an element and all its descendants."""
    for element in root.all:
        tag, attributes = element.tag, element.attributes
        assert tag in TAGS, tag
        assert tag != "button" or attributes in (WRAP, COPY), attributes
        assert tag != "a" or LINK.items() <= attributes.items()
        for name, value in attributes.items():
            assert _is_allowed(tag, name, value), (tag, name, value)


def exact_text(element: Element) -> str:
    """Return the text in an element with its spaces and line ends, but without the bars above code."""
    if element["class"] == "code__bar":
        return ""
    return "".join(child if isinstance(child, str) else exact_text(child) for child in element.content)


def _is_allowed(tag: str, name: str, value: str) -> bool:
    if name == "class":
        return set(value.split()) <= CLASSES[tag]
    if name == "href":
        scheme = SCHEME.match(re.sub(r"[\t\r\n]", "", value))
        return tag == "a" and (scheme is None or scheme[1].lower() in ("http", "https", "mailto"))
    if tag in ("a", "button"):
        return tag == "button" or LINK.get(name) == value
    return (tag, name, value) in (("pre", "tabindex", "0"), ("div", "tabindex", "0")) or (
        (tag, name) == ("ol", "start") and value.isdigit()
    )
