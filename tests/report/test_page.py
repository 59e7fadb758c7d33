from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser

import pytest

from pipeline.report import page
from pipeline.report.document import interval, percent
from pipeline.report.inputs import ReportInputs
from pipeline.report.page import build_report


@pytest.fixture(scope="module")
def built(tmp_path_factory, make_sample):
    inputs = make_sample()
    return inputs, build_report(inputs, tmp_path_factory.mktemp("report") / "report").parent


@pytest.fixture
def small(make_sample):
    """Inputs whose report has few figures, for tests that build several."""
    inputs = make_sample(depths=(20,), plain=(), lrs=(0.1,))
    evaluation = {**inputs.evaluation, "per_class": [], "confusion": []}
    return dataclasses.replace(inputs, evaluation=evaluation, curves=(), responses=())


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


def numbers(text: str) -> set[str]:
    return set(re.findall(r"[−+≈]?\d[\d,.]*%?", text.replace("\\", "")))


def test_numbers_on_the_page_are_the_inputs(built):
    inputs, out = built
    text = "|".join(Page((out / "index.html").read_text()).words)
    for net in [*inputs.nets, inputs.ensemble]:
        assert percent(net["test_err1"]) in text
        assert interval(net["ci95"]) in text
        assert f"{percent(net['test_err5'])}|{interval(net['ci95_err5'])}" in re.sub(r"\s*\|[\s|]*", "|", text)
    assert "8.41 to 9.53%" in text  # 895 of 10,000, Wilson
    gain = inputs.ensemble["difference_to_best_member"]
    assert f"−{-100 * gain['estimate']:.2f} points" in text


def test_page_and_markdown_hold_the_same_numbers(built):
    _, out = built
    markdown = re.sub(r"!\[.*?\]\(.*?\)", "", (out / "report.md").read_text())
    assert numbers(" ".join(Page((out / "index.html").read_text()).words)) == numbers(markdown)


def test_page_loads_nothing_and_runs_nothing(built):
    _, out = built
    text = (out / "index.html").read_text()
    found = Page(text)
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in found.addresses)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(found.tags)
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in text


def test_every_figure_is_on_the_page_in_both_themes_and_beside_it_as_a_file(built):
    _, out = built
    files = {path.name for path in (out / "figures").iterdir()}
    assert {
        "members.png",
        "by-members.png",
        "cost.png",
        "responses.png",
        "gradients.png",
        "curves.png",
        "sweep.png",
        "classes.png",
        "confusion.png",
        "beside-paper.png",
    } <= files
    embedded = [a for a in Page((out / "index.html").read_text()).addresses if a.startswith("data:")]
    assert len(embedded) == len(files)
    for link in re.findall(r"\]\((figures/[^)]+)\)", (out / "report.md").read_text()):
        assert (out / link).is_file()


def test_claims_json_holds_what_the_page_says(built):
    _, out = built
    claims = json.loads((out / "claims.json").read_text())["claims"]
    text = " ".join(Page((out / "index.html").read_text()).words)
    for claim in claims:
        assert claim["status"] in ("holds", "fails", "not measured")
        assert claim["evidence"] in text


def test_same_inputs_give_the_same_bytes(small, tmp_path):
    first, second = (build_report(small, tmp_path / name).parent for name in ("a", "b"))
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(second) for path in second.rglob("*") if path.is_file())
    assert all((first / file).read_bytes() == (second / file).read_bytes() for file in files)


