"""Search: the index follows the rooms, loses what is deleted, and is built anew when it cannot be used."""

from __future__ import annotations

import random
import re
import sqlite3
import threading
import unicodedata
from contextlib import closing, suppress
from pathlib import Path

import pytest

from overseer.domain.errors import NoSuchRoom, StorageUnavailable
from overseer.domain.search import QueryRefused, parse, snippet
from overseer.rooms.overseer import Overseer
from overseer.storage import search_index
from overseer.storage.instance_lock import room_file
from overseer.storage.search_index import SEARCH_FILE, IndexBroken, SearchIndex
from tests.storage.rooms import ask
from tests.support.answers import Open
from tests.support.files import column, empty, execute, overwrite_last_page, write_junk
from tests.support.model_server import ModelServer, Reply, answer, end, held, reasoning, text
from tests.support.seed_data import insert_messages
from tests.support.waiting import DEADLINE, join_turn_threads, until

Place = tuple[str, int, str]


def found(overseer: Overseer, q: str, *, room_id: str | None = None) -> list[Place]:
    """Return the room, number and kind of each hit, the best first; none while the index is built."""
    try:
        return [(hit.room_id, hit.message, hit.kind) for hit in overseer.search(parse(q), room_id=room_id).hits]
    except StorageUnavailable:
        return []


def expect(overseer: Overseer, q: str, *places: Place) -> None:
    """Wait until a query finds these places, in any order."""
    until(lambda: sorted(found(overseer, q)) == sorted(places))


def holds(directory: Path, word: str) -> bool:
    """Whether a file of the index has these bytes."""
    return any(word.encode() in path.read_bytes() for path in directory.glob(f"{SEARCH_FILE}*"))


def test_new_texts_and_names_are_found(overseer: Overseer, model_server: ModelServer) -> None:
    """Questions, answers, reasoning and names; of all versions; when the answer has ended."""
    room = overseer.create("Kitchen").id
    reply = model_server.will(held(reasoning("They want quince."), text("Use a quince")))
    number = overseer.room(room).ask("Which fruit?").answer
    until(lambda: overseer.room(room).message(number).text == "Use a quince")
    expect(overseer, "kitchen", (room, 0, "name"))
    expect(overseer, "fruit", (room, 1, "question"))
    assert found(overseer, "quince") == []
    reply.say(end())
    expect(overseer, "quince", (room, 2, "answer"), (room, 2, "reasoning"))
    model_server.will(answer("An apple."))
    overseer.room(room).edit(1, "Which round fruit?")
    join_turn_threads(room)
    expect(overseer, "fruit", (room, 1, "question"), (room, 3, "question"))
    overseer.room(room).configure({}, name="Cellar")
    expect(overseer, "cellar", (room, 0, "name"))
    assert found(overseer, "kitchen") == []
    fork = overseer.fork(room, upto=2).id
    expect(overseer, "quince", *((one, 2, kind) for one in (room, fork) for kind in ("answer", "reasoning")))


def test_continued_answer_is_found_by_its_new_words(overseer: Overseer, model_server: ModelServer) -> None:
    room = overseer.create("Kitchen").id
    model_server.will(Reply(text("First a quince"), end("length")), answer(" and then a medlar."))
    ask(overseer, room, "Which fruit?")
    expect(overseer, "quince", (room, 2, "answer"))
    overseer.room(room).resume()
    join_turn_threads(room)
    expect(overseer, "quince medlar", (room, 2, "answer"))
    assert found(overseer, '"quince and"') == [(room, 2, "answer")]


def test_answer_that_was_empty_is_found_when_it_is_given_again(overseer: Overseer, model_server: ModelServer) -> None:
    room = overseer.create("Kitchen").id
    model_server.will(Reply(end()), answer("A medlar."))
    ask(overseer, room, "Which fruit?")
    expect(overseer, "fruit", (room, 1, "question"))
    assert overseer.room(room).retry() == 2
    expect(overseer, "medlar", (room, 2, "answer"))


def test_question_that_waits_is_found_when_it_is_answered(overseer: Overseer, model_server: ModelServer) -> None:
    room = overseer.create("Kitchen").id
    reply = model_server.will(held(text("Half")))
    overseer.room(room).ask("Which fruit?")
    overseer.room(room).ask("Which nut?")
    question = overseer.room(room).ask("Which quince?").question
    overseer.room(room).withdraw(3)
    expect(overseer, "fruit", (room, 1, "question"))
    assert found(overseer, "quince") == found(overseer, "nut") == []
    reply.hang_up()
    expect(overseer, "quince", (room, question, "question"))
    assert found(overseer, "nut") == []


