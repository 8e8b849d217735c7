"""What `wireway bench` is made of::

asked.py       one measurement: what is wanted         targets.py    URLs to addresses, TLS, requests of HTTP
messages.py    what is sent                            sources.py    where connections come from, and how many may
running.py     one run, and what it is worth           searching.py  the highest rate within a latency
telling.py     figures for people                      writing.py    JSON, CSV, hgrm
drawing.py     pictures                                comparing.py  beside an earlier run
"""
