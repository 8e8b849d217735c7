"""The parts of `wireway connect`.

The map::

    Written, shown                 typed text to bytes, bytes to text and hex       words.py
    Stamps                         the time before each line                        stamps.py
    Cutter, Cuts                   the stream to messages; how each receive was cut cutting.py, cuts.py
    Plan                           what the command line said                       plan.py
    Line, open_lines               one connection, of either side                   line.py
    WebSocketLine                  the same, of messages                            websocket.py
    Expectation                    what a script waits for                          expecting.py
    Piping, Feed                   stdin and stdout that are no terminal            piping.py, feeding.py, streams.py
    Screen, Commands               a person at a terminal                           screen.py, commands.py, history.py
"""