@pytest.mark.parametrize("how", ["clear", "delete"])
def test_words_of_deleted_messages_are_not_in_the_files(
    overseer: Overseer, model_server: ModelServer, how: str
) -> None:
    room, other = overseer.create("Zanzibar").id, overseer.create("Other").id
    for n in range(30):
        model_server.will(answer(f"Quicksilver {n} and 水銀灯{n}"))
        ask(overseer, room, f"Palimpsest {n}")
    ask(overseer, other, "Nothing special")
    until(lambda: len(found(overseer, "palimpsest")) == 20)
    expect(overseer, "special", (other, 1, "question"))
    assert all(holds(overseer.directory, word) for word in ("quicksilver", "palimpsest", "水銀"))
    if how == "clear":
        overseer.room(room).clear()
    else:
        overseer.delete(room)
    assert not any(holds(overseer.directory, word) for word in ("quicksilver", "palimpsest", "水銀"))
    assert how == "clear" or not holds(overseer.directory, "zanzibar")
    assert found(overseer, "palimpsest") == [] and found(overseer, "special") == [(other, 1, "question")]
    if how == "clear":
        ask(overseer, room, "Palimpsest once more")
        expect(overseer, "palimpsest", (room, 61, "question"))


def test_old_name_of_a_room_is_not_in_the_files(overseer: Overseer) -> None:
    room = overseer.create("Zanzibar").id
    until(lambda: holds(overseer.directory, "zanzibar"))
    overseer.room(room).configure({}, name="Kitchen")
    until(lambda: not holds(overseer.directory, "zanzibar"))
    expect(overseer, "kitchen", (room, 0, "name"))


def test_search_in_one_room(overseer: Overseer) -> None:
    rooms = [overseer.create(name).id for name in ("Kitchen", "Cellar")]
    for room in rooms:
        ask(overseer, room, "Which fruit?")
    until(lambda: len(found(overseer, "fruit")) == 2)
    assert found(overseer, "fruit", room_id=rooms[0]) == [(rooms[0], 1, "question")]
    with pytest.raises(NoSuchRoom):
        overseer.search(parse("fruit"), room_id="0123456789ab")


def test_hits_come_in_pages_the_best_first(overseer: Overseer, instance: Path, opened: Open) -> None:
    """Short texts that have the words before long ones, new ones before old ones."""
    room = overseer.create("Kitchen").id
    overseer.close()
    insert_messages(
        room_file(instance, room), range(1, 101), lambda n: "owl " + "and other birds " * (n % 10) + f"n{n}"
    )
    again = opened(instance)
    until(lambda: len(found(again, "owl")) == 20)
    pages, after = [], 0
    while True:
        page = again.search(parse("owl"), after=after)
        pages.append([hit.message for hit in page.hits])
        if page.after is None:
            break
        after = page.after
    assert sorted(sum(pages, [])) == list(range(1, 101)) and [len(page) for page in pages] == [20] * 5
    assert {number % 10 for number in pages[0]} == {0, 1}
    assert again.search(parse("owl"), after=10**6).hits == ()


