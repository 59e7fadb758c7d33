"""The report's files and its sentences."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from nets import make_model, make_net, make_recipe
from samples import make_sample, with_nets

from pipeline.report import page
from pipeline.report.checks import assess
from pipeline.report.classes import MOST_PAIRS, classes
from pipeline.report.comparison import comparison, differences
from pipeline.report.curves import curves
from pipeline.report.inputs import data_of, kind_of
from pipeline.report.markdown import (
    Document,
    Figure,
    Section,
    code,
    fold,
    interval,
    listing,
    paragraph,
    percent,
    plural,
    points,
    table,
)
from pipeline.report.nets import summary_table
from pipeline.report.page import build_report, compose, to_html
from pipeline.report.paper import PROTOCOLS
from pipeline.report.sweep import sweep

CIFAR10 = PROTOCOLS["cifar10"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    inputs = make_sample()
    return inputs, build_report(inputs, tmp_path_factory.mktemp("report") / "report").parent


@pytest.fixture
def small():
    """Inputs whose report has few figures, for tests that build several."""
    inputs = make_sample(depths=(20,), plain=(), lrs=(0.1,))
    evaluation = {**inputs.evaluation, "per_class": [], "confusion": []}
    return replace(inputs, evaluation=evaluation, curves=(), responses=())


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


def written(inputs) -> str:
    return str(compose(inputs, assess(inputs)))


def as_page(*blocks) -> tuple[str, str]:
    document = Document("T", "s", [Section("a", "A", blocks)])
    return to_html(document, {}), str(document)


def test_numbers_are_written_as_a_reader_expects():
    assert (percent(0.08754), percent(None)) == ("8.75%", "–")
    assert interval((0.0, 0.1234)) == "0.00 to 12.34%"
    assert [points(value) for value in (-0.0123, 0.0123, -0.00001)] == ["−1.23", "+1.23", "0.00"]
    nouns = ((1, "class"), (10, "class"), (1200, "image"), (2, "entry"))
    assert [plural(*noun) for noun in nouns] == ["1 class", "10 classes", "1,200 images", "2 entries"]


def test_table_cells_keep_their_borders_whatever_is_in_them():
    html, markdown = as_page(table(["a|b"], [["x\ny | z"], [code("p | q")]], "l", bold={0}))
    assert {r"| a\|b |", r"| **x y \| z** |", r"| `p \| q` |"} <= set(markdown.splitlines())
    assert "<td><strong>x y | z</strong></td>" in html and "<td><code>p | q</code></td>" in html


def test_listings_and_folds_keep_what_they_hold():
    html, markdown = as_page(listing("```\nx\n```"), fold("more <", paragraph("in*side*")))
    assert "````\n```\nx\n```\n````" in markdown and "<pre><code>```\nx\n```\n</code></pre>" in html
    assert "<summary>more \\<</summary>" in markdown and re.search(
        r"<details>.*<p>in\*side\*</p>\s*</details>", html, re.S
    )


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
        "beside-paper",
    ]
    assert files == {f"{name}{theme}.png" for name in names for theme in ("", "-dark")}
    embedded = [a for a in Page((out / "index.html").read_text()).addresses if a.startswith("data:")]
    assert len(embedded) == len(set(embedded)) == len(files)
    links = re.findall(r"\]\((figures/[^)]+)\)", (out / "report.md").read_text())
    assert len(links) == len(names) and all((out / link).is_file() for link in links)


def test_claims_json_holds_what_the_page_says(built):
    _, out = built
    html = (out / "index.html").read_text()
    text = " ".join("".join(Page(html).words).split())
    claims = json.loads((out / "claims.json").read_text())["claims"]
    assert all(" ".join(claim["evidence"].split()) in text for claim in claims)
    for status in ("holds", "fails", "not measured"):
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
        assert "hunter2" not in text and "https://mlflow.example.org" in text


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


def test_many_classes_get_a_list_of_confusions():
    figure, pairs = classes(make_sample(classes=[f"class {i}" for i in range(100)]))
    assert isinstance(figure, Figure) and "The 30 classes with the highest error of 100" in figure.caption
    images = [int(line.split("|")[3]) for line in pairs.splitlines()[4:]]
    assert images == sorted(images, reverse=True) and len(images) == MOST_PAIRS


def test_averages_of_seeds_and_of_depths_have_a_row_a_size_and_the_text_says_which_err_less():
    def average(models, error):
        return {"models": models, "alone": 0.0812, "test_err1": error, "ci95": [error - 0.005, error + 0.005]}

    depths = ["ResNet-20", "ResNet-32"]
    sizes = [
        {
            "size": k,
            "net": "ResNet-20",
            "seeds": average(depths[:1] * k, 0.09),
            "depths": average(depths[:k], 0.1 - 0.01 * k),
        }
        for k in (1, 2)
    ]
    inputs = make_sample()
    text = written(with_nets(inputs, inputs.members, seeds_against_depths=sizes))
    assert "depths err less, by the estimates: 9.00% and 8.00%" in text and "(ResNet-20, ResNet-32)" in text
    assert "| 2 | 9.00% | 8.50 to 9.50% | 8.12% | 8.00% | 7.50 to 8.50% | 8.12% |" in text
    assert "Averages of seeds" not in written(inputs)


def test_short_runs_and_other_rates_are_not_sold_as_the_papers():
    quick = make_sample(steps=6_318)
    nets = [replace(quick.nets[0], recipe=make_recipe(lr=0.4)), *quick.nets[1:]]
    first, second, *_ = differences(with_nets(quick, nets), CIFAR10)
    assert first.startswith("Steps: 6,318 here, 64,000 in the paper. The longest run has 9.9% of the paper's.")
    assert "too short to compare" in first
    assert second.startswith("Learning rate: 0.4")
    assert not any(line.startswith("Steps") for line in differences(make_sample(), CIFAR10))


def test_a_net_stands_beside_the_papers_of_the_same_option_alone_and_others_are_named():
    about = {"n": 50_000, "steps": 600_000, "dataset": "imagenet"}
    models = [make_model(34, shortcut="B"), make_model(18, shortcut="B"), make_model(50, stride_on="3x3")]
    nets = [make_net(model.depth, model=model, **about) for model in models]
    text = "\n".join(
        block
        for block in comparison(with_nets(make_sample(name="imagenet"), nets, curves=[]))
        if isinstance(block, str)
    )
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith(("| ResNet-34", "| ResNet-50"))]
    tested = [(row[0], row[1].split(",")[0]) for row in rows if "not evaluated" not in row]
    assert tested == [("| ResNet-34 (B)", "Table 3"), ("| ResNet-34 (B)", "Table 4")]
    assert text.count(" / ") > 2  # top-1 and top-5
    assert "prints no error of such a net: ResNet-18 (B), ResNet-50 (v1.5)." in text


def test_the_page_names_nets_that_were_trained_on_all_images():
    inputs = make_sample()
    run = replace(inputs.named_run, val_err1=None, split="full")
    full = with_nets(inputs, inputs.members, run)
    assert "| ResNet-110 (named run), trained on all images | 1.76M |" in written(full)
    first, second = [line for line in differences(full, CIFAR10) if line.startswith("Train")]
    assert first.startswith("Training images: 45,000 here")
    assert second == "Trained on all 50,000 training images, with nothing selected: ResNet-110."
    assert "split holdout; split full: ResNet-110" in written(full)
    alone = with_nets(inputs, [make_net(20, val_err1=None, split="full")])
    assert "ResNet-20 10.00% (trained on all images) on 10,000 test images" in written(alone)
    assert "trained on all images" not in written(inputs)


@pytest.mark.parametrize(
    ("family", "depth", "residual", "kind"),
    [("cifar", 56, True, "residual"), ("imagenet", 34, False, "plain"), ("vgg_bn_small", 16, False, "others")],
)
def test_predecessors_are_neither_plain_nor_residual(family, depth, residual, kind):
    assert kind_of(make_net(depth, model=make_model(depth, residual, family))) == kind


def test_a_named_run_that_is_a_member_counts_once():
    inputs = make_sample()
    first = inputs.members[0]
    assert len(inputs.nets) == 5
    assert with_nets(inputs, inputs.members, first).nets == inputs.members
    same_file = replace(first, run_id="other", key="other")
    assert with_nets(inputs, inputs.members, same_file).nets == inputs.members
    assert len(with_nets(inputs, inputs.members, replace(first, snapshot=9)).nets) == 5
    assert "ResNet-20 (named run)" in summary_table(with_nets(inputs, inputs.members, first).evaluation)


def test_the_best_member_is_the_one_evaluation_compared_with():
    inputs = make_sample()
    second = inputs.members[1]
    gain = {"estimate": 0.0, "ci95": [0.0, 0.0], "run_id": second.run_id}
    for name, value in (("run_id", second.run_id), ("checkpoint_sha256", second.checkpoint_sha256)):
        ensemble = {**inputs.ensemble, "difference_to_best_member": {**gain, "run_id": "", name: value}}
        assert with_nets(inputs, inputs.members, ensemble=ensemble).best_member == second
    ensemble = {**inputs.ensemble, "difference_to_best_member": None}
    best = with_nets(inputs, inputs.members, ensemble=ensemble).best_member
    assert best.val_err1 == min(member.val_err1 for member in inputs.members)


def test_runs_that_the_tracking_server_never_saw_stay_apart():
    inputs = make_sample()
    unseen = [replace(net, run_id="") for net in inputs.members]
    inputs = with_nets(inputs, unseen, replace(inputs.named_run, run_id=""))
    assert len(inputs.nets) == 5 and "" not in inputs.by_id


def test_validation_images_are_taken_from_the_training_images():
    manifest = {
        "name": "cifar10",
        "classes": ("cat", "dog"),
        "counts": {"train": 50_000, "test": 10_000},
        "split": {"num_val": 5_000, "seed": 0},
        "content_hash": "ab",
    }
    assert data_of(manifest)["counts"] == {"train": 45_000, "val": 5_000, "test": 10_000}


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
