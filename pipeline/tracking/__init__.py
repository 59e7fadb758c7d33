"""Runs and models in MLflow, and the settings that it reads from the environment, some of them as it is imported."""

import os

# By default a call to a dead server takes about four minutes. A repeated create_run would make two runs of one training
# where the server was only slow; the shipper repeats calls itself, and looks for the run first. MLflow's progress bars
# and links would interrupt the output of the stages. A connection that is kept open would go on with a SQLite file that was
# removed or replaced.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}

for _name, _value in _ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)  # the user's own are kept
