#!/bin/sh
# Makes the secrets of docker-compose.yml and docker/public.yml below docker/secrets/, and writes the ids of the user who may
# read them to .env. Existing secrets stay, also those that you chose: a database keeps the password of its first start.
set -eu
umask 077
cd "$(dirname "$0")"
mkdir -p secrets
chmod 700 secrets

fail() {
    printf 'make-secrets.sh: %s\n' "$1" >&2
    exit 2
}

# Secrets that others could read are closed; who has read them, nobody knows.
for path in secrets/*; do
    [ -e "$path" ] || [ -h "$path" ] || continue
    if [ -h "$path" ] || [ ! -f "$path" ] || [ ! -O "$path" ]; then
        fail "docker/$path must be a file of your own, no link and no other user's; remove it and run this again"
    fi
    if [ -n "$(find "$path" -perm /077)" ]; then
        chmod 600 "$path"
        printf 'docker/%s was open to other users and is closed now; if one of them may have read it, replace it as docs/security.md says\n' "$path" >&2
    fi
done

# Prints $1 random bytes in hexadecimal.
random() {
    od -A n -t x1 -N "$1" /dev/urandom | tr -d ' \n'
}

for name in postgres_password s3_secret_key ray_token mlflow_password mlflow_session_key; do
    if [ ! -s "secrets/$name" ]; then
        random 32 >"secrets/$name.part"
        mv "secrets/$name.part" "secrets/$name"
    fi
    # The files below hold one secret a line, and their readers drop spaces at its ends.
    if [ "$(LC_ALL=C tr -d '\n' <"secrets/$name" | LC_ALL=C grep -c '^[!-~]\([ -~]*[!-~]\)\{0,1\}$')" != 1 ] ||
        [ "$(wc -l <"secrets/$name")" -gt 1 ]; then
        fail "docker/secrets/$name must be one line of printable ASCII characters without spaces at its ends"
    fi
done

# Prints secret $1 with the characters of the bracket expression $2 written as sed's replacement $3.
escaped() {
    sed "s/$2/$3/g" "secrets/$1"
}

# Writes standard input to secret $1, whole or not at all.
write() {
    cat >"secrets/$1.part"
    mv "secrets/$1.part" "secrets/$1"
}

# The same secrets in the forms that libpq, boto3, SeaweedFS and MLflow read, each with its own escapes.
printf 'postgres:5432:mlflow:mlflow:%s\n' "$(escaped postgres_password '[\\:]' '\\&')" | write pgpass
printf '[default]\naws_access_key_id = mlflow\naws_secret_access_key = %s\n' "$(cat secrets/s3_secret_key)" | write s3_credentials
write s3_identities <<END
{"identities": [{
  "name": "mlflow",
  "credentials": [{"accessKey": "mlflow", "secretKey": "$(escaped s3_secret_key '[\\"]' '\\&')"}],
  "actions": ["Admin", "Read", "Write", "List", "Tagging"]
}]}
END
write mlflow_auth <<END
[mlflow]
default_permission = READ
database_uri = postgresql+psycopg://mlflow@postgres:5432/mlflow
admin_username = admin
admin_password = $(escaped mlflow_password '%' '%%')
END
write mlflow_credentials <<END
[mlflow]
mlflow_tracking_username = admin
mlflow_tracking_password = $(escaped mlflow_password '%' '%%')
END

if ! grep -qs '^PIPELINE_UID=' ../.env; then
    [ -z "$(tail -c 1 ../.env 2>/dev/null)" ] || echo >>../.env # a last line without its end would take in the next one
    printf 'PIPELINE_UID=%s\nPIPELINE_GID=%s\n' "$(id -u)" "$(id -g)" >>../.env
fi
