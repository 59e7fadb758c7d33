"""What averaging gains, on the page and in the claim."""

from __future__ import annotations

from pages import texts, written
from samples import make_sample, unvalidated, with_nets
from verdicts import outcome, status

from pipeline.report.gain import gain

CLAIM = "ensemble-beats-best-member"


def test_an_ensemble_without_validation_errors_stands_beside_each_member():
    inputs = unvalidated(make_sample())
    text = texts(gain(inputs))
    assert text.count("| ResNet-") == len(inputs.members) == 4
    assert "8.95% | −2.23 | −2.53 to −1.93 | 0.012 | 0.36% | −0.20 | −0.50 to +0.10 | 0.500 |" in text
    page = written(inputs)
    assert "Best member" not in page and "7.91 to 8.95%" in page
    earlier = with_nets(inputs, inputs.members, ensemble={**inputs.ensemble, "against_members": []})
    assert "`pipeline evaluate`" in texts(gain(earlier)).replace("\\", "")
    assert status(earlier, CLAIM) == "not measured"


def test_it_gains_only_if_it_errs_less_than_the_member_that_is_hardest_to_beat():
    inputs = unvalidated(make_sample())
    result = outcome(inputs, CLAIM)
    assert result.status == "holds" and "hardest to beat is ResNet-56 7.91%" in result.evidence
    assert result.interval == (result.value - 0.003, result.value + 0.003)
    against = [dict(comparison) for _, comparison in inputs.against_members]
    against[2]["difference"] = {"estimate": 0.004, "ci95": [0.001, 0.007]}
    beaten = with_nets(inputs, inputs.members, ensemble={**inputs.ensemble, "against_members": against})
    result = outcome(beaten, CLAIM)
    assert result.status == "fails" and "ResNet-44" in result.evidence
    assert result.value == 0.004
