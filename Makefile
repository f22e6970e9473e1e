# Every target does its own set-up (tools/setup.sh).
BIN := .venv/bin

.PHONY: demo test lint format venv clean

venv:
	tools/setup.sh build

demo:
	tools/setup.sh build demo
	$(BIN)/multiverse doctor || true
	$(BIN)/multiverse run -- racket -e '(displayln "Hello from the HRT")'
	mkdir -p build
	$(BIN)/multiverse bench racket --short --json build/demo.json --chart build/demo

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $$(git ls-files 'core/*.[ch]' 'lib/*.[ch]' 'overrides/*.[ch]' 'tests/*.[ch]' 'benchmarks/*.[ch]' 'examples/*.[ch]')

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $$(git ls-files 'core/*.[ch]' 'lib/*.[ch]' 'overrides/*.[ch]' 'tests/*.[ch]' 'benchmarks/*.[ch]' 'examples/*.[ch]')

test:
	tools/setup.sh build test
	$(MAKE) --no-print-directory lint
	$(BIN)/pytest -n 2 --dist worksteal

clean:
	rm -rf .venv build
