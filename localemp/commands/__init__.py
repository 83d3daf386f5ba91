"""The commands as Python functions: a module for each, with the command's name and its options' names.

Nothing here prints. Work that takes long reports its progress to a callback, and Ctrl-C raises KeyboardInterrupt after
everything that was finished is written; its note (`__notes__`) says how far it got.
"""
