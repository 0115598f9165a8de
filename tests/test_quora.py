"""Files of question pairs, good and bad ones, and the splits made of them."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from conftest import SHARED

from minesweep.config.compose import compose
from minesweep.datasets import quora
from minesweep.datasets.base import Data
from minesweep.datasets.pairs import SentencePairs
from minesweep.datasets.quora import Quora
from minesweep.datasets.text import Tokens
from minesweep.errors import UserError
from minesweep.training.run import run

HEADER = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate"
REAL = SHARED / "quora" / "pairs.tsv.gz"
SMALL = ["miner=closest_negative", "logger=none", "trainer.progress=false", "model.width=8"]
SMALL += ["trainer.batch_size=8", "trainer.max_steps=3"]

Cli = Callable[..., CompletedProcess[str]]


def rows(count: int = 60) -> list[str]:
    """Pairs of which every other one is a duplicate; no question stands in two rows."""
    return [
        f"{i}\t{2 * i}\t{2 * i + 1}\tWhat is thing {i}?\tWhich is thing {i}?\t{i % 2}"
        for i in range(count)
    ]


def write(folder: Path, lines: list[str], header: str = HEADER) -> Path:
    path = folder / "quora" / "quora_duplicate_questions.tsv"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


# --- bad files, as a user meets them ------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("column", "row 1 has no column question2; its columns are id, qid1, qid2, question1, is_"),
        ("quotes", "row 5 has 4 columns, not 6, and its quotes are broken"),
        ("label", "row 5: is_duplicate is 'yes', not 0 or 1"),
    ],
)
def test_a_bad_file_is_told_in_one_line_with_the_row(
    change: str, message: str, cli: Cli, tmp_path: Path
) -> None:
    lines, header = rows(), HEADER
    if change == "column":
        header = HEADER.replace("question2\t", "")
    elif change == "quotes":
        lines[3] = '3\t6\t7\t"What is "thing'
    else:
        lines[3] = lines[3][:-1] + "yes"
    write(tmp_path, lines, header)
    done = cli(*SMALL, f"paths.data_dir={tmp_path}")
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_rows_with_an_empty_question_are_left_out_and_the_user_is_told_how_many(
    cli: Cli, tmp_path: Path, runs_dir: Path
) -> None:
    lines = rows()
    lines[3] = "3\t6\t7\t\tWhich is thing 3?\t1"
    lines[9] = "9\t18\t19\tWhat is thing 9?\t   \t1"
    write(tmp_path, lines)
    done = cli(*SMALL, f"paths.data_dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "left out 2 of 60 rows, in which a question is empty; the first is row 5" in done.stdout
    (status,) = runs_dir.glob("single/*/status.json")
    assert json.loads(status.read_text())["data"].startswith("quora_duplicate_questions.tsv ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "row 1 has no column question1"),
        (HEADER.encode() + b"\n", "holds no question pair"),
        (HEADER.encode() + b"\n1\t1\t2\t\xff\xfe\tb\t1\n", "is not UTF-8 text"),
        (HEADER.encode() + b"\n" + rows(1)[0].encode() + b"\textra\n", "row 2 has 7 columns"),
    ],
)
def test_other_bad_files_are_told(content: bytes, message: str, tmp_path: Path) -> None:
    write(tmp_path, []).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        Quora().load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_broken_archive_is_told(tmp_path: Path) -> None:
    packed = gzip.compress("\n".join([HEADER, *rows()]).encode())
    (tmp_path / "quora").mkdir()
    (tmp_path / "quora" / "pairs.tsv.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(UserError, match=r"pairs\.tsv\.gz cannot be read"):
        Quora().load(tmp_path)


def test_quotes_of_all_kinds_are_read_as_a_spreadsheet_writes_them(tmp_path: Path) -> None:
    odd = ['Is "it" so?', 'Say "so', "One\nor two\tlines?", '"All of it"', "don't", "plain"]
    path = write(tmp_path, [])
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(HEADER.split("\t"))
        for i, text in enumerate(odd):
            writer.writerow([i, 2 * i, 2 * i + 1, text, f"other {i}", 1])
    found = quora.read(path)
    assert found.question1 == odd
    assert found.question2 == [f"other {i}" for i in range(len(odd))]


# --- the official file ----------------------------------------------------------------------------


def test_without_a_file_and_a_network_one_line_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quora, "MIRRORS", ("http://127.0.0.1:1/",))
    with pytest.raises(UserError, match=r"127\.0\.0\.1.*put quora_duplicate_questions\.tsv there"):
        Quora().load(tmp_path)
    assert not list(tmp_path.rglob("*.tsv"))


@pytest.mark.parametrize("count", [60, 59])
def test_a_download_is_taken_when_its_rows_are_as_many_as_the_official_files(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def give(name: str, mirrors: object, folder: Path, checksum: None) -> Path:
        assert name == "quora_duplicate_questions.tsv"
        return write(folder.parent, rows(count))

    monkeypatch.setattr(quora, "PAIRS", 60)
    monkeypatch.setattr(quora, "download", give)
    if count == 60:
        assert len(Quora().load(tmp_path).test) == 6
        return
    with pytest.raises(UserError, match="was downloaded and has 59 rows, not the official 60"):
        Quora().load(tmp_path)


def test_a_file_that_is_there_is_not_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quora, "download", None)
    write(tmp_path, rows())
    data = Quora().load(tmp_path)
    assert (len(data.val), len(data.test)) == (6, 6)
    # Rows 0 to 44 are trained on, and of them the duplicates: the odd ones.
    assert len(data.train) == 22
    assert data.fingerprint().split()[0] == "quora_duplicate_questions.tsv"


def test_the_assignments_rows_are_the_test_split_of_a_full_file(tmp_path: Path) -> None:
    path = write(tmp_path, [])
    found = quora.Rows()
    found.is_duplicate = [True] * quora.PAIRS
    found.source = [""] * quora.PAIRS
    train, val, test = quora._deal(found, path)
    assert (train[0], train[-1] + 1, test[0], test[-1] + 1) == (0, 300_000, 300_000, 310_240)
    assert (val[0], val[-1] + 1) == (310_240, 320_480)


def test_the_vocabulary_knows_nothing_but_training_questions(tmp_path: Path) -> None:
    write(tmp_path, rows())
    data = Quora(min_count=1).load(tmp_path)
    # what which is thing ? and the numbers 1 3 ... 43; padding and unknown.
    assert data.input_shape == (5 + 22 + 2,)
    assert not (sentences(data.train).ids == 1).any()
    assert (sentences(data.test).ids == 1).any(1).all()


# --- the real partial file ------------------------------------------------------------------------


def sentences(split: object) -> Tokens:
    assert isinstance(split, SentencePairs)
    return split.sentences


def known(split: object) -> set[tuple[int, ...]]:
    """Token numbers of the sentences that hold no unknown token."""
    tokens = sentences(split)
    rows = zip(tokens.ids.tolist(), tokens.lengths.tolist(), strict=True)
    return {tuple(row[:length]) for row, length in rows if 1 not in row[:length]}


@pytest.fixture(scope="module")
def raw() -> list[dict[str, str]]:
    if not REAL.is_file():
        pytest.skip("the partial Quora file is not there")
    with gzip.open(REAL, "rt", encoding="utf-8", newline="\n") as file:
        header, *lines = (line.rstrip("\n").split("\t") for line in file)
    return [dict(zip(header, line, strict=True)) for line in lines if len(line) == len(header)]


@pytest.fixture(scope="module")
def real(raw: list[dict[str, str]]) -> dict[str, Data]:
    return {split: Quora(split=split, min_count=1).load(SHARED) for split in quora.SPLITS}


def key(text: str) -> str:
    return " ".join(text.strip().strip('"').lower().split())


def test_no_test_question_is_trained_on(raw: list[dict[str, str]], real: dict[str, Data]) -> None:
    """Against sets of the raw file's own question numbers."""
    held, trained = set(), []
    for row in raw:
        numbers = {row["qid1"], row["qid2"], key(row["question1"]), key(row["question2"])} - {""}
        if row["source"] in (*quora.TEST, *quora.VAL):
            held |= numbers
        elif row["is_duplicate"] == "1":
            trained.append(numbers)
    apart = sum(not numbers & held for numbers in trained)
    assert len(real["leaky"].train) == pytest.approx(len(trained), abs=20)
    # The loader also joins questions through numbers and texts in turn: at most as many.
    assert apart * 0.99 <= len(real["disjoint"].train) <= apart
    shared = {split: len(known(data.test) & known(data.train)) for split, data in real.items()}
    # Another space before a question mark makes another question of the same tokens.
    assert shared["disjoint"] <= 5
    assert shared["leaky"] > 5000
    assert len(known(real["disjoint"].val) & known(real["disjoint"].train)) <= 5
    assert len(real["disjoint"].test) == len(real["leaky"].test)


