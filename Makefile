# Two commands for a fresh Debian or Ubuntu machine: `make run` and `make test`.

VENV := .venv
PROGRAMS := nix-build=nix-bin git=git prlimit=util-linux venv=python3-venv
TEST_PROGRAMS := patchelf=patchelf dockerd=docker.io docker=docker.io containerd=containerd \
	podman=podman skopeo=skopeo zstd=zstd pigz=pigz openssl=openssl curl=curl ssh=openssh-client \
	chromium=chromium libatomic.so.1=libatomic1 systemd-analyze=systemd \
	promtool=prometheus

.PHONY: .FORCE run test container-test chaos bench lint clean

run:  ## start the daemon on port 8080
	@exec scripts/run $(OPTIONS)

test:  ## all tests, with real Nix and real clients
	@scripts/require $(PROGRAMS) $(TEST_PROGRAMS)
	@scripts/environment test
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/python -m pytest $(PYTEST)

chaos: $(VENV)/.installed-test  ## ten minutes of pulls while everything breaks; NIXERY_CHAOS_SEED repeats a run
	@scripts/require $(TEST_PROGRAMS)
	@NIXERY_CHAOS_SECONDS=$${NIXERY_CHAOS_SECONDS:-600} \
		NIXERY_CHAOS_SEED=$${NIXERY_CHAOS_SEED:-$$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')} \
		$(VENV)/bin/python -m pytest -s tests/chaos

container-test: $(VENV)/.installed-test  ## build the container image and pull from it; four minutes
	@scripts/require $(TEST_PROGRAMS) debootstrap=debootstrap
	@$(VENV)/bin/python -m pytest -m container tests/e2e/test_container.py

bench: $(VENV)/.installed-test  ## measure; the numbers go to benchmarks/results
	@scripts/require $(TEST_PROGRAMS)
	@PYTHONPATH=. $(VENV)/bin/python benchmarks/service.py
	@PYTHONPATH=. $(VENV)/bin/python benchmarks/sources.py
	@PYTHONPATH=. $(VENV)/bin/python benchmarks/history.py
	@PYTHONPATH=. $(VENV)/bin/python benchmarks/crowd.py
	@PYTHONPATH=. $(VENV)/bin/python benchmarks/strangers.py
	@PYTHONPATH=. $(VENV)/bin/python benchmarks/packing.py
	@PYTHONPATH=. $(VENV)/bin/python benchmarks/search.py
	@PYTHONPATH=. $(VENV)/bin/python benchmarks/storage.py

# Whether there is something to do is found out each time.
$(VENV)/.installed-test: .FORCE
	@scripts/require $(PROGRAMS)
	@scripts/environment test

clean:  ## remove what was made here; the state folder stays
	rm -rf $(VENV) build dist *.egg-info
