"""The charts of a dashboard, for TensorBoard's custom scalars and W&B's workspace.

A chart shows each metric whose whole name matches its pattern. The patterns use only what the
regular expressions of Python, Go and JavaScript have in common.
"""

from __future__ import annotations

SECTIONS: dict[str, dict[str, str]] = {
    "accuracy": {
        "validation": "val/(accuracy|accuracy_fixed|f1|roc_auc|average_precision)",
        "retrieval": "val/(.*precision_at_.*|r_precision|nmi|recall_at_.*)",
        "frozen features": "val/(knn|linear)_accuracy.*",
        "training": "train/(accuracy|accuracy_running|pretext_accuracy.*)",
    },
    "losses": {
        "scored and selected": "train/loss_(batch|selected)",
        "terms": "train/loss_(mean|hard)",
        "validation": "val/loss",
    },
    "selection diagnostics": {
        "shares": "mining/(loss_share|reselected|flipped_share|violated_share|hidden_share)",
        "classes selected": "mining/class_share/.*",
        "similarities and distances": "train/(positive|negative)_(similarity|distance)",
        "index": "mining/(recall_at_.*|staleness|drift|candidates.*)",
        "queue": "mining/(synthetic_softmax_share|false_negative_share|queue_filled)",
    },
    "cost": {
        "samples": "samples/(forward|backward)",
        "learning rate": "lr",
    },
}
"""Patterns by chart title, by section title."""

HISTOGRAMS = ("train/loss_batch_histogram", "train/loss_selected_histogram")
"""Histograms that stand side by side."""
