"""The view of `wireway top`; imported when it runs, and only then, since Textual takes its time.

::

    app.py      the app: keys, and looks in a thread        tables.py   what stands in the table of each view
    sheets.py   text and questions over the table           words.py    help, and what is typed after a colon
"""
