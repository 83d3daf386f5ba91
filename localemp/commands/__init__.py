"""The commands as Python functions: a module for each, with the command's name and its options' names.

Nothing here prints. Long tasks report progress to a callback. Ctrl-C raises KeyboardInterrupt after finished work is
written; its note (`__notes__`) says how much that is.
"""
