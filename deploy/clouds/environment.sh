# What every process of the cluster shares; `. resnet/deploy/clouds/environment.sh` comes before each command there.
# shellcheck shell=bash source=/dev/null
. ~/resnet/.venv/bin/activate
# The token of ~/.ray/auth_token, on every node.
export RAY_AUTH_MODE=token
export RAY_USAGE_STATS_ENABLED=0
# The shared file system; data/ and experiments/ of the checkout are links into it.
export PIPELINE_RUNS=/shared/runs
export MLFLOW_TRACKING_URI=https://mlflow.example.org
