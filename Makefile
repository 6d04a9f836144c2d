# Two commands for a fresh Debian or Ubuntu machine: `make run` and `make test`.

VENV := .venv
PROGRAMS := nix-build=nix-bin git=git prlimit=util-linux venv=python3-venv
UNIT_TEST_PROGRAMS := zstd=zstd promtool=prometheus
TEST_PROGRAMS := $(UNIT_TEST_PROGRAMS) patchelf=patchelf dockerd=docker.io docker=docker.io \
	containerd=containerd podman=podman skopeo=skopeo pigz=pigz openssl=openssl curl=curl \
	ssh=openssh-client chromium=chromium libatomic.so.1=libatomic1 ps=procps nginx=nginx-light \
	haproxy=haproxy systemd-analyze=systemd
# What the daemon is compared with.
BENCH_PROGRAMS := docker-registry=docker-registry nginx=nginx-light
UNIT_TESTS := --ignore=tests/e2e --ignore=tests/chaos
NOT_REAL := not container and not fresh and not ceph and not real_nix
# Two tests at a time, each file in one process, in the order of tests/conftest.py. A process that
# hangs, or dies, ends the run.
PARALLEL := -n 2 --dist=loadfile --no-loadscope-reorder --max-worker-restart=0

.PHONY: .FORCE run docs manifests test unit test-oldest test-newest container-test readme-test s3-test \
	chaos bench dist clean

run:  ## start the daemon on port 8080
	@exec scripts/run $(OPTIONS)

docs: $(VENV)/.installed-test  ## write the tables of docs/settings.md and the help in docs/command.md anew
	@$(VENV)/bin/python -m nixery.help docs/settings.md
	@$(VENV)/bin/python docs/command.py docs/command.md

manifests: $(VENV)/.installed-test  ## write deploy/kubernetes anew, from the Helm chart
	@$(VENV)/bin/python -m tests.helm

test:  ## all tests, with real Nix and real clients
	@scripts/require $(PROGRAMS) $(TEST_PROGRAMS)
	@scripts/environment test
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/python -m pytest $(PARALLEL) $(PYTEST)

unit:  ## the tests that need no program but those that every Debian has; two minutes
	@scripts/require venv=python3-venv
	@scripts/environment test
	@$(VENV)/bin/python -m pytest $(PARALLEL) $(UNIT_TESTS) \
		-m '$(NOT_REAL) and not program' $(PYTEST)

# The others run with what this machine's virtual environment happens to have.
test-oldest:  ## unit tests with the lowest version of each dependency
	@$(MAKE) --no-print-directory $(VENV)/.installed-test
	@scripts/require $(UNIT_TEST_PROGRAMS)
	@rm -rf $(VENV)-oldest && python3 -m venv $(VENV)-oldest
	@$(VENV)/bin/python scripts/lower_bounds.py > $(VENV)-oldest/constraints.txt
	@$(VENV)-oldest/bin/pip install --quiet --editable '.[test]' \
		--constraint $(VENV)-oldest/constraints.txt
	@$(VENV)-oldest/bin/python -m pytest $(UNIT_TESTS) -m '$(NOT_REAL)' $(PYTEST)

test-newest:  ## unit tests with the newest versions of all that is installed
	@scripts/require $(PROGRAMS) $(UNIT_TEST_PROGRAMS)
	@rm -rf $(VENV)-newest && python3 -m venv $(VENV)-newest
	@$(VENV)-newest/bin/pip install --quiet --editable '.[test]'
	@$(VENV)-newest/bin/python -m pytest $(UNIT_TESTS) -m '$(NOT_REAL)' $(PYTEST)

chaos: $(VENV)/.installed-test  ## ten minutes of pulls while everything breaks; NIXERY_CHAOS_SEED repeats a run
	@scripts/require $(TEST_PROGRAMS)
	@NIXERY_CHAOS_SECONDS=$${NIXERY_CHAOS_SECONDS:-300} \
		NIXERY_CHAOS_SEED=$${NIXERY_CHAOS_SEED:-$$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')} \
		$(VENV)/bin/python -m pytest -s tests/chaos

container-test: $(VENV)/.installed-test  ## build the container image and pull from it; four minutes
	@scripts/require $(TEST_PROGRAMS) debootstrap=debootstrap
	@$(VENV)/bin/python -m pytest -m container tests/e2e/test_container.py

readme-test: $(VENV)/.installed-test  ## paste the README's commands on fresh Debian 12 and 13; half an hour
	@scripts/require $(TEST_PROGRAMS) debootstrap=debootstrap
	@$(VENV)/bin/python -m pytest -s -m fresh tests/e2e/test_readme.py

s3-test: $(VENV)/.installed-test  ## keep images in a bucket of Ceph's gateway to S3; ten minutes
	@scripts/require $(TEST_PROGRAMS) ceph-mon=ceph-mon ceph-osd=ceph-osd radosgw=radosgw \
		ceph=ceph-common
	@$(VENV)/bin/python -m pytest -m ceph tests/storage/test_s3.py tests/e2e/test_buckets.py

bench: $(VENV)/.installed-test  ## measure: half an hour; nothing else should run
	@scripts/require $(TEST_PROGRAMS) $(BENCH_PROGRAMS)
	@PYTHONPATH=. $(VENV)/bin/python benchmarks/serving.py
	@PYTHONPATH=. $(VENV)/bin/python benchmarks/service.py
	@PYTHONPATH=. $(VENV)/bin/python benchmarks/sources.py
	@PYTHONPATH=. $(VENV)/bin/python benchmarks/history.py
	@PYTHONPATH=. $(VENV)/bin/python benchmarks/history.py lists
	@PYTHONPATH=. $(VENV)/bin/python benchmarks/pages.py
	@PYTHONPATH=. $(VENV)/bin/python benchmarks/crowd.py
	@PYTHONPATH=. $(VENV)/bin/python benchmarks/packing.py
	@PYTHONPATH=. $(VENV)/bin/python benchmarks/search.py
	@PYTHONPATH=. $(VENV)/bin/python benchmarks/documents.py
	@PYTHONPATH=. $(VENV)/bin/python benchmarks/libraries.py
	@PYTHONPATH=. $(VENV)/bin/python benchmarks/storage.py
	@PYTHONPATH=. $(VENV)/bin/python benchmarks/strangers.py

dist:  ## make an sdist and a wheel in dist/, the same bytes for the same commit
	@scripts/require $(PROGRAMS)
	@scripts/environment release
	@rm -rf dist
	@scripts/dist dist
	@$(VENV)/bin/twine check --strict dist/*

# Whether there is something to do is found out each time.
$(VENV)/.installed-test: .FORCE
	@scripts/require $(PROGRAMS)
	@scripts/environment test

clean:  ## remove what was made here, but for what took long to make, which is named
	@rm -rf $(VENV) $(VENV)-oldest $(VENV)-newest build dist *.egg-info \
		.hypothesis .mypy_cache .ruff_cache twisted/plugins/dropin.cache
	@for folder in "$(CURDIR)/.state" "$${XDG_STATE_HOME:-$$HOME/.local/state}/nixery"; do \
		test ! -d "$$folder" || echo "left: $$folder, $$(du -sh "$$folder" | cut -f 1);" \
			"to remove it, too: chmod -R u+w '$$folder' && rm -r '$$folder'"; \
	done
