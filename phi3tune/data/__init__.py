"""Datasets: any supported file to checked conversations, in parts that stay the same."""

from phi3tune.data.load import Conversation, Dataset, canonical_name, fingerprint, load, resolve
from phi3tune.data.problems import DataError, Problem
from phi3tune.data.report import DataReport, check, preview, report, tokenise
from phi3tune.data.stored import DatasetInfo, list_datasets, store_upload

__all__ = [
    "Conversation",
    "DataError",
    "DataReport",
    "Dataset",
    "DatasetInfo",
    "Problem",
    "canonical_name",
    "check",
    "fingerprint",
    "list_datasets",
    "load",
    "preview",
    "report",
    "resolve",
    "store_upload",
    "tokenise",
]
