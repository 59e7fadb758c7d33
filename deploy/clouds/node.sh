#!/bin/bash
# Prepares a fresh Ubuntu machine, once or again: node.sh NFS-EXPORT MOUNT-OPTIONS
# The code lies in ~/resnet.tar. Dependencies are installed by hash (requirements.txt).
set -euo pipefail
sudo apt-get update --quiet
sudo DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes g++ make git nfs-common python3-dev python3-venv
sudo mkdir -p /shared
mountpoint --quiet /shared || sudo mount -t nfs4 -o "$2" "$1" /shared
sudo install -d -o "$USER" /shared/data /shared/runs /shared/experiments
mkdir -p ~/resnet
tar -xf ~/resnet.tar -C ~/resnet
for name in data experiments; do
    ln -sfn "/shared/$name" ~/resnet/"$name"
done
make -C ~/resnet .venv/.installed
