"""What to offer: from the history of a fleet to kW for each block of tomorrow, and whether the rule kept its word.

`products` says what is bid, `available` how history is kept, `stays`, `recorded` and `sources` where it comes from,
`forecast` what is learned of it, `rule` what is offered, `walking` how the rule would have done, `selling` how a
backtest sells by it, `page` how it looks. Nothing here reads a clock.
"""
