# Nixery in a container without privileges: docker build -t nixery . && docker run -p 8080:8080 nixery
FROM debian:12 AS build
RUN apt-get update && apt-get install --yes --no-install-recommends python3-venv
COPY setup.py README.md /src/
COPY nix /src/nix
COPY twisted /src/twisted
COPY nixery /src/nixery
# Twisted keeps a list of its plugins, which nobody may write later on.
RUN python3 -m venv /opt/nixery \
    && /opt/nixery/bin/pip install --no-cache-dir /src \
    && /opt/nixery/bin/twistd --help > /dev/null

FROM debian:12
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        ca-certificates git nix-bin openssh-client python3 util-linux \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --home-dir /var/lib/nixery --create-home nixery \
    && mkdir -p /nix && chown nixery:nixery /nix
COPY --from=build /opt/nixery /opt/nixery
# Nix writes to /nix itself: a store elsewhere, and sandboxes, take namespaces, which a container
# may not make. The container is the sandbox.
ENV STATE_DIRECTORY=/var/lib/nixery \
    HOME=/var/lib/nixery \
    NIX_REMOTE=local \
    NIX_CONFIG="sandbox = false" \
    NIXERY_NIX_MIN_FREE=5G
USER 1000:1000
VOLUME ["/nix", "/var/lib/nixery"]
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --start-period=5m CMD ["/opt/nixery/bin/python", "-c", \
    "import os, urllib.request as u; u.urlopen(f\"http://localhost:{os.environ.get('PORT') or 8080}/healthz\", timeout=5)"]
ENTRYPOINT ["/opt/nixery/bin/twistd", "--nodaemon", "--pidfile=", "nixery"]
