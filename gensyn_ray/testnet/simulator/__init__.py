"""Seeded simulator of the whole protocol against a real `Authority` in memory; prints the seed.

    python -m gensyn_ray.testnet.simulator --seeds 1000 --first 0

One seed fixes a network, its jobs, its parties and every step that they take. Training is a hash: a
run takes a fraction of a second. After every step the ledger's invariants are checked; at the end
`checks` compares rulings, pay, results and a restart with what the simulation knows to be true.

    network.py      the authority, its clock and its journal; signs and sends commands
    training.py     training that every party can repeat
    operators.py    operators and their attempts; a new adversary is a behaviour here
    drivers.py      the driver of one job
    verifiers.py    verifiers; an adversary among them is a subclass here
    invalid.py      commands that must be refused without any effect
    simulation.py   the parties of one seed, the random schedule, the end of a run
    checks.py       what must hold at the end
"""
