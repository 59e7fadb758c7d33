#!/bin/sh
# Writes behind each image's tag the digest that it has now, where the registry can be reached: make pin-images. A tag can be
# moved to another image, a digest cannot. Run it again to take over updates of the tags.
set -eu
cd "$(dirname "$0")/.."

for file in docker-compose.yml docker/public.yml docker/Dockerfile; do
    for image in $(sed -nE 's/^ *(image:|FROM) ([a-z0-9./_-]+:[A-Za-z0-9._-]+)(@sha256:[0-9a-f]+)?( .*)?$/\2/p' "$file" | sort -u); do
        case $image in resnet-pipeline:*) continue ;; esac
        digest=$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$image") || digest=
        if ! printf '%s\n' "$digest" | grep -qxE 'sha256:[0-9a-f]{64}'; then
            printf 'pin-images.sh: no digest of %s; this needs docker with buildx and access to its registry\n' "$image" >&2
            exit 74
        fi
        sed -E "s|(image:\|FROM) $image(@sha256:[0-9a-f]+)?|\1 $image@$digest|" "$file" >"$file.part"
        mv "$file.part" "$file"
        echo "$file: $image@$digest"
    done
done
