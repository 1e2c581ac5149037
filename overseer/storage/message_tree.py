"""The messages of a room as a tree, and the path from one of them up to the first.

Each message has a `parent`, the message that it follows; those with the same parent are its versions. The room's `head`
is the last message of the shown path. A message has a higher number than its parent: walks go to lower numbers only, so
that they end even in a file with a cycle.

`depth` is the length of the path, and `jump` an ancestor further up, chosen so that any ancestor can be reached in
O(log depth) steps: E. W. Myers, "An applicative random-access stack", Information Processing Letters 17 (1983).
"""

from __future__ import annotations

import sqlite3

from overseer.domain.settings import MAX_LANES

# The place below the message :parent, which is NULL for a first message.
PLACE = """
    SELECT p.number AS parent, ifnull(p.depth, 0) + 1 AS depth,
      CASE WHEN p.depth - j.depth = j.depth - k.depth THEN k.number ELSE p.number END AS jump
    FROM (SELECT 1) LEFT JOIN messages p ON p.number = :parent
    LEFT JOIN messages j ON j.number = p.jump LEFT JOIN messages k ON k.number = j.jump"""

# If there is no such message, which only another program can cause, the newest one is the head.
HEAD = "coalesce((SELECT number FROM messages WHERE number = room.head), (SELECT max(number) FROM messages))"

# A common table expression: the message ? and those it follows, at most ? of them.
UP = """
    up (number, parent) AS (
      SELECT number, parent FROM messages WHERE number = ?
      UNION ALL
      SELECT m.number, m.parent FROM up JOIN messages m ON m.number = up.parent AND m.number < up.number
      LIMIT ?)"""

# The same, as long as the messages below have less than ? characters. Reasoning does not count.
UP_WITHIN = """
    up (number, parent, chars) AS (
      SELECT number, parent, 0 FROM messages WHERE number = ?
      UNION ALL
      SELECT m.number, m.parent, up.chars + 16 + ifnull(
          (SELECT sum(length(text)) FROM parts WHERE message = m.number AND kind != 'reasoning'), 0)
      FROM up JOIN messages m ON m.number = up.parent AND m.number < up.number WHERE up.chars < ?)"""

ANCESTOR = """
    WITH RECURSIVE up (number, parent, jump, depth) AS (
      SELECT number, parent, jump, depth FROM messages WHERE number = :number
      UNION ALL
      SELECT m.number, m.parent, m.jump, m.depth FROM up JOIN messages m
        ON m.number < up.number AND m.number = CASE
          WHEN (SELECT depth FROM messages WHERE number = up.jump) >= :depth THEN up.jump ELSE up.parent END
      WHERE up.depth > :depth)
    SELECT number FROM up WHERE depth = :depth"""

AT_OR_BELOW = """
    WITH RECURSIVE up (number, parent, jump) AS (
      SELECT number, parent, jump FROM messages WHERE number = :number
      UNION ALL
      SELECT m.number, m.parent, m.jump FROM up JOIN messages m
        ON m.number < up.number AND m.number = CASE WHEN up.jump >= :limit THEN up.jump ELSE up.parent END
      WHERE up.number > :limit)
    SELECT number FROM up WHERE number <= :limit"""

NEWEST_BELOW = """
    WITH RECURSIVE below (number) AS (
      SELECT :number
      UNION ALL
      SELECT m.number FROM below JOIN messages m ON m.parent = below.number AND m.number > below.number)
    SELECT max(number) FROM below"""


FOLLOWERS = """
    WITH RECURSIVE below (number, parent) AS (
      SELECT number, parent FROM messages WHERE parent = :number AND number > :number
      UNION ALL
      SELECT m.number, m.parent FROM below JOIN messages m ON m.parent = below.number AND m.number > below.number)
    SELECT number, parent FROM below ORDER BY number"""

MOVE = f"UPDATE messages SET (parent, depth, jump) = ({PLACE}) WHERE number = :number"  # noqa: S608 - a constant


def ancestor(db: sqlite3.Connection, number: int | None, depth: int) -> int | None:
    """Return the message at a depth (1 is the first) on the path to `number`, or None."""
    row = db.execute(ANCESTOR, {"number": number, "depth": depth}).fetchone()
    return row["number"] if row else None


def at_or_below(db: sqlite3.Connection, number: int | None, limit: int) -> int | None:
    """Return the last message on the path to `number` whose own number is at most `limit`, or None."""
    row = db.execute(AT_OR_BELOW, {"number": number, "limit": limit}).fetchone()
    return row["number"] if row else None


def newest_below(db: sqlite3.Connection, number: int) -> int:
    """Return the newest message that follows `number`, directly or not, or `number` itself."""
    newest: int = db.execute(NEWEST_BELOW, {"number": number}).fetchone()[0]
    return newest


def newest_path(db: sqlite3.Connection, number: int) -> int:
    """Return the end of the newest path through a message. Of answers side by side, the path goes on with the first."""
    end = newest_below(db, number)
    row = db.execute("SELECT parent, lane FROM messages WHERE number = ?", (end,)).fetchone()
    side = lanes(db, row["parent"]) if row and row["lane"] is not None else []
    return side[0] if side else end


