"""The schema of a room's file as a list of migrations."""

from __future__ import annotations

import sqlite3

APPLICATION_ID = 0x4F565252  # "OVRR"


def m001_messages(db: sqlite3.Connection) -> None:
    """Create the tables of the room, its messages and their parts."""
    db.execute(
        """CREATE TABLE room (
             one INTEGER PRIMARY KEY CHECK (one = 1),
             name TEXT NOT NULL,
             named_by TEXT NOT NULL CHECK (named_by IN ('nobody', 'first words', 'person')),
             created_at INTEGER NOT NULL,
             messages INTEGER NOT NULL DEFAULT 0)"""
    )
    db.execute(
        """CREATE TABLE messages (
             number INTEGER PRIMARY KEY AUTOINCREMENT,
             role TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
             state TEXT NOT NULL CHECK (state IN
               ('waiting', 'streaming', 'complete', 'stopped', 'failed', 'interrupted')),
             reason TEXT NOT NULL DEFAULT '',
             model TEXT NOT NULL DEFAULT '',
             key TEXT UNIQUE,
             created_at INTEGER NOT NULL,
             ended_at INTEGER)"""
    )
    db.execute(
        """CREATE TABLE parts (
             message INTEGER NOT NULL REFERENCES messages (number) ON DELETE CASCADE,
             position INTEGER NOT NULL,
             kind TEXT NOT NULL CHECK (kind IN ('text', 'reasoning', 'tool_call')),
             text TEXT NOT NULL DEFAULT '',
             call TEXT,
             PRIMARY KEY (message, position)) WITHOUT ROWID"""
    )
    db.execute("CREATE INDEX unfinished ON messages (number) WHERE state IN ('waiting', 'streaming')")
    # The count is needed after every message, and counting 100,000 rows takes milliseconds.
    db.execute("CREATE TRIGGER counted AFTER INSERT ON messages BEGIN UPDATE room SET messages = messages + 1; END")
    db.execute("CREATE TRIGGER uncounted AFTER DELETE ON messages BEGIN UPDATE room SET messages = messages - 1; END")


def m002_settings(db: sqlite3.Connection) -> None:
    """Add the room's settings, the first message that the model receives, and the usage of each answer."""
    db.execute("ALTER TABLE room ADD COLUMN model TEXT NOT NULL DEFAULT ''")
    db.execute("ALTER TABLE room ADD COLUMN system_prompt TEXT NOT NULL DEFAULT ''")
    db.execute("ALTER TABLE room ADD COLUMN temperature REAL")
    db.execute("ALTER TABLE room ADD COLUMN reads_from INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE messages ADD COLUMN tokens_in INTEGER")
    db.execute("ALTER TABLE messages ADD COLUMN tokens_out INTEGER")
    db.execute("ALTER TABLE messages ADD COLUMN seconds REAL")
    db.execute("ALTER TABLE messages ADD COLUMN speaking REAL")
    db.execute("ALTER TABLE messages ADD COLUMN estimated INTEGER")


def m003_pinned(db: sqlite3.Connection) -> None:
    """Add whether the room is pinned."""
    db.execute("ALTER TABLE room ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0")


def m004_left_out(db: sqlite3.Connection) -> None:
    """Add the names of the request parameters that the model server rejected, separated by commas."""
    db.execute("ALTER TABLE messages ADD COLUMN left_out TEXT NOT NULL DEFAULT ''")


def m005_context_and_sources(db: sqlite3.Connection) -> None:
    """Add how full the model's context was after each answer, whether it can be continued, and what it cites (JSON)."""
    db.execute("ALTER TABLE messages ADD COLUMN context_used INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE messages ADD COLUMN context_limit INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE messages ADD COLUMN continuable INTEGER NOT NULL DEFAULT 1")
    db.execute("ALTER TABLE messages ADD COLUMN sources TEXT NOT NULL DEFAULT ''")


def m006_files(db: sqlite3.Connection) -> None:
    """Add the files that parts show. A file is deleted with the last part that shows it."""
    db.execute(
        """CREATE TABLE files (
             sha256 TEXT PRIMARY KEY,
             media_type TEXT NOT NULL,
             width INTEGER NOT NULL,
             height INTEGER NOT NULL,
             created_at INTEGER NOT NULL,
             content BLOB NOT NULL)"""
    )
    # SQLite cannot change a CHECK constraint, so the table is created anew: https://sqlite.org/lang_altertable.html
    db.execute(
        """CREATE TABLE new_parts (
             message INTEGER NOT NULL REFERENCES messages (number) ON DELETE CASCADE,
             position INTEGER NOT NULL,
             kind TEXT NOT NULL CHECK (kind IN ('text', 'reasoning', 'tool_call', 'file')),
             text TEXT NOT NULL DEFAULT '',
             call TEXT,
             file TEXT REFERENCES files (sha256),
             PRIMARY KEY (message, position)) WITHOUT ROWID"""
    )
    db.execute("INSERT INTO new_parts (message, position, kind, text, call) SELECT * FROM parts")
    db.execute("DROP TABLE parts")
    db.execute("ALTER TABLE new_parts RENAME TO parts")
    db.execute("CREATE INDEX shown_files ON parts (file) WHERE file IS NOT NULL")
    db.execute(
        """CREATE TRIGGER unshown AFTER DELETE ON parts WHEN OLD.file IS NOT NULL BEGIN
             DELETE FROM files WHERE sha256 = OLD.file AND NOT EXISTS (SELECT 1 FROM parts WHERE file = OLD.file);
           END"""
    )


