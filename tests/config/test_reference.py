"""What `pipeline keys` and docs/keys.md say of the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.compose import compose
from pipeline.config import from_dict, leaves
from pipeline.config.reference import Key, parts, similar
from pipeline.errors import PipelineError
from pipeline.stages.keys import page, show

ROOT = Path(__file__).resolve().parents[2]
KEYS = {key.name: key for part in parts() for key in part.keys}


def test_it_has_each_key_of_the_configuration_with_a_meaning() -> None:
    configured = {name for name, _ in leaves(from_dict(compose(ROOT, [])).to_dict()) if not name.startswith("choices.")}
    assert configured == KEYS.keys() - {"sweep.search.space", "sweep.search.take"}  # there is none by default
    assert [key.name for key in KEYS.values() if not key.meaning] == []


@pytest.mark.parametrize(
    ("name", "kind", "default"),
    [
        ("recipe.nesterov", "true or false", "false"),
        ("recipe.momentum", "number, 0 to below 1", "0.9"),
        ("recipe.lr", "number, 1e-12 to 1,000,000", "0.1"),
        ("recipe.milestones", "list: whole number, 1 or more", "[]"),
        ("sweep.quantile", "number, above 0 to 0.5", "0.25"),
        ("data.limits.ratio", "number, above 0", "200.0"),
        ("trainer.compile", "true or false or auto", "auto"),
        ("start.head", "new or kept", "new"),
        ("cluster.storage", "text", "''"),
        ("sweep.search", "keys and values or null", "null"),
    ],
)
def test_types_ranges_and_defaults_in_words(name: str, kind: str, default: str) -> None:
    assert (KEYS[name].kind, KEYS[name].default) == (kind, default)


def test_a_comment_above_a_field_counts_like_one_behind_it() -> None:
    assert KEYS["cluster.storage"].meaning.startswith("URL of a store")
    assert KEYS["trainer.devices"] == Key("trainer.devices", "whole number, 1 to 4,096", "1", "ranks per node")


@pytest.mark.parametrize(
    ("given", "meant"),
    [("modle.depth", "model.depth"), ("recipe.learn_rate", ""), ("trainer.device", "trainer.devices")],
)
def test_a_key_that_is_none_is_likened_to_one_that_is(given: str, meant: str) -> None:
    assert similar(given) == meant


def test_the_page_in_docs_is_the_present_one() -> None:
    assert (ROOT / "docs/keys.md").read_text() == page(), "python -m pipeline.stages.keys > docs/keys.md"


def test_sections_and_keys_are_shown_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    show(["data.limits", "recipe.lr"])
    output = capsys.readouterr().out
    assert "data.limits.ratio" in output and "recipe.lr" in output
    assert "recipe.momentum" not in output and "data.path" not in output
    with pytest.raises(PipelineError, match=r"trainer\.comp is no key or section .*did you mean trainer\.compile\?"):
        show(["trainer.comp"])


@pytest.mark.parametrize("override", ["trainer.device=2", "sweep.space={recipe.nestrov:[true]}"])
def test_an_unknown_key_of_a_configuration_is_likened_too(override: str) -> None:
    with pytest.raises(
        PipelineError, match=r"is no key of the configuration \(did you mean (trainer\.devices|recipe\.nesterov)\?\)"
    ):
        from_dict(compose(ROOT, [override]))
