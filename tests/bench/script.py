"""Scripts for the stand-in model: a message contains one as JSON."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

BLOCKS = (
    "## Owls at night\n\nThey **hunt** by ear, and a vole under the snow is heard from *far* away. ",
    "An owl turns its head by 270 degrees; see [the notes](https://example.org/owls) for more of that.\n\n",
    "- barn owl: voles\n- eagle owl: hares, now and then a hedgehog\n- little owl: beetles\n\n",
    "```python\ndef hoo(times: int) -> str:\n    return ' '.join(['hoo'] * times)\n```\n\n",
    "| owl | weighs |\n|---|---:|\n| barn | 500 g |\n| eagle | 2,800 g |\n\n",
)
CODE = "    owls = [owl for owl in forest if owl.hears(vole, under='snow')]\n    print('hoo', len(owls))\n"
ITEM = "- an owl that hears a vole under the *snow* from far away\n"
ROW = "| barn owl | 500 g | voles, and **mice** | at night |\n"
WORDS = "An owl hears a vole under the *snow* from far away, and so does its young. "
PARAGRAPH_TOKENS = 20
PREVIEW = "These words come first, so that the list of rooms shows them, and no stamp of another room. " * 2


@dataclass(frozen=True, slots=True)
class Script:
    """An answer of `tokens` tokens at `rate` tokens a second. Rate 0 stands for full speed.

    Forms: `stamped` tokens contain the time when they are sent, by the monotonic clock in ns; `markdown` contains all
    kinds of blocks; `code`, `list`, `table` and `paragraph` are one block.
    """

    tokens: int
    rate: float = 0.0
    form: str = "markdown"

    def __str__(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, question: str) -> Script:
        """Return the script in a message, or one of a few tokens for any other message."""
        try:
            return cls(**json.loads(question))
        except (ValueError, TypeError):
            return cls(3)

    def words(self) -> Iterator[str]:
        """Yield the tokens, of about four characters each."""
        if self.form == "stamped":
            yield PREVIEW + stamp() + "\n\n"
            for n in range(2, self.tokens + 1):
                yield stamp() + ("\n\n" if n % PARAGRAPH_TOKENS == 0 else " ")
            return
        endless = {"markdown": "".join(BLOCKS), "code": CODE, "list": ITEM, "table": ROW, "paragraph": WORDS}[self.form]
        begin = {"code": "```python\n", "table": "| owl | weighs | eats | when |\n|---|---|---|---|\n"}.get(
            self.form, ""
        )
        letters = itertools.chain(begin, itertools.cycle(endless))
        for _ in range(self.tokens):
            yield "".join(itertools.islice(letters, 4))


def stamp() -> str:
    """Return the current time as a word."""
    return f"T{time.monotonic_ns():018d}"
