.PHONY: run test check bench docs

run:
	python experiments/roco_cifar10.py

test:
	python -m pytest

check:
	ruff check .
	mypy
	python -m pytest

bench:  # benchmarks/search_overhead.py needs a table of networks, benchmarks/gpu_search.py a GPU
	python benchmarks/training.py
	python benchmarks/kill_resume.py
	python benchmarks/attacks.py

docs:
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict
