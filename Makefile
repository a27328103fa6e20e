# Everything that a person types. `make help` lists it.
# PYTHON=/path/to/python3 chooses the interpreter that .venv is made with.

.DEFAULT_GOAL := help
.PHONY: help demo install test programs browsers lint format containers screenshots portal-tour lighthouse security-table soak fuzz bench sbom licenses clean

# Every test that starts a server would compile the modules again.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
DEMO_READY := $(VENV)/.demo-ready
DEV_READY := $(VENV)/.dev-ready
BROWSERS_READY := $(VENV)/.browsers-ready
# More processes than cores, as many tests wait for something; a file's tests share its servers.
WORKERS := -n 4 --dist loadfile --no-loadscope-reorder
SOURCES := app.py cli.py config.py doctor.py redis_url.py gunicorn.conf.py granian_server.py omnifund web demo local_omnifund pytest_omnifund benchmarks examples tools tests

help: ## List the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | while IFS="$$(printf '\t')" read -r name text; do printf '  make %-15s %s\n' "$$name" "$$text"; done

demo: $(DEMO_READY) ## Start the app with Local OmniFund and an embedded Valkey; Ctrl-C stops it
	@exec $(BIN)/python -m tools.demo

install: ## Install what the app needs to run, without the demo
	@sh tools/make_venv.sh $(VENV) requirements.txt

test: $(DEV_READY) ## Run the linters, the type checker, the import rules, and every test
	@echo "About 4,800 tests, with real servers and browsers: 10 to 14 minutes on two cores."
	@$(MAKE) --no-print-directory -j 2 programs lint
	@echo "Running the tests ..."
	@$(BIN)/python -m pytest $(WORKERS) -q

programs: $(DEV_READY) ## Install the programs that the tests need, as root on Debian
	@$(BIN)/python -m tools.install_programs

lint: $(DEV_READY) ## Run the linters, the type checker, and the import rules
	@echo "Checking style, types, and import rules ..."
	@$(BIN)/ruff check -q $(SOURCES)
	@$(BIN)/ruff format -q --check $(SOURCES)
	@$(BIN)/hadolint Dockerfile deploy/local-omnifund.Dockerfile
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports >$(VENV)/lint-imports.log 2>&1 || { cat $(VENV)/lint-imports.log; exit 1; }

format: $(DEV_READY) ## Format the code
	@$(BIN)/ruff check -q --fix-only $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

containers: $(DEV_READY) ## Build the images, run compose.yaml, and break things; needs root on Debian
	@$(BIN)/python -m tools.containers

screenshots: $(DEV_READY) ## Take the screenshots of README and docs/how-it-works.md from the running demo
	@$(BIN)/python tools/screenshots.py --readme

portal-tour: $(DEV_READY) ## Take the screenshots of docs/portal-tour.md from the running demo
	@$(BIN)/python tools/screenshots.py --portal

lighthouse: $(DEV_READY) ## Run Lighthouse on the running demo
	@$(BIN)/python -m tools.lighthouse

security-table: $(DEV_READY) ## Write docs/security-tests.md from the tests' docstrings
	@$(BIN)/python -m tools.security_table

browsers: $(BROWSERS_READY) ## Go through the app in Chromium, Firefox, and WebKitGTK; pictures side by side
	@$(BIN)/python -m tools.browsers

soak: $(DEV_READY) ## Run mixed traffic with random faults for MINUTES (1), then print a table
	@$(BIN)/python -m tools.soak

fuzz: $(DEV_READY) ## Send EXAMPLES (50000) random requests to the app, and as many random responses of OmniFund
	@FUZZ_EXAMPLES=$(or $(EXAMPLES),50000) $(BIN)/python -m pytest -n 4 -q --timeout 0 \
		tests/web/test_any_request.py tests/faults/test_any_response.py tests/unit

bench: $(DEV_READY) ## Benchmark the app against its peers; ARGS=--help lists the sections
	@$(BIN)/python -m benchmarks $(ARGS)

sbom: $(DEV_READY) ## Write the software bill of materials of what runs in production (CycloneDX)
	@$(BIN)/cyclonedx-py requirements requirements.txt --output-reproducible --output-file sbom.json
	@echo "sbom.json is written."

licenses: $(DEV_READY) ## List the licenses of the packages that run in production
	@$(BIN)/pip-licenses --order=license --packages $$(sed -n 's/==.*//p' requirements.txt)

clean: ## Remove everything generated, including the virtual environment
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .containers
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is written last, so an interrupted installation is simply done again.
$(DEMO_READY): requirements.txt requirements-demo.txt tools/make_venv.sh
	@sh tools/make_venv.sh $(VENV) requirements-demo.txt
	@touch $@

$(DEV_READY): requirements.txt requirements-demo.txt requirements-granian.txt requirements-traces.txt requirements-dev.txt tools/make_venv.sh
	@sh tools/make_venv.sh $(VENV) requirements-dev.txt
	@touch $(DEMO_READY) $@

$(BROWSERS_READY): $(DEV_READY) requirements-browsers.txt
	@sh tools/make_venv.sh $(VENV) requirements-browsers.txt
	@touch $@
