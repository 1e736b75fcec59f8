"""Fine-tuning: TRL's SFTTrainer on rows that `phi3tune.chat` made. torch and trl load when `train` runs."""

from phi3tune.training.checkpoints import latest_checkpoint
from phi3tune.training.run import train

__all__ = ["latest_checkpoint", "train"]
