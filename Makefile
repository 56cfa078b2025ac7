# Two commands for a new user: `make demo` and `make test`. Both set up what they need, and can be run again.
.PHONY: help setup demo test proof bench rollouts shards lint unit lab-test molecule lab-up lab-down clean
.DEFAULT_GOAL := help
BIN := .venv/bin
LAB_HOSTS ?= --hosts h200:2 --hosts gb10:1

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## make setup     Python environment in .venv
setup:
	@scripts/setup

## make demo      rehearsal fleet on this machine, provisioned, benchmarked, shown
demo: setup
	@scripts/demo

## make test      every check and every test
test: setup
	@scripts/test

## make proof     answers, benchmarks, objectives, tuning on the rehearsal fleet with real vLLM, a line each
proof: setup
	@$(BIN)/python scripts/proof

## make rollouts  waves, gates, going back and kill -9 on rehearsal hosts, a line each
rollouts: setup
	@$(BIN)/python scripts/rollouts

## make shards    a fleet by Dask workers on lab hosts, one of them killed
shards: setup
	@$(BIN)/python scripts/shards

## make lint      ruff, mypy, import layers, yamllint, ansible-lint
lint: setup
	@scripts/lint

## make unit      tests that need no host
unit: setup
	@scripts/unit

## make lab-test  tests on lab hosts
lab-test: setup
	@$(BIN)/pytest -q tests/lab

## make molecule  the roles' scenarios on rehearsal hosts; ROLE=docker_engine: those of one role
molecule: setup
	@$(BIN)/python scripts/molecule $(ROLE) $(if $(WITHIN),--within $(WITHIN))

## make lab-up    start the rehearsal fleet
lab-up: setup
	@$(BIN)/provision lab up $(LAB_HOSTS)

## make lab-down  stop it; caches stay
lab-down:
	@if [ -x $(BIN)/provision ]; then $(BIN)/provision lab down; fi

## make clean     the lab down, .venv and caches of tools away
clean: lab-down
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
