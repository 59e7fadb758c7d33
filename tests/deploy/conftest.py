from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from manifests import KUBERAY


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The authority of the page's own command, under the names that its Secret gives the files."""
    folder = tmp_path_factory.mktemp("authority")
    page = (KUBERAY / "README.md").read_text().replace("\\\n", " ")
    (command,) = re.findall(r"^ +(openssl req .*)$", page, re.MULTILINE)
    subprocess.run(shlex.split(command), check=True, cwd=folder, capture_output=True)
    for ours, secrets in (("ca.crt", "tls.crt"), ("ca.key", "tls.key")):
        (folder / ours).rename(folder / secrets)
    return folder
