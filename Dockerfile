# syntax=docker/dockerfile:1

# Debian's slim image rather than Alpine: Node.js tests and releases its binaries for glibc, while those for musl are
# experimental, and every package that svc-mqtt runs on is plain JavaScript or WebAssembly, so nothing else differs.
ARG NODE_IMAGE=node:24-trixie-slim

# What is compiled is the same for every architecture, so this stage runs on the builder's own.
FROM --platform=$BUILDPLATFORM ${NODE_IMAGE} AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
COPY LICENCE.txt ./
COPY drizzle ./drizzle
COPY deploy/healthcheck.mjs ./healthcheck.mjs
# What is copied keeps the modes of whoever builds, and a clone made under `umask 077` cannot be read by the user of the
# image. The mode of main.js makes the program callable by its name, see the link below.
RUN npm run build && chmod 0755 dist/cli/main.js && chmod -R u=rwX,go=rX LICENCE.txt package.json drizzle healthcheck.mjs dist

# What the program needs to run, and nothing that builds or tests it. No package may run a script here.
FROM ${NODE_IMAGE} AS packages
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund

FROM ${NODE_IMAGE}
ARG VERSION=development
ARG REVISION=unknown
LABEL org.opencontainers.image.title="svc-mqtt" \
      org.opencontainers.image.description="Device gateway: MQTT devices in, NATS JetStream out, identities in PostgreSQL" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# npm and its kind are not needed to run, and what is not there cannot be attacked. /data is the only directory that
# belongs to the user of the process; /app belongs to root and stays as it was built.
RUN rm -rf /usr/local/lib/node_modules /opt/yarn-* \
      /usr/local/bin/npm /usr/local/bin/npx /usr/local/bin/corepack /usr/local/bin/yarn /usr/local/bin/yarnpkg \
 && groupadd --gid 10001 svc-mqtt \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin svc-mqtt \
 && install --directory --mode=0700 --owner=10001 --group=10001 /data \
 && ln -s /app/dist/cli/main.js /usr/local/bin/svc-mqtt

WORKDIR /app
COPY --from=packages /app/node_modules ./node_modules
COPY --from=build /app/LICENCE.txt /app/package.json /app/healthcheck.mjs ./
COPY --from=build /app/drizzle ./drizzle
COPY --from=build /app/dist ./dist

# With DATABASE_URL and NATS_URL set nothing is kept here; without DATABASE_URL the embedded database is, so mount a volume.
# There is no nats-server in this image: NATS_URL is needed.
ENV NODE_ENV=production \
    DATA_DIR=/data

# The number, not the name, lets Kubernetes verify that it is not root.
USER 10001:10001
EXPOSE 1883 9091

# Alive, not ready: what restarts unhealthy containers must not drop every device because the database is away.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --start-interval=1s --retries=3 \
  CMD ["node", "/app/healthcheck.mjs", "/healthz"]

# Node.js is process 1 and `serve` handles SIGTERM itself: it drains and exits. It starts no process that could leave
# orphans behind, so there is no init; give `docker run --init` to other commands that should end on Ctrl-C at once.
STOPSIGNAL SIGTERM
# Young objects get 32 MiB instead of 16: where many clients come at once, most that a small room would keep have ended (docs/sizing.md).
ENTRYPOINT ["node", "--min-semi-space-size=16", "--max-semi-space-size=32", "/app/dist/cli/main.js"]
CMD ["serve"]
