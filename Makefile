# The front door. The first call makes an environment in .venv with the pinned versions, which takes some minutes;
# later calls start at once. `make check VENV=` uses the python3 that is already there instead.

VENV ?= .venv
PYTHON ?= python3
ifeq ($(VENV),)
  RUN := $(PYTHON)
  READY :=
  export PYTHONPATH := checks$(if $(PYTHONPATH),:$(PYTHONPATH))
else
  RUN := $(VENV)/bin/python
  READY := $(VENV)/.ready
endif
WORKBOOK := @$(RUN) -m workbook
# only where it is said to make: many a shell has a DEBUG of its own
TOLD = $(if $(filter command,$(origin DEBUG)),--debug '$(DEBUG)')
ASKED = $(EX) $(if $(TREE),--tree '$(TREE)') $(if $(SEED),--seed $(SEED)) $(ARGS)

.PHONY: help check next watch progress hint reset solution inspect bench profile lab doctor grade student new stubs test figures
.DEFAULT_GOAL := help

help:                  ## this list
	@sed -n 's/^\([a-zA-Z%-]*\):[^#]*## *\(.*\)/\1|\2/p' $(MAKEFILE_LIST) | sed 's/%/N/' | \
	  while IFS='|' read -r name does; do printf '  make %-16s %s\n' "$$name" "$$does"; done
	@echo
	@echo '  EX=2.1b a part (2.1 an exercise, 2 a stage)   TREE=solutions another folder'
	@echo '  SEED=7 the same inputs again                  ARGS=-v more options   VENV= the python3 that is there'

check: $(READY)        ## grade your stages/; EX=2.1b one part; DEBUG=ir (autotune, assert) what Triton tells of it
	$(WORKBOOK) check $(ASKED) $(TOLD)

check-stage-%: $(READY) ## grade one stage, 1 to 5
	$(WORKBOOK) check --stage $* $(ASKED) $(TOLD)

next: $(READY)         ## what to do next
	$(WORKBOOK) next

watch: $(READY)        ## grade again on every save
	$(WORKBOOK) watch $(EX)

progress: $(READY)     ## what you have done
	$(WORKBOOK) progress

hint: $(READY)         ## the next hint; EX=1.1a
	$(WORKBOOK) hint $(EX)

reset: $(READY)        ## the stub again, a copy of your file is kept; EX=1.1a
	$(WORKBOOK) reset $(EX) $(ARGS)

solution: $(READY)     ## what the reference does otherwise; EX=1.1a
	$(WORKBOOK) solution $(EX) $(ARGS)

bench: $(READY)        ## time a part over many sizes on a GPU and plot it; EX=1.1a; FROM=file.json draws a run on record
	$(WORKBOOK) bench $(ASKED) $(if $(FROM),--from '$(FROM)') $(if $(OUT),--out '$(OUT)')

inspect: $(READY)      ## what a kernel became, line by line; EX=1.3a, ARGS='--diff solutions' or '--save DIR'
	$(WORKBOOK) inspect $(EX) $(if $(TREE),--tree '$(TREE)') $(ARGS)

lab: $(READY)          ## a stage's notebook to play in, in JupyterLab; STAGE=2, ARGS='--port 8890'
	$(WORKBOOK) lab $(STAGE) $(ARGS)

profile: $(READY)      ## a part under a profiler, in words; EX=2.1c TOOL=ncu, nsys, torch or proton; CASE=m=64 a timed case
	$(WORKBOOK) profile $(EX) $(if $(TOOL),--tool '$(TOOL)') $(if $(CASE),--case '$(CASE)') \
	  $(if $(TREE),--tree '$(TREE)') $(if $(OUT),--out '$(OUT)') $(ARGS)

doctor: $(READY)       ## what can be graded on this machine, and what its GPU reaches; ARGS=--quick does not measure
	$(WORKBOOK) doctor $(ARGS)

grade: $(READY)        ## grade a class; SUBMISSIONS=dir OUT=dir, EX=1.1 a part of it, RUBRIC=file
	$(WORKBOOK) grade $(if $(SUBMISSIONS),'$(SUBMISSIONS)') $(if $(OUT),'$(OUT)') $(if $(EX),--id $(EX)) \
	  $(if $(RUBRIC),--rubric '$(RUBRIC)') $(ARGS)

student: $(READY)      ## the edition without solutions, bugs and variants; DIR=../class
	$(WORKBOOK) student $(if $(DIR),'$(DIR)') $(ARGS)

new: $(READY)          ## lay the files of a new part; EX=2.1c NAME=split_k
	$(WORKBOOK) new $(EX) $(if $(NAME),--name $(NAME)) $(ARGS)

stubs: $(READY)        ## derive the stubs from solutions/
	$(WORKBOOK) stubs $(EX) $(ARGS)

test: $(READY)         ## the workbook's own tests
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	$(WORKBOOK) stubs --check
	@$(RUN) -m pytest checks/selfcheck -n 2 --dist worksteal

figures: $(READY)      ## how far the graders can be trusted, counted; OUT=file.json
	@$(RUN) -m pytest checks/selfcheck -n 2 --dist worksteal --repeats 5 $(if $(OUT),--figures '$(OUT)') \
	  -k 'test_solution or test_blank or test_bug or test_variant or test_exploit or test_defence or test_hostile' $(ARGS)

$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo 'Python 3.10 or newer is needed; name one: make PYTHON=python3.12'; exit 1; }
	@echo 'Setting up $(VENV) with torch and triton: this takes some minutes, the next call starts at once.'
	@$(PYTHON) -m venv $(VENV) && $(RUN) -m pip install -q --disable-pip-version-check $(PIP_ARGS) -e '.[pinned,test]' || \
	  { echo 'The environment could not be set up; what is missing stands above. The same command tries again.'; \
	    echo 'Where there is no network: install the packages of pyproject.toml yourself, and add VENV= to the command.'; exit 1; }
	@touch $@
