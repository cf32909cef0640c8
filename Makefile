.PHONY: run quick check slow check-all test style bench docs

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

test:
	$(PYTEST)

style:
	ruff check .
	ruff format --check .

bench:  # benchmarks/search_overhead.py needs a table of networks, benchmarks/gpu_search.py a GPU
	python benchmarks/training.py
	python benchmarks/kill_resume.py
	python benchmarks/attacks.py

docs:
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict
