"""Names in a trial's result, beside the program's metrics."""

LEAF = "gensyn_leaf"
"""The segment's leaf, as JSON text."""
RECEIPT = "gensyn_receipt"
"""The receipt of its commitment, as JSON text."""
IS_LAST = "gensyn_is_last"
"""Whether the trial's run is complete."""
