#!/bin/sh
# Runs a command on a node of its own in the Ray cluster: join-ray.sh dvc exp run -S tracking=server
# A Ray driver has to run on a node. This one offers no CPU and no GPU, so that the trials go to the workers, and it
# leaves the cluster when the container ends.
set -eu
# DVC's cache (DVC_SITE_CACHE_DIR in docker-compose.yml), closed to others as `make` does it.
mkdir -p .dvc/tmp && mkdir -p -m 700 .dvc/tmp/site
ray start --address=ray-head:6379 --num-cpus=0 --num-gpus=0 --object-store-memory=1000000000
# The address that ray.init() uses while cluster.address is empty, so that no parameter of the experiment depends on it.
export RAY_ADDRESS=auto
# exec: on a signal, a shell in between would exit before the command has saved its checkpoint.
exec "$@"
