"""One page a period: what was asked and given, how it was judged, what it earned, and where it fell short.

Self-contained HTML: plotly's script is inside, no network. `page.page` makes it from `series.Series`, the statements
and, where there are prices, the money of each interval; `worst` finds the minutes to look at.
"""
