"""Files of queries, documents and what answers what: JSONL, CSV, and the layout of BEIR."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minesweep.errors import UserError

QUERY = ("query", "anchor", "question", "text1", "sentence1")
POSITIVE = ("positive", "positives", "pos", "document", "answer", "text2", "sentence2")
TEXT = ("text", "document", "passage", "contents")
TABLES = {".csv": ",", ".tsv": "\t"}
SPLITS = {"train": ("train",), "val": ("dev", "val", "validation"), "test": ("test",)}


@dataclass
class Collection:
    """Texts as they were read, each once.

    Attributes:
        documents: The documents' texts.
        queries: The queries' texts.
        pairs: (query, document) numbers of what answers what.
        parts: Queries by split, where the files deal them.
        notes: What was left out, in words.
    """

    documents: list[str] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    pairs: list[tuple[int, int]] = field(default_factory=list)
    parts: dict[str, list[int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class _Texts:
    """Numbers texts by their first appearance."""

    def __init__(self, texts: list[str]) -> None:
        self.texts, self.numbers = texts, {text: place for place, text in enumerate(texts)}

    def add(self, text: str) -> int:
        number = self.numbers.setdefault(text, len(self.texts))
        if number == len(self.texts):
            self.texts.append(text)
        return number


def read_collection(path: Path, corpus: Path | None = None) -> Collection:
    """Reads a file of pairs, or a folder in the layout of BEIR.

    A file of pairs has a query and a positive (or a list of them) on each line: JSON objects with
    ``query`` and ``positive``, or a table with these columns.

    Args:
        path: ``.jsonl``, ``.csv`` or ``.tsv``; or a folder with ``corpus.jsonl``,
            ``queries.jsonl`` and ``qrels``.
        corpus: Further documents, one a line: JSON objects with ``text``, or plain lines.

    Raises:
        UserError: A missing or broken file, with the line.
    """
    if not path.exists():
        raise UserError(f"{path} is not there: give a file of pairs, or a folder in BEIR's layout")
    found = _beir(path) if path.is_dir() else _pairs(path)
    if corpus is not None:
        texts, empty = _Texts(found.documents), 0
        before, count = len(found.documents), 0
        for text in read_documents(corpus):
            empty += not text
            count += bool(text)
            if text:
                texts.add(text)
        added = len(found.documents) - before
        _note(found, count - added, f"documents of {corpus.name} are there twice")
        _note(found, empty, f"documents of {corpus.name} are empty")
    if not found.pairs:
        why = f": {'; '.join(found.notes)}" if found.notes else ""
        raise UserError(f"{path} holds no query with a positive{why}")
    return found


def read_documents(path: Path) -> Iterator[str]:
    """The texts of a file of documents, stripped; an empty one is an empty text.

    Raises:
        UserError: A missing or broken file, with the line.
    """
    if path.suffix in (".jsonl", ".json"):
        for line, entry in _objects(path):
            yield _document(path, line, entry)
        return
    if path.suffix in TABLES:
        for line, row in _rows(path):
            yield _text(path, line, row, TEXT, "text")
        return
    for text in _lines(path):
        yield text.strip()


def _pairs(path: Path) -> Collection:
    found = Collection()
    queries, documents = _Texts(found.queries), _Texts(found.documents)
    seen: set[tuple[int, int]] = set()
    empty = without = twice = 0
    entries = _rows(path) if path.suffix in TABLES else _objects(path)
    for line, entry in entries:
        query = _text(path, line, entry, QUERY, "query")
        answers = _several(path, line, entry)
        answers = [answer for answer in answers if answer]
        empty += not query
        without += bool(query) and not answers
        if not query:
            continue
        for answer in answers:
            pair = (queries.add(query), documents.add(answer))
            twice += pair in seen
            if pair not in seen:
                seen.add(pair)
                found.pairs.append(pair)
    _note(found, empty, "queries are empty")
    _note(found, without, "queries have no positive")
    _note(found, twice, "pairs are there twice")
    return found


def _beir(folder: Path) -> Collection:
    found = Collection()
    queries, documents = _Texts(found.queries), _Texts(found.documents)
    names: dict[str, dict[str, int]] = {"corpus": {}, "queries": {}}
    for name, texts in (("corpus", documents), ("queries", queries)):
        path, empty = folder / f"{name}.jsonl", 0
        if not path.is_file():
            raise UserError(f"{folder} has no {name}.jsonl: BEIR's layout needs it")
        for line, entry in _objects(path):
            key = str(entry.get("_id", entry.get("id", "")))
            if not key:
                raise UserError(f"{path}, line {line}: there is no _id")
            if key in names[name]:
                raise UserError(f"{path}, line {line}: the _id {key} is there twice")
            text = _document(path, line, entry)
            empty += not text
            if text:
                names[name][key] = texts.add(text)
        _note(found, empty, f"texts of {name}.jsonl are empty")
    tables = sorted((folder / "qrels").glob("*.tsv")) or sorted(folder.glob("qrels*.tsv"))
    if not tables:
        raise UserError(f"{folder} has no qrels/*.tsv: BEIR's layout needs one")
    unknown, dealt = 0, dict[str, set[int]]()
    for path in tables:
        split = next((part for part, words in SPLITS.items() if path.stem in words), None)
        for line, row in _rows(path):
            try:
                query, document = str(row["query-id"]), str(row["corpus-id"])
                relevant = float(row.get("score") or 1) > 0
            except (KeyError, ValueError):
                raise UserError(
                    f"{path}, line {line}: expected the columns query-id, corpus-id, score"
                ) from None
            if query not in names["queries"] or document not in names["corpus"]:
                unknown += 1
                continue
            if not relevant:
                continue
            number = names["queries"][query]
            found.pairs.append((number, names["corpus"][document]))
            if split is not None:
                for other, held in dealt.items():
                    if other != split and number in held:
                        raise UserError(
                            f"{path}, line {line}: the query {query} is of {other}, too; a query "
                            "is of one split"
                        )
                dealt.setdefault(split, set()).add(number)
    found.pairs = list(dict.fromkeys(found.pairs))
    found.parts = {part: sorted(numbers) for part, numbers in dealt.items()}
    _note(found, unknown, "rows of qrels name a query or a document that is not there")
    return found


def _note(found: Collection, count: int, words: str) -> None:
    if count:
        found.notes.append(f"{count} {words}")


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from file
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 ({error.reason})") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            if "\\ud" in line.lower():
                json.dumps(entry, ensure_ascii=False).encode()
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, line {number} is not JSON: {error.msg}") from None
        except RecursionError:
            raise UserError(f"{path}, line {number} is not JSON: lists in lists in lists") from None
        except UnicodeEncodeError:
            raise UserError(
                f"{path}, line {number} holds half a character, such as \\ud83d alone"
            ) from None
        if not isinstance(entry, dict):
            raise UserError(f"{path}, line {number} is not a JSON object such as {{...}}")
        yield number, entry


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    # Strict: a quote that is not closed would swallow the lines behind it.
    reader = csv.DictReader(_lines(path), delimiter=TABLES[path.suffix], strict=True)
    try:
        for row in reader:
            if None in row:
                raise UserError(
                    f"{path}, line {reader.line_num} has more fields than the header: put texts "
                    "in double quotes"
                )
            yield reader.line_num, {str(key).strip(): value for key, value in row.items()}
    except csv.Error as error:
        raise UserError(f"{path}, after line {reader.line_num}: {error}") from None


def _document(path: Path, line: int, entry: dict[str, Any]) -> str:
    text = _text(path, line, entry, TEXT, "text")
    title = str(entry.get("title") or "").strip()
    return f"{title} {text}".strip()


def _text(path: Path, line: int, entry: dict[str, Any], names: tuple[str, ...], word: str) -> str:
    for name in names:
        if name in entry:
            value = entry[name]
            if not isinstance(value, str | int | float) and value is not None:
                raise UserError(f"{path}, line {line}: {name} is not a text")
            return str(value if value is not None else "").strip()
    raise UserError(
        f"{path}, line {line}: there is no {word}; its keys are {', '.join(map(str, entry))}"
    )


def _several(path: Path, line: int, entry: dict[str, Any]) -> list[str]:
    name = next((name for name in POSITIVE if name in entry), None)
    if name is not None and isinstance(entry[name], list):
        if not all(isinstance(answer, str) for answer in entry[name]):
            raise UserError(f"{path}, line {line}: {name} is not a list of texts")
        return [answer.strip() for answer in entry[name]]
    return [_text(path, line, entry, POSITIVE, "positive")]
