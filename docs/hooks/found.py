"""What the stored studies found: the README's table and its picture.

``python docs/hooks/found.py`` (``make found``) writes ``results/found.md`` and ``docs/found.svg``
from the tables in ``results/``, and puts the tables into the README.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import figures

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"(<!-- begin (results/[\w.-]+\.md) -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Compared:
    """One comparison that a row of the table names.

    Attributes:
        what: What it is, in words.
        study: The stored study.
        arm: An arm of it.
        turned: Whether the arm is the control, so that the difference changes its sign.
    """

    what: str
    study: str
    arm: str
    turned: bool = False

    def find(self, results: Path) -> figures.Difference:
        """The stored comparison.

        Raises:
            KeyError: The study compares no such arm.
        """
        for row in figures.read(results, self.study):
            if row.label == self.arm:
                return turn(row) if self.turned else row
        raise KeyError(f"{self.study}_differences.csv compares no arm '{self.arm}'")


@dataclass(frozen=True)
class Row:
    """A row of the table: a study, its question, and the comparisons that answer it."""

    title: str
    topic: str
    question: str
    compared: tuple[Compared, ...] = ()


FOUND = {
    "does_it_help": Row(
        "Does it help?",
        "OHEM",
        "Is OHEM (128 of 256) better than random-k, at equal samples and in equal time?",
        (
            Compared("MNIST, samples", "does_it_help_mnist", "ohem k=128"),
            Compared("MNIST, time", "does_it_help_mnist", "ohem k=128 at equal cost"),
            Compared("digits, samples", "does_it_help_digits", "ohem k=128"),
            Compared("digits, time", "does_it_help_digits", "ohem k=128 at equal cost"),
        ),
    ),
    "nk": Row(
        "The n:k table",
        "OHEM, as published",
        "Is OHEM better than all of 512 in the original's set-up?",
        (
            Compared("512 of 1,024", "nk", "n=1024 k=512"),
            Compared("384 of 512", "nk", "n=512 k=384"),
        ),
    ),
    "nk_controlled": Row(
        "The n:k table, controlled",
        "OHEM 128 of 1,024",
        "Is OHEM (128 of 1,024) better than random-k when both are tuned?",
        (
            Compared("equal samples", "nk_controlled", "n=1024 random_k lr=0.005", True),
            Compared("equal time", "nk_controlled", "n=1024 random_k lr=0.005 at equal cost", True),
        ),
    ),
    "nk_noise": Row(
        "Wrong labels",
        "OHEM",
        "Is OHEM (128 of 512) better than random-k when labels are wrong?",
        (
            Compared("10 % wrong labels", "nk_noise", "label_noise=0.1 ohem skip_hardest=0"),
            Compared("20 % wrong labels", "nk_noise", "label_noise=0.2 ohem skip_hardest=0"),
        ),
    ),
    "margin": Row("The margin", "Margin", "How does the best margin grow with the dimension?"),
    "lsh_vs_knn": Row(
        "Mined pairs",
        "Mined pairs",
        "Are mined pairs better than random pairs (MNIST, MAP@R)?",
        (
            Compared(
                "exact search",
                "lsh_vs_knn",
                "knn most=0.5 mine=both max_steps=600",
            ),
            Compared(
                "hashing, 16 bits",
                "lsh_vs_knn",
                "lsh most=0.5 mine=both n_bits=16 max_steps=600",
            ),
        ),
    ),
    "triplet_mask": Row(
        "The mask",
        "Closest negative",
        "Is the closest negative better without its mask?",
        (Compared("no mask", "triplet_mask", "split=disjoint closest_negative mask=none"),),
    ),
    "mochi": Row(
        "Synthetic negatives",
        "MoCHi",
        "Is MoCHi better than MoCo at equal steps?",
        (
            Compared("N = 32", "mochi", "mochi n_hard=32 model=resnet10t lr=0.03 max_steps=900"),
            Compared(
                "N = 1,024", "mochi", "mochi n_hard=1024 model=resnet10t lr=0.03 max_steps=900"
            ),
        ),
    ),
}
"""By the study's page."""
MINUS = "\N{MINUS SIGN}"
FRAGILE = "\N{NO-BREAK SPACE}\N{DAGGER}"
SAID = {"helps": "yes", "costs": "no, worse"}


def turn(row: figures.Difference) -> figures.Difference:
    """The same comparison, seen from its baseline."""
    answers = {"helps": "costs", "costs": "helps"}
    return replace(
        row,
        difference=-row.difference,
        low=-row.high,
        high=-row.low,
        answer=answers.get(row.answer, row.answer),
    )


def points(share: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{100 * share:+.2f}".replace("-", MINUS)


def answer(results: Path, study: str) -> str:
    """The answer of a row of the table."""
    if study == "margin":
        return margin((results / "margin.md").read_text())
    said = []
    for compared in FOUND[study].compared:
        row = compared.find(results)
        interval = f"[{points(row.low)}, {points(row.high)}]"
        answered = SAID.get(row.answer, row.answer) + FRAGILE * row.fragile
        said.append(f"{compared.what}: {answered}, {points(row.difference)} {interval}")
    return "; ".join(said)


def margin(text: str) -> str:
    """The exponents that the report of the margin study found."""
    line = next(line for line in text.splitlines() if line.startswith("- Without a projection"))
    number = r"(-?[\d.]+)"
    found = re.findall(rf"=(\w+), normalize=(\w+): b = {number} \\\[{number}, {number}\\\]", line)
    forms = {("euclidean", "False"): "raw distances", ("euclidean", "True"): "unit length"}
    return "; ".join(
        f"{forms[form, normal]}: like dim^b, b = {b} [{low}, {high}]".replace("-", MINUS)
        for form, normal, b, low, high in found
        if (form, normal) in forms
    )


def table(results: Path) -> str:
    """The Markdown table of all rows."""
    lines = ["| Study | Question | Answer (points, 95 % interval) |", "|---|---|---|"]
    for study, row in FOUND.items():
        said = answer(results, study).replace("[", r"\[").replace("]", r"\]")
        lines.append(f"| [{row.title}](docs/studies/{study}.md) | {row.question} | {said} |")
    return "\n".join(lines) + "\n"


def picture(results: Path) -> str:
    """The same comparisons as a figure."""
    rows = [
        replace(compared.find(results), label=f"{row.topic}: {compared.what}")
        for row in FOUND.values()
        for compared in row.compared
    ]
    return figures.draw(rows, "← worse than the control | points, 95 % interval | better →")


def as_file(svg: str) -> str:
    """A picture that stands alone: it follows the reader's light or dark setting."""
    style = "<style>svg{color:#24292f}@media(prefers-color-scheme:dark){svg{color:#d5dbe1}}</style>"
    return svg.replace(">", f">{style}", 1)


def fill(readme: str, root: Path) -> str:
    """A README whose blocks ``<!-- begin results/x.md --> ... <!-- end -->`` hold those files."""

    def block(match: re.Match[str]) -> str:
        path = root / match[2]
        return match[1] + (path.read_text() if path.exists() else "") + match[3]

    return BLOCK.sub(block, readme)


if __name__ == "__main__":
    (ROOT / "results" / "found.md").write_text(table(ROOT / "results"))
    (ROOT / "docs" / "found.svg").write_text(as_file(picture(ROOT / "results")))
    readme = ROOT / "README.md"
    readme.write_text(fill(readme.read_text(), ROOT))
