"""`make audit` on what an advisory service may say."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from typing import Any

import pytest
from imports import ROOT

_spec = importlib.util.spec_from_file_location("dependencies", ROOT / ".ci" / "dependencies.py")
assert _spec and _spec.loader
dependencies = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(dependencies)


def entry(*vulnerabilities: dict[str, Any]) -> dict[str, Any]:
    return {"name": "diskcache", "version": "5.6.3", "vulns": list(vulnerabilities)}


KNOWN = {"id": "GHSA-xxxx", "aliases": ["CVE-2025-69872"], "fix_versions": []}
NEW = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["9.9"]}


@pytest.mark.parametrize(
    ("vulnerabilities", "status", "lines"),
    [
        ([], 0, ["CVE-2025-69872 in known-advisories.toml is no longer reported"]),
        ([KNOWN], 0, ["known, whoever may write to DVC's cache", "0 new advisories, 1 known"]),
        ([KNOWN, NEW], 1, ["CVE-1, PYSEC-1, fixed in 9.9: NEW"]),
    ],
)
def test_an_advisory_that_is_not_explained_fails_the_audit(vulnerabilities, status, lines, capsys):
    assert dependencies.judged([entry(*vulnerabilities)], ["torch"], "osv") == status
    output = capsys.readouterr().out
    assert all(line in output for line in lines) and "not audited" in output


def test_an_audit_that_nobody_answers_says_so(monkeypatch, capsys):
    skipped = [{"name": "torch", "skip_reason": "not found"}]
    monkeypatch.setattr(dependencies, "_advisories", lambda service: skipped if service == "pypi" else [])
    assert dependencies.audit() == 75
    assert "nothing was audited" in capsys.readouterr().err


def test_known_advisories_are_of_locked_packages_and_say_what_they_mean():
    locked = set(re.findall(r"^([\w.-]+)==", (ROOT / "requirements.txt").read_text(), re.M))
    for advisory in tomllib.loads((ROOT / ".ci" / "known-advisories.toml").read_text()).values():
        assert advisory["package"] in locked and advisory["meaning"] and advisory["through"]


def test_the_fuzzer_is_locked_for_pythons_that_it_has_a_wheel_for():
    """Elsewhere it would be built, which takes clang; without it, `make reliability` leaves fuzzing out."""
    (marker,) = re.findall(r"^atheris==\S+ ; (.*) \\$", (ROOT / "requirements.txt").read_text(), re.M)
    assert "python_full_version < '3.14'" in marker


def test_every_installed_distribution_has_a_row(capsys):
    dependencies.licences()
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert len(rows) > 100 and all(len(row) == 3 and row[2].strip(" |") for row in rows)
