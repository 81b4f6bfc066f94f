"""Tests of files of this machine."""