def test_a_report_replaces_the_old_one_whole_or_leaves_it(small, tmp_path, monkeypatch):
    out = tmp_path / "report"
    (out / "figures").mkdir(parents=True)
    (out / "figures" / "old.png").write_text("old")
    monkeypatch.setattr(page, "to_markdown", lambda document: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build_report(small, out)
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
    assert (out / "figures" / "old.png").exists()
    monkeypatch.undo()
    build_report(small, out)
    assert not (out / "figures" / "old.png").exists()


def test_text_from_outside_is_escaped(small, tmp_path):
    data = {**small.data, "name": "<script>alert(1)</script>", "classes": ["a|b", "*c*"]}
    inputs = dataclasses.replace(small, data=data, provenance={"host": "`x` | <b>&amp;", "note": "[a](http://b)"})
    out = build_report(inputs, tmp_path / "report").parent
    text, markdown = (out / "index.html").read_text(), (out / "report.md").read_text()
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "`x` | &lt;b&gt;&amp;amp;" in text
    assert "<script" not in markdown.replace(r"\<", "")
    assert r"`` `x` \| <b>&amp; ``" in markdown


def test_passwords_in_addresses_are_left_out(built):
    _, out = built
    for file in ("index.html", "report.md"):
        text = (out / file).read_text()
        assert "hunter2" not in text
        assert "https://mlflow.example.org" in text


def test_missing_parts_become_sentences(small, tmp_path):
    inputs = dataclasses.replace(small, leaderboard=None, provenance={}, responses=(), evaluation={"members": []})
    text = " ".join(Page(build_report(inputs, tmp_path / "report").read_text()).words)
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


def test_a_named_run_alone_makes_a_report(small, tmp_path):
    evaluation = {"members": [], "ensemble": None, "run": small.named_run}
    inputs = dataclasses.replace(small, leaderboard=None, evaluation=evaluation)
    text = " ".join(Page(build_report(inputs, tmp_path / "report").read_text()).words)
    assert "Named run, test error" in text
    assert percent(small.named_run["test_err1"]) in text


def test_without_plain_nets_the_caption_says_so(make_sample):
    from pipeline.report import sections

    (figure,) = sections.curves(make_sample(plain=()))
    assert "No plain net was trained" in figure.caption


def test_trials_without_an_error_are_named(make_sample):
    from pipeline.report import sections
    from pipeline.report.document import Paragraph

    inputs = make_sample()
    inputs.trials[0]["val_err1"] = None
    texts = [block.text for block in sections.sweep(inputs) if isinstance(block, Paragraph)]
    assert texts == [f"Without a validation error: {inputs.trials[0]['name']}."]


def test_a_quick_run_is_not_sold_as_the_papers(make_sample):
    from pipeline.report.comparison import differences
    from pipeline.report.paper import PROTOCOLS

    quick = make_sample(steps=6_318)
    quick.nets[0]["lr"] = 0.4
    first, second, *_ = differences(quick, PROTOCOLS["cifar10"])
    assert first.startswith("Iterations: 6,318 here, 64,000 in the paper. The longest run is 9.9% of the paper's")
    assert "not a reproduction" in first
    assert second.startswith("Learning rate: 0.4")
    assert not any("Iterations" in line for line in differences(make_sample(), PROTOCOLS["cifar10"]))


def test_plain_nets_stand_beside_the_paper_with_their_validation_error(built):
    _, out = built
    assert "| plain-56 | Fig. 6 † | ≈13.5% | 13.36% (validation) |" in (out / "report.md").read_text()


def test_many_classes_get_a_list_of_confusions(make_sample):
    from pipeline.report import sections
    from pipeline.report.document import Figure, Table

    classes = [f"class {i}" for i in range(100)]
    figure, table = sections.classes(make_sample(classes=classes))
    assert isinstance(figure, Figure)
    assert "The 30 classes with the highest error of 100" in figure.caption
    assert isinstance(table, Table)
    images = [int(row[2]) for row in table.rows]
    assert images == sorted(images, reverse=True)
    assert len(images) == sections.MOST_PAIRS


def test_inputs_that_do_not_fit_are_refused_with_the_key(small):
    member = {key: value for key, value in small.members[0].items() if key != "test_err1"}
    with pytest.raises(ValueError, match=r"report input evaluation\.members\.0\.test_err1: Field required"):
        dataclasses.replace(small, evaluation={**small.evaluation, "members": [member]})


def test_the_best_member_is_the_one_evaluation_compared_with(make_sample):
    inputs = make_sample()
    gain = {"estimate": 0.0, "ci95": [0.0, 0.0], "run_id": inputs.members[1]["run_id"]}
    chosen = {**inputs.evaluation, "ensemble": {**inputs.ensemble, "difference_to_best_member": gain}}
    assert dataclasses.replace(inputs, evaluation=chosen).best_member == inputs.members[1]
    without = {**inputs.evaluation, "ensemble": {**inputs.ensemble, "difference_to_best_member": None}}
    by_validation = ReportInputs(data=inputs.data, evaluation=without).best_member
    assert by_validation["val_err1"] == min(member["val_err1"] for member in inputs.members)
