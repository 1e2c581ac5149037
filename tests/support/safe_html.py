"""Check that HTML which was rendered from untrusted Markdown contains only the allowed elements and attributes."""

from __future__ import annotations

import re

from pygments.token import STANDARD_TYPES

from tests.support.html import Element, parsed

TAGS = {
    *("p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "strong", "em", "s", "code", "pre", "span", "blockquote"),
    *("ul", "ol", "li", "a", "table", "thead", "tbody", "tr", "th", "td", "div", "button"),
    *("kbd", "sub", "sup", "details", "summary"),
}
MATH_TAGS = {
    *("math", "semantics", "annotation", "mrow", "mi", "mn", "mo", "mtext", "mspace", "msub", "msup", "msubsup"),
    *(
        "munder",
        "mover",
        "munderover",
        "mmultiscripts",
        "mprescripts",
        "mfrac",
        "msqrt",
        "mroot",
        "mtable",
        "mtr",
        "mtd",
    ),
    *("mpadded", "mphantom", "mstyle", "menclose"),
}
MATH_CLASS = re.compile(r"math-[a-z]+(-[a-z1-4]+)?")
MATH_VALUE = re.compile(r"true|false|normal|block|prefix|postfix|infix|[+-]?\d*\.?\d*(r?em|ex|mu|pt|%)?")
CLASSES = {
    "span": set(STANDARD_TYPES.values()) - {""} | {"code__language", "task__box", "formula"},
    "div": {"table", "table--more", "code", "code--more", "code--plain", "code--long", "code__bar", "footnote"},
    "code": {"formula-source"},
    "sup": {"footnote__label"},
    "p": {"alert__title"},
    "blockquote": {"alert", *(f"alert--{kind}" for kind in ("note", "tip", "important", "warning", "caution"))},
    "button": {"code__button", "unfold"},
    "li": {"task"},
    "ul": {"list--more"},
    "ol": {"list--more"},
    "th": {"left", "center", "right"},
    "td": {"left", "center", "right"},
}
MATH_NAMES = {
    *("display", "displaystyle", "scriptlevel", "stretchy", "symmetric", "movablelimits", "largeop", "separator"),
    *(
        "fence",
        "form",
        "lspace",
        "rspace",
        "minsize",
        "maxsize",
        "accent",
        "accentunder",
        "width",
        "height",
        "depth",
        "voffset",
    ),
    *("linethickness", "mathvariant"),
}
SCHEME = re.compile(r"[\x00- ]*([a-z][a-z0-9+.-]*):", re.I)  # as browsers parse it
LINK = {"target": "_blank", "rel": "noopener noreferrer nofollow"}
WRAP = {"type": "button", "class": "code__button", "data-wrap": ""}
COPY = {"type": "button", "class": "code__button", "data-copy": ""}
UNFOLD = {"type": "button", "class": "unfold", "data-unfold": ""}


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
        assert tag in TAGS | MATH_TAGS, tag
        assert tag != "button" or attributes in (WRAP, COPY, UNFOLD), attributes
        assert tag != "a" or LINK.items() <= attributes.items()
        for name, value in attributes.items():
            assert _is_allowed(tag, name, value), (tag, name, value)


def exact_text(element: Element) -> str:
    """Return the text in an element with its spaces and line ends, but without the bars above code."""
    if element["class"] == "code__bar":
        return ""
    return "".join(child if isinstance(child, str) else exact_text(child) for child in element.content)


def _is_allowed(tag: str, name: str, value: str) -> bool:
    if name == "class" and (tag in MATH_TAGS or value.startswith("math-")):
        return all(map(MATH_CLASS.fullmatch, value.split())) and tag in MATH_TAGS | {"span"}
    if tag in MATH_TAGS:
        is_annotation = (tag, name, value) == ("annotation", "encoding", "application/x-tex")
        return is_annotation or (name in MATH_NAMES and MATH_VALUE.fullmatch(value) is not None)
    if name == "class":
        return set(value.split()) <= CLASSES[tag]
    if name == "href":
        scheme = SCHEME.match(re.sub(r"[\t\r\n]", "", value))
        return tag == "a" and (scheme is None or scheme[1].lower() in ("http", "https", "mailto"))
    if tag in ("a", "button"):
        return tag == "button" or LINK.get(name) == value
    if name == "dir":
        return value == "auto" and tag in ("ul", "ol", "blockquote", "div", "details")
    if name == "tabindex":
        return value == "0" and tag in ("pre", "div", "span")
    return (tag, name, value) == ("details", "open", "") or ((tag, name) == ("ol", "start") and value.isdigit())
