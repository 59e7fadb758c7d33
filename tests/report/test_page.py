"""The report's files and its sentences."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from nets import make_net
from pages import written
from samples import make_sample, with_nets

from pipeline.report import page
from pipeline.report.curves import (
    curves,
)
from pipeline.report.markdown import (
    interval,
    percent,
)
from pipeline.report.nets import summary_table
from pipeline.report.page import build_report
from pipeline.report.sweep import sweep


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    inputs = make_sample()
    return inputs, build_report(inputs, tmp_path_factory.mktemp("report") / "report").parent


@pytest.fixture
def small():
    """Inputs whose report has few figures, for tests that build several."""
    inputs = make_sample(depths=(20,), plain=(), lrs=(0.1,))
    evaluation = {**inputs.evaluation, "per_class": [], "confusion": []}
    return replace(inputs, evaluation=evaluation, curves=(), responses=(), mistakes=())


class Page(HTMLParser):
    """The text of a page, every address in it, and its elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self._hidden = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._hidden = tag in ("style", "title", "nav") or (self._hidden and tag == "a")
        self.addresses += [value for name, value in attrs if name in ("src", "srcset", "href", "action", "data")]

    def handle_data(self, data):
        if not self._hidden:
            self.words.append(data)


def test_numbers_on_the_page_are_the_inputs(built):
    inputs, out = built
    text = re.sub(r"\s*\|[\s|]*", "|", "|".join(Page((out / "index.html").read_text()).words))
    for net in [*(net.to_json() for net in inputs.nets), inputs.ensemble]:
        errors = (
            percent(net["test_err1"]),
            interval(net["ci95"]),
            percent(net["test_err5"]),
            interval(net["ci95_err5"]),
        )
        assert "|".join(errors) in text
    assert "8.41 to 9.53%" in text  # 895 of 10,000, Wilson
    assert f"−{-100 * inputs.gain['estimate']:.2f} points" in text
    assert "plain-56|Fig. 6 †|≈13.5%|13.36% (validation)|" in text  # a net that was not tested


def test_page_and_markdown_hold_the_same_numbers(built):
    def numbers(text: str) -> set[str]:
        return set(re.findall(r"[−+≈]?\d[\d,.]*%?", text.replace("\\", "")))

    _, out = built
    markdown = re.sub(r"!\[.*?\]\(.*?\)", "", (out / "report.md").read_text())
    assert numbers(" ".join(Page((out / "index.html").read_text()).words)) == numbers(markdown)


def test_page_loads_nothing_and_runs_nothing(built):
    _, out = built
    text = (out / "index.html").read_text()
    shown = Page(text)
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in shown.addresses)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(shown.tags)
    assert "url(" not in text and "@import" not in text
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in text


def test_every_figure_is_on_the_page_in_both_themes_and_beside_it_as_a_file(built):
    _, out = built
    files = {path.name for path in (out / "figures").iterdir()}
    names = [
        "members",
        "by-members",
        "cost",
        "responses",
        "gradients",
        "curves",
        "sweep",
        "classes",
        "confusion",
        "mistakes",
        "reliability",
        "beside-paper",
    ]
    assert files == {f"{name}{theme}.png" for name in names for theme in ("", "-dark")}
    embedded = [a for a in Page((out / "index.html").read_text()).addresses if a.startswith("data:")]
    assert len(embedded) == len(set(embedded)) == 2 * len(files)  # narrow ones too
    links = re.findall(r"\]\((figures/[^)]+)\)", (out / "report.md").read_text())
    assert len(links) == len(names) and all((out / link).is_file() for link in links)


def test_claims_json_holds_what_the_page_says(built):
    _, out = built
    html = (out / "index.html").read_text()
    text = " ".join("".join(Page(html).words).split())
    claims = json.loads((out / "claims.json").read_text())["claims"]
    assert all(" ".join(claim["evidence"].split()) in text for claim in claims)
    for status in ("holds", "inconclusive", "not measured"):
        shown = html.count(f'<strong class="verdict {status.replace(" ", "-")}">{status}</strong>')
        assert shown == sum(claim["status"] == status for claim in claims) > 0