def test_search_that_takes_too_long_shows_what_it_has(overseer: Overseer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a ranking, the newest first; and if that takes too long too, it says that some hits are missing."""
    room = overseer.create("Kitchen").id
    for n in range(3):
        ask(overseer, room, f"Which fruit, and {'and ' * n}why?")
    until(lambda: len(found(overseer, "fruit")) == 3)
    monkeypatch.setattr(search_index, "PROGRESS_STEPS", 1)
    monkeypatch.setattr(search_index, "RANKED_SECONDS", 0)
    result = overseer.search(parse("fruit"))
    assert ([hit.message for hit in result.hits], result.cut) == ([5, 3, 1], False)
    monkeypatch.setattr(search_index, "NEWEST_SECONDS", 0)
    assert overseer.search(parse("fruit")).cut


# Start and damage


def test_start_reads_only_the_rooms_that_have_changed(
    overseer: Overseer, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms = [overseer.create(f"Room {n}").id for n in range(4)]
    for room in rooms:
        ask(overseer, room, "Which fruit?")
    until(lambda: len(found(overseer, "fruit")) == 4)
    overseer.close()
    insert_messages(room_file(overseer.directory, rooms[1]), [3], lambda n: "A medlar")
    synced: list[str] = []
    sync = SearchIndex.sync

    def recorded(index: SearchIndex, room_id: str, file: Path) -> bool:
        synced.append(room_id)
        return sync(index, room_id, file)

    monkeypatch.setattr(SearchIndex, "sync", recorded)
    again = opened(overseer.directory)
    expect(again, "medlar", (rooms[1], 3, "question"))
    assert set(synced) == {rooms[1]}


@pytest.mark.parametrize("harm", [Path.unlink, write_junk, empty, overwrite_last_page, "version"])
def test_index_that_cannot_be_used_is_built_anew(overseer: Overseer, opened: Open, harm: object) -> None:
    room = overseer.create("Kitchen").id
    ask(overseer, room, "Which fruit?")
    expect(overseer, "fruit", (room, 1, "question"))
    overseer.close()
    path = overseer.directory / SEARCH_FILE
    if harm == "version":
        execute(path, "PRAGMA user_version = 99")
    else:
        harm(path)  # type: ignore[operator]
    again = opened(overseer.directory)
    expect(again, "fruit", (room, 1, "question"))
    ask(again, room, "Which medlar?")
    expect(again, "medlar", (room, 3, "question"))


@pytest.mark.parametrize("harm", [Path.unlink, write_junk])
def test_index_that_is_harmed_while_it_is_open_is_built_anew(overseer: Overseer, harm: object) -> None:
    room = overseer.create("Kitchen").id
    ask(overseer, room, "Which fruit?")
    expect(overseer, "fruit", (room, 1, "question"))
    harm(overseer.directory / SEARCH_FILE)  # type: ignore[operator]
    ask(overseer, room, "Which medlar?")
    expect(overseer, "medlar", (room, 3, "question"))
    expect(overseer, "fruit", (room, 1, "question"))
    overseer.room(room).clear()
    expect(overseer, "fruit")


def test_room_whose_file_has_other_texts_than_were_indexed_causes_a_new_index(overseer: Overseer) -> None:
    """Its words could not be taken out otherwise."""
    room, other = overseer.create("Kitchen").id, overseer.create("Other").id
    for one in (room, other):
        ask(overseer, one, "Which quince?")
    until(lambda: len(found(overseer, "quince")) == 2)
    execute(room_file(overseer.directory, room), "UPDATE parts SET text = 'Which medlar?' WHERE message = 1")
    overseer.delete(room)
    expect(overseer, "quince", (other, 1, "question"))


@pytest.mark.parametrize("harm", [Path.unlink, write_junk])
def test_index_that_is_harmed_before_the_first_search_is_built_anew(overseer: Overseer, harm: object) -> None:
    room = overseer.create("Kitchen").id
    ask(overseer, room, "Which fruit?")
    path = overseer.directory / SEARCH_FILE
    until(lambda: path.exists() and column(path, "SELECT count(*) FROM texts") == [3])
    harm(path)  # type: ignore[operator]
    with suppress(StorageUnavailable):
        overseer.search(parse("fruit"))
    overseer.room(room).configure({}, name="Cellar")
    expect(overseer, "cellar", (room, 0, "name"))
    expect(overseer, "fruit", (room, 1, "question"))


def test_search_that_finds_the_index_broken_has_it_built_anew(
    overseer: Overseer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the thread: its connections may be in use."""
    room = overseer.create("Kitchen").id
    ask(overseer, room, "Which fruit?")
    expect(overseer, "fruit", (room, 1, "question"))

    def fail(*_: object, **__: object) -> None:
        raise IndexBroken("it is")

    with monkeypatch.context() as patched, pytest.raises(StorageUnavailable, match="being built"):
        patched.setattr(SearchIndex, "search", fail)
        overseer.search(parse("fruit"))
    expect(overseer, "fruit", (room, 1, "question"))


def test_index_that_is_locked_is_written_later(
    overseer: Overseer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("overseer.rooms.search.RETRY_SECONDS", 0.01)
    room = overseer.create("Kitchen").id
    expect(overseer, "kitchen", (room, 0, "name"))
    with closing(sqlite3.connect(overseer.directory / SEARCH_FILE, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        ask(overseer, room, "Which fruit?")
        until(lambda: "cannot be written" in caplog.text)
        db.execute("ROLLBACK")
    expect(overseer, "fruit", (room, 1, "question"))


def test_older_copy_of_a_room_is_indexed_as_it_is(overseer: Overseer, opened: Open, tmp_path: Path) -> None:
    """Put back from a backup while no server runs, over the file or in its place."""
    room = overseer.create("Kitchen").id
    ask(overseer, room, "Which fruit?")
    expect(overseer, "fruit", (room, 1, "question"))
    overseer.close()
    path = room_file(overseer.directory, room)
    older = path.read_bytes()
    again = opened(overseer.directory)
    ask(again, room, "Which medlar?")
    expect(again, "medlar", (room, 3, "question"))
    again.close()
    path.write_bytes(older)
    restored = opened(overseer.directory)
    expect(restored, "medlar")
    ask(restored, room, "Which quince?")
    expect(restored, "quince", (room, 3, "question"))
    expect(restored, "fruit", (room, 1, "question"))
    restored.close()
    execute(path, "UPDATE parts SET text = 'Which nut?' WHERE message = 1")
    path.rename(tmp_path / "aside")
    path.write_bytes((tmp_path / "aside").read_bytes())
    expect(opened(overseer.directory), "nut", (room, 1, "question"))


def test_room_that_is_cleared_while_the_index_is_not_open_leaves_nothing(
    overseer: Overseer, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = overseer.create("Kitchen").id
    ask(overseer, room, "Which quicksilver?")
    expect(overseer, "quicksilver", (room, 1, "question"))
    overseer.close()
    monkeypatch.setattr("overseer.rooms.search.OPEN_WAIT_SECONDS", 0)
    gate, start = threading.Event(), SearchIndex.open

    def wait(index: SearchIndex) -> None:
        gate.wait(DEADLINE)
        start(index)

    monkeypatch.setattr(SearchIndex, "open", wait)
    again = opened(overseer.directory)
    again.room(room).clear()
    gate.set()
    expect(again, "kitchen", (room, 0, "name"))
    assert found(again, "quicksilver") == [] and not holds(again.directory, "quicksilver")


def test_question_in_a_room_that_is_being_deleted_is_refused(
    overseer: Overseer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although it was open: its words are taken out of the index first."""
    room = overseer.create("Kitchen").id
    ask(overseer, room, "Which fruit?")
    remove, refused = SearchIndex.has, []

    def asked(index: SearchIndex, room_id: str) -> bool:
        with pytest.raises(NoSuchRoom):
            overseer.room(room).ask("Which medlar?")
        refused.append(room_id)
        return remove(index, room_id)

    monkeypatch.setattr(SearchIndex, "has", asked)
    expect(overseer, "fruit", (room, 1, "question"))
    overseer.delete(room)
    assert refused == [room]


def test_room_without_a_file_does_not_stop_the_index(overseer: Overseer, opened: Open) -> None:
    broken, room = overseer.create("Broken").id, overseer.create("Kitchen").id
    overseer.close()
    room_file(overseer.directory, broken).unlink()
    (overseer.directory / SEARCH_FILE).unlink()
    again = opened(overseer.directory)
    ask(again, room, "Which fruit?")
    expect(again, "fruit", (room, 1, "question"))


def test_reindex_builds_the_index_while_no_server_runs(overseer: Overseer, opened: Open) -> None:
    room = overseer.create("Kitchen").id
    ask(overseer, room, "Which fruit?")
    overseer.close()
    steps: list[tuple[int, int]] = []
    again = Overseer(overseer.directory, models=overseer._models)
    again.reindex(lambda done, total: steps.append((done, total)))
    assert steps == [(1, 1)]
    with closing(sqlite3.connect(overseer.directory / SEARCH_FILE)) as db:
        assert db.execute("SELECT count(*) FROM texts").fetchone() == (3,)
    expect(opened(overseer.directory), "fruit", (room, 1, "question"))


# Recall

SCRIPTS = {
    "latin": ["Größe", "naïve", "façade", "Übermut", "hundred", "résumé", "pâté", "cliché", "Ångström", "coöperate"],
    "cyrillic": ["Привет", "ёлка", "молоко", "Москва", "словарь", "вопрос", "ответ", "Йод", "хлеб", "сервер"],
    "greek": ["Ελλάδα", "μήλο", "νερό", "δρόμος", "ερώτηση", "Αθήνα", "ώρα", "φως", "βιβλίο", "ήλιος"],
    "arabic": ["سلام", "كتاب", "مدرسة", "سؤال", "جواب", "ماء", "بيت", "شمس", "قمر", "لغة"],
    "chinese": "东京天气很好机器学习服务器数据库我们喜欢散步中文搜索问题答案",
    "japanese": "今日はいい天気ですねデータベースを検索する質問と回答サーバー",
}
TEXTS, QUERIES = 400, 5000


def words_of(rng: random.Random, script: str) -> str:
    """Return a few words of a script, or a run of characters where words are not separated."""
    letters = SCRIPTS[script]
    if isinstance(letters, str):
        start = rng.randrange(len(letters) - 6)
        return letters[start : start + rng.randint(2, 6)]
    return " ".join(rng.choices(letters, k=rng.randint(1, 2)))


def plain(words: str) -> str:
    apart = unicodedata.normalize("NFKD", words).casefold()
    return "".join(letter for letter in apart if not unicodedata.combining(letter))


def scan(texts: dict[int, str], query: str, *, spaced: bool) -> set[int]:
    """Return which of the plain texts have all words of the query, or its run of characters."""
    if not spaced:
        wanted = plain(query)
        return {number for number, one in texts.items() if wanted in one}
    *whole, last = plain(query).split()
    patterns = [re.compile(rf"(?<!\w){re.escape(word)}(?!\w)") for word in whole]
    patterns.append(re.compile(rf"(?<!\w){re.escape(last)}" + ("" if len(last) >= 3 else r"(?!\w)")))
    return {number for number, one in texts.items() if all(pattern.search(one) for pattern in patterns)}


def test_search_finds_what_a_plain_scan_finds(
    tmp_path: Path, overseer: Overseer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For thousands of random queries in six scripts."""
    monkeypatch.setattr(search_index, "CANDIDATES", TEXTS)
    rng, room = random.Random(15), overseer.create("Kitchen").id
    overseer.close()
    texts = {
        n: ", ".join(words_of(rng, rng.choice(list(SCRIPTS))) for _ in range(rng.randint(1, 8)))
        for n in range(1, TEXTS + 1)
    }
    insert_messages(room_file(overseer.directory, room), texts, texts.__getitem__)
    plain_texts = {number: plain(one) for number, one in texts.items()}
    index = SearchIndex(tmp_path / SEARCH_FILE)
    index.open()
    while index.sync(room, room_file(overseer.directory, room)):
        continue
    for _ in range(QUERIES):
        script = rng.choice(list(SCRIPTS))
        words = words_of(rng, script)
        hits, cut = index.search(parse(words))
        assert not cut
        expected = scan(plain_texts, words, spaced=not isinstance(SCRIPTS[script], str))
        assert {hit.message for hit in hits if hit.message} == expected, words
    index.close()


# Queries


@pytest.mark.parametrize(
    ("typed", "fts"),
    [
        ("quince", '("quince"*)'),
        ("a quince ", '("a" AND "quince")'),
        ('"a quince" -medlar', '("a quince") NOT "medlar"'),
        ("C# c++ foo-bar", '("C#" AND "c++" AND "foo-bar"*)'),
        ("AND OR NOT NEAR(", '("AND" AND "OR" AND "NOT" AND "NEAR(")'),
        ("user@x text:y ^z *", '("user@x" AND "text:y" AND "^z")'),
        ("东京塔", '(" 东京 京塔 ")'),
        ("塔", '(" 塔 "*)'),
        ("iPhone手机", '("iPhone 手机 ")'),
        ('un"balanced', '("un" AND "balanced")'),
        ("a\x00b \ud800", '("a\ufffdb")'),
    ],
)
def test_query_is_quoted_for_fts5(typed: str, fts: str) -> None:
    assert parse(typed).as_fts == fts
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("CREATE VIRTUAL TABLE words USING fts5 (text)")
        db.execute("SELECT * FROM words WHERE words MATCH ?", (fts,)).fetchall()


@pytest.mark.parametrize("typed", ["", " ", "-x", "-x -y", "!!!", '"', '""', '"' * 10_000, "- -", "…", "\x00"])
def test_query_without_a_word_is_refused_with_a_sentence(typed: str) -> None:
    with pytest.raises(QueryRefused, match="Type a word"):
        parse(typed)


def test_query_is_bounded() -> None:
    assert len(parse("word " * 10_000).terms) == 16
    assert len(parse("x" * 10_000).text) == 200


@pytest.mark.parametrize(
    ("words", "query", "shown"),
    [
        ("A quince, a Quince", "quince", "A [quince], a [Quince]"),
        ("Die GRÖSSE und Groesse", "größe", "Die [GRÖSSE] und Groesse"),
        ("na\u0308ive", "näive", "[na\u0308ive]"),
        ("我住在东京塔。", "东京", "我住在[东京]塔。"),
        ("foo\n```py\nbar", "bar", "foo [bar]"),
        ("one " * 40 + "needle" + " two" * 80, "needle", "…one one one one one one one one one one one one [needle]"),
        ("quinces", "-quince pea", "quinces"),
        ("é " * 100_000, "é", "[é] [é]"),
        ("a " * 100_000, '"' + "a " * 97 + '"', "[a a a a a a a a]"),
    ],
)
def test_snippet_shows_the_words_in_their_place(words: str, query: str, shown: str) -> None:
    pieces = snippet(words, parse(query))
    assert "".join(f"[{piece.text}]" if piece.marked else piece.text for piece in pieces).startswith(shown)
    assert sum(len(piece.text) for piece in pieces) < 240
