"""Datasets: any supported file to checked conversations, in parts that stay the same."""

from phi3tune.data.audit.findings import KINDS, Finding, drop_rows
from phi3tune.data.conversation import Conversation
from phi3tune.data.hub import fetch
from phi3tune.data.load import Dataset, Source, canonical_name, fingerprint, load, read, resolve
from phi3tune.data.problems import Change, DataError, Problem
from phi3tune.data.report import check, tokenise
from phi3tune.data.stored import DatasetInfo, list_datasets, store_upload
from phi3tune.data.token_view import Token, find_row, tokens
from phi3tune.data.versions import Version, new_version

__all__ = [
    "KINDS",
    "Change",
    "Conversation",
    "DataError",
    "Dataset",
    "DatasetInfo",
    "Finding",
    "Problem",
    "Source",
    "Token",
    "Version",
    "canonical_name",
    "check",
    "drop_rows",
    "fetch",
    "find_row",
    "fingerprint",
    "list_datasets",
    "load",
    "new_version",
    "read",
    "resolve",
    "store_upload",
    "tokenise",
    "tokens",
]
