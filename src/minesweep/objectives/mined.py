"""What was mined at one step, for a person to look at: the hardest candidates that were scored.

The trainer asks an objective for it (:meth:`~minesweep.objectives.base.Objective.mined`) at the
steps of the histograms, and the tracker writes it to ``mined.jsonl``. An objective whose
``Outcome.scores`` are ``[n]`` has it from :func:`hardest`, and adds what it likes through
``Outcome.details``:

- a tensor ``[n]`` is a number beside each candidate (``prediction``, ``distance``);
- a tensor ``[n]`` named ``row/<role>`` (``row/negative``) is a further example to show beside it,
  by its row of the training split. A mix has no row: -1;
- any other tensor is for the objective's own ``mined``.

One whose scores are ``[n, H, W]`` of pixels uses :func:`hardest_images`, which keeps masks.
One whose scores are a matrix of anchors and negatives uses :func:`hardest_negatives`.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from minesweep.datasets.base import Batch

ROW = "row/"


@dataclass(frozen=True)
class Mined:
    """The hardest candidates of one step, the hardest first.

    Attributes:
        scored: How many candidates there were.
        rows: By role (``example``; ``query`` and ``negative``; ``first`` and ``second`` of a pair;
            ``anchor``, ``positive`` and ``negative``): ``[m]`` rows of the training split, -1 for
            none.
        values: By name: ``[m]`` numbers. ``score`` (larger is harder) and ``selected`` are always
            there; ``rank`` is the place among all that were scored, from 0.
        parts: Of examples that consist of two (a pair of sentences), by role: ``[m]`` which of
            the two is meant.
        masks: Of pixels, by name (``prediction``, ``selected``): ``[m, H, W]`` integers, 0 to 255.
    """

    scored: int
    rows: dict[str, Tensor]
    values: dict[str, Tensor]
    parts: dict[str, Tensor] = field(default_factory=dict)
    masks: dict[str, Tensor] = field(default_factory=dict)

    def record(self, step: int) -> dict[str, Any]:
        """As a line of ``mined.jsonl``: lists, six digits, None for what is not finite.

        Masks are there where there are some: PNG files in base64.
        """
        masks = {name: [_png(mask) for mask in held] for name, held in self.masks.items()}
        return {
            "step": step,
            "scored": self.scored,
            "rows": {role: rows.tolist() for role, rows in self.rows.items()},
            "values": {name: _plain(values) for name, values in self.values.items()},
            "parts": {role: parts.tolist() for role, parts in self.parts.items()},
            **({"masks": masks} if masks else {}),
        }


def _png(mask: Tensor) -> str:
    out = io.BytesIO()
    Image.fromarray(mask.to(torch.uint8).cpu().numpy()).save(out, format="png", optimize=True)
    return base64.b64encode(out.getvalue()).decode()


def _plain(values: Tensor) -> list[Any]:
    if not values.is_floating_point():
        return values.tolist()
    return [float(f"{x:.6g}") if math.isfinite(x) else None for x in values.tolist()]


def hardest(
    batch: Batch, scores: Tensor, weights: Tensor, details: Mapping[str, Tensor], most: int
) -> Mined:
    """The ``most`` candidates of highest score.

    Args:
        batch: Rows and labels ``[n]``, or ``[n, 2]`` for pairs.
        scores: ``[n]``.
        weights: ``[n]``; above 0 is selected.
        details: See the module; a tensor of another shape than ``[n]`` is left out.
        most: How many.
    """
    order = scores.float().nan_to_num(torch.inf).argsort(descending=True, stable=True)[:most]
    rows, labels = batch.rows[order], batch.labels[order]
    values = {
        "score": scores[order].float(),
        "rank": torch.arange(len(order), device=order.device),
        "selected": weights[order] > 0,
    }
    if rows.dim() == 1:
        roles, values["label"] = {"example": rows}, labels
    else:
        roles = {"first": rows[:, 0], "second": rows[:, 1]}
        values["same"] = labels[:, 0] == labels[:, 1]
    for name, detail in details.items():
        if detail.shape == scores.shape:
            held = roles if name.startswith(ROW) else values
            held[name.removeprefix(ROW)] = detail[order]
    if "example" in roles and len(roles) > 1:
        roles = {"query": roles.pop("example"), **roles}
    return Mined(len(scores), roles, values)


def hardest_images(
    batch: Batch, scores: Tensor, weights: Tensor, valid: Tensor, prediction: Tensor, most: int
) -> Mined:
    """The ``most`` images of highest mean score.

    Args:
        batch: Rows ``[n]``.
        scores: ``[n, H, W]``.
        weights: ``[n, H, W]``; above 0 is selected.
        valid: ``[n, H, W]``, False without a label.
        prediction: ``[n, H, W]`` class indices.
        most: How many.
    """
    labelled = valid.flatten(1).sum(1)
    mean = scores.where(valid, 0).flatten(1).sum(1) / labelled.clamp(min=1)
    order = mean.nan_to_num(torch.inf).argsort(descending=True, stable=True)[:most]
    selected = (weights > 0) & valid
    chosen = selected.flatten(1).sum(1)
    values = {
        "score": mean[order].float(),
        "rank": torch.arange(len(order), device=order.device),
        "selected": chosen[order] > 0,
        "selected_share": (chosen / labelled.clamp(min=1))[order],
    }
    masks = {"prediction": prediction[order], "selected": selected[order]}
    return Mined(len(scores), {"example": batch.rows[order]}, values, masks=masks)


def hardest_negatives(
    scores: Tensor,
    positive: Tensor,
    weights: Tensor,
    most: int,
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """The ``most`` anchors whose chosen negative is nearest, measured against their positive.

    Args:
        scores: ``[B, m]`` similarities of anchors and candidates, ``-inf`` at what is no negative.
        positive: ``[B]`` similarity of each anchor's positive; NaN for an anchor without one.
        weights: ``[B, m]`` of the miner's hard negative. The one of largest weight is shown; where
            there is none, the closest, as one that was not selected.
        most: How many.

    Returns:
        ``[k]`` anchors and ``[k]`` columns of their negatives, and values beside them: ``score``
        (negative minus positive similarity), ``rank`` (how many candidates of the anchor are
        closer than this negative), ``selected`` and both similarities.
    """
    chosen = weights.amax(1) > 0
    column = torch.where(chosen, weights.argmax(1), scores.argmax(1))
    negative = scores.gather(1, column[:, None]).squeeze(1)
    margin = negative - positive
    # An anchor without positive or negative is not there to be looked at.
    order = margin.nan_to_num(-torch.inf).argsort(descending=True, stable=True)[:most]
    order = order[margin[order].isfinite()]
    values = {
        "score": margin[order],
        "rank": (scores[order] > negative[order, None]).sum(1),
        "selected": chosen[order],
        "positive_similarity": positive[order],
        "negative_similarity": negative[order],
    }
    return order, column[order], values
