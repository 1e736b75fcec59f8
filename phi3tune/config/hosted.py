"""What visitors of a hosted app may do."""

from __future__ import annotations

from typing import Any

from pydantic import field_validator

from phi3tune.config.base import Config, flag, names_from_text, setting

# Settings of a visitor's job that must stay as they are by default: they reach other machines, or this one's secrets.
OWNERS = (
    "trackers",
    "processes",
    "machines",
    "machine_rank",
    "main_address",
    "sharding",
    "judge",
    "key_variable",
    "benchmarks",
    "benchmark_tasks",
)
# The largest values of settings that cost memory or disk; time is limited by itself.
_MOST = {
    "batch_size": 64,
    "micro_batch": 32,
    "max_length": 2048,
    "lora_rank": 128,
    "keep_checkpoints": 5,
    "sample_count": 10,
    "max_new_tokens": 1024,
    "resamples": 20_000,
    "calibration_rows": 128,
    "parity_rows": 128,
    "parity_tokens": 8192,
}


class HostedConfig(Config):
    """Limits of one visitor. Each is set by an environment variable: `PHI3TUNE_HOSTED_MAX_STEPS`."""

    max_steps: int = setting(1000, "Steps of one run at most.", unit="steps", ge=1, le=1_000_000)
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


def beyond_visitors(config: Config) -> list[str]:
    """Every setting of a job that a visitor may not give, with what is accepted instead."""
    fields, problems = type(config).model_fields, []
    for name in OWNERS:
        if name in fields and getattr(config, name) != fields[name].default:
            problems.append(f"{flag(name)} is for the owner of this app; leave it out")
    for name, most in _MOST.items():
        value = getattr(config, name, None)
        if value is not None and value > most:
            problems.append(f"{flag(name)} {value} is too much here: visitors may use at most {most:,}")
    return problems
