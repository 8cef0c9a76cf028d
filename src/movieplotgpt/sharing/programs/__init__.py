"""Programs that run an exported model, each in a process of its own: the request is JSON on stdin, the answer JSON on stdout.

A request has ``path``, ``prompt`` (token ids), ``tokens`` (how many to write) and ``texts`` (to tokenize); an answer has
``written``, ``ended`` and ``ids``. None of them imports another part of this library.
"""
