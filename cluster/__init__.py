"""Runs of the pipeline as Ray jobs: submit and watch them, bring up clusters on this machine and elsewhere.

``python -m cluster`` knows the pipeline only as the words of a command line.
"""
