"""What visitors of a hosted app may do."""

from __future__ import annotations

from typing import Any

from pydantic import field_validator

from phi3tune.config.base import Config, names_from_text, setting


class HostedConfig(Config):
    """Limits of one visitor. Each is set by an environment variable: `PHI3TUNE_HOSTED_MAX_STEPS`."""

    max_steps: int = setting(300, "Steps of one run at most.", unit="steps", ge=1, le=1_000_000)
    max_minutes: float = setting(20.0, "Time of one job at most; then it is stopped and saved.", unit="minutes", gt=0.0)
    max_upload: float = setting(25.0, "Largest file that a visitor may upload.", unit="MB", gt=0.0)
    max_storage: float = setting(500.0, "All files of one visitor together at most.", unit="MB", gt=0.0)
    max_jobs: int = setting(2, "Jobs of one visitor that may run and wait at a time.", unit="jobs", ge=1, le=100)
    max_visitors: int = setting(500, "Visitors whose work is kept at a time.", unit="visitors", ge=1, le=100_000)
    keep_hours: float = setting(
        24.0, "How long a visitor's work is kept after they were last there; then it is deleted.", unit="hours", gt=0.0
    )
    models: list[str] = setting([], "Hub models that visitors may use beside phi3-nano.", unit="Hub ids")
    datasets: list[str] = setting([], "Hub datasets that visitors may fetch.", unit="Hub ids")

    @field_validator("models", "datasets", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return names_from_text(value)
