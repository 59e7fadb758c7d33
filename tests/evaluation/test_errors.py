from __future__ import annotations

import numpy as np
import pytest

from pipeline.evaluation.errors import confusion_matrix, per_class_errors, predicted_classes, top_k_error, wrong

# Four images of three classes: right, second best, last, right.
PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8]], dtype=np.float32)
LABELS = np.array([0, 1, 2, 2])


def test_top_k_error_counts_by_rank():
    assert top_k_error(PROBABILITIES, LABELS, 1) == 0.5
    assert top_k_error(PROBABILITIES, LABELS, 2) == 0.25


@pytest.mark.parametrize("k", [3, 5])
def test_top_k_error_is_zero_when_k_covers_every_class(k):
    assert top_k_error(np.full((4, 3), 1 / 3, dtype=np.float32), LABELS, k) == 0.0


def test_ties_count_against_us_wherever_the_true_class_stands():
    flat = np.full((3, 3), 1 / 3, dtype=np.float32)
    assert top_k_error(flat, np.array([0, 1, 2]), 1) == 1.0
    assert top_k_error(flat, np.array([0, 1, 2]), 2) == 1.0
    assert list(predicted_classes(flat, np.array([0, 1, 2]))) == [1, 0, 0]


def test_top_1_agrees_with_argmax_without_ties():
    rng = np.random.default_rng(0)
    probabilities, labels = rng.random((200, 12)).astype(np.float32), rng.integers(12, size=200)
    assert np.array_equal(wrong(probabilities, labels), probabilities.argmax(axis=1) != labels)
    assert np.array_equal(predicted_classes(probabilities, labels), probabilities.argmax(axis=1))


def test_per_class_errors_average_to_the_error_and_leave_absent_classes_undefined():
    probabilities = np.hstack([PROBABILITIES, np.zeros((4, 1), dtype=np.float32)])
    errors, counts = per_class_errors(probabilities, LABELS)
    assert list(counts) == [1, 1, 2, 0]
    assert list(errors[:3]) == [0.0, 1.0, 0.5]
    assert np.isnan(errors[3])
    assert np.nansum(errors * counts) / counts.sum() == top_k_error(probabilities, LABELS, 1)


def test_confusion_matrix_has_true_classes_as_rows_and_its_trace_is_what_was_right():
    confusion = confusion_matrix(PROBABILITIES, LABELS)
    assert confusion.tolist() == [[1, 0, 0], [1, 0, 0], [1, 0, 1]]
    tied = np.full((4, 3), 1 / 3, dtype=np.float32)
    assert np.trace(confusion_matrix(tied, LABELS)) == 0
    assert confusion_matrix(tied, LABELS).sum() == 4


@pytest.mark.parametrize(
    ("probabilities", "labels", "k", "message"),
    [
        (PROBABILITIES, LABELS[:3], 1, "need"),
        (PROBABILITIES[:0], LABELS[:0], 1, "at least 1"),
        (PROBABILITIES, np.array([0, 1, 2, 3]), 1, "0..2"),
        (PROBABILITIES, np.array([-1, 1, 2, 2]), 1, "0..2"),
        (PROBABILITIES, LABELS, 0, "at least 1"),
        (np.where(PROBABILITIES > 0.6, np.nan, PROBABILITIES), LABELS, 1, "NaN"),
    ],
)
def test_what_cannot_be_counted_is_refused(probabilities, labels, k, message):
    with pytest.raises(ValueError, match=message):
        wrong(probabilities, labels, k)
