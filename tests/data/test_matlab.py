from __future__ import annotations

import io
import random
import zlib
from contextlib import suppress

import numpy as np
import pytest
from scipy.io import savemat

from pipeline.data import matlab
from pipeline.data.matlab import MatlabError, read_variables


def saved(packed: bool = True, **variables: object) -> bytes:
    written = io.BytesIO()
    savemat(written, variables, do_compression=packed)
    return written.getvalue()


@pytest.mark.parametrize("packed", [False, True])
def test_structs_texts_and_numbers_that_scipy_wrote_are_read(packed):
    rows = np.array(
        [(1, "n01", 2.5, ["a", "b"]), (2, "Ü", -1, [])], dtype=[(k, "O") for k in ("id", "wnid", "x", "list")]
    )
    content = saved(packed, synsets=rows.reshape(-1, 1), count=np.arange(5, dtype=np.uint16))
    variables = read_variables(content)
    assert variables["count"] == [0, 1, 2, 3, 4]
    first, second = variables["synsets"]
    assert (first["id"], first["wnid"], first["x"]) == ([1], "n01", [2.5]) and second["wnid"] == "Ü"


def test_any_flipped_byte_and_any_cut_is_read_or_a_matlab_error():
    content, rng = (
        saved(packed=False, a=np.array([("x", 1)], dtype=[("name", "O"), ("n", "O")]), b="text"),
        random.Random(0),
    )
    for at in range(len(content)):
        flipped = content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]
        for damaged in (flipped, content[:at]):
            with suppress(MatlabError):
                read_variables(damaged)


@pytest.mark.parametrize("variable", [{"a": 1j}, {"a": [[[[[1]]]]] * 2}, {"a": {"b": {"c": {"d": {"e": 1}}}}}])
def test_what_no_devkit_holds_is_read_in_part_or_refused(variable):
    with suppress(MatlabError):
        assert "a" in read_variables(saved(**variable))


def test_a_bomb_and_what_is_no_mat_file_are_refused():
    bomb = zlib.compress(bytes(matlab.LARGEST + 1))
    for content in (b"", bytes(200), saved()[:128] + b"\x0f\0\0\0" + len(bomb).to_bytes(4, "little") + bomb):
        with pytest.raises(MatlabError, match=r"no MAT-file|longer than"):
            read_variables(content)
