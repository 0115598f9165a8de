"""Question files as spreadsheets and other people's scripts leave them: read, or told."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from test_quora import HEADER, rows

from minesweep.datasets.base import Data
from minesweep.datasets.quora import Quora
from minesweep.datasets.quora_file import read
from minesweep.errors import UserError

TABLE = [line.split("\t") for line in [HEADER, *rows()]]
NAMES = TABLE[0]


def plain(table: list[list[str]] = TABLE) -> str:
    return "\n".join("\t".join(line) for line in table) + "\n"


def separated(delimiter: str, quoting: int = csv.QUOTE_MINIMAL, table: object = None) -> str:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, quoting=quoting, lineterminator="\n")  # type: ignore[arg-type]
    writer.writerows(table or TABLE)  # type: ignore[arg-type]
    return out.getvalue()


def changed(change: Callable[[list[str]], list[str]], header: list[str] = NAMES) -> str:
    return plain([header, *(change(list(line)) for line in TABLE[1:])])


def put(folder: Path, content: bytes | str) -> Path:
    path = folder / "quora" / "quora_duplicate_questions.tsv"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def load(folder: Path, content: bytes | str) -> Data:
    put(folder, content)
    return Quora(min_count=1).load(folder)


def column(position: int, value: Callable[[int], str]) -> Callable[[list[str]], list[str]]:
    def change(line: list[str]) -> list[str]:
        line[position] = value(int(line[0]))
        return line

    return change


def without(*positions: int) -> str:
    return plain([[v for n, v in enumerate(line) if n not in positions] for line in TABLE])


READ: dict[str, Callable[[], bytes | str]] = {
    "byte-order mark": lambda: plain().encode("utf-8-sig"),
    "UTF-16": lambda: plain().encode("utf-16"),
    "UTF-16 without a mark": lambda: plain().encode("utf-16-le"),
    "UTF-16 big-endian": lambda: plain().encode("utf-16-be"),
    "Windows line ends": lambda: plain().replace("\n", "\r\n"),
    "old Mac line ends": lambda: plain().replace("\n", "\r"),
    "blank lines": lambda: plain().replace("\n", "\n\n"),
    "no last line end": lambda: plain().rstrip("\n"),
    "quoted header": lambda: plain([[f'"{name}"' for name in NAMES], *TABLE[1:]]),
    "upper-case header": lambda: plain([[name.upper() for name in NAMES], *TABLE[1:]]),
    "header with spaces": lambda: plain([[f" {name} " for name in NAMES], *TABLE[1:]]),
    "mark and quoted header": lambda: separated("\t", csv.QUOTE_ALL).encode("utf-8-sig"),
    "all quoted": lambda: separated("\t", csv.QUOTE_ALL),
    "commas": lambda: separated(","),
    "commas, all quoted": lambda: separated(",", csv.QUOTE_ALL),
    "semicolons": lambda: separated(";"),
    "commas and Windows": lambda: separated(",").replace("\n", "\r\n").encode("utf-8-sig"),
    "labels 0.0 and 1.0": lambda: changed(column(5, lambda i: f"{i % 2:.1f}")),
    "labels True and False": lambda: changed(column(5, lambda i: str(i % 2 == 1))),
    "labels true and false": lambda: changed(column(5, lambda i: str(i % 2 == 1).lower())),
    "labels in quotes": lambda: changed(column(5, lambda i: f'"{i % 2}"')),
    "labels with a space": lambda: changed(column(5, lambda i: f" {i % 2} ")),
    "no ids": lambda: without(1, 2),
    "no id at all": lambda: without(0, 1, 2),
    "empty ids": lambda: changed(lambda line: [line[0], "", "", *line[3:]]),
    "nan ids": lambda: changed(lambda line: [line[0], "nan", "NaN", *line[3:]]),
    "NULL ids": lambda: changed(lambda line: [line[0], "NULL", "-", *line[3:]]),
    "ids as text": lambda: changed(lambda line: [line[0], f"a{line[1]}", f"b{line[2]}", *line[3:]]),
    "further columns": lambda: plain([[*line, "x"] for line in [[*NAMES], *TABLE[1:]]]).replace(
        "is_duplicate\tx", "is_duplicate\tnote", 1
    ),
    "columns in another order": lambda: plain([line[::-1] for line in TABLE]),
    "packed under the name of a table": lambda: gzip.compress(plain().encode()),
}


@pytest.mark.parametrize("name", READ, ids=str)
def test_odd_files_are_read_as_the_plain_one(name: str, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "odd").mkdir()
    expected, found = load(tmp_path / "plain", plain()), load(tmp_path / "odd", READ[name]())
    assert found.fingerprint() == expected.fingerprint()


def test_commas_quotes_and_breaks_in_questions_stay(tmp_path: Path) -> None:
    odd = ['Is "it", so?', "a, b, c", "One\nor two\nlines?", '"All"', "x;y", "tab\there", "don't"]
    table = [NAMES, *([str(i), "", "", text, f"other {i}", "1"] for i, text in enumerate(odd))]
    for delimiter in ",;":
        path = put(tmp_path, separated(delimiter, table=table))
        assert read(path).question1 == odd


ONE_ID = "an id names one question; without ids, leave qid1 and qid2 empty"
TOLD: dict[str, tuple[Callable[[], bytes | str], str]] = {
    "ids all 0": (
        lambda: changed(lambda line: [line[0], "0", "0", *line[3:]]),
        f"row 2: the question id 0 names 'which is thing 0\\?', and in row 2 'what is.*{ONE_ID}",
    ),
    "ids all -1": (
        lambda: changed(lambda line: [line[0], "-1", "-1", *line[3:]]),
        "row 2: the question id -1 names",
    ),
    "qid1 and qid2 numbered apart": (
        lambda: changed(lambda line: [line[0], line[0], line[0], *line[3:]]),
        "row 2: the question id 0 names 'which is thing 0",
    ),
    "numbered apart, with an offset": (
        lambda: changed(lambda line: [line[0], line[0], str(int(line[0]) + 5), *line[3:]]),
        "row 7: the question id 5 names 'what is thing 5\\?', and in row 2 'which is thing 0",
    ),
    "one id again": (
        lambda: changed(column(1, lambda i: "8" if i == 40 else str(2 * i))),
        "row 42: the question id 8 names 'what is thing 40\\?', and in row 6 'what is thing 4\\?'",
    ),
    "ids that are row numbers modulo": (
        lambda: changed(column(1, lambda i: str(i % 30 * 2))),
        "row 32: the question id 0 names",
    ),
    "labels 2": (lambda: changed(column(5, lambda i: "2")), "row 2: is_duplicate is '2', not 0"),
    "labels 0.5": (lambda: changed(column(5, lambda i: "0.5")), "row 2: is_duplicate is '0.5'"),
    "labels -1": (lambda: changed(column(5, lambda i: "-1")), "row 2: is_duplicate is '-1'"),
    "no labels": (lambda: changed(column(5, lambda i: "")), "row 2: is_duplicate is ''"),
    "labels yes": (lambda: changed(column(5, lambda i: "yes")), "row 2: is_duplicate is 'yes'"),
    "no header": (lambda: plain(TABLE[1:]), "row 1 has no column question1, question2, is_dup"),
    "other names": (
        lambda: plain([["id", "a", "b", "q1", "q2", "label"], *TABLE[1:]]),
        "row 1 has no column question1.*its columns are id, a, b, q1, q2, label",
    ),
    "spaces for tabs": (lambda: plain().replace("\t", "  "), "row 1 has no column question1"),
    "no duplicates": (lambda: changed(column(5, lambda i: "0")), "leaves 0 training"),
    "a picture": (lambda: b"\x89PNG\r\n\x1a\n\xff\xd8", "is not UTF-8 text"),
    "Latin-1": (lambda: plain().replace("thing", "caf\u00e9").encode("latin-1"), "is not UTF-8"),
    "half a packed file": (lambda: gzip.compress(plain().encode())[:99], "cannot be read"),
    "only a header": (lambda: HEADER, "holds no question pair"),
    "only blank lines": (lambda: "\n\n\n", "row 1 has no column"),
    "a quote never closed": (
        lambda: separated(",").replace("What is thing 7", '"What is thing 7', 1),
        "row 9 has .* columns, not 6, and its quotes are broken|row 9 has",
    ),
    "a row too short": (lambda: plain() + "60\t1\n", "row 62 has 2 columns"),
    "three pairs": (lambda: plain(TABLE[:4]), "leaves 1 training, 0 validation and 0 test pairs"),
}


@pytest.mark.parametrize("name", TOLD, ids=str)
def test_what_cannot_be_read_is_told_in_one_line(name: str, tmp_path: Path) -> None:
    make, message = TOLD[name]
    with pytest.raises(UserError, match=f"(?i){message}") as caught:
        load(tmp_path, make())
    assert "\n" not in str(caught.value)
    assert "quora_duplicate_questions.tsv" in str(caught.value)


def test_an_id_may_come_again_with_its_text_in_another_case(tmp_path: Path) -> None:
    table = [NAMES, *TABLE[1:], ["60", "0", "1", "WHAT is  thing 0?", "Which is thing 0?", "1"]]
    texts, questions = read(put(tmp_path, plain(table))).questions()
    assert questions[60].tolist() == questions[0].tolist()
    assert len(texts) == 120


def test_held_out_pairs_of_one_kind_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load(tmp_path, changed(column(5, lambda i: str(int(i < 45)))))
    assert "all validation pairs are no duplicates: nothing tells them apart" in caplog.text
    assert "all test pairs are no duplicates" in caplog.text


def test_every_text_and_label_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    one = load(tmp_path, plain()).fingerprint()
    other = load(tmp_path, plain().replace("Which is thing 3", "Which was thing 3")).fingerprint()
    third = load(tmp_path, plain().replace("thing 55?\t1", "thing 55?\t0")).fingerprint()
    assert len({one, other, third}) == 3
