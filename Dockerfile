# Nixery in a container without privileges: docker build -t nixery . && docker run -p 8080:8080 nixery
FROM debian:12 AS build
RUN apt-get update && apt-get install --yes --no-install-recommends python3-venv
COPY LICENSE README.md pyproject.toml setup.py /src/
COPY nix /src/nix
COPY docs /src/docs
COPY twisted /src/twisted
COPY nixery /src/nixery
# Twisted keeps a list of its plugins, which nobody may write later on.
RUN python3 -m venv /opt/nixery \
    && /opt/nixery/bin/pip install --no-cache-dir /src \
    && /opt/nixery/bin/pip uninstall --yes setuptools pip \
    && /opt/nixery/bin/twistd --help > /dev/null

FROM debian:12
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        ca-certificates git nix-bin openssh-client python3 util-linux \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --home-dir /var/lib/nixery --create-home nixery \
    && mkdir -p /nix && chown nixery:nixery /nix
COPY --from=build /opt/nixery /opt/nixery
COPY deploy/container/start deploy/container/healthy /usr/local/bin/
# Nix writes to /nix itself: a store elsewhere takes namespaces, which most containers may not make.
ENV STATE_DIRECTORY=/var/lib/nixery \
    HOME=/var/lib/nixery \
    USER=nixery \
    NIX_REMOTE=local \
    NIXERY_NIX_MIN_FREE=5G \
    PYTHONFAULTHANDLER=1 \
    PYTHONMALLOC=malloc
USER 1000:1000
WORKDIR /
# Nix's store, and all else: images, the history of builds, copies of git repositories.
VOLUME ["/nix", "/var/lib/nixery"]
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --start-period=5m --timeout=10s CMD ["/usr/local/bin/healthy"]
ENTRYPOINT ["/usr/local/bin/start"]