def test_no_duplicate_of_the_training_file_is_a_negative(real: dict[str, Data]) -> None:
    """Union-find over the training pairs, in plain Python."""
    train = real["disjoint"].train
    assert isinstance(train, SentencePairs)
    parent = list(range(len(train.sentences)))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    pairs = train.inputs.tolist()
    for first, second in pairs:
        parent[root(first)] = root(second)
    groups: dict[int, set[int]] = {}
    for (first, _), label in zip(pairs, train.labels.tolist(), strict=True):
        groups.setdefault(root(first), set()).add(label)
    assert all(len(labels) == 1 for labels in groups.values())
    assert len(set().union(*groups.values())) == len(groups) < len(pairs)


def test_a_run_on_the_real_file(real: dict[str, Data], runs_dir: Path) -> None:
    summary = run(compose([*SMALL, f"paths.data_dir={SHARED}", "trainer.batch_size=64"]))
    for metric in ("roc_auc", "average_precision", "accuracy", "f1", "accuracy_fixed"):
        values = [summary[f"test/{name}{metric}"] for name in ("", "first10k/", "balanced_test/")]
        assert all(0 <= value <= 1 for value in values)
    assert summary["test/first10k/roc_auc_best"] > 0.55  # by common words, even untrained
    sources = real["disjoint"].test.sources  # type: ignore[attr-defined]
    assert {name: len(rows) for name, rows in sources.items()} == {
        "first10k": 9996,
        "balanced_test": 9676,
    }
    first, balanced = (summary[f"test/{name}/accuracy"] for name in ("first10k", "balanced_test"))
    assert summary["test/accuracy"] == pytest.approx(
        (9996 * first + 9676 * balanced) / (9996 + 9676)
    )
    assert not [name for name in summary if name.startswith("val/") and name.count("/") > 1]
    (status,) = runs_dir.glob("single/*/status.json")
    assert json.loads(status.read_text())["data"].startswith("pairs.tsv.gz ")
