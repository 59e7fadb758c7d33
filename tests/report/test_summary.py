from __future__ import annotations

from pipeline.report.summary import summary_table


def test_the_summary_has_every_net_and_the_ensemble(make_sample):
    inputs = make_sample()
    text = summary_table(inputs.evaluation, inputs.leaderboard)
    assert "cifar10: error on 10,000 test images" in text
    for name in ("ResNet-20", "ResNet-56", "ResNet-110 (named run)", "ensemble of 4"):
        assert name in text
    assert "8.95%" in text
    assert "8.41 to 9.53%" in text
    assert "12 trials, 6 stopped early" in text


def test_the_summary_needs_neither_sweep_nor_ensemble(make_sample):
    text = summary_table({"members": [], "run": make_sample().named_run})
    assert "ResNet-110 (named run)" in text
    assert "ensemble" not in text
    assert "sweep" not in text
