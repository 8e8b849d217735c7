"""The parts of `wireway connect`.

The map::

    Written, shown                 typed text to bytes, bytes to text and hex       words.py
    Cutter                         the stream to messages; what waits unfinished    cutting.py
    Plan, Line, open_line          one connection, of either side                   line.py
    Expectation                    what a script waits for                          expecting.py
    Piping                         stdin and stdout that are no terminal            piping.py, streams.py
    Screen                         a person at a terminal                           screen.py, history.py
"""
