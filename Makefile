.PHONY: test check slow long docs quickstart
test:        ## the fast tests
	python -m pytest -n 2 --dist loadfile
check:       ## style, types, imports
	ruff check . && ruff format --check . && mypy && lint-imports --no-logo --no-cache
slow:        ## half an hour: whole runs, killed runs, servers, browsers, the real photographs where they are
	python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "slow or realdata or browser"
	python -m pytest -m servers
long:        ## hours: image built, its job run, more of SLURM, fuzzing (CATPOSE_FUZZ_SECONDS), freezing (CATPOSE_FREEZE_MINUTES)
	python -m pytest -m long
docs:        ## the documentation's site, in site/
	zensical build --strict
quickstart:  ## draw cats, train on them
	python -m catpose.prepare drawn && python -m catpose.fit --config experiments/quickstart.yaml