def m007_reasoning_seconds(db: sqlite3.Connection) -> None:
    """Add how long the model's reasoning took, which is not known of earlier answers."""
    db.execute("ALTER TABLE parts ADD COLUMN seconds REAL")


def m008_versions(db: sqlite3.Connection) -> None:
    """Make the messages a tree, in which each follows the one before it; see `message_tree`."""
    # No foreign keys: a room with a hole in its tree can still be read, and `check` reports it.
    db.execute("ALTER TABLE messages ADD COLUMN parent INTEGER")
    db.execute("ALTER TABLE messages ADD COLUMN depth INTEGER NOT NULL DEFAULT 1")
    db.execute("ALTER TABLE messages ADD COLUMN jump INTEGER")
    db.execute("ALTER TABLE room ADD COLUMN head INTEGER")
    db.execute("ALTER TABLE room ADD COLUMN hidden INTEGER NOT NULL DEFAULT 0")
    # A room that is a fork: the id of the room that it was copied from, and the last message that was copied.
    db.execute("ALTER TABLE room ADD COLUMN forked_from TEXT NOT NULL DEFAULT ''")
    db.execute("ALTER TABLE room ADD COLUMN forked_at INTEGER")
    numbers = [number for (number,) in db.execute("SELECT number FROM messages ORDER BY number").fetchall()]
    jumps = [0]  # as indexes; `message_tree.PLACE` is the same rule
    for parent in range(len(numbers) - 1):
        j, k = jumps[parent], jumps[jumps[parent]]
        jumps.append(k if j and parent - j == j - k else parent)
    db.executemany(
        "UPDATE messages SET parent = ?, depth = ?, jump = ? WHERE number = ?",
        ((numbers[i - 1], i + 1, numbers[jumps[i]], numbers[i]) for i in range(1, len(numbers))),
    )
    db.execute("UPDATE room SET head = ?", (numbers[-1] if numbers else None,))
    db.execute("CREATE INDEX children ON messages (parent)")
    # The depth of the head is the number of messages that are shown.
    db.execute("DROP TRIGGER counted")
    db.execute("DROP TRIGGER uncounted")
    db.execute("ALTER TABLE room DROP COLUMN messages")


def m009_side_by_side(db: sqlite3.Connection) -> None:
    """Add the model that a person chose for an answer, and its place among those that are shown side by side."""
    db.execute("ALTER TABLE messages ADD COLUMN asked_model TEXT NOT NULL DEFAULT ''")
    db.execute("ALTER TABLE messages ADD COLUMN lane INTEGER")


def m010_import_and_share(db: sqlite3.Connection) -> None:
    """Add where imported messages are from, the names of files, archived and temporary rooms, and read-only shares."""
    # The format and id of the conversation that was imported, and of each of its messages: "chatgpt:6a1f…".
    db.execute("ALTER TABLE room ADD COLUMN source TEXT NOT NULL DEFAULT ''")
    db.execute("ALTER TABLE room ADD COLUMN archived INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE room ADD COLUMN temporary INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE messages ADD COLUMN source TEXT")
    db.execute("CREATE UNIQUE INDEX sources ON messages (source) WHERE source IS NOT NULL")
    db.execute("ALTER TABLE parts ADD COLUMN name TEXT NOT NULL DEFAULT ''")  # of a file
    # `secret` is in the address of the share. `page` is the snapshot, compressed; a live share has none.
    db.execute(
        """CREATE TABLE shares (
             number INTEGER PRIMARY KEY AUTOINCREMENT,
             secret TEXT NOT NULL UNIQUE,
             live INTEGER NOT NULL DEFAULT 0,
             created_at INTEGER NOT NULL,
             expires_at INTEGER,
             visited_at INTEGER,
             page BLOB)"""
    )
    # For people who open the file with other programs: the shown path, as words.
    db.execute(
        """CREATE VIEW transcript (time, who, text, number) AS
             WITH RECURSIVE path (number, parent) AS (
               SELECT number, parent FROM messages WHERE number = (SELECT head FROM room)
               UNION ALL
               SELECT m.number, m.parent FROM path JOIN messages m ON m.number = path.parent AND m.number < path.number)
             SELECT strftime('%Y-%m-%d %H:%M:%S', created_at / 1000, 'unixepoch'),
               CASE WHEN role = 'user' THEN 'You' WHEN model != '' THEN model ELSE 'Assistant' END,
               (SELECT group_concat(text, char(10) || char(10)) FROM
                 (SELECT text FROM parts WHERE message = m.number AND kind = 'text' ORDER BY position)),
               m.number
             FROM path JOIN messages m USING (number) ORDER BY m.number"""
    )


MIGRATIONS = (  # append only
    m001_messages,
    m002_settings,
    m003_pinned,
    m004_left_out,
    m005_context_and_sources,
    m006_files,
    m007_reasoning_seconds,
    m008_versions,
    m009_side_by_side,
    m010_import_and_share,
)
