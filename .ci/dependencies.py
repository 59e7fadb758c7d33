"""What the locked dependencies are: their licences, a bill of materials, and what is known against them.

    python .ci/dependencies.py licences   a Markdown table of the installed distributions
    python .ci/dependencies.py sbom       sbom.cdx.json: CycloneDX, from requirements.txt, with hashes
    python .ci/dependencies.py audit      advisories on requirements.txt, those of known-advisories.toml apart

Status of audit: 0 nothing new, 1 an advisory that known-advisories.toml does not explain, 75 no advisory service answered.
The tools run through uv and are no dependencies of this project.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from importlib.metadata import Distribution, distributions
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LOCK, KNOWN = ROOT / "requirements.txt", Path(__file__).with_name("known-advisories.toml")
CYCLONEDX, PIP_AUDIT = "cyclonedx-bom==7.5.0", "pip-audit==2.10.1"
SERVICES = ("pypi", "osv")
UNANSWERED = 75


def licences() -> int:
    own = "resnet-pipeline"
    rows = {entry.name: f"| {entry.name} | {entry.version} | {licence(entry)} |" for entry in distributions()}
    print("| distribution | version | licence, as its metadata states it |\n| --- | --- | --- |")
    print("\n".join(row for name, row in sorted(rows.items(), key=lambda item: item[0].lower()) if name != own))
    return 0


def licence(entry: Distribution) -> str:
    """The SPDX expression, or else the classifiers, or else the first line of the free text."""
    metadata = entry.metadata
    if expression := metadata.get("License-Expression"):
        return expression
    classifiers = metadata.get_all("Classifier") or []
    named = [text.split(" :: ")[-1] for text in classifiers if text.startswith("License ::") and text.count("::") > 1]
    text = (metadata.get("License") or "").strip().split("\n")[0][:80]
    return ", ".join(named) or text or "not stated; see the files that it installs"


def sbom() -> int:
    target = ROOT / "sbom.cdx.json"
    options = ["requirements", str(LOCK), "--pyproject", str(ROOT / "pyproject.toml"), "--output-reproducible"]
    quiet = {**os.environ, "PYTHONWARNINGS": "ignore"}  # that a lock file does not say who needs whom
    status = _tool(CYCLONEDX, "cyclonedx-py", *options, "--of", "JSON", "-o", str(target), env=quiet).returncode
    if status == 0:
        print(f"{target.name}: {len(json.loads(target.read_text(encoding='utf-8'))['components'])} components")
    return status


def audit() -> int:
    for service in SERVICES:
        report = _advisories(service)
        answered = [entry for entry in report if "vulns" in entry]
        if answered:
            return judged(answered, [entry["name"] for entry in report if "vulns" not in entry], service)
        print(f"the advisory service {service} did not answer", file=sys.stderr)
    print("nothing was audited; run this where one of the services can be reached", file=sys.stderr)
    return UNANSWERED


def judged(answered: list[dict[str, Any]], skipped: list[str], service: str) -> int:
    """Prints what the service says. Returns the exit status."""
    known = tomllib.loads(KNOWN.read_text(encoding="utf-8"))
    new, met = 0, set()
    for entry in answered:
        for advisory in entry["vulns"]:
            names = {advisory["id"], *advisory.get("aliases", ())}
            explained = sorted(names & set(known))
            met |= set(explained)
            new += not explained
            fixed = ", ".join(advisory.get("fix_versions") or ()) or "no version"
            what = f"known, {known[explained[0]]['meaning']}" if explained else "NEW"
            print(f"{entry['name']} {entry['version']}: {', '.join(sorted(names))}, fixed in {fixed}: {what}")
    print(f"{service}: {len(answered)} distributions audited, {new} new advisories, {len(met)} known")
    if skipped:
        print(f"not audited, since {service} does not have them: {', '.join(skipped)}")
    for name in sorted(set(known) - met):
        print(f"{name} in {KNOWN.name} is no longer reported; remove it")
    return int(new > 0)


def _advisories(service: str) -> list[dict[str, Any]]:
    """An entry a distribution, with "vulns" where the service knew it; empty where the service did not answer."""
    with TemporaryDirectory() as folder:
        out = Path(folder) / "audit.json"
        options = ["-r", str(LOCK), "--disable-pip", "--require-hashes", "-s", service, "-f", "json", "-o", str(out)]
        _tool(PIP_AUDIT, "pip-audit", *options, "--progress-spinner", "off", stderr=subprocess.DEVNULL)
        return json.loads(out.read_text(encoding="utf-8"))["dependencies"] if out.exists() else []


def _tool(package: str, command: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    uv = Path(sys.executable).with_name("uv")
    run = [str(uv), "tool", "run", "--quiet", "--from", package, command, *arguments]
    return subprocess.run(run, cwd=ROOT, check=False, text=True, **options)


if __name__ == "__main__":
    sys.exit({"licences": licences, "sbom": sbom, "audit": audit}[sys.argv[1]]())
