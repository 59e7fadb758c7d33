#!/bin/sh
# Makes the secrets of docker-compose.yml below docker/secrets/, and writes the ids of the user who may read them to .env.
# Existing secrets stay: a database keeps the password of its first start.
set -eu
umask 077
cd "$(dirname "$0")"
mkdir -p secrets

# Prints $1 random bytes in hexadecimal.
random() {
    od -A n -t x1 -N "$1" /dev/urandom | tr -d ' \n'
}

for name in postgres_password s3_secret_key ray_token; do
    if [ ! -s "secrets/$name" ]; then
        random 32 >"secrets/$name.part"
        mv "secrets/$name.part" "secrets/$name"
    fi
done

# The same secrets in the forms that libpq, boto3 and SeaweedFS read.
printf 'postgres:5432:mlflow:mlflow:%s\n' "$(cat secrets/postgres_password)" >secrets/pgpass
key=$(cat secrets/s3_secret_key)
printf '[default]\naws_access_key_id = mlflow\naws_secret_access_key = %s\n' "$key" >secrets/s3_credentials
cat >secrets/s3_identities <<END
{"identities": [{
  "name": "mlflow",
  "credentials": [{"accessKey": "mlflow", "secretKey": "$key"}],
  "actions": ["Admin", "Read", "Write", "List", "Tagging"]
}]}
END

if ! grep -qs '^PIPELINE_UID=' ../.env; then
    printf 'PIPELINE_UID=%s\nPIPELINE_GID=%s\n' "$(id -u)" "$(id -g)" >>../.env
fi