def test_same_inputs_give_the_same_bytes(small, tmp_path):
    first, second = (build_report(small, tmp_path / name).parent for name in ("a", "b"))
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(second) for path in second.rglob("*") if path.is_file())
    assert all((first / file).read_bytes() == (second / file).read_bytes() for file in files)


def test_a_report_replaces_the_old_one_whole_or_leaves_it(small, tmp_path, monkeypatch):
    out = tmp_path / "report"
    (out / "figures").mkdir(parents=True)
    (out / "figures" / "old.png").write_text("old")
    monkeypatch.setattr(page, "to_html", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build_report(small, out)
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
    assert (out / "figures" / "old.png").exists()
    monkeypatch.undo()
    build_report(small, out)
    assert not (out / "figures" / "old.png").exists()


def test_text_from_outside_is_escaped_and_passwords_are_left_out(small, tmp_path, built):
    data = {**small.data, "name": "<script>alert(1)</script>", "classes": ["a|b", "*c*"]}
    inputs = replace(small, data=data, provenance={"host": "`x` | <b>&amp;", "note": "[a](http://b)"})
    out = build_report(inputs, tmp_path / "report").parent
    text, markdown = (out / "index.html").read_text(), (out / "report.md").read_text()
    assert "<script" not in text and "&lt;script&gt;" in text and "<b>" not in text
    assert "`x` | &lt;b&gt;&amp;amp;" in text and "http://b" not in Page(text).addresses
    assert "<script" not in markdown.replace(r"\<", "") and r"`` `x` \| <b>&amp; ``" in markdown
    for file in ("index.html", "report.md"):
        text = (built[1] / file).read_text()
        assert "hunter2" not in text and "https://***@mlflow.example.org" in text


def test_missing_parts_become_sentences(small):
    text = written(replace(small, leaderboard=None, provenance={}, evaluation={"members": []}))
    for sentence in (
        "No ensemble was evaluated.",
        "No net was evaluated.",
        "No learning curves",
        "No layer responses",
        "No sweep",
        "No errors by class",
        "No confusion matrix",
        "were not recorded",
    ):
        assert sentence in text
    run = make_net(110, error=0.0655)
    alone = written(with_nets(replace(small, leaderboard=None), [], run, ensemble=None))
    assert "- Named run, test error\\\n  **6.55%**" in alone


def test_captions_say_what_is_missing():
    inputs = make_sample(plain=())
    (figure,) = curves(inputs)
    assert "No plain net was trained" in figure.caption
    trials = [{**trial, "val_err1": None if at == 0 else 0.1} for at, trial in enumerate(inputs.leaderboard["trials"])]
    blocks = sweep(replace(inputs, leaderboard={"trials": trials}))
    assert f"Without a validation error: {trials[0]['name']}." in blocks


def test_what_evaluation_of_another_version_wrote_is_refused(small):
    member = {key: value for key, value in small.evaluation["members"][0].items() if key != "model"}
    with pytest.raises(ValueError, match="evaluate"):
        replace(small, evaluation={**small.evaluation, "members": [member]})


def test_the_summary_has_every_net_and_the_ensemble():
    inputs = make_sample()
    text = summary_table(inputs.evaluation, inputs.leaderboard)
    for words in (
        "cifar10: error on 10,000 test images",
        "ResNet-20",
        "ResNet-110 (named run)",
        "ensemble of 4",
        "8.95%",
        "8.41 to 9.53%",
        "12 trials, 6 stopped early",
    ):
        assert words in text
    alone = summary_table({"members": [], "run": inputs.named_run.to_json()})
    assert "ResNet-110 (named run)" in alone and "ensemble" not in alone and "sweep" not in alone
