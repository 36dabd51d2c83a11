# make demo, make test and make test-slow set themselves up in .venv.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.DELETE_ON_ERROR:
.PHONY: help demo grid-demo test test-slow test-all lint clean

help:
	@echo 'make demo       synthetic data -> training with and without the prior -> scores'
	@echo 'make grid-demo  every system of the thesis on synthetic data (ten minutes)'
	@echo 'make test       the tests that a contributor waits for (minutes)'
	@echo 'make test-slow  whole commands, documented commands, exact comparisons'
	@echo 'make test-all   those, and every combination of kills, devices and processes'
	@echo 'make clean      removes .venv and demo/'

$(VENV)/run-time: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'error: $(PYTHON) is older than 3.11; name a newer one: make PYTHON=python3.12 ...' >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/tests: $(VENV)/run-time tests/requirements.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	touch $@

demo: $(VENV)/run-time
	$(RUN) launch/phantom.py --year=2017 --out=demo/archives --train=480 --validation=120 --test=240 --size=96
	$(RUN) launch/prepare.py --dataset=isic2017 --source=demo/archives --data_dir=demo/data --resize_size=72
	$(RUN) launch/main.py --config=configs/demo.py --config.roi=none --workdir=demo/runs/attnmel_cnn-none
	$(RUN) launch/main.py --config=configs/demo.py --config.roi=lesion --workdir=demo/runs/attnmel_cnn-lesion
	$(RUN) launch/report.py --runs=demo/runs --out=demo/report

grid-demo: $(VENV)/run-time
	$(RUN) launch/phantom.py --year=2016 --out=demo/archives-2016 --train=320 --test=120 --size=96
	$(RUN) launch/phantom.py --year=2017 --out=demo/archives --train=480 --validation=120 --test=240 --size=96
	$(RUN) launch/phantom.py --year=2018 --out=demo/archives-2018 --train=320 --validation=0 --test=0 --segmentation=240 --size=96
	$(RUN) launch/prepare.py --dataset=isic2016 --source=demo/archives-2016 --data_dir=demo/data --resize_size=72
	$(RUN) launch/prepare.py --dataset=isic2017 --source=demo/archives --data_dir=demo/data --resize_size=72
	$(RUN) launch/prepare.py --dataset=isic2018 --source=demo/archives-2018 --data_dir=demo/data --resize_size=72
	$(RUN) launch/prepare.py --dataset=isic2018_task1 --source=demo/archives-2018 --data_dir=demo/data --resize_size=72
	$(RUN) launch/grid.py --grid=configs/grids/phantom.py --workdir=demo/grid
	$(RUN) launch/report.py --runs=demo/grid --out=demo/grid-report

lint: $(VENV)/tests
	$(RUN) -m ruff check .

test: $(VENV)/tests lint
	$(RUN) -m pytest -n 2 --dist worksteal -m 'not slow and not matrix'

test-slow: $(VENV)/tests
	$(RUN) -m pytest -n 2 --dist worksteal -m 'slow and not matrix'

test-all: $(VENV)/tests
	$(RUN) -m pytest

clean:
	rm -rf $(VENV) demo
