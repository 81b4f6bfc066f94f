"""Stages in order: run, plan, verify and report."""
