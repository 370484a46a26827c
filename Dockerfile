# Keystile in a container: one static binary, run as nobody.
#
#   docker build -t keystile .
#   docker run --stop-timeout 20 -p 8080:8080 -v keystile:/data \
#     -e KEYSTILE_PROXY_UPSTREAM_URL=http://model-server:9000 keystile
#
# The admin listener stays on the container's own loopback, where nothing outside the container can reach it, and the
# image has no shell. To manage keys from the host, open it with all of these, on the host's loopback only:
#
#     -e KEYSTILE_ADMIN_LISTEN=0.0.0.0:8081 -e KEYSTILE_ADMIN_ALLOW_PLAIN_HTTP=true -p 127.0.0.1:8081:8081
#
# Containers on the same network reach it too, and nothing is encrypted. To open it further, mount a certificate and set
# KEYSTILE_ADMIN_TLS_CERT_FILE and KEYSTILE_ADMIN_TLS_KEY_FILE in place of KEYSTILE_ADMIN_ALLOW_PLAIN_HTTP.
#
# Called by a name other than localhost, it also wants that name in KEYSTILE_ADMIN_HOSTS. Every call needs a token all
# the same; the first start writes one to /data/admin.token.
#
# Streams get 10 s to end after SIGTERM (proxy.drain_timeout), which is when docker stop kills: hence --stop-timeout.

ARG GO_IMAGE=golang:1.26
ARG RUN_IMAGE=scratch

FROM ${GO_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o /out/keystile ./cmd/keystile
# An image made from scratch has neither; "keystile demo" keeps its store in /tmp.
RUN mkdir -m 0700 /out/data && mkdir -m 0700 /out/tmp

FROM ${RUN_IMAGE}
# For upstreams called by https.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/keystile /usr/local/bin/keystile
COPY --from=build --chown=65532:65532 /out/data /data
COPY --from=build --chown=65532:65532 /out/tmp /tmp
USER 65532:65532
# The defaults data/keystile.db and data/admin.token are relative: from here they lie in the volume.
WORKDIR /
VOLUME /data
# 8080: proxy. 8081: admin, once it is told to listen beyond loopback.
EXPOSE 8080 8081
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["/usr/local/bin/keystile", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/keystile"]
CMD ["serve"]
