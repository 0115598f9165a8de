"""The loop: propose, score, select, step."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from minesweep import parallel
from minesweep.config.build import build
from minesweep.config.checks import check_labels, check_warmup
from minesweep.datasets.base import Batch, Data, Split
from minesweep.errors import UserError
from minesweep.miners.base import Pool
from minesweep.objectives import contract
from minesweep.objectives.base import Outcome
from minesweep.seeding import global_state, restore_globals, seed_globals
from minesweep.tracking.journal import Row
from minesweep.tracking.tracker import Tracker
from minesweep.training import checkpoint
from minesweep.training.diagnostics import Diagnostics, histograms
from minesweep.training.display import Display
from minesweep.training.distributed import GradientAccumulation, convert_model, wrap_model
from minesweep.training.embedded import EmbeddedExamples
from minesweep.training.folder import RunFolder
from minesweep.training.kinds import checked, finite_soon, of_kind
from minesweep.training.profile import profiler
from minesweep.training.reference import Reference
from minesweep.training.signals import Interrupted, Signals
from minesweep.training.steps import is_due, planned_steps
from minesweep.training.stopping import EarlyStop


class NotFinite(UserError):
    """The loss is NaN or infinite."""


class Trainer:
    """Builds the parts of a run and takes its steps.

    Everything that the further course depends on is in :meth:`state`.
    """

    def __init__(self, cfg: DictConfig, data: Data, folder: RunFolder) -> None:
        self.cfg, self.folder = cfg, folder
        n = cfg.trainer.batch_size
        if n > data.train.examples:
            raise UserError(
                f"trainer.batch_size={n} is more than the {data.train.examples} training examples"
            )
        self.steps = planned_steps(cfg, data.train.examples)
        device = data.train.device
        seed_globals(cfg.seed, "init")
        shape = {"input_shape": data.input_shape, "num_classes": data.num_classes}
        model = of_kind("model", build(cfg, "model", **shape), nn.Module)
        self.model: nn.Module = convert_model(cfg, model.to(device))
        self.objective = build(cfg, "objective").to(device)
        check_labels(cfg, data.train.labels.dim(), self.objective.candidate)
        self.accumulation = GradientAccumulation(cfg, self.objective)
        self.miner = build(cfg, "miner").to(device)
        # The data is shared by the runs of a sweep; what is drawn from it is this run's own.
        self.data = replace(data, train=data.train.for_run(cfg.seed, self.objective.views))
        if cfg.ckpt_path is not None:
            checkpoint.load_weights(self.model, cfg.ckpt_path)
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
        self.wrapped = wrap_model(cfg, self.model, self.objective)
        parameters = [*self.model.parameters(), *self.objective.parameters()]
        self.parameters = [p for p in parameters if p.requires_grad]
        optimizer = build(cfg, "optimizer", params=self.parameters)
        self.optimizer = of_kind("optimizer", optimizer, torch.optim.Optimizer)
        scheduler = build(cfg, "scheduler", optimizer=self.optimizer, steps=self.steps)
        self.scheduler = of_kind("scheduler", scheduler, LRScheduler)
        if not check_warmup(cfg, self.steps) and cfg.trainer.progress:
            print(f"scheduler.warmup={cfg.scheduler.warmup} is longer than the {self.steps} steps")
        self.diagnostics = Diagnostics(data.train, data.num_classes, parallel.processes())
        self.diagnostics.count(reference.forward, reference.backward)
        self.reference = reference.metrics
        self.early_stop = EarlyStop(**(cfg.trainer.early_stop or {}))
        self.stop_rules: list[Any] = [self.early_stop]
        if cfg.trainer.early_terminate:
            self.stop_rules.append(build(cfg.trainer, "early_terminate", folder=folder.path))
        self.embedded: EmbeddedExamples | None = None
        if cfg.logger.embeddings.every and parallel.is_first():
            shown = cfg.logger.embeddings
            self.embedded = EmbeddedExamples(data, shown.split, shown.points)
        # Read once: each look into the configuration costs as much as a small operation.
        self.clip = cfg.trainer.gradient_clip
        self.bf16 = str(cfg.trainer.precision) == "bf16"
        self.step = 0
        self.rate = 0.0
        self.stopped = False
        self.row: Row = {}
        self.validation: dict[str, float] = {}
        self.best: float | None = None
        # Each process has its own share of the batch, and draws its own numbers.
        seed_globals(cfg.seed, "global" if parallel.is_first() else f"global/{parallel.rank()}")

    # --- the steps ---------------------------------------------------------------------------

    def fit(self, tracker: Tracker, display: Display, signals: Signals) -> None:
        """Trains until the last step, a stop rule, or a signal."""
        profile_on = self.cfg.trainer.profile
        self.model.train()
        if self.step == 0:
            self._log_embeddings(tracker)
        if self.step == 0 and self.cfg.trainer.progress:
            with self._evaluating():
                display.show(self.objective.preflight(self.model, self.data.train))
        with display.running(), profiler(profile_on, self.folder.path, display) as profile:
            while self.step < self.steps and not self.stopped:
                self.advance(tracker, display, signals)
                profile.step()

    def advance(self, tracker: Tracker, display: Display, signals: Signals) -> None:
        """Takes one step and records it: a row and a checkpoint where they are due.

        Raises:
            Interrupted: A signal was received; a checkpoint is written.
        """
        outcome, batch = self.update()
        self.diagnostics.update(outcome, batch)
        self._log_step(outcome, batch, tracker, display)
        ends = self.stopped or self.step == self.steps
        if ends or is_due(self.step, self.cfg.logger.embeddings.every):
            self._log_embeddings(tracker)
        received = parallel.all_reduce_max(signals.received or 0, self.data.train.device)
        if ends or received or is_due(self.step, self.cfg.trainer.checkpoint_every):
            self._save_checkpoint(tracker)
        if received and not ends:
            parallel.broadcast_from_first(None)  # the others leave when the checkpoint is there
            raise Interrupted(received)

    def update(self) -> tuple[Outcome, Batch]:
        """Updates the weights once: propose, score, select, step.

        Raises:
            NotFinite: The loss is NaN or infinite. The weights are as before.
        """
        step, train = self.step, self.data.train
        rows = parallel.shard(self._propose(step))
        batch = train.draw(rows.flatten(), step)
        if rows.ndim == 2:
            batch = batch.grouped(rows)
        for later in range(step + 1, min(step + 1 + train.ahead, self.steps)):
            if self.miner.foreseen(later):
                train.expect(parallel.shard(self._propose(later)).flatten(), later)
        self.optimizer.zero_grad(set_to_none=True)
        pieces = self.accumulation.split(batch)
        outcomes, finite = [], []
        for piece in pieces:
            with self.accumulation.synchronised(self.wrapped, piece is pieces[-1]):
                outcome = self._score(piece)
                outcomes.append(outcome)
                finite.append(finite_soon(outcome.loss))
                (outcome.loss / self.accumulation.pieces).backward()
        for outcome, is_finite in zip(outcomes, finite, strict=True):
            # Waits for the forward pass (on several processes for more): a NaN has to stop the
            # run before it reaches the weights.
            if parallel.all_reduce_max(not is_finite(), batch.labels.device):
                raise self._not_finite(outcome)
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.clip)
        self.rate = self.optimizer.param_groups[0]["lr"]
        self.optimizer.step()
        self.scheduler.step()
        self.objective.after_step()
        self.step += 1
        return self.accumulation.merge(outcomes), batch

    def _propose(self, step: int) -> Tensor:
        # Mining that is off proposes uniformly; its objective then selects everything.
        propose = self.miner.propose if self.miner.active(step) else self.miner.uniform
        return contract.proposed(propose(self.pool, step), self.miner, self.pool)

    def _score(self, piece: Batch) -> Outcome:
        try:
            with self._autocast():
                outcome = self.objective(self.wrapped, piece, self.miner, self.step)
            return checked(outcome, self.objective)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise UserError(
                "BatchNorm cannot normalise a single example: raise trainer.batch_size or "
                "miner.k, or lower trainer.accumulate"
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

    # --- the record --------------------------------------------------------------------------

    def _log_step(self, outcome: Outcome, batch: Batch, tracker: Tracker, display: Display) -> None:
        """Logs a row if one is due, and with it histograms and what was mined."""
        logger, step = self.cfg.logger, self.step
        validate = step == self.steps or is_due(step, self.cfg.trainer.eval_every, self.steps)
        histograms_due = step == 1 or is_due(step, logger.histogram_every, self.steps)
        if not (validate or histograms_due or is_due(step, logger.every)):
            return
        mined = parallel.all_reduce_mean(contract.scalars(self.miner.metrics(step - 1), self.miner))
        metrics = contract.scalars(outcome.metrics, self.objective)
        outcome = replace(outcome, metrics=parallel.all_reduce_mean(metrics))
        scalars = self.diagnostics.row(outcome, batch, step, mined)
        self.row = {"step": step, "lr": self.rate, **scalars}
        if validate:
            self._validate()
        row = {**self.row, **(self.validation if validate else {})}
        if histograms_due:
            told = self.miner.distributions(step - 1)
            row |= histograms(outcome, contract.tensors("distributions()", told, self.miner))
        self.folder.check_held()
        tracker.log(row, self.miner.clocks())
        display.update(row)
        if histograms_due and logger.mined:
            with torch.no_grad():
                hardest = self.objective.mined(batch, outcome, logger.mined)
            if hardest is not None:
                tracker.show(hardest.record(step))

    def _log_embeddings(self, tracker: Tracker) -> None:
        if self.embedded is not None:
            with self._evaluating():
                vectors, examples = self.embedded.vectors(self.model, self.objective.vectors)
            tracker.embed(self.step, vectors, examples)

    def _validate(self) -> None:
        """Evaluates the validation split in the first process, and tells the others."""
        if parallel.is_first():
            metrics = self.evaluate(self.data.val, self.objective.validate)
            self.validation = {f"val/{name}": value for name, value in metrics.items()}
            value = contract.monitored(self.validation, self.objective.monitor)
            if self.best is None or value > self.best or math.isnan(self.best):
                self.best = value
                checkpoint.save(self.state(), self.folder.checkpoints / "best.pt")
            row = {**self.row, **self.validation}
            for rule in self.stop_rules:
                self.stopped |= rule.stop(self.step, row)
        self.validation, self.best, self.stopped = parallel.broadcast_from_first(
            (self.validation, self.best, self.stopped)
        )

    def evaluate(
        self, split: Split, by: Callable[[nn.Module, Split], dict[str, float]] | None = None
    ) -> dict[str, float]:
        """The objective's metrics of the present model on a split."""
        with self._evaluating():
            metrics = (by or self.objective.evaluate)(self.model, split)
        return contract.numbers(metrics, self.objective)

    def encode(self, rows: Tensor) -> Tensor:
        """What the objective compares, of the present model evaluated on training rows ``[m]``."""
        with self._evaluating(autocast=False):
            vectors = []
            for part in rows.split(2048):
                outputs = self.model(self.data.train.fetch(part).inputs)
                vectors.append(self.objective.vectors(contract.outputs(outputs, len(part))))
            return torch.cat(vectors)

    @contextmanager
    def _evaluating(self, autocast: bool = True) -> Iterator[None]:
        """Evaluation mode without gradient; training mode afterwards."""
        self.model.eval()
        with torch.no_grad(), self._autocast() if autocast else nullcontext():
            yield
        self.model.train()

    def summary(self) -> Row:
        """The end of a run: the last row, validation, and the test split, looked at here only.

        ``test/*`` are of the final weights, ``test/*_best`` of those best on validation.
        """
        summary = {**self.row, **self.validation, f"{self.objective.monitor}_best": self.best}
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
        return {k: v for k, v in summary.items() if v is not None and v == v}  # NaN is not itself

    # --- checkpoints -------------------------------------------------------------------------

    def _save_checkpoint(self, tracker: Tracker) -> None:
        random = parallel.all_gather_objects(global_state())
        if parallel.is_first():
            self.folder.check_held()
            state = self.state(tracker.offsets, tracker.elapsed, random)
            checkpoint.save_step(state, self.folder.checkpoints)
            self.folder.set_status(step=self.step, best=self.best, seconds=tracker.elapsed)

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
        return {name: part.state_dict() for name, part in self._stateful().items()} | {
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
        for name, part in self._stateful().items():
            part.load_state_dict(state[name])
        self.step, self.stopped = state["step"], state["stopped"]
        self.row, self.validation, self.best = state["row"], state["validation"], state["best"]
        # Beyond as many processes as the run had, the generators stay as they were seeded.
        if parallel.rank() < len(state["random"]):
            restore_globals(state["random"][parallel.rank()])

    def _stateful(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "objective": self.objective,
            "miner": self.miner,
            "diagnostics": self.diagnostics,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "early_stop": self.early_stop,
        }