def newest_child(db: sqlite3.Connection, number: int | None) -> int | None:
    """Return the newest version of what follows a message, or of the first message for None, or None."""
    newest: int | None = db.execute("SELECT max(number) FROM messages WHERE parent IS ?", (number,)).fetchone()[0]
    return newest


def lanes(db: sqlite3.Connection, question: int) -> list[int]:
    """Return the answers to a question that are shown side by side, in their order, at most MAX_LANES."""
    found = db.execute(
        "SELECT number FROM messages WHERE parent = ? AND lane IS NOT NULL ORDER BY lane LIMIT ?", (question, MAX_LANES)
    )
    return [row["number"] for row in found]


def newest_of_each_model(db: sqlite3.Connection, question: int) -> list[int]:
    """Return the newest answer of each model that was asked a question by its name, at most MAX_LANES."""
    found = db.execute(
        "SELECT max(number) AS number FROM messages WHERE parent = ? AND asked_model != ''"
        " GROUP BY asked_model ORDER BY min(number) LIMIT ?",
        (question, MAX_LANES),
    )
    return [row["number"] for row in found]


def end_lanes(db: sqlite3.Connection, question: int) -> None:
    """Show only one of the answers to a question from now on: the one that is on the shown path."""
    db.execute("UPDATE messages SET lane = NULL WHERE parent IS ? AND lane IS NOT NULL", (question,))


def move_up(db: sqlite3.Connection, number: int, parent: int | None) -> None:
    """Let what follows message `number` follow `parent` instead."""
    followers = [(row["number"], row["parent"]) for row in db.execute(FOLLOWERS, {"number": number})]
    for follower, before in followers:
        db.execute(MOVE, {"number": follower, "parent": parent if before == number else before})


def head(db: sqlite3.Connection) -> int | None:
    """Return the last message of the shown path, or None in an empty room."""
    row = db.execute(f"SELECT {HEAD} AS head FROM room").fetchone()  # noqa: S608 - a constant
    return row["head"] if row else None


def delete_below(db: sqlite3.Connection, number: int) -> None:
    """Delete everything that follows a message."""
    db.executemany(
        "DELETE FROM messages WHERE number = ?",
        [(row["number"],) for row in db.execute(FOLLOWERS, {"number": number}).fetchall()],
    )


def count_hidden(db: sqlite3.Connection) -> None:
    """Count the messages that are not on the shown path anew."""
    db.execute(
        "UPDATE room SET hidden = (SELECT count(*) FROM messages)"  # noqa: S608 - a constant
        f" - ifnull((SELECT depth FROM messages WHERE number = {HEAD}), 0)"
    )


def set_head(db: sqlite3.Connection, number: int, *, added: int = 0) -> None:
    """Show the path to a message, after `added` messages were inserted, and count those that are not on it."""
    if db.execute("SELECT 1 FROM room JOIN messages ON number = room.head").fetchone() is None:
        db.execute("UPDATE room SET head = ?", (number,))
        return count_hidden(db)  # another program has changed the head
    depth = "ifnull((SELECT depth FROM messages WHERE number = {}), 0)"
    db.execute(
        f"UPDATE room SET hidden = hidden + {depth.format('room.head')} + :added - {depth.format(':number')},"  # noqa: S608
        " head = :number",
        {"number": number, "added": added},
    )


def faults(db: sqlite3.Connection) -> list[str]:
    """Return what is wrong with the tree: a missing head, a missing or newer parent, a wrong depth or count."""
    found = db.execute(
        "SELECT m.number, m.parent, p.number IS NULL AS missing"
        " FROM messages m LEFT JOIN messages p ON p.number = m.parent"
        " WHERE m.parent IS NOT NULL AND (p.number IS NULL OR m.parent >= m.number) LIMIT 10"
    )
    sentences = [
        f"message {row['number']} follows {row['parent']}, which is {'missing' if row['missing'] else 'not older'}"
        for row in found
    ]
    found = db.execute(
        "SELECT m.number, m.depth, ifnull(p.depth, 0) + 1 AS expected"
        " FROM messages m LEFT JOIN messages p ON p.number = m.parent WHERE m.depth IS NOT expected LIMIT 10"
    )
    sentences += [f"message {row['number']} has depth {row['depth']} instead of {row['expected']}" for row in found]
    room = db.execute(
        "SELECT room.head, hidden, m.depth, (SELECT count(*) FROM messages) AS count"
        " FROM room LEFT JOIN messages m ON m.number = room.head"
    ).fetchone()
    if room["depth"] is None and (room["head"] or room["count"]):
        sentences.append(f"its last message, {room['head']}, is missing")
    elif room["hidden"] != room["count"] - (room["depth"] or 0):
        sentences.append(f"it counts {room['hidden']} messages in other versions and has {room['count']} in all")
    return sentences
