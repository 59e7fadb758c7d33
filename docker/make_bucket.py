"""Creates a bucket in the object store of docker-compose.yml, unless it exists: make_bucket.py NAME."""

import os
import sys

import boto3
from botocore.exceptions import ClientError


def make_bucket(name: str, endpoint: str) -> None:
    client = boto3.client("s3", endpoint_url=endpoint)
    try:
        client.head_bucket(Bucket=name)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        client.create_bucket(Bucket=name)


if __name__ == "__main__":
    make_bucket(sys.argv[1], os.environ["MLFLOW_S3_ENDPOINT_URL"])
