# Nixery as a container that needs no privileges:
#   docker build -t nixery .
#   docker run -p 8080:8080 -v nix:/nix -v nixery:/var/lib/nixery nixery
ARG BASE=debian:12-slim

FROM $BASE AS build
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv
COPY setup.py pyproject.toml README.md /src/
COPY nix /src/nix
COPY nixery /src/nixery
COPY twisted /src/twisted
RUN python3 -m venv /opt/nixery \
    && /opt/nixery/bin/pip wheel --no-cache-dir --no-deps --wheel-dir /wheel /src \
    && /opt/nixery/bin/pip install --no-cache-dir /wheel/*.whl \
    && /opt/nixery/bin/pip uninstall --yes pip setuptools
# Twisted's list of plugins, which the user of the daemon may not write.
RUN cd / && /opt/nixery/bin/twistd --help > /dev/null

FROM $BASE
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        ca-certificates git nix-bin openssh-client python3 util-linux \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 1000 nixery \
    && useradd --uid 1000 --gid 1000 --home-dir /var/lib/nixery --create-home nixery \
    && install -d -o nixery -g nixery /nix
COPY --from=build /opt/nixery /opt/nixery
COPY deploy/container/start deploy/container/healthy /usr/local/bin/
ENV HOME=/var/lib/nixery STATE_DIRECTORY=/var/lib/nixery USER=nixery PYTHONFAULTHANDLER=1
USER 1000:1000
WORKDIR /
EXPOSE 8080
# The Nix store, and everything else: images, histories, copies of git repositories.
VOLUME ["/nix", "/var/lib/nixery"]
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["/usr/local/bin/healthy"]
ENTRYPOINT ["/usr/local/bin/start"]
