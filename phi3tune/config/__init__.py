"""One definition of every setting.

The YAML file, the command line's flags, the page's widgets and the docs are all derived from these
models: a default, a range or a sentence is written here and nowhere else.
"""

from phi3tune.config.base import (
    Config,
    arguments,
    differing,
    flag,
    limits,
    names_from_text,
    parse,
    read_yaml,
    sections,
    setting,
    to_yaml,
)
from phi3tune.config.dataset import DataFormat, DatasetConfig, Part
from phi3tune.config.evaluate import EvalConfig, Metric
from phi3tune.config.export import Algorithm, BuildDevice, BuildFormat, ExportConfig, Precision
from phi3tune.config.hosted import HostedConfig
from phi3tune.config.names import MODULES, TARGET_MODULES, Method, Module, Optimizer, Scheduler, Tracker, WatchedMetric
from phi3tune.config.serve import ServeConfig
from phi3tune.config.train import PRESETS, QUALITY, TrainConfig
from phi3tune.config.use import DownloadConfig, PromptsConfig, SamplingConfig

__all__ = [
    "MODULES",
    "PRESETS",
    "QUALITY",
    "TARGET_MODULES",
    "Algorithm",
    "BuildDevice",
    "BuildFormat",
    "Config",
    "DataFormat",
    "DatasetConfig",
    "DownloadConfig",
    "EvalConfig",
    "ExportConfig",
    "HostedConfig",
    "Method",
    "Metric",
    "Module",
    "Optimizer",
    "Part",
    "Precision",
    "PromptsConfig",
    "SamplingConfig",
    "Scheduler",
    "ServeConfig",
    "Tracker",
    "TrainConfig",
    "WatchedMetric",
    "arguments",
    "differing",
    "flag",
    "limits",
    "names_from_text",
    "parse",
    "read_yaml",
    "sections",
    "setting",
    "to_yaml",
]
