.PHONY: test check slow long quickstart
test:        ## the fast tests
	python -m pytest -n 2 --dist loadfile
check:       ## style and types
	ruff check . && ruff format --check . && mypy
slow:        ## minutes: whole runs, killed runs, the real photographs where they are
	python -m pytest -m "slow or realdata or servers"
long:        ## half an hour and more: the image built, its default job run, more of SLURM
	python -m pytest -m long
quickstart:  ## draw cats, train on them
	python -m catpose.prepare drawn && python -m catpose.fit --config experiments/quickstart.yaml
