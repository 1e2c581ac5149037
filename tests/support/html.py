"""A strict parser of fragments and pages, for tests that look at elements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html.parser import HTMLParser

VOID = {"br", "hr", "img", "input", "link", "meta"}


class Element:
    """An element of a parsed fragment or page."""

    def __init__(self, tag: str, attributes: Mapping[str, str]) -> None:
        self.tag = tag
        self.attributes = attributes
        self.content: list[str | Element] = []

    @property
    def children(self) -> list[Element]:
        """The child elements."""
        return [child for child in self.content if isinstance(child, Element)]

    @property
    def text(self) -> str:
        """The text in the element, with single spaces between words."""
        pieces = (child if isinstance(child, str) else child.text for child in self.content)
        return " ".join(" ".join(pieces).split())

    @property
    def all(self) -> Iterator[Element]:
        """This element and all its descendants, in document order."""
        yield self
        for child in self.children:
            yield from child.all

    def every(self, tag: str = "", **attributes: str) -> list[Element]:
        """Return the elements with this tag and attributes: `data_room` is `data-room`, `class_` one of the classes."""
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [one for one in self.all if (not tag or one.tag == tag) and one.matches(wanted)]

    def one(self, tag: str = "", **attributes: str) -> Element:
        """Return the only such element."""
        found = self.every(tag, **attributes)
        assert len(found) == 1, f"{len(found)} elements match {tag} {attributes}"
        return found[0]

    def has(self, tag: str = "", **attributes: str) -> bool:
        """Whether there is such an element."""
        return bool(self.every(tag, **attributes))

    def matches(self, wanted: Mapping[str, str]) -> bool:
        """Whether the element has these attributes."""
        classes = self.attributes.get("class", "").split()
        return all(value in classes if name == "class" else value == self[name] for name, value in wanted.items())

    def __getitem__(self, attribute: str) -> str | None:
        return self.attributes.get(attribute)


class Parser(HTMLParser):
    """Builds elements. Fails if a tag is not closed in its place or an id is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("", {})]
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        if (element_id := element["id"]) is not None:
            assert element_id not in self.ids, f"the id {element_id} is used twice"
            self.ids.add(element_id)
        self.open[-1].content.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.open[-1].content.append(data)


def parsed(html: str) -> Element:
    """Parse a fragment or a page; return its elements below one without a tag."""
    parser = Parser()
    parser.feed(html)
    parser.close()
    assert len(parser.open) == 1, f"<{parser.open[-1].tag}> is not closed"
    return parser.open[0]


def root(html: str) -> Element:
    """Parse a fragment, and return its root element."""
    (element,) = parsed(html).children
    return element
