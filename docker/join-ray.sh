#!/bin/sh
# Runs a command on a node of its own in the Ray cluster: join-ray.sh dvc repro
# A Ray driver has to stand on a node. This one offers no CPU and no GPU, so that the trials go to the workers, and it
# leaves the cluster when the container ends.
set -eu
ray start --address=ray-head:6379 --num-cpus=0 --num-gpus=0 --object-store-memory=1000000000
# What ray.init() finds where sweep.address names no cluster, so that no parameter of the experiment tells where it ran.
export RAY_ADDRESS=auto
# exec: a shell in between would end on a signal before the command has saved its checkpoint.
exec "$@"
