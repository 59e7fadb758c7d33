#!/bin/sh
# Makes this pod's certificate. Ray's processes call each other by address and compare it with the certificate, so it cannot
# be made before the pod has its address.
#   certificate.sh AUTHORITY OUT     folders: tls.crt and tls.key of the authority; tls.crt, tls.key and ca.crt are written
# POD_IP: the pod's address. FQ_RAY_IP: the name of the head's service, which the operator sets.
set -eu
umask 077
openssl req -x509 -config /dev/stdin -extensions pod -subj /CN=ray -days 365 -sha256 \
    -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc \
    -CA "$1/tls.crt" -CAkey "$1/tls.key" -keyout "$2/tls.key" -out "$2/tls.crt" <<END
[req]
distinguished_name = name
[name]
[pod]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = IP:127.0.0.1, IP:$POD_IP, DNS:localhost, DNS:$FQ_RAY_IP
END
cp "$1/tls.crt" "$2/ca.crt"
