"""What `wireway bench` is made of: `asked.py` what is wanted, `running.py` runs and searches, `telling.py` figures."""
