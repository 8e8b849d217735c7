"""The benchmark runner's parts. `benchmarks/run.py` puts them together.

::

    workloads     what is measured, against whom, and the figure to reach
    peers         who takes part, and how each is started
    environments  building and installing them
    process       one server process: pinned, started, stopped
    measure       one round of one workload against one server
    syscalls      system calls for each message, counted apart
    results       medians, spreads, ratios, targets
    machine       what it ran on
    report        the table as Markdown
    chart         the picture, run as a script in its own environment
"""
