"""The HTML sanitiser: everything rendered from Markdown is reduced to these elements and attributes."""

from __future__ import annotations

from functools import cache

import nh3

from overseer.render import mathml
from overseer.render.rules.quotes import ALERTS

TAGS = {"p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "strong", "em", "s", "del", "code", "pre", "span"} | {
    "blockquote", "ul", "ol", "li", "a", "table", "thead", "tbody", "tr", "th", "td", "div", "button",
    "kbd", "sub", "sup", "details", "summary",
}  # fmt: skip
MATH_TAGS = {
    "math", "semantics", "annotation", "mrow", "mi", "mn", "mo", "mtext", "mspace", "msub", "msup", "msubsup", "munder",
    "mover", "munderover", "mmultiscripts", "mprescripts", "mfrac", "msqrt", "mroot", "mtable", "mtr", "mtd", "mpadded",
    "mphantom", "mstyle", "menclose",
}  # fmt: skip
ATTRIBUTES = {
    "*": set[str](),
    "a": {"href"},
    "ol": {"start"},
    "mspace": {"width"},
    "mpadded": {"width", "height", "depth", "voffset"},
    "mfrac": {"linethickness"},
    "mo": {"lspace", "rspace", "minsize", "maxsize"},
}
BOOLEAN = {"true", "false"}
VALUES = {
    "button": {"type": {"button"}, "data-wrap": {""}, "data-copy": {""}, "data-unfold": {""}},
    "div": {"tabindex": {"0"}, "dir": {"auto"}},
    "pre": {"tabindex": {"0"}},
    "span": {"tabindex": {"0"}},
    "ul": {"dir": {"auto"}},
    "ol": {"dir": {"auto"}},
    "blockquote": {"dir": {"auto"}},
    "details": {"dir": {"auto"}, "open": {""}},
    "math": {"display": {"block", "inline"}},
    "annotation": {"encoding": {"application/x-tex"}},
    "mi": {"mathvariant": {"normal"}},
    "mo": {
        "form": {"prefix", "infix", "postfix"},
        **dict.fromkeys(("stretchy", "symmetric", "movablelimits", "largeop", "separator", "fence"), BOOLEAN),
    },
    **{tag: {"accent": BOOLEAN, "accentunder": BOOLEAN} for tag in ("mover", "munder", "munderover")},
    **{
        tag: {"displaystyle": BOOLEAN, "scriptlevel": {"0", "1", "2", "+1"}}
        for tag in ("mrow", "mfrac", "mtable", "mstyle")
    },
}
ALIGNMENTS = {"left", "center", "right"}
CLASSES = {
    "button": {"code__button", "unfold"},
    "code": {"formula-source"},
    "div": {"code", "code--more", "code--plain", "code--long", "code__bar", "table", "table--more", "footnote"},
    "blockquote": {"alert", *(f"alert--{kind}" for kind in ALERTS)},
    "p": {"alert__title"},
    "sup": {"footnote__label"},
    "li": {"task"},
    "ul": {"list--more"},
    "ol": {"list--more"},
    "th": ALIGNMENTS,
    "td": ALIGNMENTS,
    **dict.fromkeys(MATH_TAGS, mathml.CLASSES),
}


def sanitize(html: str) -> str:
    """Remove everything from HTML that could run, load or imitate a part of the page: id, style, hx-* and others."""
    return _cleaner().clean(html)


@cache
def _cleaner() -> nh3.Cleaner:
    from pygments.token import STANDARD_TYPES

    token_classes = {name for name in STANDARD_TYPES.values() if name}
    return nh3.Cleaner(
        tags=TAGS | MATH_TAGS,
        attributes={tag: set(names) for tag, names in ATTRIBUTES.items()},
        tag_attribute_values=VALUES,
        allowed_classes={
            **CLASSES,
            "span": token_classes | {"code__language", "task__box", "formula"} | mathml.CLASSES,
        },
        set_tag_attribute_values={"a": {"target": "_blank"}},
        link_rel="noopener noreferrer nofollow",
        url_schemes={"http", "https", "mailto"},
    )
