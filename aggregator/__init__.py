"""What composes the house: the core that is pushed, the shells that push it, and the processes of `flyball`.

Only here are processes, configuration and secrets. `core` and what it is made of read no clock and await
nothing; `worker`, `backtest` and `replay` call it.
"""
