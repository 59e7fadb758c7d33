"""Credentials stay out of what is kept and shown: the configuration refuses them, and texts are redacted where they leave.

They decide no result. Whoever needs them finds them outside the configuration: ~/.netrc for data.mirror,
MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (or MLFLOW_TRACKING_TOKEN) for MLflow, libpq's PGPASSFILE for its database.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from typing import Any

HIDDEN = "***"
_NAMES = r"[\w.-]*(?:passw|pwd|secret|token|signature|credential|api_?key|access_?key|auth)[\w.-]*"
_USER = re.compile(r"(?<=://)[^\s'\"]*@")
# A database's address may name its user; the password is what follows the colon.
_PASSWORD = re.compile(r"://[^\s'\"@]*:[^\s'\"]*@")
_VALUE = re.compile(rf"(?i)((?:[?&;](?:{_NAMES}|sig|key)|(?:^|[\s'\"]){_NAMES})=)[^&;\s'\"]+")
_WEB = re.compile(r"(?i)https?://[^\s'\"]*[@?#]")  # an address of the web needs none of these
_VARIABLES = re.compile(r"(?i)PASSW|PASSPHRASE|SECRET|TOKEN$|CREDENTIAL|API_?KEY|ACCESS_?KEY")
_PATHS = ("_FILE", "_PATH", "_DIR")
_SHORTEST = 8  # characters of a variable's value that is hidden; a shorter one would be found in innocent words

_REMEDIES = {
    "data.mirror": "write user and password to ~/.netrc (machine HOST login USER password PASSWORD)",
    "tracking.uri": "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, for a server, "
    "PGPASSFILE for PostgreSQL",
    "cluster.storage": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write them to ~/.aws/credentials, and "
    "AWS_ENDPOINT_URL for a server of your own",
}


def redacted(text: str) -> str:
    """`text` without users and passwords in URLs, values of keys named like secrets, and secrets of the environment."""
    text = _VALUE.sub(rf"\1{HIDDEN}", _USER.sub(f"{HIDDEN}@", text))
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST and _VARIABLES.search(name) and not name.endswith(_PATHS):
            text = text.replace(value, HIDDEN)
    return text


def refusal(values: dict[str, Any]) -> str:
    """Why a configuration may not be kept: one sentence for the first credential in it, or ""."""
    for key, value in _texts(values, ""):
        if _holds_credentials(value):
            shown = re.sub(r"[?#].*", f"?{HIDDEN}", redacted(value), flags=re.DOTALL)
            return (
                f"{key}={shown} holds credentials or a query, which composed.yaml and MLflow would keep for all to read; "
                f"give the address alone, and {_REMEDIES.get(key, 'keep the rest in the environment')}"
            )
    return ""


def _holds_credentials(value: str) -> bool:
    return "://" in value and any(pattern.search(value) for pattern in (_WEB, _PASSWORD, _VALUE))


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Every text in nested values, with its dotted key."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, entry in value.items():
            yield from _texts(entry, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _texts(entry, key)


class RedactingFormatter(logging.Formatter):
    """Log lines, of libraries too, without credentials."""

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))
