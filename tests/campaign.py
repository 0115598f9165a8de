"""Gradients of ``rows`` against those of the whole graph, for many architectures.

    python tests/campaign.py                      # models that the table has not; an hour or two
    python tests/campaign.py --only resnet lstm   # again, models whose names begin so

Each model is tried in float64 at three steps of n:k = 6:1 and 6:2 with normalisation layers
frozen, and of 6:2 with them in train mode. Both ways start from the same weights and the same
chance; then the optimizer moves the weights. ``results/backward_campaign.csv`` has a line for
each case:

- ``exact``: every parameter's gradient agrees to 1e-9 of its norm;
- ``refused``: ``backward=rows`` ends in one line before the step;
- ``fallback``: so does it, and ``backward=auto`` goes another way that runs;
- ``harness``: the model does not run on these inputs by any way;
- ``wrong``: anything else. There is none, or the exit status is 1.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from campaign_models import MODELS, Case
from torch import Tensor, nn

from minesweep.errors import UserError
from minesweep.files import write_atomically
from minesweep.miners import Ohem
from minesweep.objectives import CrossEntropy

PATH = Path("results/backward_campaign.csv")
CASES = (("frozen", 6, 1), ("frozen", 6, 2), ("train", 6, 2))
STEPS = 3
TOLERANCE = 1e-9
REFUSED = "objective.backward=rows: the model cannot go backward over the selected rows alone, "


@dataclass(frozen=True)
class Result:
    """One line of the table."""

    model: str
    norm: str
    n: int
    k: int
    outcome: str
    apart: str
    said: str


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="PREFIX", default=[""])
    parser.add_argument("--output", type=Path, default=PATH)
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    results = read(given.output)
    tried_before = {result.model for result in results} if given.only == [""] else set()
    names = [name for name in MODELS if name.startswith(tuple(given.only))]
    for result in campaign(name for name in names if name not in tried_before):
        case = (result.model, result.norm, result.k)
        results = [old for old in results if (old.model, old.norm, old.k) != case] + [result]
        write(given.output, results)
    print(dict(Counter(result.outcome for result in results)))
    return int(any(result.outcome == "wrong" for result in results))


def campaign(names: Iterable[str]) -> Iterable[Result]:
    for name in names:
        for norm, n, k in CASES:
            result = tried(name, norm, n, k)
            print(*astuple(result), sep=" | ", flush=True)
            yield result


def read(path: Path) -> list[Result]:
    """The lines of an earlier campaign."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Result(**{**line, "n": int(line["n"]), "k": int(line["k"])})
            for line in csv.DictReader(file)
        ]


def write(path: Path, results: list[Result]) -> None:
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(field.name for field in fields(Result))
    lines.writerows(astuple(result) for result in results)
    write_atomically(path, text.getvalue())


def tried(name: str, norm: str, n: int, k: int) -> Result:
    """One case."""
    try:
        torch.manual_seed(0)
        case = MODELS[name]()
        model = prepared(case.model, norm)
        whole = gradients(model, case, "full", n, k, 0)
    except Exception as error:  # whatever a model may raise
        return Result(name, norm, n, k, "harness", "", one_line(error))
    if not whole:
        return Result(name, norm, n, k, "harness", "", "no parameter has a gradient")
    try:
        apart = compared(model, case, n, k)
    except UserError as refusal:
        try:
            outcome, said = fallen_back(model, case, n, k), one_line(refusal)
        except Exception as error:
            outcome, said = "wrong", one_line(error)
        return Result(name, norm, n, k, outcome, "", said)
    except FloatingPointError as error:
        return Result(name, norm, n, k, "harness", "", one_line(error))
    except Exception as error:
        return Result(name, norm, n, k, "wrong", "", one_line(error))
    outcome = "exact" if apart <= TOLERANCE else "wrong"
    return Result(name, norm, n, k, outcome, f"{apart:.1e}", "")


def fallen_back(model: nn.Module, case: Case, n: int, k: int) -> str:
    """What ``auto`` does where ``rows`` refuses."""
    try:
        objective = CrossEntropy(backward="auto")
        objective(Only(model, case), case.batch(n, 0), Ohem(k=k), 0).loss.backward()
    except UserError:
        return "refused"
    assert objective.get_extra_state()["way"] != "rows"
    return "fallback"


def compared(model: nn.Module, case: Case, n: int, k: int) -> float:
    """The largest relative difference of any parameter's gradient at any step."""
    rows, worst = CrossEntropy(backward="rows"), 0.0
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for step in range(STEPS):
        state = {key: value.clone() for key, value in model.state_dict().items()}
        whole = gradients(model, case, "full", n, k, step)
        model.load_state_dict(state)
        found = gradients(model, case, "rows", n, k, step, rows)
        worst = max(worst, furthest(found, whole))
        optimizer.step()
    return worst


def gradients(
    model: nn.Module,
    case: Case,
    way: str,
    n: int,
    k: int,
    step: int,
    objective: CrossEntropy | None = None,
) -> dict[str, Tensor]:
    """Of one step, from the same chance."""
    objective = objective or CrossEntropy(backward=way)
    model.zero_grad()
    torch.manual_seed(step)
    loss = objective(Only(model, case), case.batch(n, step), Ohem(k=k), step).loss
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def furthest(found: dict[str, Tensor], whole: dict[str, Tensor]) -> float:
    """Relative to each parameter's norm, or to a thousandth of the largest one's.

    Raises:
        FloatingPointError: The whole graph's gradients are 0 or not finite: there is nothing to
            compare with.
    """
    largest = max(gradient.norm() for gradient in whole.values())
    if not 0 < largest < torch.inf:
        raise FloatingPointError(f"the largest gradient of the whole graph has norm {largest}")
    zero = torch.zeros(())
    return max(
        ((found.get(name, zero) - whole.get(name, zero)).norm() / scale).item()
        for name in found.keys() | whole.keys()
        if (scale := max(whole.get(name, zero).norm(), 1e-3 * largest)) > 0
    )


class Only(nn.Module):
    """The model, whose outputs are one tensor of logits."""

    def __init__(self, model: nn.Module, case: Case) -> None:
        super().__init__()
        self.inner, self.logits = model, case.logits

    def forward(self, inputs: Any) -> Tensor:
        return self.logits(self.inner(**inputs) if isinstance(inputs, dict) else self.inner(inputs))


def prepared(model: nn.Module, norm: str) -> nn.Module:
    """In float64 and train mode; running statistics that are not 0 and 1 where they are frozen."""
    model = model.double().train()
    for layer in model.modules():
        if isinstance(layer, nn.modules.batchnorm._NormBase) and norm == "frozen":
            layer.eval()
            if layer.running_mean is not None:
                nn.init.normal_(layer.running_mean, std=0.1)
    return model


def one_line(error: Exception) -> str:
    text = (str(error).strip() or "no message").splitlines()[0]
    if isinstance(error, UserError):
        return text.removeprefix(REFUSED).partition("; objective")[0]
    return f"{type(error).__name__}: {text}"[:200]


if __name__ == "__main__":
    sys.exit(main())
