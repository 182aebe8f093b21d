"""What came of a backtest: by day, by block, by vehicle and stay, in wear and in money, and what was odd in the trace.

`collector.Collector` gathers while a run goes on, with few calls and in memory that does not grow with the fleet's
years; `periods` and `summary` make rows and sums of it, `writing` files, `page` a page to look at, `comparing` two runs
side by side. Nothing in here decides anything, and no decision rests on it.
"""
