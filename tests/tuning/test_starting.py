"""Trials that start take turns."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from imports import ROOT

from pipeline.tuning.starting import PATIENCE_S, turn

NAME = f"test-{os.getpid()}"  # sweeps of other tests take turns, too
START = """
import sys, time
from pipeline.tuning.starting import turn
print("ready", flush=True)
sys.stdin.readline()
with turn(sys.argv[1], cores=2):
    begun = time.time()
    time.sleep(0.4)
    print(begun, time.time(), flush=True)
"""


def test_no_more_than_a_process_a_core_is_in_the_block_and_none_is_left_out():
    command = [sys.executable, "-c", START, NAME]
    processes = [
        subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(5)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    spans = [tuple(map(float, process.communicate()[0].split())) for process in processes]
    assert len(spans) == 5
    for begun, _ in spans:
        assert sum(start <= begun < end for start, end in spans) <= 2


def test_a_turn_that_does_not_come_is_waited_for_in_vain_only_so_long():
    start = time.monotonic()
    with turn(NAME, cores=1), turn(NAME, cores=1, patience_s=0.3):  # the second seat is taken by the first
        assert 0.3 <= time.monotonic() - start < PATIENCE_S


def test_a_seat_is_free_again():
    for _ in range(3):
        with turn(NAME, cores=1, patience_s=0):
            pass
    start = time.monotonic()
    with turn(NAME, cores=1):
        assert time.monotonic() - start < PATIENCE_S
