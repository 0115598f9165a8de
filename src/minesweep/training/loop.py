"""The loop: propose, score, select, step."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from minesweep import parallel
from minesweep.config.build import build
from minesweep.config.checks import check_labels, check_warmup
from minesweep.config.identity import batch_and_selected
from minesweep.datasets.base import Batch, Data, Split
from minesweep.errors import UserError
from minesweep.miners.base import Pool
from minesweep.objectives.base import Outcome
from minesweep.seeding import global_state, restore_globals, seed_globals
from minesweep.tracking.journal import Row
from minesweep.tracking.tracker import Tracker
from minesweep.training import checkpoint
from minesweep.training.diagnostics import Diagnostics, histograms
from minesweep.training.display import Display
from minesweep.training.finite import Finite
from minesweep.training.folder import RunFolder
from minesweep.training.parts import Parts, in_training, merged, shaped, unsynchronised
from minesweep.training.profile import profiler
from minesweep.training.reference import Reference
from minesweep.training.signals import Interrupted, Signals
from minesweep.training.snapshots import Embedded
from minesweep.training.stopping import EarlyStop


class NotFinite(UserError):
    """The loss is NaN or infinite."""


class Trainer:
    """Holds the parts of a run and walks them from step to step.

    Everything that the further course depends on is in :meth:`state`.
    """

    def __init__(self, cfg: DictConfig, data: Data, folder: RunFolder) -> None:
        self.cfg, self.data, self.folder = cfg, data, folder
        n = cfg.trainer.batch_size
        if n > data.train.examples:
            raise UserError(
                f"trainer.batch_size={n} is more than the {data.train.examples} training examples"
            )
        self.steps = planned_steps(cfg, data.train.examples)
        device = data.train.device
        seed_globals(cfg.seed, "init")
        shape = {"input_shape": data.input_shape, "num_classes": data.num_classes}
        self.model: nn.Module = shaped(cfg, build(cfg, "model", **shape).to(device))
        self.objective = build(cfg, "objective").to(device)
        check_labels(cfg, data.train.labels.dim(), self.objective.candidate)
        self.division = Parts(cfg, self.objective)
        self.miner = build(cfg, "miner").to(device)
        # The data is shared by the runs of a sweep; what is drawn from it is this run's own.
        self.data = replace(data, train=data.train.for_run(cfg.seed, self.objective.views))
        if cfg.ckpt_path is not None:
            self._take_weights(cfg.ckpt_path)
        self.pool = Pool(
            size=len(data.train),
            labels=data.train.labels,
            batch_size=n,
            seed=cfg.seed,
            steps=self.steps,
            encode=self.encode,
            lengths=data.train.lengths,
            bucket=data.train.bucket,
            candidate=self.objective.candidate,
            reference=(reference := Reference(cfg, self.data, self.objective)),
            corpus=data.train.corpus,
        )
        self.objective.setup(self.model, self.pool, self.data)
        self.miner.setup(self.pool)
        self.trained = in_training(cfg, self.model, self.objective)
        learned = [*self.model.parameters(), *self.objective.parameters()]
        self.learned = [p for p in learned if p.requires_grad]
        self.optimizer: torch.optim.Optimizer = build(cfg, "optimizer", params=self.learned)
        self.scheduler = build(cfg, "scheduler", optimizer=self.optimizer, steps=self.steps)
        if not check_warmup(cfg, self.steps) and cfg.trainer.progress:
            print(f"scheduler.warmup={cfg.scheduler.warmup} is longer than the {self.steps} steps")
        shown = cfg.logger.embeddings
        self.embedded = (
            Embedded(data, shown.split, shown.points)
            if shown.every and parallel.is_first()
            else None
        )
        self.diagnostics = Diagnostics(data.train, data.num_classes, parallel.processes())
        self.diagnostics.count(reference.forward, reference.backward)
        self.reference = reference.metrics
        self.early_stop = EarlyStop(**(cfg.trainer.early_stop or {}))
        self.rule = cfg.trainer.early_terminate and build(
            cfg.trainer, "early_terminate", folder=folder.path
        )
        # Read once: a look into the configuration costs as much as a small operation.
        self.clip = cfg.trainer.gradient_clip
        self.bf16 = str(cfg.trainer.precision) == "bf16"
        self.step = 0
        self.rate = 0.0
        self.stopped = False
        self.row: Row = {}
        self.validation: dict[str, float] = {}
        self.best: float | None = None
        # Processes draw apart: each has a share of the batch of its own.
        seed_globals(cfg.seed, "global" if parallel.is_first() else f"global/{parallel.rank()}")

    # --- what a checkpoint holds -------------------------------------------------------------

    def parts(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "objective": self.objective,
            "miner": self.miner,
            "diagnostics": self.diagnostics,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "early_stop": self.early_stop,
        }

    def state(
        self,
        offsets: Sequence[int] = (0, 0, 0),
        elapsed: float = 0.0,
        random: Sequence[dict[str, Any]] = (),
    ) -> dict[str, Any]:
        """A checkpoint: each part's state, the random generators, the journal's length.

        Args:
            offsets: See :class:`~minesweep.tracking.tracker.Tracker`.
            elapsed: Seconds of training so far.
            random: The states of all processes' global generators; this one's alone by default.
        """
        return {name: part.state_dict() for name, part in self.parts().items()} | {
            "step": self.step,
            "stopped": self.stopped,
            "row": self.row,
            "validation": self.validation,
            "best": self.best,
            "random": random or [global_state()],
            "offsets": offsets,
            "elapsed": elapsed,
            "data": {"input_shape": self.data.input_shape, "num_classes": self.data.num_classes},
        }

    def load(self, state: dict[str, Any] | None) -> None:
        """Goes on from a checkpoint, as if it had never been left; from the start with None."""
        if state is None:
            return
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        self.step, self.stopped = state["step"], state["stopped"]
        self.row, self.validation, self.best = state["row"], state["validation"], state["best"]
        # Beyond as many processes as the run had, the generators stay as they were seeded.
        if parallel.rank() < len(state["random"]):
            restore_globals(state["random"][parallel.rank()])

    def _take_weights(self, path: str) -> None:
        from pathlib import Path

        try:
            self.model.load_state_dict(checkpoint.read(Path(path).expanduser())["model"])
        except RuntimeError as error:
            lines = str(error).splitlines()
            raise UserError(
                f"ckpt_path={path} does not fit the model: {lines[-1].strip()}"
            ) from None

    # --- one step ----------------------------------------------------------------------------

    def fit(self, tracker: Tracker, display: Display, signals: Signals) -> None:
        """Trains until the last step, a stop rule, or a signal."""
        profile_on = self.cfg.trainer.profile
        self.model.train()
        if self.step == 0:
            self._embed(tracker)
        if self.step == 0 and self.cfg.trainer.progress:
            self._preflight(display)
        with display.running(), profiler(profile_on, self.folder.path, display) as profile:
            while self.step < self.steps and not self.stopped:
                self.advance(tracker, display, signals)
                profile.step()

    def advance(self, tracker: Tracker, display: Display, signals: Signals) -> None:
        """One step and its record: the row, and a checkpoint where one is due."""
        outcome, batch = self.update()
        self.diagnostics.update(outcome, batch)
        row = self._row(outcome, batch)
        if row:
            tracker.log(row, self.miner.clocks())
            display.update(row)
            self._show(tracker, outcome, batch)
        ends = self.stopped or self.step == self.steps
        if ends or _due(self.step, self.cfg.logger.embeddings.every):
            self._embed(tracker)
        received = parallel.all_reduce_max(signals.received or 0, self.data.train.device)
        due = ends or received or _due(self.step, self.cfg.trainer.checkpoint_every)
        random = parallel.all_gather_objects(global_state()) if due else []
        if due and parallel.is_first():
            state = self.state(tracker.offsets, tracker.elapsed, random)
            checkpoint.save_step(state, self.folder.checkpoints)
            self.folder.set_status(step=self.step, best=self.best, seconds=tracker.elapsed)
        if received and not ends:
            raise Interrupted(received)

    def update(self) -> tuple[Outcome, Batch]:
        """One update of the weights."""
        step, train = self.step, self.data.train
        rows = parallel.shard(self._rows(step))
        batch = train.draw(rows.flatten(), step)
        if rows.ndim == 2:
            batch = batch.grouped(rows)
        for later in range(step + 1, min(step + 1 + train.ahead, self.steps)):
            if self.miner.foreseen(later):
                train.expect(parallel.shard(self._rows(later)).flatten(), later)
        self.optimizer.zero_grad(set_to_none=True)
        pieces = self.division.of(batch)
        try:
            learned = [self._learn(piece, piece is pieces[-1]) for piece in pieces]
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise UserError(
                "BatchNorm cannot normalise a single example: raise trainer.batch_size or "
                "miner.k, or lower trainer.accumulate"
            ) from error
        for outcome, finite in learned:
            # Waits for the forward pass (on several processes for more): a NaN has to stop the
            # run before it reaches the weights.
            if parallel.all_reduce_max(not finite, batch.labels.device):
                raise self._not_finite(outcome)
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.learned, self.clip)
        self.rate = self.optimizer.param_groups[0]["lr"]
        self.optimizer.step()
        self.scheduler.step()
        self.objective.after_step()
        self.step += 1
        return merged([outcome for outcome, _ in learned]), batch

    def _learn(self, piece: Batch, last: bool) -> tuple[Outcome, Finite]:
        """Scores a piece of the batch and adds its gradient."""
        with unsynchronised(self.trained, last):
            with self._autocast(), self._single_example_told():
                outcome = self.objective(self.trained, piece, self.miner, self.step)
            finite = Finite(outcome.loss)
            (outcome.loss / self.division.pieces).backward()
        return outcome, finite

    def _rows(self, step: int) -> Tensor:
        # Mining that is off proposes uniformly; its objective then selects everything.
        propose = self.miner.propose if self.miner.active(step) else self.miner.uniform
        return propose(self.pool, step)

    @contextmanager
    def _single_example_told(self) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            trainer = self.cfg.trainer
            n, k = batch_and_selected(self.cfg)
            raise UserError(
                "a BatchNorm layer of the model got a single example and can take no statistics: "
                f"raise trainer.batch_size={n}"
                + (f", lower trainer.accumulate={trainer.accumulate}" * (trainer.accumulate > 1))
                + (f", raise miner.k={k}" * (k == 1))
                + ", or take a model without BatchNorm"
            ) from error

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.bf16:
            return torch.autocast(self.data.train.device.type, torch.bfloat16)
        return nullcontext()

    def _not_finite(self, outcome: Outcome) -> NotFinite:
        path = self.folder.checkpoints / f"not-finite-{self.step:08d}.pt"
        if parallel.is_first():
            checkpoint.save(self.state(), path)
        scores = outcome.scores.float()
        bad = int((~scores.isfinite()).sum())
        good = scores[scores.isfinite()]
        bounds = f"the others in [{good.min():.4g}, {good.max():.4g}]" if len(good) else "no others"
        return NotFinite(
            f"the loss is {outcome.loss.item()} at step {self.step}: {bad} of {len(scores)} losses "
            f"are not finite, {bounds}; the state before it is in {path}; "
            f"try a lower optimizer.lr (now {self.cfg.optimizer.lr}) or trainer.gradient_clip"
        )

    # --- what is recorded --------------------------------------------------------------------

    def _row(self, outcome: Outcome, batch: Batch) -> Row:
        logger, step = self.cfg.logger, self.step
        validate = step == self.steps or _due(step, self.cfg.trainer.eval_every, self.steps)
        picture = self._pictured()
        if not (validate or picture or _due(step, logger.every)):
            return {}
        mined = parallel.all_reduce_mean(self.miner.metrics(step - 1))
        outcome = replace(outcome, metrics=parallel.all_reduce_mean(outcome.metrics))
        scalars = self.diagnostics.row(outcome, batch, step, mined)
        self.row = {"step": step, "lr": self.rate, **scalars}
        if validate:
            self._validate()
        return {
            **self.row,
            **(self.validation if validate else {}),
            **(histograms(outcome, self.miner.distributions(step - 1)) if picture else {}),
        }

    def _embed(self, tracker: Tracker) -> None:
        """Hands embeddings to the tracker; nothing that the run goes on with is changed."""
        if self.embedded is None:
            return
        self.model.eval()
        with self._autocast():
            vectors, examples = self.embedded.vectors(self.model, self.objective.vectors)
        self.model.train()
        tracker.embed(self.step, vectors, examples)

    def _pictured(self) -> bool:
        """Whether this step's row holds histograms, and ``mined.jsonl`` what was mined."""
        return self.step == 1 or _due(self.step, self.cfg.logger.histogram_every)

    @torch.no_grad()
    def _show(self, tracker: Tracker, outcome: Outcome, batch: Batch) -> None:
        if self.cfg.logger.mined and self._pictured():
            mined = self.objective.mined(batch, outcome, self.cfg.logger.mined)
            if mined is not None:
                tracker.show(mined.record(self.step))

    def _validate(self) -> None:
        if parallel.is_first():
            self._look()
        # The others go by what the first found.
        found = parallel.broadcast_from_first((self.validation, self.best, self.stopped))
        self.validation, self.best, self.stopped = found

    def _look(self) -> None:
        metrics = self.evaluate(self.data.val, self.objective.validate)
        self.validation = {f"val/{k}": v for k, v in metrics.items()}
        value = self.validation[self.objective.monitor]
        if self.best is None or value > self.best or math.isnan(self.best):
            self.best = value
            checkpoint.save(self.state(), self.folder.checkpoints / "best.pt")
        stop = self.early_stop.stop(self.validation)
        if self.rule:
            stop = self.rule.stop(self.step, {**self.row, **self.validation}) or stop
        self.stopped = self.stopped or stop

    def evaluate(
        self, split: Split, by: Callable[[nn.Module, Split], dict[str, float]] | None = None
    ) -> dict[str, float]:
        """The objective's metrics of the present model on a split."""
        self.model.eval()
        with torch.no_grad(), self._autocast():
            metrics = (by or self.objective.evaluate)(self.model, split)
        self.model.train()
        return metrics

    def _preflight(self, display: Display) -> None:
        self.model.eval()
        with torch.no_grad(), self._autocast():
            shown = self.objective.preflight(self.model, self.data.train)
        self.model.train()
        if shown is not None:
            display.console.print(shown)

    @torch.no_grad()
    def encode(self, rows: Tensor) -> Tensor:
        """What the objective compares, of the present model evaluated on training rows ``[m]``."""
        self.model.eval()
        chunks = []
        for part in rows.split(2048):
            outputs = self.model(self.data.train.fetch(part).inputs)
            chunks.append(self.objective.vectors(outputs))
        self.model.train()
        return torch.cat(chunks)

    def summary(self) -> Row:
        """The end of a run: the last row, validation, and the test split, looked at here only.

        ``test/*`` are of the final weights, ``test/*_best`` of those best on validation.
        """
        monitor = self.objective.monitor
        summary = {**self.row, **self.validation, f"{monitor}_best": self.best}
        summary |= self.diagnostics.summary() | self.reference
        summary |= {f"test/{k}": v for k, v in self.evaluate(self.data.test).items()}
        best = checkpoint.read(self.folder.checkpoints / "best.pt", self.data.train.device)
        # The objective's too: what it chose on validation data belongs to the weights.
        evaluated = {"model": self.model, "objective": self.objective}
        final = {name: copy.deepcopy(part.state_dict()) for name, part in evaluated.items()}
        for name, part in evaluated.items():
            part.load_state_dict(best[name])
        summary |= {f"test/{k}_best": v for k, v in self.evaluate(self.data.test).items()}
        for name, part in evaluated.items():
            part.load_state_dict(final[name])
        return {k: v for k, v in summary.items() if v is not None and not _is_nan(v)}


def planned_steps(cfg: DictConfig, size: int) -> int:
    """How many steps a run over ``size`` training examples takes if nothing stops it."""
    trainer = cfg.trainer
    if trainer.equal_cost is not None:
        return trainer.equal_cost
    if trainer.max_steps is not None:
        return trainer.max_steps
    n, k = batch_and_selected(cfg)
    if trainer.count == "backward":
        assert k is not None  # told by config.checks
        return max(1, trainer.max_epochs * size // k)
    return trainer.max_epochs * (size // n)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _due(step: int, every: float | Mapping[int, int] | None, steps: int = 0) -> bool:
    if isinstance(every, Mapping):
        # {0: 25, 300: 100}: every 25 steps up to step 300, every 100 after it.
        every = every[max((start for start in every if start < step), default=min(every))]
    elif isinstance(every, float):
        every = max(1, round(every * steps))  # a share of the run
    return every is not None and step % every == 0
