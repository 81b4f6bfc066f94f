"""Workers that are stopped or starve, in every stage: the command recovers or ends within its bound."""
