"""The parts of `wireway trace`.

::

    following.py   asks the servers                          telling.py   frames as text, hex or JSON
    streams.py     events to frames, sans I/O                packets.py   pieces as IP and TCP
                                                             pcapng.py    the file that Wireshark opens
"""
