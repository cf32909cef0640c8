.PHONY: run quick check slow check-all oldest test style bench measured docs

PYTEST = python -m pytest -n $${PYTEST_WORKERS:-2}

run:
	python experiments/roco_cifar10.py

quick: style  # a minute
	$(PYTEST) -m "not slow and not lengthy"

check: style  # before a commit
	mypy
	$(PYTEST) -m "not slow"

slow:  # long proofs, fault injection, kills, fuzzing at full size
	$(PYTEST) -m slow

check-all: check slow

oldest:  # the quick tests with the oldest versions that setup.cfg allows, in an environment of their own
	python -m venv .oldest
	.oldest/bin/pip install -e ".[test]" -c tests/oldest.txt
	.oldest/bin/python -m pytest -n $${PYTEST_WORKERS:-2} -m "not slow and not lengthy"

test:
	$(PYTEST)

style:
	ruff check .
	ruff format --check .

bench:  # benchmarks/search_overhead.py needs a table of networks, benchmarks/gpu.py a GPU
	python benchmarks/training.py
	python benchmarks/kill_resume.py
	python benchmarks/attacks.py

measured:  # the benchmarks of speed on this CPU, into docs/measured/cpu.md; hours
	python benchmarks/measured.py

docs:
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict
