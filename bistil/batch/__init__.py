"""Run an experiment: its cells become stages, and an engine builds each of them once, as soon as what it
needs is there.

Notable: there are two engines over one plan. `pool` keeps warm worker processes on this machine; `snakemake`
starts a process for every stage, here or through a scheduler. Both skip what is in the store, tell of a stage
when it has ended, let a failure take only its dependants along, and go on where they were after any kind of
end. The pool is what runs unless a scheduler is asked for: a process of its own costs a stage 6.7 s of
processor time before it begins (imports, the teacher, the plan), and that would be 39 % on top of the demo's
65 stages in 9 min 25 s on two cores.
"""

from bistil.batch.account import Account, Place, reader, rows, seldom
from bistil.batch.pool import run
from bistil.plan import Job, perform, plan

__all__ = ["Account", "Job", "Place", "perform", "plan", "reader", "rows", "run", "seldom"]
