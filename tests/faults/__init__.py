"""Real kills at random moments of every stage: ``python -m tests.faults``, or ``make faults``.

stages.py      commands of the stages, and what each trial may kill
plan.py        what a trial kills, and when: drawn from its number
watch.py       counts what a run changes in its folder, which tells moments within a stage
victims.py     finds the processes of a run, and kills them
promise.py     what must be the same after a kill
reference.py   undisturbed runs, with which trials are compared
run.py         one command as a process of its own
trial.py       one trial, and its outcome
table.py       the summary
"""
