"""How long a run trains, how fast, and when it saves."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Schedule:
  """Steps and the learning rate of each: x `decay_factor` every few epochs."""

  steps_per_epoch: int
  num_epochs: int
  learning_rate: float
  decay_every_epochs: int
  decay_factor: float
  checkpoint_every_steps: int
  log_every_steps: int

  @property
  def total_steps(self) -> int:
    """Steps of the whole run."""
    return self.steps_per_epoch * self.num_epochs

  def learning_rate_at(self, step: int) -> float:
    """Learning rate of the step that follows `step` steps."""
    decays = step // self.steps_per_epoch // self.decay_every_epochs
    return self.learning_rate * self.decay_factor ** decays

  def ends_epoch(self, step: int) -> bool:
    """Whether an epoch is complete after `step` steps."""
    return step % self.steps_per_epoch == 0

  def is_due(self, step: int) -> bool:
    """Whether a checkpoint is due after `step` steps."""
    return self.ends_epoch(step) or step % self.checkpoint_every_steps == 0

  def is_reported(self, step: int) -> bool:
    """Whether metrics are written after `step` steps, if nothing else asks for it."""
    return step % self.log_every_steps == 0
